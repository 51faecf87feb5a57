"""Every call on a run's directory fails in turn: programs of a run's life under strace, and what is wrong afterwards.

A first run of each program without any fault lists its calls on the directory; a case lets the n-th call of a name fail
with an error, once or from then on, or takes its time. What must not follow: a hang, an unhandled exception, silence
where the work was not done, or a directory that `status` cannot read.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hpcsynapse.files import read_json, write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission.status import statuses

LIMIT = 60.0  # seconds in which a program ends that takes less than two
ERRORS = {
    **dict.fromkeys(("openat", "mkdir", "write"), ("ENOSPC", "EDQUOT", "EIO", "ESTALE", "EROFS", "EACCES")),
    **dict.fromkeys(("rename", "renameat", "link"), ("ENOSPC", "EDQUOT", "EIO", "ESTALE", "EROFS", "EACCES")),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir", "chmod"), ("EIO", "ESTALE", "EROFS", "EACCES")),
    **dict.fromkeys(
        ("stat", "newfstatat", "lstat", "statx", "fstat", "read", "getdents64"), ("EIO", "ESTALE", "EACCES")
    ),
    **dict.fromkeys(("fsync", "close"), ("ENOSPC", "EDQUOT", "EIO")),
}
SLOW = "slow"  # the call takes seconds
_LOGGED = "a line\nValueError: no\n"
_LINE = re.compile(r"(?:(\d+) +)?(\w+)\((.*)")

RECORDER = """
import pathlib, sys
from hpcsynapse.timing import StepRecorder
recorder = StepRecorder(pathlib.Path(sys.argv[1]) / "timings", rank=0)
for number in range(1200):
    with recorder.step(samples=1):
        pass
recorder.close()
"""
REPORTER = """
import contextlib, logging, pathlib, sys, time
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.trainer.reporter import Reporter
logging.basicConfig(level=logging.WARNING)
run = RunDirectory(pathlib.Path(sys.argv[1]))
reporter = Reporter(run, True)
reporter.start()
reporter.steps, reporter.global_batch = 9, 1
reporter.state("TRAINING")
for step in range(1, 4):
    reporter.step = step
    time.sleep(1.1)
with contextlib.suppress(OSError):
    (run.path / "stop").write_text("a person")
end = time.monotonic() + 8
while not reporter.stop_requested and time.monotonic() < end:
    time.sleep(0.1)
reporter.state("STOPPED", "stop requested")
reporter.close()
sys.exit(0 if reporter.stop_requested else 9)
"""


@dataclass(frozen=True)
class Part:
    """A program of a run's life: its words behind Python, and whether its work is done."""

    name: str
    words: Callable[[Path], list[str]]
    done: Callable[[Path], bool]
    threads: bool = False


def _status_says(state: str) -> Callable[[Path], bool]:
    return lambda run: (read_json(run / "status.json") or {}).get("state") == state


def _job(*words: str) -> Callable[[Path], list[str]]:
    return lambda run: ["-m", "hpcsynapse.job", words[0], str(run), *words[1:]]


PARTS = (
    Part("recorder", lambda run: ["-c", RECORDER, str(run)], lambda run: _size(run / "timings", "rank-*") > 1200 * 60),
    Part("wrapper", lambda run: ["-m", "hpcsynapse.job", "rank", str(run), "--", "true"], _status_says("FINISHED")),
    Part("reporter", lambda run: ["-c", REPORTER, str(run)], _status_says("STOPPED"), threads=True),
    Part("status", lambda run: ["-m", "hpcsynapse", "status", "--json", str(run)], lambda run: True),
    Part("logs", lambda run: ["-m", "hpcsynapse", "logs", str(run)], lambda run: True),
    Part("stop", lambda run: ["-m", "hpcsynapse", "stop", str(run)], lambda run: (run / "stop").exists()),
    Part(
        "merge",
        lambda run: ["-m", "hpcsynapse.job", "merge-records", str(run / "timings")],
        lambda run: (run / "timings" / "merged.steps").exists(),
    ),
    Part("exit code", _job("exit-code", "1.0", "1"), lambda run: True),
    Part("recover begin", _job("recover", "begin", "1.0", "n1"), lambda run: "begin" in _text(run / "starts.jsonl")),
    Part(
        "recover end",
        _job("recover", "end", "1.0", "1", "none", "n1"),
        lambda run: "end" in _text(run / "starts.jsonl"),
    ),
    Part(
        "submit",
        lambda run: ["-m", "hpcsynapse", "submit", "--scheduler", "local", "--runs", str(run / "more"), "--", "true"],
        lambda run: any((run / "more").glob("*/submission.json")),
    ),
)  # every part of the life of a run that works without torch


class Case(NamedTuple):
    """The n-th call of a name in a program, what becomes of it, and whether all later ones share its fate."""

    part: str
    call: str
    number: int
    error: str
    on: bool

    @property
    def inject(self) -> str:
        """What strace is told (strace(1), inject)."""
        fate = "delay_enter=3000000" if self.error == SLOW else f"error={self.error}"
        return f"{self.call}:{fate}:when={self.number}{'+' if self.on else ''}"


def _size(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern)) if folder.is_dir() else 0


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def make_run(folder: Path) -> Path:
    """Make a run in the middle of its life, with evidence, a failure, logs and step records."""
    spec = JobSpec.from_dict(
        {
            "name": "life",
            "command": ["true"],
            "queue": {"scheduler": "local"},
            "launch": {"launcher": "local", "start_limit": 20.0},
            "survive": {"restarts": 2},
            "site": {},
        }
    )
    run = RunDirectory.create(folder, spec)
    write_json(run.submission, {"scheduler": "local", "job_id": "elsewhere:1:1"})
    run.evidence("1.0").mkdir(parents=True)
    write_json(run.evidence("1.0") / "rank-00000.json", {"rank": 0, "host": "n1"})
    failure = {"rank": 0, "host": "n1", "code": 1, "reason": "exit code 1", "time": 1e9, "told_to_end": False}
    write_json(run.failure("1.0", 0), {**failure, "waits": False, "silent": False})
    run.rank_log(0).write_text(_LOGGED)
    subprocess.run([sys.executable, "-c", RECORDER, str(run.path)], check=True, env=_environment(run.path))
    return run.path


def _environment(run: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "HPCSYNAPSE_ATTEMPT": "2.0",
        "HPCSYNAPSE_RUN_DIR": str(run),
        "HPCSYNAPSE_RUNS": str(run.parent),
        "HPCSYNAPSE_LAUNCH_RANK": "0",
        "HPCSYNAPSE_LAUNCH_SIZE": "1",
    }


def _traced(part: Part, run: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    follow = ["-f"] if part.threads else []
    command = ["strace", *follow, "-qq", "-y", "-o", str(out), *options, sys.executable, *part.words(run)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=_environment(run), cwd=run.parent)


def cases(part: Part, made: Path, folder: Path) -> Iterator[Case]:
    """Yield a case for each call of a program on the directory, each error that it may have, once and from then on."""
    run = fresh(made, folder)
    _traced(part, run, folder / "trace", "-e", f"trace={','.join(known_calls())}")
    counts, first = Counter[tuple[str, str]](), ""
    for line in (folder / "trace").read_text(errors="replace").splitlines():
        if match := _LINE.match(line):
            thread, call, rest = match[1] or "", match[2], match[3]
            first = first or thread
            counts[thread, call] += 1
            if str(run) in rest and call in ERRORS and thread in ("", first):
                for error in (*ERRORS[call], SLOW):
                    yield Case(part.name, call, counts[thread, call], error, False)
                    if error != SLOW and call != "write":  # for ever, it could say nothing either
                        yield Case(part.name, call, counts[thread, call], error, True)


def known_calls() -> list[str]:
    """The calls that this strace knows."""
    done = subprocess.run(
        ["strace", "-e", f"trace={','.join(f'?{name}' for name in ERRORS)}", "true"], capture_output=True, text=True
    )
    return [f"?{name}" for name in ERRORS] if done.returncode == 0 else list(ERRORS)


def fresh(made: Path, folder: Path) -> Path:
    """Return a copy of the run under the same path each time."""
    run, limit = folder / "life", time.monotonic() + LIMIT
    while run.exists() and time.monotonic() < limit:  # a job that was submitted may still write there
        shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(made, run)
    return run


def wrong(case: Case, made: Path, folder: Path) -> str:
    """Run one case and say what is wrong with what came of it; empty for nothing."""
    part = next(one for one in PARTS if one.name == case.part)
    run = fresh(made, folder)
    try:
        done = _traced(part, run, folder / "trace", "-e", f"trace={case.call}", "-e", f"inject={case.inject}")
    except subprocess.TimeoutExpired:
        return f"hangs for {LIMIT:g} s"
    hit = [
        line
        for line in (folder / "trace").read_text(errors="replace").splitlines()
        if "(INJECTED)" in line or "(DELAYED)" in line
    ]
    if not hit or str(run) not in hit[0]:
        return ""  # an interpreter that calls in another order than before; nothing was tried
    said = (
        done.stderr
        + (done.stdout if case.part in ("stop", "submit") else "")
        + _text(run / "logs" / "rank-00000.log").removeprefix(_LOGGED)
    )
    if (
        "Traceback (most recent call last)" in done.stderr and case.part != "recorder"
    ):  # which raises in the program it is part of
        last = done.stderr.strip().splitlines()[-1]
        return "" if case.on and last.startswith(("ModuleNotFoundError", "ImportError")) else f"unhandled: {last}"
    if not part.done(run) and done.returncode == 0 and not said.strip():
        return "its work is not done, and it says nothing"
    try:
        statuses([RunDirectory(run)])
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        return f"the directory cannot be read: {error!r}"
    if case.part == "reporter" and done.returncode == 9 and not case.on and (run / "stop").exists():
        return "never sees the stop file again"
    return ""


def stratified(found: list[Case], per_stratum: int, seed: int) -> list[Case]:
    """Return some cases of every program and call, drawn by seed."""
    dice, strata = random.Random(seed), dict[tuple[str, str], list[Case]]()
    for case in found:
        strata.setdefault((case.part, case.call), []).append(case)
    return [case for group in strata.values() for case in dice.sample(group, min(per_stratum, len(group)))]
