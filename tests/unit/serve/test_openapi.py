"""The API and its description are one: every route is described, and every answer is as the description says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from web import Server

from hpcsynapse.serve.application import application
from hpcsynapse.serve.guard import Keys
from hpcsynapse.serve.index import RunIndex
from hpcsynapse.serve.openapi import document

DOCUMENT = document()
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("runs", {}),
    ("run", {"name": "measured"}),
    ("run", {"name": "failed"}),
    ("text", {"name": "measured"}),
    ("placement", {"name": "measured"}),
    ("placement", {"name": "failed"}),
    ("logs", {"name": "measured"}),
    ("log", {"name": "measured", "log": "rank-00001"}),
    ("nodes", {}),
    ("nodes", {"name": "measured"}),
    ("history", {"name": "measured"}),
    ("curve", {"name": "measured"}),
    ("curve", {"name": "failed"}),
    ("steps", {"name": "measured", "measure": "total"}),
    ("steps", {"name": "failed"}),
    ("stragglers", {"name": "measured"}),
    ("stragglers", {"name": "failed"}),
    ("report", {"name": "measured"}),
    ("report", {"name": "failed"}),
    ("predictions", {"name": "measured"}),
    ("compare", {"name": ["measured", "failed"]}),
    ("studies", {}),
    ("store", {}),
    ("sites", {}),
    ("settings", {}),
    ("templates", {}),
]


def validator(path: str, status: str = "200") -> Any:
    answer = DOCUMENT["paths"][f"/api/v1/{path}"]["get"]["responses"][status]["content"]["application/json"]["schema"]
    return jsonschema_rs.validator_for({**answer, "components": DOCUMENT["components"]})


@pytest.mark.parametrize("acts", [False, True])
def test_every_route_is_described_and_nothing_else(tmp_path: Path, acts: bool) -> None:
    app: Any = application(RunIndex(tmp_path), Keys(actions=acts))._application
    routes = {(route.path, method.lower()) for route in app.routes for method in route.methods - {"HEAD"}}
    described = {(path, method) for path, one in document(acts)["paths"].items() for method in one}
    assert {one for one in routes if one[0].startswith("/api/")} - {("/api/v1/session", "post")} == described
    assert all(how["summary"] for one in document(acts)["paths"].values() for how in one.values())


@pytest.mark.parametrize(("path", "query"), QUESTIONS, ids=str)
def test_every_answer_is_as_described(server: Server, path: str, query: dict[str, Any]) -> None:
    validator(path).validate(server.get(path, **query))


def test_every_answer_of_values_is_asked_for() -> None:
    described = {path.removeprefix("/api/v1/") for path in DOCUMENT["paths"]}
    assert described - {path for path, _ in QUESTIONS} == {
        "checkpoint",
        "timeline",
        "archive",
        "events",
        "openapi.json",
    }


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("run", {"name": "absent"}, 404),
        ("run", {}, 400),
        ("run", {"name": ["measured", "failed"]}, 400),
        ("run", {"name": "measured", "more": "1"}, 400),
        ("run", {"name": "x" * 301}, 400),
        ("log", {"name": "measured", "log": "rank-99999"}, 404),
        ("log", {"name": "measured", "log": "job", "begin": "-1"}, 400),
        ("log", {"name": "measured", "log": "job", "length": str(1 << 30)}, 400),
        ("steps", {"name": "measured", "measure": "nothing"}, 400),
        ("curve", {"name": "measured", "points": "٣"}, 400),
        ("compare", {"name": ["measured"]}, 400),
        ("report", {}, 400),
        ("predictions", {"name": ["measured", "absent"]}, 404),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_in_a_sentence(server: Server, path: str, query: dict[str, Any], status: int) -> None:
    found, body = server.ask(f"/api/v1/{path}", **query)
    assert found == status
    validator("run", str(status)).validate(json.loads(body))


def test_the_description_is_served(server: Server) -> None:
    assert server.get("openapi.json") == DOCUMENT


KEYS = Keys(actions=False)
NAMES = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
CHECKS = [getattr(schemathesis.checks, name, None) or schemathesis.checks.CHECKS.get_one(name) for name in NAMES]
FUZZED = sorted(path for path in DOCUMENT["paths"] if not path.endswith("events"))  # which have no end


@pytest.mark.parametrize("path", FUZZED)
def test_any_request_is_answered_as_described(runs: Path, path: str) -> None:
    described = schemathesis.openapi.from_dict(DOCUMENT)
    app = application(RunIndex(runs), KEYS)

    @given(case=described[path]["GET"].as_strategy())
    @settings(max_examples=10, suppress_health_check=list(HealthCheck))
    def answered(case: Any) -> None:
        case.operation.app = app
        answer = case.call(app=app, base_url="http://localhost", headers={"Authorization": f"Bearer {KEYS.token}"})
        case.validate_response(answer, checks=CHECKS)

    answered()
