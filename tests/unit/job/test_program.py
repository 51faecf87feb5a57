"""The process around a program watches over it: stopped, silent, left behind, or suspended together with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hpcsynapse.files import read_json
from hpcsynapse.job.supervise import descendants, is_stopped, process_stat
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.failure import first_failure
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.queue import QueueOptions

pytestmark = pytest.mark.slow

# A rank's wrapper, with short margins, around a program with a limit of two seconds.
WRAPPER = """
import sys
from pathlib import Path
from hpcsynapse.job import program
from hpcsynapse.runs.directory import RunDirectory
program._INTERVAL, program._MARGIN, program._STACKS = 0.2, 1.0, 20.0
run, limit, *argv = sys.argv[1:]
sys.exit(program.Program(RunDirectory(Path(run)), 0, "0", float(limit)).execute(argv, Path(run, "log")))
"""
# Stays until it is told to leave by a file; says that it has begun, and when it is told to end.
STAYS = """
import os, pathlib, signal, sys, time
from hpcsynapse.trainer.watchdog import Watchdog
here = pathlib.Path(sys.argv[1])
def save(number, frame):
    (here / "saved").touch()
    os._exit(0)
signal.signal(signal.SIGTERM, save)
watchdog = Watchdog(float(sys.argv[2]), "staying")
watchdog.start()
(here / "begun").touch()
while not (here / "leave").exists():
    time.sleep(0.05)
    watchdog.tick()
"""
HOLDS_THE_LOCK = """
import ctypes, sys, time
from hpcsynapse.trainer.watchdog import Watchdog
watchdog = Watchdog(2, "computing")
watchdog.start()
time.sleep(1)
def inside_a_library():
    ctypes.PyDLL(None).sleep(600)
inside_a_library()
"""


def until(condition: Callable[[], bool], what: str, limit: float = 90) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"not within {limit} s: {what}"
        time.sleep(0.05)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = RunDirectory.create(tmp_path, JobSpec(name="run", queue=QueueOptions(scheduler="local")))
    made.evidence("0").mkdir(parents=True)
    return made


@pytest.fixture
def start(run: RunDirectory, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a program within its wrapper; whatever is left is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(program: str, *words: str, limit: float = 2, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        inner = [sys.executable, "-c", program, str(tmp_path), *words]
        argv = [*before, sys.executable, "-c", WRAPPER, str(run.path), str(limit), *inner]
        environ = {name: value for name, value in os.environ.items() if name != "HPCSYNAPSE_JOB_PID"}
        started.append(subprocess.Popen(argv, env=environ))
        return started[-1]

    yield begin
    for one in started:
        for pid in descendants(one.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        one.wait(30)


def waits(pid: int) -> int:
    """Return how often a process has waited for something (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def child_of(pid: int) -> int:
    return descendants(pid)[1]


def test_a_program_that_is_stopped_alone_is_ended_and_named(run: RunDirectory, start, tmp_path: Path) -> None:
    rank = start(STAYS, "600")
    until((tmp_path / "begun").exists, "it has begun")
    os.kill(child_of(rank.pid), signal.SIGSTOP)
    assert rank.wait(90) == 75
    found = first_failure(run, "0")
    assert (found["reason"], found["by_itself"]) == ("stopped by a signal (SIGSTOP) for 2 s", True)


def test_a_program_that_waits_for_a_stopped_one_is_not_the_cause(run: RunDirectory) -> None:
    """The victim's record comes first in time; the stopped one was told to end by its launcher afterwards."""
    records = [
        {"rank": 0, "reason": "no progress for 20 s", "time": 100.0, "waits": True},
        {"rank": 1, "reason": "stopped by a signal (SIGSTOP)", "time": 101.0, "silent": True},
    ]
    run.rank_log(1).write_text("RuntimeError: Connection closed by peer [127.0.0.1]:27326\n")  # when it went on
    for record in records:
        path = run.failure("0", int(str(record["rank"])))
        path.write_text(json.dumps({"host": "n1", "code": 75, **record}))
    assert first_failure(run, "0")["rank"] == 1


def test_a_stopped_program_that_is_told_to_end_is_on_record_as_the_cause(
    run: RunDirectory, start, tmp_path: Path
) -> None:
    rank = start(STAYS, "600", limit=600)
    until((tmp_path / "begun").exists, "it has begun")
    child = child_of(rank.pid)
    os.kill(child, signal.SIGSTOP)
    until(lambda: is_stopped(child), "it is stopped")
    # The wrapper notices it at one of its looks, each of which is a few waits long.
    before = waits(rank.pid)
    until(lambda: waits(rank.pid) > before + 40, "the wrapper has looked")
    rank.send_signal(signal.SIGTERM)
    until(run.failure("0", 0).exists, "a record")
    os.kill(child, signal.SIGCONT)
    rank.wait(90)
    record = read_json(run.failure("0", 0)) or {}
    assert (record.get("reason"), record.get("told_to_end")) == ("stopped by a signal (SIGSTOP)", False)


def test_a_library_that_holds_pythons_lock_is_ended_with_the_place_where_it_hangs(run: RunDirectory, start) -> None:
    assert start(HOLDS_THE_LOCK).wait(120) == 75
    assert first_failure(run, "0")["reason"].startswith("no sign of life for ")
    assert "in inside_a_library" in (run.path / "log").read_text()


def test_what_is_suspended_together_goes_on(run: RunDirectory, start, tmp_path: Path) -> None:
    rank = start(STAYS, "2", limit=2)
    until((tmp_path / "begun").exists, "it has begun")
    everything = descendants(rank.pid)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in reversed(everything) if number == signal.SIGCONT else everything:
            os.kill(pid, number)
        if number == signal.SIGSTOP:
            until(lambda: all(map(is_stopped, everything)), "all are stopped")
            time.sleep(6)  # three times the limit
    (tmp_path / "leave").touch()
    assert rank.wait(90) == 0, (run.path / "log").read_text()
    assert first_failure(run, "0") == {}


@pytest.mark.parametrize("trouble", ["records", "log"])
def test_what_cannot_be_put_on_record_changes_nothing_for_the_program(
    run: RunDirectory, start, tmp_path: Path, trouble: str
) -> None:
    """The folder of records is gone, or the log is as large as it may be, when a later start begins and is ended."""
    log = run.path / "log"
    log.write_text("of an earlier start\n")
    before: tuple[str, ...] = ()
    if trouble == "records":
        run.evidence("0").rmdir()
        run.evidence("").rmdir()
        run.evidence("").write_text("no folder\n")
    else:  # bash counts blocks of 1,024 bytes; what is written beyond them fails (EFBIG, Python ignores SIGXFSZ)
        log.write_bytes(b"-" * 1023 + b"\n")
        before = ("bash", "-c", 'ulimit -f 1; exec "$@"', "limited")
    wrapper = start(STAYS, "600", limit=600, before=before)
    until((tmp_path / "begun").exists, "it has begun")
    wrapper.terminate()
    assert wrapper.wait(60) == 0
    assert (tmp_path / "saved").exists()


def test_a_rank_whose_launcher_was_killed_saves_and_ends(run: RunDirectory, start, tmp_path: Path) -> None:
    # bash stays, since it has something to do afterwards
    launcher = start(STAYS, "600", limit=600, before=("bash", "-c", '"$@"; true', "launcher"))
    until((tmp_path / "begun").exists, "it has begun")
    everything = descendants(launcher.pid)[1:]
    launcher.kill()
    launcher.wait(30)
    until(lambda: all((process_stat(pid) or ["Z"])[0] in "ZX" for pid in everything), "nothing is left")
    assert (tmp_path / "saved").exists()


def test_a_stopped_launcher_is_told_to_go_on(start, tmp_path: Path) -> None:
    launcher = start(STAYS, "600", limit=2, before=("bash", "-c", '"$@"; true', "launcher"))
    until((tmp_path / "begun").exists, "it has begun")
    launcher.send_signal(signal.SIGSTOP)
    until(lambda: is_stopped(launcher.pid), "it is stopped")
    until(lambda: not is_stopped(launcher.pid), "it goes on")
    (tmp_path / "leave").touch()
    assert launcher.wait(90) == 0


def test_a_stopped_wrapper_is_told_to_go_on_by_its_program(start, tmp_path: Path) -> None:
    rank = start(STAYS, "2", limit=600)
    until((tmp_path / "begun").exists, "it has begun")
    rank.send_signal(signal.SIGSTOP)
    until(lambda: is_stopped(rank.pid), "it is stopped")
    until(lambda: not is_stopped(rank.pid), "it goes on")
    (tmp_path / "leave").touch()
    assert rank.wait(90) == 0
