"""What state runs are in, with what is known of their progress."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcsynapse.errors import CommandError, HpcSynapseError
from hpcsynapse.files import read_json
from hpcsynapse.recording.environment import remark_path, shared_path
from hpcsynapse.runs import records
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import FINAL_STATES, RunState
from hpcsynapse.schedulers import SCHEDULERS, create
from hpcsynapse.schedulers.base import JobStatus
from hpcsynapse.submission.queries import Answers, Known, ask_queues, job_id_of
from hpcsynapse.submission.unlisted import record_may_come
from hpcsynapse.submission.verdict import KnownRun, judge

_RECENT = 64  # newest steps over which the rate of a running program is taken
_WORD = 300  # characters of a remark that are read
_NUMBERS = (
    *("step", "steps", "epoch", "epochs", "steps_per_epoch"),
    *("steps_per_s", "samples_per_s", "loss", "eta_s", "epoch_eta_s", "lr"),
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A run's state with what is known of it; `progress` is the training's own latest report.

    `since` is the Unix time at which it ended, or began, or was queued, whichever came last.
    """

    name: str
    path: str
    state: RunState
    reason: str = ""
    scheduler: str = ""
    job_id: str = ""
    native_state: str = ""
    nodes: str = ""
    exit_code: int | None = None
    since: float | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    failure: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def statuses(runs: Sequence[RunDirectory], answers: Answers | None = None) -> list[RunStatus]:
    """Return the state of every run, by what its queue answered earlier or else by asking it now."""
    answers = ask_queues(runs) if answers is None else answers
    return [_status(run, answers) for run in runs]


def _status(run: RunDirectory, answers: Answers) -> RunStatus:
    submission = run.read_submission()
    scheduler, job_id = str(submission.get("scheduler", "")), job_id_of(run, submission)
    answer = answers.get(scheduler, Known({}, ()))
    said = str(answer) if isinstance(answer, CommandError) else _not_asked(job_id, answer)
    silent = bool(said)
    facts = KnownRun(
        run=run,
        submission=submission,
        job_id=job_id,
        ended=read_json(run.exit),  # read after the queue was asked: a job may have ended in between
        job=None if isinstance(answer, CommandError) else answer.get(job_id),
        no_answer=said,
        progress=_progress(run),
        array_is_known=not isinstance(answer, CommandError) and _array_is_known(scheduler, job_id, answer),
    )
    if facts.job is None and facts.ended is None and not silent:
        facts = replace(facts, record_may_come=record_may_come(run, scheduler, job_id))
    verdict = judge(facts)
    return RunStatus(
        name=run.name,
        path=str(run.path),
        scheduler=as_text(scheduler),
        job_id=as_text(job_id),
        native_state=as_text(facts.native),
        nodes=as_text(facts.job.nodes if facts.job else ""),
        state=verdict.state,
        reason=as_text(verdict.reason),
        exit_code=verdict.exit_code,
        since=_since(run, verdict.state, facts.ended),
        failure=verdict.failure,
        progress=facts.progress if verdict.shows_progress else {},
    )


def _not_asked(job_id: str, answer: Mapping[str, JobStatus]) -> str:
    """Say why nothing is known of a job that took the run up after its queue was asked; empty for any other."""
    asked = answer.asked if isinstance(answer, Known) else frozenset([job_id])
    return f"the queue has not been asked for job {job_id} yet" if job_id and job_id not in asked else ""


def _since(run: RunDirectory, state: RunState, ended: dict[str, Any] | None) -> float | None:
    """Return when a run ended, or, while it goes on, when its program began or it was queued."""
    when = (ended or {}).get("time")
    if state in FINAL_STATES and isinstance(when, (int, float)):
        return float(when)
    history = run.read_history()
    queued = max((index for index, item in enumerate(history) if item["state"] == RunState.QUEUED), default=0)
    last = history[-1:] if state in FINAL_STATES else history[queued + 1 : queued + 2] or history[queued:]
    times = [item["time"] for item in last if isinstance(item.get("time"), (int, float))]
    return float(times[0]) if times else None


def _array_is_known(scheduler: str, job_id: str, answer: Mapping[str, JobStatus]) -> bool:
    if scheduler not in SCHEDULERS or job_id in answer:
        return False
    adapter = create(scheduler)
    array = adapter.array_of(job_id)
    return array is not None and any(adapter.array_of(other) == array for other in answer)


def epoch_at_work(progress: dict[str, Any]) -> int:
    """Return the epoch at work, counted from 1: that which is saved or validated where no step came after it."""
    over = int(progress.get("epoch") or 0)  # epochs that are over
    looks_back = progress.get("state") in (RunState.EVALUATING, RunState.SAVING)
    at_its_end = over and progress.get("step") == over * int(progress.get("steps_per_epoch") or 0)
    return over if looks_back and at_its_end else min(over + 1, int(progress["epochs"]))


def as_text(text: str) -> str:
    """Return a text of a queue, or of a file that anybody may have written, without what a terminal would act on.

    Line ends stay for messages of several lines; other control characters are written as escapes.
    """
    return _CONTROL.sub(lambda found: found[0] if found[0] == "\n" else ascii(found[0])[1:-1], text)


def _progress(run: RunDirectory) -> dict[str, Any]:
    """Return the training's latest report; a user's own program has its steps read from its records."""
    report = {key: value for key, value in (read_json(run.status) or {}).items() if _sound(key, value)}
    if "step" not in report and report.get("state"):
        attempt = str(report.get("attempt", "0"))
        read = _recorded(run)
        if shared := _said(shared_path(run.path, attempt)):
            read["remark"] = shared
        elif not read and (why := _said(remark_path(run.path, attempt, 0))):
            read["unrecorded"] = f"no steps recorded: {why}"
        report |= {key: value for key, value in read.items() if _sound(key, value)}
    return {key: as_text(value) if isinstance(value, str) else value for key, value in report.items()}


def _recorded(run: RunDirectory) -> dict[str, Any]:
    """Return what the newest records of rank 0 tell; the other ranks are taken to do as much as it does."""
    try:
        header, steps = records.last_records(run.timings, count=_RECENT)
    except HpcSynapseError:
        return {}
    if not steps:
        return {}
    last = steps[-1]
    found = {"step": last["step"] + 1, "epoch": last["epoch"], "loss": last["loss"]}
    wanted, of_epoch = header.get("steps_wanted"), header.get("steps_per_epoch")
    if isinstance(wanted, int):
        found["steps"] = wanted
    passed = (last["start"] + last["total"]) - (steps[0]["start"] + steps[0]["total"])
    if passed > 0 and len(steps) > 1:
        ranks = header.get("world_size")
        samples = sum(step["samples"] for step in steps[1:]) * (ranks if isinstance(ranks, int) else 1)
        rate = (len(steps) - 1) / passed
        found |= {"steps_per_s": rate, "samples_per_s": samples / passed}
        if isinstance(wanted, int):
            found["eta_s"] = max(0, wanted - found["step"]) / rate
        elif isinstance(of_epoch, int) and 0 <= (left := (last["epoch"] + 1) * of_epoch - found["step"]) <= of_epoch:
            found["epoch_eta_s"] = left / rate
    return found


def _said(path: Path) -> str:
    """Return what the recording of a user's program left word of; empty where it left none."""
    try:
        with path.open(errors="replace") as file:
            return file.read(_WORD).strip()
    except OSError:
        return ""


def _sound(key: str, value: object) -> bool:
    """Tell whether an entry of a status file is of its kind: another program, or an editor, may have written it."""
    if key in _NUMBERS:
        return value is None or (isinstance(value, (int, float)) and math.isfinite(value))
    return key not in ("state", "reason") or isinstance(value, str)
