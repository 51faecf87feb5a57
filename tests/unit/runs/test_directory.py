from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcsynapse.errors import RunNotFoundError, SpecError
from hpcsynapse.files import read_json, write_atomic, write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.site import SiteSpec


def test_a_new_run_has_its_description_and_first_state(tmp_path: Path) -> None:
    spec = JobSpec(name="a", resources=ResourceRequest(nodes=3))
    run = RunDirectory.create(tmp_path / "deep" / "runs", spec)
    assert run.load_spec() == spec
    assert [record["state"] for record in run.read_history()] == ["CREATED"]
    assert {path.name for path in run.path.iterdir()} == {"run.toml", "history.jsonl", "timings", "checkpoints", "logs"}


def test_a_taken_name_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, JobSpec(name="a"))
    with pytest.raises(SpecError, match="exists already"):
        RunDirectory.create(tmp_path, JobSpec(name="a"))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="cannot make a run directory"):
        RunDirectory.create(tmp_path / "file", JobSpec(name="a"))


def test_runs_are_found_by_name_and_path_and_the_nearest_is_suggested(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, JobSpec(name="experiment"))
    assert RunDirectory.find(tmp_path, "experiment").path == run.path.resolve()
    assert RunDirectory.find(tmp_path / "elsewhere", str(run.path)).path == run.path.resolve()
    with pytest.raises(RunNotFoundError, match="'experiment'"):
        RunDirectory.find(tmp_path, "experimnt")
    (tmp_path / ".new-x").mkdir()
    (tmp_path / "foreign").mkdir()
    assert [found.name for found in RunDirectory.all(tmp_path)] == ["experiment"]
    assert list(RunDirectory.all(tmp_path / "absent")) == []


def test_damaged_files_are_read_as_absent(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, JobSpec(name="a"))
    run.append_history("QUEUED")
    with run.history.open("ab") as file:
        file.write(b'{"state": "TRAI')
    assert [record["state"] for record in run.read_history()] == ["CREATED", "QUEUED"]
    for content in (b"", b"{", b"[1]", b"\xff", b'{"a": ' + b"9" * 5000 + b"}", b"[" * 100_000):
        run.status.write_bytes(content)
        assert read_json(run.status) is None
    run.run_toml.write_text("format = 1\n[resources]\nnodes = 'x'\n")
    with pytest.raises(SpecError, match=r"resources\.nodes"):
        run.load_spec()


@pytest.mark.parametrize(("text", "words"), [("9" * 5000, "too many digits"), ("[" * 100_000, "nested too deeply")])
def test_a_description_without_end_is_named(tmp_path: Path, text: str, words: str) -> None:
    run = RunDirectory.create(tmp_path, JobSpec(name="a"))
    run.run_toml.write_text(f"format = 1\n[resources]\nnodes = {text}\n")
    with pytest.raises(SpecError, match=rf"run\.toml: .*{words}$"):
        run.load_spec()


def test_a_failed_replacement_keeps_the_old_text_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    assert read_json(path) == {"a": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["file.json"]


WRITER = """
import sys
from pathlib import Path
from hpcsynapse.files import write_json
from hpcsynapse.runs.directory import RunDirectory
run = RunDirectory(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    write_json(run.status, {"state": "TRAINING", "number": number, "padding": "x" * 5000})
    run.append_history("TRAINING", "y" * 2000, number=number)
"""


def test_a_writer_killed_at_any_instant_leaves_whole_files(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, JobSpec(name="a"))
    for delay in (0.01, 0.02, 0.03, 0.05, 0.08):
        seen = len(run.read_history())
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(run.path)])
        limit = time.monotonic() + 30
        while len(run.read_history()) == seen and time.monotonic() < limit:
            time.sleep(0.005)
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        status = json.loads(run.status.read_text())
        assert status["padding"] == "x" * 5000
        assert len(run.read_history()) > seen


def test_what_is_written_is_strict_json(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, JobSpec(name="a"))
    write_json(run.status, {"loss": float("nan"), "metrics": {"loss": [float("inf"), 1.5]}})
    run.append_history("TRAINING", loss=float("-inf"))
    for text in (run.status.read_text(), run.history.read_text().splitlines()[-1]):
        json.loads(text, parse_constant=pytest.fail)
    assert read_json(run.status) == {"loss": None, "metrics": {"loss": [None, 1.5]}}


@pytest.mark.parametrize(("share", "mode"), [("private", 0o700), ("group", 0o750), ("all", 0o755)])
def test_who_may_look_into_a_run(tmp_path: Path, share: str, mode: int) -> None:
    """Descriptions hold the values of --env, which may be secrets."""
    run = RunDirectory.create(tmp_path, JobSpec(name="a", site=SiteSpec(share=share)))
    assert run.path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(("name", "mode"), [("API_KEY", 0o600), ("wandb_token", 0o600), ("NCCL_DEBUG", 0o644)])
def test_files_with_a_secret_are_the_owners_alone_in_a_shared_run_too(tmp_path: Path, name: str, mode: int) -> None:
    kept = os.umask(0o022)
    try:
        spec = JobSpec(name="a", site=SiteSpec(share="all"), launch=LaunchOptions(env={name: "xyzzy"}))
        run = RunDirectory.create(tmp_path, spec, {"job.sh": f"export {name}=xyzzy\n"})
        run.write_spec(spec)
    finally:
        os.umask(kept)
    holding = [path for path in run.path.rglob("*") if path.is_file() and b"xyzzy" in path.read_bytes()]
    assert {path.name: path.stat().st_mode & 0o777 for path in holding} == {"run.toml": mode, "job.sh": mode}
