"""The page as one file: what it holds, what it leaves out, and that it stays small."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from waiting import wait_until
from web_runs import LiveRun, make_run, measured_run

from hpcsynapse.cli.main import cli
from hpcsynapse.errors import RunNotFoundError
from hpcsynapse.serve import renewal, snapshot
from hpcsynapse.serve.index import RunIndex


def written(runs: Path, *words: str) -> tuple[str, dict[str, Any]]:
    target = runs.parent / "page.html"
    done = CliRunner().invoke(cli, ["snapshot", *words, "--runs", str(runs), "-o", str(target)])
    assert done.exit_code == 0, done.output
    text = target.read_text()
    found = re.search(r'<script type="application/json" id="snapshot">(.*?)</script>', text, re.DOTALL)
    assert found
    return text, json.loads(found[1])


def test_a_run_is_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    measured_run(tmp_path / "runs", "eight", ranks=8)
    text, data = written(tmp_path / "runs", "eight")
    assert {path.partition("?")[0].rpartition("/")[2] for path in data["answers"]} == {
        "runs",
        "run",
        "curve",
        "steps",
        "stragglers",
        "placement",
        "nodes",
        "history",
        "text",
        "logs",
        "log",
    }  # what the page of a run asks for
    assert "connect-src" not in text and "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href)="(?!data:|#)""", text.partition("<script>")[0])
    assert "import " not in re.sub(r"//.*", "", text.partition("<script>")[2].partition("const modules")[2])[:200]


def test_what_a_run_says_cannot_end_the_data(tmp_path: Path) -> None:
    make_run(
        tmp_path / "runs", "hostile", model="</script><script>alert(1)</script>", files={"logs/job.log": "</script>"}
    )
    text, data = written(tmp_path / "runs", "hostile")
    assert text.count("</script>") == 2
    assert data["answers"]["api/v1/runs"]["runs"][0]["model"] == "</script><script>alert(1)</script>"


def test_anonymous_leaves_no_host_user_or_path(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    run = measured_run(folder, "eight", ranks=8)
    told = json.loads(run.submission.read_text())
    run.submission.write_text(json.dumps({**told, "user": "mustermann", "host": "login7.secret.example"}))
    run.append_history("FAILED", "mustermann's job on login7 could not read /home/mustermann/data/x.npy")
    failure = {"rank": 3, "host": "node1.secret.example", "reason": "cannot open /scratch/x", "code": 1, "time": 1.8e9}
    (run.evidence("1")).mkdir(parents=True)
    run.failure("1", 3).write_text(json.dumps(failure))
    run.exit.write_text(json.dumps({"exit_code": 1, "time": 1.8e9, "attempt": "1"}))
    text, data = written(folder, "eight", "--anonymous")
    kept = json.dumps(data)
    for secret in ("mustermann", "login7", "secret.example", "/home", "/scratch", str(tmp_path), "GPU-0", "line 49"):
        assert secret not in text, secret
    assert not re.search(rf"\b(node[01]|{re.escape(os.uname().nodename)})\b", kept)
    assert data["answers"]["api/v1/placement?name=eight"]["ranks"][5]["host"].startswith("node-")


def test_a_study_has_its_report_and_all_its_runs(tmp_path: Path) -> None:
    study = tmp_path / "runs" / "scaling"
    for ranks in (1, 2):
        measured_run(study / "points", f"of-{ranks}", ranks=ranks)
    (study / "study.toml").write_text('format = 1\nname = "scaling"\n[queue]\nscheduler = "local"\n[study]\n')
    _, data = written(tmp_path / "runs", "scaling")
    assert data["answers"]["api/v1/report?name=scaling"]["marks"][1]["ranks"] == 2
    assert "api/v1/run?name=scaling%2Fof-2" in data["answers"]
    _, one = written(tmp_path / "runs", "scaling/of-2")
    assert [row["name"] for row in one["answers"]["api/v1/runs"]["runs"]] == ["scaling/of-2"]


def test_what_there_is_no_room_for_is_left_out_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured_run(tmp_path / "runs", "eight", ranks=8)
    monkeypatch.setattr(snapshot, "MOST_BYTES", 60_000)
    _, data = written(tmp_path / "runs", "eight")
    assert "api/v1/steps?name=eight&measure=total" in data["errors"] and "api/v1/run?name=eight" in data["answers"]
    assert len(json.dumps(data)) < 70_000


@pytest.mark.slow
def test_a_large_run_is_a_file_of_a_few_megabytes(tmp_path: Path) -> None:
    measured_run(tmp_path / "runs", "large", ranks=64, steps=2000, per_node=8)
    text, _ = written(tmp_path / "runs", "large")
    assert len(text) < 1_500_000


NOT_WRITTEN = [
    ["absent"],
    ["one", "-o", "page.pdf"],
    ["one", "-o", "/absent/page.html"],
    ["one", "--follow", "-o", "/absent/page.html"],
    ["one", "--follow", "--every", "1"],
    ["one", "--every", "9"],
]


@pytest.mark.parametrize("words", NOT_WRITTEN, ids=str)
def test_what_cannot_be_written_is_said(tmp_path: Path, words: list[str]) -> None:
    make_run(tmp_path / "runs", "one")
    done = CliRunner().invoke(cli, ["snapshot", *words, "--runs", str(tmp_path / "runs")])
    assert done.exit_code != 0 and not (tmp_path / "page.pdf").exists()


def data_beside(page: Path) -> dict[str, Any]:
    text = renewal.beside(page).read_text()
    found = re.fullmatch(r"globalThis\.hpcsynapseSnapshot = '(.*)';\n", text, re.DOTALL)
    assert found and "\n" not in found[1] and not re.search(r"(?<!\\)(?:\\\\)*'", found[1])
    told: dict[str, Any] = json.loads(found[1].replace("\\'", "'").replace("\\\\", "\\"))
    return told


def test_a_followed_run_is_renewed_until_it_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live, page = LiveRun(tmp_path / "runs", "live", step=1, steps=3, model="it's \\ </script>"), tmp_path / "page.html"
    index, told = RunIndex(tmp_path / "runs"), list[tuple[int, str, bool]]()

    def pause(_: float) -> None:
        row = data_beside(page)["answers"]["api/v1/runs"]["runs"][0]
        told.append((row["step"], row["model"], "'nonce-" in page.read_text()))
        live.end() if row["step"] == 3 else live.tell(step=row["step"] + 1)

    monkeypatch.setattr(renewal, "time", SimpleNamespace(sleep=pause, monotonic=time.monotonic))
    renewal.follow(page, index, "live", lambda: snapshot.of_run(index, "live"), 5)
    assert told == [(step, "it's \\ </script>", True) for step in (1, 2, 3)]
    last = data_beside(page)
    assert last["ended"] and last["answers"]["api/v1/run?name=live"]["row"]["state"] == "FINISHED"
    assert "'nonce-" not in page.read_text()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["page.data.js", "page.html", "runs"]


@pytest.mark.parametrize("why", ["removed", "limit"])
def test_following_ends_whatever_its_run_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    live, page = LiveRun(tmp_path / "runs", "live", step=1), tmp_path / "page.html"
    index = RunIndex(tmp_path / "runs")

    def pause(_: float) -> None:
        if why == "removed":
            live.run.path.rename(tmp_path / "gone")
        else:
            clock.monotonic = lambda: time.monotonic() + renewal.LONGEST

    clock = SimpleNamespace(sleep=pause, monotonic=time.monotonic)
    monkeypatch.setattr(renewal, "time", clock)
    try:
        renewal.follow(page, index, "live", lambda: snapshot.of_run(index, "live"), 5)
    except RunNotFoundError:
        assert why == "removed"
    told = data_beside(page)
    assert told["ended"] and told["answers"]["api/v1/run?name=live"]["row"]["step"] == 1


def test_a_study_is_followed_until_all_its_runs_have_ended(tmp_path: Path) -> None:
    study = tmp_path / "runs" / "two"
    measured_run(study / "points", "done")
    live = LiveRun(study / "points", "goes-on", step=1)
    (study / "study.toml").write_text('format = 1\nname = "two"\n[queue]\nscheduler = "local"\n[study]\n')
    index = RunIndex(tmp_path / "runs")
    index.refresh(whole=True)
    assert renewal._left(index, "two") == 1 and renewal._left(index, "two/done") == 0
    live.end()
    index.row("two/goes-on")
    assert renewal._left(index, "two") == 0


def test_ctrl_c_leaves_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    LiveRun(tmp_path / "runs", "live", step=1)
    page = tmp_path / "page.html"
    command = [sys.executable, "-m", "hpcsynapse", "snapshot", "live", "--anonymous", "--follow"]
    with subprocess.Popen([*command, "--runs", str(tmp_path / "runs"), "-o", str(page)], stderr=subprocess.PIPE) as run:
        wait_until(page.exists, 60, "the page is there")
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 130 and said == f"{page} is renewed no more; it stays as it is\n".encode()
    assert data_beside(page)["ended"] and "'nonce-" not in page.read_text()
    assert os.uname().nodename not in json.dumps(data_beside(page))
