"""A run becomes a run of an MLflow server, once: what is exported again, or after a cut, adds what is new."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request

import pytest
from click.testing import CliRunner
from mlflow_server import mlflow_server

from hpcsynapse.cli.main import cli
from hpcsynapse.errors import ExportError, SpecError
from hpcsynapse.export import mlflow
from hpcsynapse.export.mlflow import export_run
from hpcsynapse.export.rest import RestServer
from hpcsynapse.runs.states import RunState


@pytest.fixture
def address(tmp_path):
    (tmp_path / "server").mkdir()
    with mlflow_server(tmp_path / "server") as found:
        yield found


def ask(address, path):
    with urllib.request.urlopen(f"{address}/api/2.0/mlflow/{path}", timeout=30) as answer:
        return json.load(answer)


def history(address, run, key):
    found = ask(address, f"metrics/get-history?run_id={run}&metric_key={key}")
    return [(int(one["step"]), int(one["timestamp"]), one["value"]) for one in found["metrics"]]


def test_settings_scalars_and_state_arrive_once(run, address) -> None:
    arguments = ["export", "mlflow", "exported", "--runs", str(run.path.parent), "--tracking-uri", address]
    first, second = (CliRunner().invoke(cli, arguments) for _ in range(2))
    assert first.exit_code == second.exit_code == 0, first.output + second.output
    assert first.output.startswith("exported: 83 points added; see ")
    assert second.output == first.output.replace("83 points", "0 points")
    there = first.output.split()[-1].rpartition("/")[2]
    told = ask(address, f"runs/get?run_id={there}")["run"]
    assert told["info"]["run_name"] == "exported"
    params = {one["key"]: one["value"] for one in told["data"]["params"]}
    assert params["name"] == "exported" and params["resources.nodes"] == "1"
    losses = [(step, 1_700_000_000_000 + 500 * step, 1 / (step + 1)) for step in range(8) if step != 3]
    assert history(address, there, "train/loss") == [(step, when, pytest.approx(value)) for step, when, value in losses]
    assert [value for _, _, value in history(address, there, "validation/accuracy")] == [0.5, 0.75]
    assert [value for _, _, value in history(address, there, "validation/gr__e")] == [2.0]


def test_a_run_that_went_on_adds_its_new_steps_and_its_end(run, address, record_steps) -> None:
    server = RestServer(address)
    first = export_run(run, RunState.TRAINING, server, "e")
    assert ask(address, f"runs/get?run_id={first.run}")["run"]["info"]["status"] == "RUNNING"
    record_steps(run, range(12))
    second = export_run(run, RunState.FINISHED, server, "e")
    assert (second.run, second.added) == (first.run, 4 * 10)
    assert [step for step, _, _ in history(address, first.run, "train/epoch")] == list(range(12))
    told = ask(address, f"runs/get?run_id={first.run}")["run"]["info"]
    assert told["status"] == "FINISHED" and int(told["end_time"]) > 0


def test_an_export_that_was_cut_off_is_taken_up(run, address, monkeypatch) -> None:
    monkeypatch.setattr(mlflow, "_MOST_METRICS", 30)
    server = RestServer(address)

    def cut(sent: int, of: int) -> None:
        assert of == 83
        if sent == 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_run(run, RunState.FINISHED, server, "e", cut)
    done = export_run(run, RunState.FINISHED, server, "e")
    assert done.added == 23
    assert len(history(address, done.run, "time/update_s")) == 8


def test_a_folder_of_records_is_a_run_too(run, address) -> None:
    server = RestServer(address)
    first, second = (export_run(run.timings, None, server, "e") for _ in range(2))
    assert (first.added, second.added, second.run) == (8 * 10 - 1, 0, first.run)


@pytest.mark.parametrize("given", ["file:///tmp/x", "localhost:5000", "", "http://", "http://u:p@h:1", "sqlite:///x"])
def test_an_address_that_is_none_is_wrong_input(run, given) -> None:
    arguments = ["export", "mlflow", "exported", "--runs", str(run.path.parent), "--tracking-uri", given]
    assert isinstance(CliRunner().invoke(cli, arguments).exception, SpecError)


def answers(text):
    """The address of something that gives this answer to all questions, each on a connection of its own."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 16)
                connection.sendall(text)

    threading.Thread(target=serve, daemon=True).start()
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n<html>", "Expecting value"),
        (b"HTTP/1.0 200 OK\r\n\r\n[1]", "no JSON object"),
        (b"HTTP/1.0 200 OK\r\n\r\n{}", "without its experiment"),
        (b"HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "302"),
        (b"HTTP/1.0 401 No\r\n\r\nnot you", "401 No: not you"),
        (b"nonsense\r\n\r\n", "nonsense"),
    ],
)
def test_a_server_that_is_none_is_named_with_what_it_said(run, text, message) -> None:
    listener, address = answers(text)
    with listener, pytest.raises(ExportError) as error:
        export_run(run, None, RestServer(address), "e")
    assert address in str(error.value) and message in str(error.value)


def test_one_that_does_not_answer_is_waited_for_no_longer_than_the_limit(run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ExportError, match="timed out"):
            export_run(run, None, RestServer(address, seconds=0.2), "e")
    with pytest.raises(ExportError, match="refused"):
        export_run(run, None, RestServer(address), "e")
