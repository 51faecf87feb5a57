"""The part of MLflow's REST protocol that exports use, with the limits and error codes of the real server.

HPCSYNAPSE_TEST_MLFLOW=/path/to/mlflow runs the same tests against the real one (seen with 3.17; 850 MB, so not part of
the set-up).
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

_PROGRAM = os.environ.get("HPCSYNAPSE_TEST_MLFLOW")  # read now: tests have an environment without such names


class RefusedError(Exception):
    def __init__(self, code: int, error: str, message: str) -> None:
        self.code, self.error, self.message = code, error, message


class Store:
    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}

    def answer(self, path: str, told: dict[str, Any]) -> dict[str, Any]:
        name = path.removeprefix("/api/2.0/mlflow/").replace("/", "_").replace("-", "_")
        if path == "/health":
            return {}
        return getattr(self, name)(told)

    def experiments_get_by_name(self, told):
        if told["experiment_name"] not in self.experiments:
            raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", "no such experiment")
        found = self.experiments[told["experiment_name"]]
        return {"experiment": {"experiment_id": found, "lifecycle_stage": "active"}}

    def experiments_create(self, told):
        if told["name"] in self.experiments:
            raise RefusedError(400, "RESOURCE_ALREADY_EXISTS", "there already")
        return {"experiment_id": self.experiments.setdefault(told["name"], str(len(self.experiments) + 1))}

    def runs_create(self, told):
        assert isinstance(told["start_time"], int)
        run_id = f"{len(self.runs):032x}"
        info = {"run_id": run_id, "experiment_id": told["experiment_id"], "run_name": told["run_name"]}
        info |= {"status": "RUNNING", "start_time": told["start_time"]}
        tags = {tag["key"]: tag["value"] for tag in told["tags"]}
        self.runs[run_id] = {"info": info, "tags": tags, "params": {}, "metrics": set()}
        return {"run": self.told(run_id)}

    def told(self, run_id):
        one = self.runs[run_id]
        latest: dict[str, tuple[Any, ...]] = {}
        for key, step, timestamp, value in one["metrics"]:
            latest[key] = max(latest.get(key, ()), (step, timestamp, value))
        data = {kind: [{"key": key, "value": value} for key, value in one[kind].items()] for kind in ("params", "tags")}
        data["metrics"] = [
            {"key": key, "step": step, "timestamp": timestamp, "value": value}
            for key, (step, timestamp, value) in latest.items()
        ]
        return {"info": one["info"], "data": {kind: found for kind, found in data.items() if found}}

    def runs_search(self, told):
        key, value = re.fullmatch(r"tags\.`([^`]+)` = '([^']*)'", told["filter"]).groups()
        found = [run for run, one in self.runs.items() if one["tags"].get(key) == value]
        found = [run for run in found if self.runs[run]["info"]["experiment_id"] in told["experiment_ids"]]
        return {"runs": [self.told(run) for run in found]} if found else {}

    def runs_get(self, told):
        return {"run": self.told(told["run_id"])}

    def runs_update(self, told):
        self.runs[told.pop("run_id")]["info"].update(told)
        return {}

    def runs_log_batch(self, told):
        one, metrics, params = self.runs[told["run_id"]], told.get("metrics", []), told.get("params", [])
        if len(metrics) > 1000 or len(params) > 100 or len(metrics) + len(params) > 1000:
            raise RefusedError(400, "INVALID_PARAMETER_VALUE", "too many of them in one request")
        for entry in metrics:
            assert isinstance(entry["timestamp"], int) and isinstance(entry["step"], int)
            one["metrics"].add((entry["key"], entry["step"], entry["timestamp"], float(entry["value"])))
        for entry in [*metrics, *params]:
            if not re.fullmatch(r"[\w\-. :/]{1,250}", entry["key"], re.ASCII):
                raise RefusedError(400, "INVALID_PARAMETER_VALUE", f"invalid name {entry['key']}")
        for entry in params:
            if one["params"].setdefault(entry["key"], entry["value"]) != entry["value"]:
                raise RefusedError(400, "INVALID_PARAMETER_VALUE", "changing params is not allowed")
        return {}

    def metrics_get_history(self, told):
        found = sorted(one[1:] for one in self.runs[told["run_id"]]["metrics"] if one[0] == told["metric_key"])
        return {"metrics": [{"step": step, "timestamp": when, "value": value} for step, when, value in found]}


class Handler(BaseHTTPRequestHandler):
    store: Store
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.reply(parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert len(body) <= 1 << 20 and self.headers["Content-Type"] == "application/json"
        self.reply(self.path, json.loads(body))

    def reply(self, path: str, told: dict[str, Any]) -> None:
        try:
            code, answer = 200, self.store.answer(path, told)
        except RefusedError as refusal:
            code, answer = refusal.code, {"error_code": refusal.error, "message": refusal.message}
        body = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """The address of a server with an empty store."""
    with _real(_PROGRAM, folder) if _PROGRAM else _small() as address:
        yield address


@contextmanager
def _small() -> Iterator[str]:
    handler = type("OwnHandler", (Handler,), {"store": Store()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _real(program: str, folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder)]
    command = [program, "server", *store, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)
