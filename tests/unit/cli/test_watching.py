"""What people see of their runs: status, logs, stop and resume, in files, pipes and terminals of two widths."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from command_line import hpcsynapse

from hpcsynapse.cli import progress, run_table
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.failure import first_failure
from hpcsynapse.runs.states import RunState
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.submission.status import RunStatus

PROGRESS = {
    "epoch": 4,
    "epochs": 40,
    "step": 95,
    "steps": 880,
    "samples_per_s": 318.2,
    "loss": 0.3091,
    "eta_s": 158.0,
    "metrics": {"accuracy": 0.9472, "loss": 1.0},
}


def status(name: str, state: str, **more: object) -> RunStatus:
    return RunStatus(name=name, path=f"/r/{name}", state=RunState(state), job_id="17", since=time.time(), **more)  # type: ignore[arg-type]


def in_terminal(columns: int, *arguments: str, **environ: str) -> list[str]:
    """What a terminal of so many columns is sent."""
    leader, follower = pty.openpty()
    env = {**os.environ, "COLUMNS": str(columns), **environ}
    child = subprocess.Popen(
        [sys.executable, "-m", "hpcsynapse", *arguments], stdout=follower, stderr=subprocess.DEVNULL, env=env
    )
    os.close(follower)
    sent = bytearray()

    def read() -> None:
        while True:
            try:
                more = os.read(leader, 65536)
            except OSError:  # nobody has the other end any more
                return
            if not more:
                return
            sent.extend(more)

    reader = threading.Thread(target=read)
    reader.start()
    assert child.wait(timeout=120) == 0
    reader.join(60)
    os.close(leader)
    return sent.decode().replace("\r", "").splitlines()


def test_a_line_has_the_time_left_where_it_is_never_cut() -> None:
    line = progress.describe(status("r", "TRAINING", progress=PROGRESS))
    assert line == ("TRAINING  11%  2:38 min left  epoch 5/40  step 95/880  318 samples/s  loss 0.309  accuracy 94.7%")
    assert len("  ".join(progress.words(status("r", "TRAINING", progress=PROGRESS))[:5])) < 80
    ended = progress.describe(status("r", "STOPPED", progress=PROGRESS, reason="stopped by\nuser"))
    assert ended.startswith("STOPPED  (stopped by user)  epoch 5/40") and "left" not in ended


@pytest.mark.parametrize(
    ("state", "step", "shown"), [("EVALUATING", 88, 4), ("EVALUATING", 95, 5), ("TRAINING", 88, 5)]
)
def test_an_epoch_that_is_validated_is_not_the_next_one(state: str, step: int, shown: int) -> None:
    told = {**PROGRESS, "state": state, "step": step, "steps_per_epoch": 22}
    assert f"epoch {shown}/40" in progress.describe(status("r", state, progress=told))


@pytest.fixture
def lines(tmp_path: Path) -> list[run_table.Line]:
    run = RunDirectory.create(tmp_path, JobSpec(name="prog", resources=ResourceRequest(nodes=2)))
    long = RunDirectory.create(tmp_path, JobSpec(name="a-name-that-is-longer-than-a-column"))
    return [
        run_table.run_line(long, status(long.name, "FAILED", reason="rank 1 on n1: ValueError: " + "very " * 20)),
        run_table.run_line(long, status(long.name, "QUEUED", reason="Priority")),
        run_table.study_line("scal", 4, [status("x", "TRAINING"), status("y", "QUEUED"), status("z", "FINISHED")]),
        run_table.run_line(run, status("prog", "TRAINING", progress=PROGRESS)),
        run_table.run_line(run, status("prog", "STOPPED", progress=PROGRESS, reason="stopped by user")),
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_keeps_the_time_left(lines: list[run_table.Line], width: int) -> None:
    table = run_table.text(lines, width).splitlines()
    assert max(map(len, table)) <= width
    assert table[0].split()[:7] == ["RUN", "JOB", "NODES", "STATE", "SINCE", "DONE", "LEFT"]
    going = next(line for line in table if line.startswith("prog") and "TRAINING" in line)
    assert "11%" in going and "2:38 min" in going and "2x1" in going
    assert ("ACCURACY" in table[0]) is (width == 120)
    assert "1 of 4 finished, 1 training, 1 queued" in "\n".join(table)


def test_what_runs_comes_first_and_what_has_ended_last(lines: list[run_table.Line]) -> None:
    states = [line.split()[3] for line in run_table.text(lines, None).splitlines()[1:]]
    assert states == ["TRAINING", "TRAINING", "QUEUED", "STOPPED", "FAILED"]  # the newest first
    assert "very very" in run_table.text(lines, None) and "a-name-that-is-longer-than-a-column" in run_table.text(
        lines, None
    )


@pytest.mark.slow
def test_status_in_a_terminal_and_logs_of_a_run_that_was_started_twice(workdir: Path) -> None:
    program = (  # rank 1 fails once rank 0 has spoken
        'echo "rank $RANK speaks"; [ $RANK = 1 ] || touch spoken; until [ -e spoken ]; do sleep 0.1; done; '
        '[ $RANK = 0 ] || [ -e mended ] || { echo "ValueError: bad sample"; exit 1; }'
    )
    words = ("submit", "--scheduler", "local", "--ranks-per-node", "2", "--name", "twice", "-f", "--")
    done = hpcsynapse(*words, "bash", "-c", program)
    assert done.returncode == 1 and "ValueError: bad sample" in done.stdout
    assert done.stderr.splitlines()[-1] == "see: hpcsynapse logs twice --failed"
    said = hpcsynapse("logs").stderr.splitlines()
    assert said[0] == "hpcsynapse: run twice, the newest"
    failed = r"--- rank 1 on \S+ failed first \(ValueError: bad sample\); see: hpcsynapse logs twice --rank 1"
    assert re.fullmatch(failed, said[-1])
    assert hpcsynapse("logs", "twice", "--failed").stdout == "rank 1 speaks\nValueError: bad sample\n"
    assert "ranks 0 to 1 have" in hpcsynapse("logs", "twice", "--rank", "5").stderr

    sent = in_terminal(80, "status", TERM="xterm", NO_COLOR="")
    assert "\x1b[31mFAILED" in sent[1] and len(re.sub(r"\x1b\[\d*m", "", sent[1])) <= 80
    assert "\x1b" not in "".join(in_terminal(80, "status", NO_COLOR="1"))

    (workdir / "mended").touch()
    assert hpcsynapse("resume", "twice", "--follow").returncode == 0
    first, heading, last = hpcsynapse("logs", "twice", "--rank", "0").stdout.splitlines()
    assert first == last == "rank 0 speaks" and re.match(r"--- start 2, job ", heading)
    assert "--- queued again, " in (workdir / "runs" / "twice" / "logs" / "job.log").read_text()
    found = json.loads(hpcsynapse("status", "--json").stdout)
    assert found[0]["since"] > time.time() - 3600
    assert hpcsynapse("status", "--running").stdout == "" and "not ended" in hpcsynapse("status", "--running").stderr
    assert len(hpcsynapse("status", "--last", "1").stdout.splitlines()) == 2


@pytest.mark.slow
def test_what_cannot_be_resumed_or_read_is_answered(workdir: Path) -> None:
    hpcsynapse("submit", "--scheduler", "local", "--name", "s", "--", "sleep", "600")
    try:
        hpcsynapse("stop", "s")
        done = hpcsynapse("resume", "s")
        assert done.returncode == 2
        assert "asked to stop and has not ended yet" in done.stderr and "hpcsynapse stop --wait s" in done.stderr
        assert "no run 'absent'" in hpcsynapse("resume", "absent").stderr
    finally:
        hpcsynapse("cancel", "s")
    assert hpcsynapse("logs", "--runs", "nothing").returncode == 2


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("Traceback\n  File x\nValueError: bad sample 42\n", "ValueError: bad sample 42"),
        ("[rank1]: torch.OutOfMemoryError: CUDA\n", "torch.OutOfMemoryError: CUDA"),
        ("KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("no Error: of Python's\n", "exit code 1"),
        ("", "exit code 1"),
    ],
)
def test_the_exception_is_told_instead_of_exit_code_1(tmp_path: Path, log: str, reason: str) -> None:
    run = RunDirectory.create(tmp_path, JobSpec(name="r"))
    run.evidence("1").mkdir(parents=True)
    record = {"rank": 1, "host": "n1", "code": 1, "reason": "exit code 1", "time": 1.0, "told_to_end": False}
    run.failure("1", 1).write_text(json.dumps(record))
    run.rank_log(1).write_text(log)
    assert first_failure(run)["reason"] == reason
