"""What the API answers is what the commands say, read from the same files; and it is small, whatever there is."""

from __future__ import annotations

import io
import json
import os
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from web import Server
from web_runs import make_run, measured_run, sampled_nodes

from hpcsynapse.cli.main import cli
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.serve import detail, logs, reports, steps
from hpcsynapse.serve import index as index_module
from hpcsynapse.serve.index import RunIndex
from hpcsynapse.timing import RECORD


def command(*words: str) -> str:
    return CliRunner().invoke(cli, words).output


def test_states_are_those_of_status(server: Server, runs: Path) -> None:
    said = {
        one["name"]: one for one in json.loads(command("status", "--runs", str(runs), "--json", "measured", "failed"))
    }
    for row in server.get("runs")["runs"]:
        assert (row["state"], row["reason"]) == (said[row["name"]]["state"], said[row["name"]]["reason"])
    assert server.get("run", name="measured")["row"]["state"] == "FINISHED"


def test_slow_ranks_are_those_of_the_report(server: Server, runs: Path) -> None:
    found = server.get("stragglers", name="measured")
    said = json.loads(command("report", "stragglers", "--runs", str(runs), "measured", "--json"))
    assert [one["rank"] for one in found["slow"]] == [one["rank"] for one in said if one["slow"]] == [2]
    assert "mostly in forward" in found["slow"][0]["sentence"]


def test_a_report_has_the_numbers_of_the_command(tmp_path: Path) -> None:
    for ranks in (1, 2, 4):
        measured_run(tmp_path, f"of-{ranks}", ranks=ranks)
    names = ["of-1", "of-2", "of-4"]
    found = reports.report(RunIndex(tmp_path), names)
    said = json.loads(command("report", "--runs", str(tmp_path), *names, "--json"))
    assert [(one.ranks, one.speedup, one.efficiency) for one in found.marks] == [
        (one["ranks"], one["speedup"], one["efficiency"]) for one in said
    ]
    why = command("report", "why", "--runs", str(tmp_path), *names)
    assert len(found.why) == 2 and all(one.title.partition(":")[0] in why for one in found.why)
    (prediction,) = reports.predictions(RunIndex(tmp_path), names).found
    assert prediction.sentences[0] in command("predict", "scaling", "--runs", str(tmp_path), *names)


def test_a_curve_has_so_many_points_however_many_steps(tmp_path: Path) -> None:
    run = measured_run(tmp_path, "long", ranks=1, steps=5000)
    found = steps.curve(RunIndex(tmp_path), "long", points=100)
    assert found.steps == 5000 and len(found.step) == len(found.loss) == len(found.phases["data"]) == 100
    assert found.step[-1] == 4999
    records = np.frombuffer(b"".join(part.read() for part in steps.parts(run.timings)), [("all", "V72")])
    assert len(records) == 5000
    last = [dict(zip(steps._AT, one, strict=True)) for one in RECORD.iter_unpack(records[-8:].tobytes())]
    assert found.loss[-1] == pytest.approx(np.mean([one["loss"] for one in last]))
    assert found.metrics["accuracy"] == [[2500, 0.4], [5000, 0.8]]


def test_a_heat_map_shows_the_slow_rank_and_keeps_within_its_size(tmp_path: Path) -> None:
    measured_run(tmp_path, "slow", ranks=8, slow={(5, "data"): 0.2})
    found = steps.heat_map(RunIndex(tmp_path), "slow")
    means = [np.mean([one for one in line if one is not None]) for line in found.seconds]
    assert int(np.argmax(means)) == 5 and found.first == found.last == list(range(8))
    assert found.step == sorted(found.step)


def test_many_ranks_share_lines_and_a_line_shows_the_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_MOST_LINES", 4)
    measured_run(tmp_path, "slow", ranks=8, slow={(5, "data"): 0.2})
    found = steps.heat_map(RunIndex(tmp_path), "slow")
    assert (found.first, found.last) == ([0, 2, 4, 6], [1, 3, 5, 7])
    assert int(np.argmax([line[3] for line in found.seconds])) == 2  # type: ignore[arg-type]


def test_a_torn_record_and_a_start_in_between_are_read(tmp_path: Path) -> None:
    run = measured_run(tmp_path, "torn", ranks=2, steps=30)
    with run.timings.joinpath("rank-00000.0.steps").open("ab") as file:
        file.write(b"x" * 30)
    (run.timings / "rank-00001.1.steps").write_bytes(b"{")
    assert steps.curve(RunIndex(tmp_path), "torn").steps == 30


def test_logs_are_read_in_stretches_without_a_cut_letter(tmp_path: Path) -> None:
    text = "".join(f"Zeile {number} größer ☃\n" for number in range(3000))
    make_run(tmp_path, "logged", files={"logs/rank-00000.log": text})
    index, read, begin = RunIndex(tmp_path), "", 0
    while (part := logs.log(index, "logged", "rank-00000", begin=begin, length=1001)).end < part.size:
        read, begin = read + part.text, part.end
    assert read + part.text == text
    end = logs.log(index, "logged", "rank-00000", length=1000)
    assert end.end == end.size == len(text.encode()) and end.text.startswith("Zeile") and text.endswith(end.text)
    assert [one.title for one in logs.logs(index, "logged")] == ["rank 0"]
    beyond = logs.log(index, "logged", "rank-00000", begin=10**9)
    assert (beyond.begin, beyond.end, beyond.text) == (beyond.size, beyond.size, "")


def test_bytes_that_are_no_text_do_not_stop_a_log(tmp_path: Path) -> None:
    make_run(tmp_path, "binary", files={"logs/rank-00000.log": bytes(range(256)) * 10})
    index, begin, count = RunIndex(tmp_path), 0, 0
    while (part := logs.log(index, "binary", "rank-00000", begin=begin, length=7)).end < part.size:
        assert part.end > begin
        begin, count = part.end, count + 1
    assert count < 2560


@pytest.mark.parametrize(
    "name", ["..", ".", "", "/etc", "measured/..", "../runs/measured", "measured/", "%2e%2e", "a\0b"]
)
def test_a_run_is_a_member_of_the_list_whatever_is_asked_for(server: Server, name: str) -> None:
    for path in ("run", "logs", "archive", "text", "curve"):
        assert server.ask(f"/api/v1/{path}", name=name)[0] == 404


def test_what_links_lead_to_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the secret\n")
    run = make_run(tmp_path / "runs", "linked", files={"logs/rank-00001.log": "mine\n"})
    run.rank_log(0).symlink_to(secret)
    os.mkfifo(run.rank_log(2))
    (run.checkpoints / "step-000000001.pt").symlink_to(secret)
    (run.path / "job.sh").unlink()
    (run.path / "job.sh").symlink_to(secret)
    (run.path / "telemetry").symlink_to(tmp_path)
    index = RunIndex(tmp_path / "runs")
    assert [one.log for one in logs.logs(index, "linked")] == ["rank-00001"]
    for log in ("rank-00000", "rank-00002"):
        with pytest.raises(index_module.RunNotFoundError):
            logs.log(index, "linked", log)
    assert detail.checkpoints(run) == [] and detail.text(index, "linked").job_file == ""
    from hpcsynapse.serve.downloads import archive, checkpoint

    with pytest.raises(index_module.RunNotFoundError):
        checkpoint(index, "linked", "step-000000001.pt")
    with archive(index, "linked")[2] as file, zipfile.ZipFile(io.BytesIO(file.read())) as found:
        assert "linked/logs/rank-00001.log" in found.namelist()
        assert not [name for name in found.namelist() if b"secret" in found.read(name)]
    for folder in ("logs", "checkpoints"):  # the folder itself
        (run.path / folder).rename(tmp_path / f"moved-{folder}")
        (run.path / folder).symlink_to(tmp_path / f"moved-{folder}")
    with pytest.raises(index_module.RunNotFoundError):
        logs.log(index, "linked", "rank-00001")


def test_checkpoint_and_archive_are_files_to_take_away(server: Server, runs: Path) -> None:
    (one,) = server.get("run", name="measured")["checkpoints"]
    head, body = server.raw(
        f"GET /api/v1/checkpoint?name=measured&file={one['file']} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {server.token}\r\nConnection: close\r\n\r\n"
    )
    assert body == b"weights" * 100 and 'attachment; filename="measured-step-000000200.pt"' in head
    assert "sandbox" in head.lower()
    status, body = server.ask("/api/v1/archive", name="measured")
    names = zipfile.ZipFile(io.BytesIO(body)).namelist()
    assert status == 200 and {"measured/run.toml", "measured/logs/rank-00000.log"} <= set(names)
    assert not [name for name in names if "/." in name or "checkpoints" in name]
    assert server.ask("/api/v1/timeline", name="measured")[1][:2] == b"\x1f\x8b"
    assert server.ask("/api/v1/checkpoint", name="measured", file="../run.toml")[0] == 404


def test_runs_are_listed_newest_first_and_changes_alone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpcsynapse.serve.routes import runs

    monkeypatch.setattr(index_module, "_LOOK_SECONDS", 0.0)
    for number in range(3):
        run = make_run(tmp_path, f"run-{number}")
        os.utime(run.run_toml, (number + 1e9, number + 1e9))
    index = RunIndex(tmp_path)
    first = runs(index)
    assert [row.name for row in first.runs] == ["run-2", "run-1", "run-0"] and first.unread == 0
    assert runs(index, first.changed).runs == []
    goes_on = make_run(tmp_path, "new", "TRAINING", step=1, steps=10)
    goes_on.exit.write_text(json.dumps({"exit_code": 0, "time": time.time()}))
    (then,) = runs(index, first.changed).runs
    assert (then.name, then.step) == ("new", 1)
    goes_on.status.write_text(json.dumps({"state": "TRAINING", "step": 2, "steps": 10}))
    assert [row.step for row in runs(index, then.changed).runs] == [2]
    import shutil

    shutil.rmtree(tmp_path / "run-0")
    assert runs(index, then.changed).gone == ["run-0"]


def test_the_runs_of_a_study_are_listed_under_its_name(tmp_path: Path) -> None:
    study = tmp_path / "compared"
    make_run(study / "points", "a-2")
    (study / "study.toml").write_text('format = 1\nname = "compared"\n[queue]\nscheduler = "local"\n[study]\n')
    index = RunIndex(tmp_path)
    index.refresh()
    assert [(row.name, row.study) for row in index.listed()] == [("compared/a-2", "compared")]
    assert index.find("compared/a-2") == RunDirectory(study / "points" / "a-2")
    from hpcsynapse.serve.catalog import studies

    (one,) = studies(index)
    assert one.name == "compared" and one.states == {"FINISHED": 1}


def test_new_runs_are_read_for_a_limited_time_and_the_rest_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        make_run(tmp_path, f"run-{number}")
    monkeypatch.setattr(index_module, "_CHUNK", 2)
    monkeypatch.setattr(index_module, "_READ_SECONDS", 0.0)
    monkeypatch.setattr(index_module, "_LOOK_SECONDS", 0.0)
    index = RunIndex(tmp_path)
    index.refresh()
    assert index.unread == 4
    index.refresh(whole=True)
    assert index.unread == 0 and len(index.listed()) == 6


def test_queues_are_asked_once_for_all_runs_and_not_again_for_half_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(found: list[RunDirectory]) -> dict[str, dict[str, object]]:
        asked.append(sorted(run.name for run in found))
        return {"local": {}}

    monkeypatch.setattr(index_module, "ask_queues", ask)
    monkeypatch.setattr(index_module, "_LOOK_SECONDS", 0.0)
    for number in range(3):
        make_run(tmp_path, f"run-{number}", "TRAINING")
    index = RunIndex(tmp_path)
    for _ in range(20):
        index.refresh()
    assert asked == [["run-0", "run-1", "run-2"]]
    index._asked -= index_module.QUEUE_SECONDS
    index.refresh()
    assert len(asked) == 2


def test_events_go_on_from_where_a_browser_was(server: Server) -> None:
    link = server.connect()
    link.sendall(
        f"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\n\r\n".encode()
    )
    found = b""
    while b"event: runs" not in found or not found.endswith(b"\r\n"):
        found += link.recv(65536)
    link.close()
    text = found.decode()
    assert "event: again" in text and '"name":"measured"' in text and "text/event-stream" in text
    last = re.findall(r"id: (\w+-\d+)\n", text)[-1]
    link = server.connect()
    link.sendall(
        f"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\n"
        f"Last-Event-ID: {last}\r\n\r\n".encode()
    )
    link.settimeout(3)
    found = b""
    try:
        while True:
            found += link.recv(65536)
    except TimeoutError:
        pass
    link.close()
    assert b"event:" not in found
    link = server.connect()
    link.sendall(
        f"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\n"
        "Last-Event-ID: 0badcafe-1\r\n\r\n".encode()
    )
    found = b""
    while b"event: again" not in found:
        found += link.recv(65536)
    link.close()


def test_nodes_are_those_of_the_command_and_their_load_is_told_over_time(tmp_path: Path) -> None:
    from hpcsynapse.serve.nodes import history, nodes

    sampled_nodes(make_run(tmp_path, "sampled"), ["node0", "node1"])
    index = RunIndex(tmp_path)
    found = nodes(index, "sampled")
    said = json.loads(command("nodes", "sampled", "--runs", str(tmp_path), "--json"))
    names = [one.name for one in found.columns]
    assert [row[names.index("node")] for row in found.rows] == [one["node"] for one in said] == ["node0", "node1"]
    assert found.rows[0][names.index("memory")] == "50.0%"
    one, other = history(index, "sampled", points=5)
    assert (one.node, len(one.time)) == ("node0", 5) and one.time == sorted(one.time)
    assert one.values["cpu"] == sorted(one.values["cpu"]) and one.values["cpu"][-1] == pytest.approx(0.97, abs=0.02)
    assert other.values["cpu"][-1] == pytest.approx(one.values["cpu"][-1] / 2)
    assert one.values["gpu"] == [None] * 5
    assert nodes(index).rows == []
