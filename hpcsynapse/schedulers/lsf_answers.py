"""What `bjobs -json` and `bhist -l` print: the states of jobs, and why they ended."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hpcsynapse.errors import SchedulerOutputError
from hpcsynapse.schedulers.base import JobStatus, QueueState

# bjobs(1), job states; UNKWN is a job whose host has been lost, ZOMBI one that was killed there.
_BY_STATE = {
    QueueState.QUEUED: "PEND WAIT PROV PSUSP FWD_PEND",
    QueueState.RUNNING: "RUN UNKWN ZOMBI",
    QueueState.SUSPENDED: "USUSP SSUSP",
    QueueState.COMPLETED: "DONE POST_DONE",
}
_STATES = {native: state for state, natives in _BY_STATE.items() for native in natives.split()}
_WORDS = {"TERM_RUNLIMIT": "TIMEOUT", "TERM_MEMLIMIT": "OUT_OF_MEMORY", "TERM_PREEMPT": "PREEMPTED"}
_BY_SOMEBODY = re.compile(r"TERM_(OWNER|ADMIN|FORCE_OWNER|FORCE_ADMIN)\b")
_ID = re.compile(r"([0-9]{1,15})(?:\[([0-9]{1,9})\])?")


def parse(text: str) -> dict[str, JobStatus]:
    """Return the jobs in what bjobs or bhist printed; raises SchedulerOutputError for anything else."""
    begin = text.find("{")
    if begin < 0 and (jobs := _from_history(text)):
        return jobs
    try:
        records = json.loads(text[begin:])["RECORDS"]
        return dict(filter(None, (_record(one) for one in records)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        said = " ".join(text.split())[:200] or "nothing"
        raise SchedulerOutputError(
            f"bjobs' answer is not understood: {said!r}", command=["bjobs"], stdout=text
        ) from None


def _record(one: Mapping[str, Any]) -> tuple[str, JobStatus] | None:
    """Return a job and its status; None for one that LSF does not know, whose record has an error instead."""
    values = {key: value.strip() if isinstance(value, str) else "" for key, value in one.items()}
    match = _ID.fullmatch(values["JOBID"])
    if not match or "ERROR" in values:
        return None
    index = match[2] or values.get("JOBINDEX", "")
    job_id = f"{match[1]}[{index}]" if index not in ("", "0") else match[1]
    return job_id, _status(values)


def _status(values: Mapping[str, str]) -> JobStatus:
    native, why = values.get("STAT", ""), values.get("EXIT_REASON", "")
    hosts = "+".join(dict.fromkeys(re.sub(r"\d+\*", "", values.get("EXEC_HOST", "")).split(":")))
    code = int(values["EXIT_CODE"]) if re.fullmatch(r"[0-9]{1,9}", values.get("EXIT_CODE", "")) else None
    if native in ("EXIT", "POST_ERR"):
        return _exited(why, code, hosts)
    reason = values.get("PEND_REASON", "").rstrip("; ")
    if native == "PSUSP":
        reason = reason or "held"
    if native in ("UNKWN", "ZOMBI"):
        reason = "LSF has lost the job's host"
    state = _STATES.get(native, QueueState.UNKNOWN)
    return JobStatus(state=state, native_state=native, reason=reason, nodes=hosts)


def _exited(why: str, code: int | None, hosts: str) -> JobStatus:
    if _BY_SOMEBODY.search(why) or (code is None and not hosts):  # killed while it waited
        return JobStatus(state=QueueState.CANCELLED, native_state="CANCELLED", reason=why, nodes=hosts, exit_code=code)
    word = next((name for key, name in _WORDS.items() if key in why), "FAILED")
    return JobStatus(state=QueueState.FAILED, native_state=word, reason=why, nodes=hosts, exit_code=code)


def _from_history(text: str) -> dict[str, JobStatus]:
    """Return the jobs of bhist's long form, whose lines are folded; jobs that have not ended there are left out."""
    found = {}
    flat = re.sub(r"\n {10,}", "", text)
    parts = re.split(r"^Job <([0-9]{1,15}(?:\[[0-9]{1,9}\])?)>", flat, flags=re.MULTILINE)
    for job_id, story in zip(parts[1::2], parts[2::2], strict=True):
        if "Done successfully" in story:
            found[job_id] = JobStatus(state=QueueState.COMPLETED, native_state="DONE", exit_code=0)
        elif ended := re.search(r"Exited(?: with exit code ([0-9]{1,9})| by signal ([0-9]{1,9}))?.*", story):
            code = int(ended[1]) if ended[1] else 128 + int(ended[2]) if ended[2] else None
            why = re.search(r"TERM_\w+", story)
            found[job_id] = _exited(why[0] if why else "", code, hosts="ended")
    return found
