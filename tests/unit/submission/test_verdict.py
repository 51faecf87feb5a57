"""The verdict on a run is a table, read from the top; what it says is safe to show."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcsynapse.errors import CommandError
from hpcsynapse.files import write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RunState
from hpcsynapse.schedulers.base import JobStatus, QueueState
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission.queries import Answers
from hpcsynapse.submission.status import as_text, statuses
from hpcsynapse.submission.verdict import RULES

TAKEN = {"scheduler": "slurm", "job_id": "7"}
UNCLEAR = {"scheduler": "slurm", "unknown": "timed out"}


def answer(state: QueueState | None, native: str = "") -> Answers:
    return {"slurm": {} if state is None else {"7": JobStatus(state=state, native_state=native or state)}}


POLITE = {"exit_code": 0, "signal": "TERM"}  # of a program that was told to end, saved, and ended well
DONE = {"state": "FINISHED", "step": 9, "steps": 9}
SILENT: Answers = {"slurm": CommandError("slurm does not answer", command=[])}


@pytest.mark.parametrize(
    ("files", "answers", "state"),
    [
        ({}, {}, RunState.CREATED),
        ({"submission": {"scheduler": "slurm", "error": "Invalid account"}}, {}, RunState.FAILED),
        ({"submission": UNCLEAR}, SILENT, RunState.UNKNOWN),
        ({"submission": TAKEN}, answer(QueueState.QUEUED, "PENDING"), RunState.QUEUED),
        ({"submission": TAKEN}, answer(QueueState.RUNNING), RunState.SETUP),
        ({"submission": TAKEN, "status": {"state": "TRAINING"}}, answer(QueueState.RUNNING), RunState.TRAINING),
        ({"submission": TAKEN, "status": {"state": "FINISHED"}}, answer(QueueState.RUNNING), RunState.FINISHING),
        ({"submission": TAKEN, "status": {"state": "TRAINING"}}, SILENT, RunState.TRAINING),
        ({"submission": TAKEN, "status": {"state": "TRAINING"}}, answer(QueueState.UNKNOWN), RunState.TRAINING),
        ({"submission": TAKEN, "status": {"state": "rubbish"}}, SILENT, RunState.TRAINING),
        ({"submission": TAKEN}, answer(None), RunState.LOST),
        ({"submission": TAKEN}, answer(QueueState.COMPLETED), RunState.FINISHED),
        ({"submission": TAKEN}, answer(QueueState.FAILED, "NODE_FAIL"), RunState.FAILED),
        ({"submission": TAKEN}, answer(QueueState.CANCELLED), RunState.STOPPED),
        ({"submission": TAKEN, "exit": {"exit_code": 0}}, SILENT, RunState.FINISHED),
        ({"submission": TAKEN, "exit": {"exit_code": 3}}, answer(None), RunState.FAILED),
        ({"submission": TAKEN, "exit": {"exit_code": 3}}, answer(QueueState.CANCELLED), RunState.STOPPED),
        ({"submission": TAKEN, "exit": {"exit_code": 3}}, answer(QueueState.QUEUED), RunState.QUEUED),
        (
            {"submission": TAKEN, "exit": {"exit_code": 143, "signal": "TERM"}},
            answer(QueueState.RUNNING),
            RunState.SETUP,
        ),
        ({"submission": TAKEN, "exit": {"exit_code": 3}}, answer(QueueState.RUNNING, "COMPLETING"), RunState.SETUP),
        ({"submission": TAKEN, "exit": {"exit_code": 0}}, answer(QueueState.CANCELLED), RunState.FINISHED),
        ({"submission": TAKEN, "exit": POLITE}, answer(QueueState.CANCELLED), RunState.STOPPED),
        ({"submission": TAKEN, "exit": POLITE}, answer(QueueState.FAILED, "PREEMPTED"), RunState.STOPPED),
        ({"submission": TAKEN, "exit": POLITE}, answer(None), RunState.STOPPED),
        ({"submission": TAKEN, "exit": POLITE, "status": DONE}, answer(None), RunState.FINISHED),
        ({"submission": TAKEN, "exit": POLITE, "status": {"state": "FINISHED"}}, answer(None), RunState.STOPPED),
        ({"submission": {**TAKEN, "allocation_nodes": 4}}, answer(QueueState.RUNNING), RunState.QUEUED),
        ({"submission": {**TAKEN, "allocation_nodes": 4}}, SILENT, RunState.QUEUED),
        ({"submission": {**TAKEN, "allocation_nodes": 4}}, answer(None), RunState.STOPPED),
    ],
)
def test_facts_and_what_they_mean(tmp_path: Path, files: dict[str, object], answers: Answers, state: RunState) -> None:
    run = RunDirectory.create(tmp_path, JobSpec(name="a"))
    for name, content in files.items():
        write_json(run.path / f"{name}.json", content)
    (status,) = statuses([run], answers)
    assert status.state == state, status.reason


@pytest.mark.parametrize(
    ("owner", "said", "state"),
    [
        (None, answer(QueueState.RUNNING), RunState.FAILED),
        ("cancelled before it began", answer(QueueState.RUNNING), RunState.FAILED),
        ("7", answer(QueueState.RUNNING), RunState.SETUP),
        ("7", SILENT, RunState.UNKNOWN),
    ],
)
def test_a_run_that_a_job_has_begun_was_submitted_whatever_the_command_said(
    tmp_path: Path, owner: str | None, said: Answers, state: RunState
) -> None:
    run = RunDirectory.create(tmp_path, JobSpec(name="a"))
    write_json(run.submission, {"scheduler": "slurm", "error": "sbatch failed with exit code 1: hook"})
    run.append_history(RunState.FAILED, "not submitted: hook")
    if owner:
        run.owner.write_text(owner + "\n")
    (status,) = statuses([run], said)
    assert status.state == state, status.reason


@pytest.mark.parametrize(
    ("files", "queue", "state", "reason"),
    [
        (
            {"exit": {"exit_code": 143}},
            answer(QueueState.FAILED, "FAILED"),
            RunState.FAILED,
            "preempted: the queue took",
        ),
        ({"exit": {"exit_code": 143}}, answer(None), RunState.FAILED, "preempted: the queue took"),
        (
            {"exit": {"exit_code": 0}, "status": {"state": "STOPPED", "reason": "SIGTERM received by rank 0"}},
            answer(QueueState.COMPLETED),
            RunState.STOPPED,
            "preempted: the queue took",
        ),
        ({"exit": {"exit_code": 143}}, answer(QueueState.QUEUED, "PENDING"), RunState.PREEMPTED, "it will go on"),
        ({"exit": {"exit_code": 143}}, answer(QueueState.RUNNING, "COMPLETING"), RunState.SETUP, "its script ended"),
    ],
)
def test_a_run_that_was_preempted_says_so_whatever_the_queue_calls_its_end(
    tmp_path: Path, files: dict[str, dict[str, object]], queue: Answers, state: RunState, reason: str
) -> None:
    run = RunDirectory.create(tmp_path, JobSpec(name="a"))
    write_json(run.submission, TAKEN)
    write_json(run.exit, {**files["exit"], "signal": "PREEMPTED"})
    write_json(run.status, files.get("status", {}))
    (status,) = statuses([run], queue)
    assert (status.state, status.reason[: len(reason)]) == (state, reason)


def test_every_row_says_its_fact_and_where_it_is_read() -> None:
    assert len({rule.fact for rule in RULES}) == len(RULES)
    sources = {"submission.json", "exit.json", "status.json", "history.jsonl", "queue"}
    assert {rule.source for rule in RULES} <= sources


def test_escape_sequences_are_shown_as_text(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, JobSpec(name="a"))
    write_json(run.submission, {"scheduler": "slurm", "error": "\x1b]0;owned\x07\x1b[31mred"})
    write_json(run.status, {"state": "TRAINING", "remark": "\x1b[2J"})
    (status,) = statuses([run], {})
    assert "\x1b" not in status.reason + str(status.progress["remark"]) and "\\x1b[31mred" in status.reason
    assert as_text("two\nlines\u202e") == "two\nlines\\u202e"


def test_a_job_that_takes_a_run_up_between_question_and_answer_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory.create(tmp_path / "runs", JobSpec(name="x", command=("true",)))
    write_json(run.submission, {"scheduler": "pbs", "job_id": "1"})
    queue = tmp_path / "qstat"
    queue.write_text(f"""#!/bin/bash
case $* in
  *1) sed -i 's/"1"/"2"/' {run.submission} ;;
  *2) printf 'Job Id: 2.lab1\\n    job_state = Q\\n\\n' ;;
esac
""")
    queue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (first,), (second,) = statuses([run]), statuses([run])
    assert (first.state, first.job_id) == (RunState.CREATED, "2") and "not been asked for job 2" in first.reason
    assert (second.state, second.job_id, second.reason) == (RunState.QUEUED, "2", "")
