"""What qstat -xml and qacct -j print: the states of jobs, by the letters of sge_status(5), and how jobs ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree  # of the queue's own command

from hpcsynapse.errors import SchedulerOutputError
from hpcsynapse.schedulers.base import JobStatus, QueueState

_LETTERS = re.compile(r"[A-Za-z]{1,8}")
_ID = re.compile(r"[0-9]{1,12}")
_TASKS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}):([0-9]{1,9}))?")
_MOST_TASKS = 1_000_000
_RULE = "=" * 20
_NOT_FOUND = re.compile(r"^error: job id ([0-9]+)(?:\.([0-9]+))? not found", re.MULTILINE)
# accounting(5), `failed`: what it says of a job that did not end by itself.
_LIMIT, _SIGNAL, _AGAIN = 37, 100, 25


def parse(text: str) -> dict[str, JobStatus]:
    """Return the jobs in what qstat or qacct printed; raises SchedulerOutputError for anything else."""
    if _RULE in text or _NOT_FOUND.search(text):
        return _accounted(text)
    return _listed(text)


def _not_understood(text: str, why: str = "") -> SchedulerOutputError:
    said = " ".join(text.split())[:200] or "nothing"
    return SchedulerOutputError(f"qstat's answer is not understood{why}: {said!r}", command=["qstat"], stdout=text)


def _listed(text: str) -> dict[str, JobStatus]:
    begin = text.find("<?xml")
    if begin < 0 or "<!" in text:  # no document type, and nothing that it could define
        raise _not_understood(text)
    try:
        root = ElementTree.fromstring(text[begin:].strip())  # noqa: S314  # see above
    except (ElementTree.ParseError, ValueError) as error:
        raise _not_understood(text, f" ({error})") from None
    if root.tag != "job_info":
        raise _not_understood(text)
    found: dict[str, JobStatus] = {}
    for job in root.iter("job_list"):
        number, letters = (job.findtext("JB_job_number") or "").strip(), (job.findtext("state") or "").strip()
        if not _ID.fullmatch(number):
            raise _not_understood(text)
        queue = (job.findtext("queue_name") or "").strip()
        status = JobStatus(
            state=state_of(letters), native_state=letters, reason=_reason(letters), nodes=queue.partition("@")[2]
        )
        for task in _tasks(job.findtext("tasks") or ""):
            found[f"{number}.{task}" if task else number] = status
    return found


def state_of(letters: str) -> QueueState:
    """Return what a word of letters means: q queued, w waiting, h held, r running, R restarted, E error and so on."""
    if not _LETTERS.fullmatch(letters):
        return QueueState.UNKNOWN
    if "E" in letters:
        return QueueState.FAILED
    if set(letters) & set("sSTN") and "q" not in letters:
        return QueueState.SUSPENDED
    if set(letters) & set("rt") and "q" not in letters:
        return QueueState.RUNNING
    if set(letters) & set("qwh"):
        return QueueState.QUEUED
    return QueueState.RUNNING if "d" in letters else QueueState.UNKNOWN


def _reason(letters: str) -> str:
    if "E" in letters:
        return "its start failed, and the queue keeps it until it is deleted: qstat -j ID says why"
    if "h" in letters and "q" in letters:
        return "held, or waits for another job"
    return ""


def _tasks(text: str) -> Iterator[str]:
    """Yield the tasks that `3,5` or `1-5:2` are; one empty text for a job that is no array."""
    if not text.strip():
        yield ""
    for item in text.split(",") if text.strip() else ():
        match = _TASKS.fullmatch(item.strip())
        if not match:
            continue
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        yield from map(str, range(first, min(last, first + _MOST_TASKS) + 1, max(step, 1)))


def _accounted(text: str) -> dict[str, JobStatus]:
    """Return the jobs of qacct's records: of several starts of a job the last counts.

    Records are written some seconds after a job's end (flush_time); one that is missing is passed over.
    """
    found = {}
    for record in re.split(r"^={20,}\s*$", text, flags=re.MULTILINE)[1:]:
        values = dict(re.findall(r"^(\w+) +(\S.*?) *$", record, re.MULTILINE))
        number, task = values.get("jobnumber", ""), values.get("taskid", "undefined")
        if _ID.fullmatch(number):
            found[number if not _ID.fullmatch(task) else f"{number}.{task}"] = _ended(values)
    return found


def _ended(values: dict[str, str]) -> JobStatus:
    failed, code = (re.match(r"[0-9]{1,9}", values.get(name, "")) for name in ("failed", "exit_status"))
    if not failed or not code:
        return JobStatus(state=QueueState.UNKNOWN, native_state="ended")
    cause, exit_code = int(failed[0]), int(code[0])
    said = values["failed"].partition(":")[2].strip()
    nodes = values.get("hostname", "")
    if cause == _AGAIN:
        return JobStatus(state=QueueState.UNKNOWN, native_state="ended", reason=said, nodes=nodes)
    if cause == 0 and exit_code == 0:
        return JobStatus(state=QueueState.COMPLETED, native_state="ended", nodes=nodes, exit_code=0)
    # What ended by SIGKILL was deleted, or crashed: newer releases alone say by whom.
    deleted = cause == _SIGNAL and values.get("deleted_by", "NONE") not in ("NONE", "")
    native = "TIMEOUT" if cause == _LIMIT else "CANCELLED" if deleted else "FAILED"
    state = QueueState.CANCELLED if deleted else QueueState.FAILED
    return JobStatus(state=state, native_state=native, reason=said, nodes=nodes, exit_code=exit_code)
