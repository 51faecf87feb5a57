"""What is done from the page is what the commands do, once, and written down; without leave nothing is done."""

from __future__ import annotations

import io
import json
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner
from waiting import wait_until
from web import Server
from web_runs import LiveRun, make_run

from hpcsynapse.cli.main import cli
from hpcsynapse.serve.openapi import document

pytestmark = pytest.mark.slow
DOCUMENT = document(acts=True)
LOCAL = {"queue.scheduler": "local", "launch.record": "off"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("acting") / "runs"


@pytest.fixture(scope="module")
def acting(runs: Path) -> Iterator[Server]:
    runs.mkdir()
    make_run(runs, "ended")
    found = Server(runs, "--allow-actions")
    yield found
    found.close()


def post(server: Server, path: str, table: Any, *headers: str, **how: Any) -> tuple[int, dict[str, Any]]:
    body = table if isinstance(table, bytes) else json.dumps(table).encode()
    lines = headers or (f"X-HPCSynapse-Token: {server.write_token}",)
    status, answer = server.ask(f"/api/v1/{path}", method="POST", body=body, headers=lines, **how)
    if status == 200:
        schema = DOCUMENT["paths"][f"/api/v1/{path}"]["post"]["responses"]["200"]["content"]["application/json"][
            "schema"
        ]
        jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]}).validate(json.loads(answer))
    return status, json.loads(answer) if answer else {}


def new(name: str, program: str, **more: str) -> dict[str, Any]:
    return {
        "once": f"new-{name}",
        "name": name,
        "command": f"{sys.executable} -c '{program}'",
        "settings": LOCAL | more,
    }


def log(runs: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (runs / "actions.jsonl").read_text().splitlines()]


def test_a_check_writes_nothing_and_says_what_the_command_says(acting: Server, runs: Path, tmp_path: Path) -> None:
    status, found = post(acting, "check", new("checked", "print(1)", **{"resources.nodes": "1"}))
    assert status == 200 and found["name"] == "checked" and "#!/bin/bash" in found["job_file"]
    assert not (runs / "checked").exists()
    wrong = {"once": "12345678", "settings": {"resources.nodes": "0"}}
    status, found = post(acting, "check", wrong)
    said = CliRunner().invoke(cli, ["check", "--set", "resources.nodes=0", "--runs", str(runs)]).exception
    assert (status, found["error"]) == (400, str(said))


def test_a_run_is_submitted_stopped_and_resumed(acting: Server, runs: Path) -> None:
    wait = 'import os, time\nwhile not os.path.exists(os.environ["HPCSYNAPSE_RUN_DIR"] + "/stop"): time.sleep(0.05)\n'
    (runs.parent / "wait.py").write_text(wait)
    wanted = {**new("whole", ""), "command": f"{sys.executable} {runs.parent / 'wait.py'}"}
    status, done = post(acting, "submit", wanted)
    assert status == 200 and done["name"] == "whole" and done["job_id"]

    def state() -> Any:
        return acting.get("run", name="whole")["row"]["state"]

    wait_until(lambda: state() == "TRAINING", 60, "the program runs")
    status, refused = post(acting, "resume", {"name": "whole", "once": "resume-too-early"})
    assert status == 400 and "has not ended" in refused["error"]
    assert post(acting, "stop", {"name": "whole", "once": "stop-it-please"})[0] == 200
    wait_until(lambda: state() in ("STOPPED", "FINISHED"), 60, "it has ended")
    assert post(acting, "stop", {"name": "whole", "once": "stop-it-again"})[0] == 400
    assert post(acting, "resume", {"name": "whole", "once": "resume-it-now"})[0] == 200
    wait_until(lambda: state() == "TRAINING", 60, "it goes on")
    assert post(acting, "cancel", {"name": "whole", "once": "cancel-it-now"})[0] == 200
    wait_until(lambda: state() == "STOPPED", 60, "it was cancelled")
    told = [(one["action"], "error" in one) for one in log(runs) if one["name"] == "whole"]
    assert told == [
        ("submit", False),
        ("resume", True),
        ("stop", False),
        ("stop", True),
        ("resume", False),
        ("cancel", False),
    ]
    assert all(one["user"] and one["pid"] == acting.process.pid for one in log(runs))
    assert acting.write_token not in (runs / "actions.jsonl").read_text()


def test_a_run_is_removed_as_the_command_would(acting: Server, runs: Path) -> None:
    live, gone = LiveRun(runs, "still-on"), make_run(runs, "not-wanted")
    names = {"still-on", "not-wanted"}
    wait_until(lambda: names <= {row["name"] for row in acting.get("runs")["runs"]}, 60, "they are listed")
    status, refused = post(acting, "remove", {"name": "still-on", "once": "remove-too-early"})
    said = CliRunner().invoke(cli, ["remove", "still-on", "--yes", "--runs", str(runs)]).exception
    assert (status, refused["error"]) == (400, str(said)) and "end it first" in refused["error"]
    assert live.run.path.is_dir()
    live.end()
    wanted = {"name": "not-wanted", "once": "remove-it-now"}
    status, done = post(acting, "remove", wanted)
    assert status == 200 and done["said"] == [f"removed: {gone.path}"] and not gone.path.exists()
    assert post(acting, "remove", wanted) == (status, done)  # the same request is one action
    assert post(acting, "remove", {"name": "not-wanted", "once": "remove-it-again"})[0] == 404
    assert "not-wanted" not in [row["name"] for row in acting.get("runs")["runs"]]
    told = [(one["name"], "error" in one) for one in log(runs) if one["action"] == "remove"]
    assert told == [("still-on", True), ("not-wanted", False), ("not-wanted", True)]


def test_a_double_click_is_one_action(acting: Server, runs: Path) -> None:
    answers: list[Any] = []
    wanted = new("twice", "print(1)")
    threads = [threading.Thread(target=lambda: answers.append(post(acting, "submit", wanted))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [status for status, _ in answers] == [200] * 4 and len({done["job_id"] for _, done in answers}) == 1
    assert [path.name for path in runs.glob("twice*")] == ["twice"]
    assert sum(one["name"] == "twice" for one in log(runs)) == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("stop", {"name": "absent", "once": "12345678"}, 404),
        ("stop", {"name": "../runs/ended", "once": "12345679"}, 404),
        ("stop", {"name": "ended", "once": "short"}, 400),
        ("stop", {"name": "ended"}, 400),
        ("stop", {"name": ["ended"], "once": "12345678"}, 400),
        ("stop", {"name": "ended", "once": "12345678", "more": 1}, 400),
        ("stop", b"[]", 400),
        ("stop", b"{", 400),
        ("stop", b"[" * 60_000, 400),
        ("stop", b"x" * 70_000, 413),
        ("submit", {"once": "12345678", "command": "'"}, 400),
        ("submit", {"once": "12345670", "settings": {"resources.nodes": "two"}}, 400),
        ("submit", {"once": "12345671", "settings": {"no.such": "1"}}, 400),
        ("submit", {"once": "12345672", "name": "../outside", "settings": LOCAL}, 400),
        ("store-remove", {"kind": "..", "name": "x", "once": "12345678"}, 400),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused(acting: Server, runs: Path, path: str, body: Any, status: int) -> None:
    assert post(acting, path, body)[0] == status
    assert not (runs.parent / "outside").exists()


def test_only_both_secrets_together_do_anything(acting: Server, runs: Path) -> None:
    wanted = {"name": "ended", "once": "12345678"}
    write = f"X-HPCSynapse-Token: {acting.write_token}"
    assert post(acting, "resume", wanted, "X-Nothing: 1")[0] == 403
    assert post(acting, "resume", wanted, f"X-HPCSynapse-Token: {acting.token}")[0] == 403
    assert post(acting, "resume", wanted, write, token="-")[0] == 401
    assert post(acting, "resume", wanted, write, "Sec-Fetch-Site: cross-site")[0] == 403
    assert post(acting, "resume", wanted, write, "Origin: http://evil.com")[0] == 403
    for path in ("resume", "submit", "runs"):
        assert acting.ask(f"/api/v1/{path}", method="DELETE", headers=[write])[0] == 405
    assert acting.ask("/api/v1/resume", name="ended", headers=[write])[0] == 404  # not by a link


def test_without_leave_there_is_nothing_to_be_done(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "one")
    server = Server(tmp_path / "runs")
    assert server.write_token == ""
    for path in (path for path, one in DOCUMENT["paths"].items() if "post" in one):
        assert server.ask(path, method="POST", body=b"{}", headers=["X-HPCSynapse-Token: "])[0] == 403
    server.close()
    assert not (tmp_path / "runs" / "actions.jsonl").exists()


def test_the_store_takes_archives_through_the_checked_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCSYNAPSE_STORE", str(tmp_path / "store"))
    make_run(tmp_path / "runs", "one")
    server = Server(tmp_path / "runs", "--allow-actions")

    def add(name: str, kind: str = "dataset", **files: str) -> tuple[int, dict[str, Any]]:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as found:
            for file, text in files.items():
                found.writestr(file.replace("__", "/"), text)
        words = {"kind": kind, "name": name, "once": f"store-{kind}-{name}"}
        return post(server, "store-add", archive.getvalue(), **words)

    assert add("data", a="1", b="22")[0] == 200
    assert [(one["kind"], one["name"], one["files"]) for one in server.get("store")] == [("dataset", "data", 2)]
    status, _ = add("bad", **{"..__..__x": "1"})
    assert status == 400 and not (tmp_path / "x").exists()
    assert (
        add("../up", a="1")[0] == 400 and add("code", kind="model", a="1")[0] == 400 and add("a", kind="..")[0] == 400
    )
    assert post(server, "store-add", b"no archive", kind="dataset", name="c", once="12345678")[0] == 400
    assert post(server, "store-remove", {"kind": "dataset", "name": "data", "once": "12345678"})[0] == 200
    assert server.get("store") == []
    server.close()
