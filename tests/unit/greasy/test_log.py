"""Logs and restart files in the forms of Greasy 2.2.3."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from greasy_cases import Greasy
from hypothesis import given
from hypothesis import strategies as st

from hpcsynapse.errors import SpecError
from hpcsynapse.greasy.log import read_log, read_restart

LOG = """[2016-05-03 10:00:00] Start greasing /home/me/tasks.greasy
[2016-05-03 10:00:00] WARNING: Task 4 does not seem to be correct. Skipping...
[2016-05-03 10:00:00] INFO: File with 8 correct Tasks
[2016-05-03 10:00:00] INFO: BASIC engine is ready to run with 2 workers
[2016-05-03 10:00:00] INFO: Allocating task 2
[2016-05-03 10:00:00] INFO: Allocating task 3
[2016-05-03 10:00:01] INFO: Task 1 located in line 2 completed successfully on node n1-ib0. Elapsed: 00:00:01
[2016-05-03 10:00:02] ERROR: Task 2 located in line 3 failed with exit code 7 on node n2. Elapsed: 00:00:02
[2016-05-03 10:00:02] WARNING: Retry 0/1 of task 3
[2016-05-03 10:00:02] INFO: Allocating task 3
[2016-05-03 11:01:03] ERROR: Task 2 located in line 3 failed with exit code 7 on node n2. Elapsed: 01:01:01
[2016-05-03 11:01:03] WARNING: Cancelling task 10 because of task 3 failure
[2016-05-03 11:01:03] INFO: BASIC engine finished
[2016-05-03 11:01:03] INFO: Summary of 9 tasks: 7 OK, 1 FAILED, 1 CANCELLED, 0 INVALID.
[2016-05-03 11:01:03] INFO: Total time: 01:01:03
[2016-05-03 11:01:03] INFO: Resource Utilization: 50.5%
[2016-05-03 11:01:03] INFO: Creating restart file /home/me/tasks.greasy-77.rst...
[2016-05-03 11:01:03] Finished greasing /home/me/tasks.greasy
"""
RESTART = """# 
# Greasy restart file generated at 2016-05-03 11:01:03
# Original task file: /home/me/tasks.greasy
# Log file: /home/me/greasy.log
# 

# Warning: Task 3 failed
bash /home/me/task.sh 3
# Warning: Task 10 was cancelled due to a dependency failure
[# 8 #] bash /home/me/task.sh 10

# End of restart file
"""  # noqa: W291

# What the mpi engine of Greasy 2.2.3 left of tasks in lines 4 to 9, of which line 5 exits with 3 and line 8 is killed.
MPI = """[2026-11-28 17:36:04] Start greasing /home/me/list
[2026-11-28 17:36:04] INFO: File with 6 correct Tasks
[2026-11-28 17:36:04] INFO: MPI engine is ready to run with 2 workers
[2026-11-28 17:36:04] INFO: Current Working Dir /home/me
[2026-11-28 17:36:04] INFO: Run on 1 nodes
[2026-11-28 17:36:04] INFO: Allocating task 1 located in line 4 to Worker 1
[2026-11-28 17:36:04] INFO: Allocating task 2 located in line 5 to Worker 2
[2026-11-28 17:36:04] INFO: Worker 2 on node n1
[2026-11-28 17:36:04] INFO: Worker 1 on node n1
[2026-11-28 17:36:04] INFO: Task 1 located in line 4 completed successfully on node n1. Elapsed: 00:00:00
[2026-11-28 17:36:04] INFO: Allocating task 5 located in line 8 to Worker 1
[2026-11-28 17:36:04] ERROR: Task 2 located in line 5 failed with exit code 768 on node n1. Elapsed: 00:00:00
[2026-11-28 17:36:04] WARNING: Retry 0/1 of task 5
[2026-11-28 17:36:04] INFO: Allocating task 2 located in line 5 to Worker 2
[2026-11-28 17:36:04] INFO: Worker 1 on node n1
[2026-11-28 17:36:04] INFO: Worker 2 on node n1
[2026-11-28 17:36:04] ERROR: Task 5 located in line 8 failed with exit code 9 on node n1. Elapsed: 00:00:00
[2026-11-28 17:36:04] WARNING: Retry 0/1 of task 8
[2026-11-28 17:36:04] INFO: Allocating task 5 located in line 8 to Worker 1
[2026-11-28 17:36:04] ERROR: Task 2 located in line 5 failed with exit code 768 on node n1. Elapsed: 00:00:00
[2026-11-28 17:36:04] WARNING: Cancelling task 7 because of task 5 failure
[2026-11-28 17:36:04] INFO: Worker 1 on node n1
[2026-11-28 17:36:04] INFO: Allocating task 6 located in line 9 to Worker 2
[2026-11-28 17:36:04] INFO: Worker 2 on node n1
[2026-11-28 17:36:04] ERROR: Task 5 located in line 8 failed with exit code 9 on node n1. Elapsed: 00:00:00
[2026-11-28 17:36:04] INFO: Allocating task 3 located in line 6 to Worker 1
[2026-11-28 17:36:04] INFO: Worker 1 on node n1
[2026-11-28 17:36:04] INFO: Task 3 located in line 6 completed successfully on node n1. Elapsed: 00:00:00
[2026-11-28 17:36:07] INFO: Task 6 located in line 9 completed successfully on node n1. Elapsed: 00:00:03
[2026-11-28 17:36:07] INFO: MPI engine finished
[2026-11-28 17:36:07] INFO: Summary of 6 tasks: 3 OK, 2 FAILED, 1 CANCELLED, 0 INVALID.
[2026-11-28 17:36:07] INFO: Total time: 00:00:03
[2026-11-28 17:36:07] INFO: Resource Utilization: 50%
[2026-11-28 17:36:07] INFO: Creating restart file /home/me/list-undefined.rst...
[2026-11-28 17:36:07] INFO: Restart file created
[2026-11-28 17:36:07] Finished greasing /home/me/list
"""
INTERRUPTED = """[2016-05-03 10:00:00] Start greasing /home/me/long
[2016-05-03 10:00:00] INFO: File with 5 correct Tasks
[2016-05-03 10:00:00] INFO: BASIC engine is ready to run with 2 workers
[2016-05-03 10:00:00] INFO: Allocating task 1
[2016-05-03 10:00:00] INFO: Allocating task 2
[2016-05-03 10:00:00] ERROR: Task 2 located in line 2 failed with exit code 1 on node n1. Elapsed: 00:00:00
[2016-05-03 10:00:00] WARNING: Cancelling task 3 because of task 2 failure
[2016-05-03 10:00:00] INFO: Allocating task 4
[2016-05-03 10:00:02] INFO: Task 1 located in line 1 completed successfully on node n1. Elapsed: 00:00:02
[2016-05-03 10:00:02] INFO: Allocating task 5
[2016-05-03 10:00:03] ERROR: Caught TERM signal
[2016-05-03 10:00:03] INFO: Creating restart file /home/me/long-77.rst...
[2016-05-03 10:00:03] INFO: Restart file created
[2016-05-03 10:00:03] ERROR: Greasy was interrupted. Check restart & log files
"""


def test_every_form_of_a_line() -> None:
    log = read_log(LOG)
    assert {one.line: (one.state, one.exit_code, one.host, one.attempts, one.seconds) for one in log.outcomes} == {
        2: ("ok", 0, "n1-ib0", 1, 1.0),
        3: ("failed", 7, "n2", 2, 3661.0),
        4: ("not-run", None, "", 0, None),
        10: ("cancelled", None, "", 0, None),
    }
    assert log.counts == {"tasks": 9, "ok": 7, "failed": 1, "cancelled": 1, "invalid": 0}
    assert (log.total_seconds, log.utilization, log.complete) == (3663, 50.5, True)


def test_a_log_that_ends_early() -> None:
    text = "".join(LOG.splitlines(keepends=True)[:10])[:-5]
    log = read_log(text)
    assert not log.complete
    assert {one.line: one.state for one in log.outcomes}[3] == "running"
    assert read_log("").outcomes == []


def test_a_task_without_an_end_in_a_whole_log_is_lost() -> None:
    text = LOG.replace("[2016-05-03 10:00:01] INFO: Task 1 located", "[2016-05-03 10:00:01] INFO: T 1 located")
    assert {one.line: one.state for one in read_log(text).outcomes}[2] == "lost"


def test_lines_and_exit_codes_of_the_mpi_engine() -> None:
    log = read_log(MPI)
    assert {one.line: (one.state, one.exit_code, one.signal, one.attempts) for one in log.outcomes} == {
        4: ("ok", 0, None, 1),
        5: ("failed", 3, None, 2),
        6: ("ok", 0, None, 1),
        7: ("cancelled", None, None, 0),
        8: ("killed", 137, "KILL", 2),
        9: ("ok", 0, None, 1),
    }
    assert log.counts == {"tasks": 6, "ok": 3, "failed": 2, "cancelled": 1, "invalid": 0}
    errors_only = "".join(line for line in MPI.splitlines(keepends=True) if " INFO" not in line)
    assert [(one.line, one.exit_code) for one in read_log(errors_only).outcomes] == [(5, 3), (7, None), (8, 137)]


def test_an_interrupted_run_is_called_so() -> None:
    log = read_log(INTERRUPTED)
    assert {one.line: one.state for one in log.outcomes} == {
        1: "ok",
        2: "failed",
        3: "cancelled",
        4: "interrupted",
        5: "interrupted",
    }
    assert (log.complete, log.interrupted, log.remark) == (False, True, "Greasy was interrupted")


def test_only_the_last_of_several_runs_counts() -> None:
    assert read_log(INTERRUPTED + MPI) == read_log(MPI)
    assert read_log(MPI + INTERRUPTED) == read_log(INTERRUPTED)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_log_level_that_tells_little_is_no_early_end(level: int) -> None:
    left_out = ("INFO:", "WARNING:", "ERROR:")[: 3 - level]
    log = read_log("".join(line for line in LOG.splitlines(keepends=True) if line.split()[2] not in left_out))
    assert (log.complete, log.remark) == (True, "Greasy finished, but its log level leaves out what succeeded")
    states = {0: {}, 1: {3: "failed"}, 2: {3: "failed", 4: "not-run", 10: "cancelled"}}
    assert {one.line: one.state for one in log.outcomes} == states[level]


def test_a_restart_file_and_a_log() -> None:
    restart = read_restart(RESTART)
    assert [(task.line, task.after) for task in restart.tasks.tasks] == [(8, ()), (10, (8,))]
    assert restart.source == "/home/me/tasks.greasy"
    assert restart.warnings == ((3, "failed"), (10, "was cancelled"))
    log = read_log("[2016-05-03 10:00:00] INFO: Allocating task 3\n", restart)
    assert [(one.line, one.state) for one in log.outcomes] == [(3, "failed"), (10, "cancelled")]


@given(st.text(alphabet="[]2016-05 :INFOTask locdinse7.\n", max_size=200))
def test_anything_is_read_or_refused(text: str) -> None:
    for read in (read_log, read_restart):
        try:
            read(text)
        except SpecError as error:
            assert "not a" in str(error)


def test_the_command_line(greasy: Greasy, workdir: Path) -> None:
    (workdir / "greasy.log").write_text(LOG)
    (workdir / "a.rst").write_text(RESTART)
    done = greasy("summary", "greasy.log", "--rst", "a.rst")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        "4 tasks: 1 ok, 1 failed, 1 cancelled, 1 not-run; 3663 s, 50.5 % of the workers' time used"
    )
    assert json.loads(greasy("summary", "greasy.log", "--json").stdout)["utilization"] == 50.5
    assert greasy("summary", "greasy.log", "--csv").stdout.count("\n") == 5
    (workdir / "no.log").write_text("hello\n")
    for arguments in (["no.log"], ["none.log"], ["greasy.log", "--rst", "greasy.log"]):
        assert greasy("summary", *arguments).returncode == 2


def test_the_choices_of_the_command_line_are_those_of_the_code() -> None:
    from hpcsynapse.cli import greasy as verbs
    from hpcsynapse.greasy import check, run

    methods = next(one for one in verbs.run.params if one.name == "by").type.choices  # type: ignore[attr-defined]
    assert check.ENGINES == verbs._ENGINES
    assert tuple(methods) == run.METHODS
    assert set(verbs.command.commands) == {"build", "farm", "check", "run", "summary"}


@pytest.mark.parametrize("verb", ["build", "farm", "check", "run", "summary"])
def test_help(greasy: Greasy, verb: str) -> None:
    assert greasy(verb, "--help").returncode == 0
