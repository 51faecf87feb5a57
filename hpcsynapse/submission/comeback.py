"""What a job script asks before the ranks start and after they have ended, of runs that may come back.

`recover RUN_DIR begin ATTEMPT HOST...` and `recover RUN_DIR end ATTEMPT CODE SIGNAL HOST...` print one line: `start
ATTEMPT HOST...` for the ranks to start under that name on those hosts, `queued CODE` when another job goes on with the
run, or `end CODE`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse.errors import HpcSynapseError
from hpcsynapse.files import read_json, reported
from hpcsynapse.job import recovery, supervise
from hpcsynapse.job.recovery import Action, Cause, Decision, End, Start
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.failure import exit_code_of, first_failure, hosts_without_word
from hpcsynapse.runs.starts import NONE, checkpoint_mark, note_begin, note_end, read_starts
from hpcsynapse.runs.states import RunState
from hpcsynapse.runs.suspects import suspects
from hpcsynapse.schedulers import create
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission.cancel import cancel_requested

_PROBE_SECONDS = 20.0  # within which a node starts a process, or is taken for lost
_PROBED = 64  # hosts at most that are asked; with more without a word something else is wrong


@dataclass(frozen=True, slots=True)
class _Ended:
    """A start that has ended: the launcher's exit code, the signal that the job script was told to end by, or none."""

    run: RunDirectory
    spec: JobSpec
    attempt: str
    code: int
    signal: str

    @property
    def job_code(self) -> int:
        """The exit code of the job: that of the rank that failed first; launchers return the highest, or always 1."""
        return self.code if self.signal else exit_code_of(self.run, self.attempt, self.code)

    def cause(self, code: int) -> Cause:
        """Tell why it ended; a word of a person comes first, then what the program said of itself."""
        asked, told = _stop_text(self.run), read_json(self.run.status) or {}
        state = told.get("state") if told.get("attempt") == self.attempt else None
        if cancel_requested(self.run) or (asked and not asked.startswith("signal ")):
            return Cause.ASKED
        done = told.get("step") == told.get("steps") is not None
        if code == 0 and state == RunState.FINISHED and (not self.signal or done):
            return Cause.FINISHED
        if self.signal == "PREEMPTED":
            return Cause.TOLD
        if asked or self.signal == "TIMEOUT":
            return Cause.TIME
        return Cause.TOLD if self.signal or code == 0 else Cause.FAILED


def _stop_text(run: RunDirectory) -> str:
    try:
        return run.stop.read_text(errors="replace").strip() or "stop"
    except OSError:
        return ""


def begin(run: RunDirectory, attempt: str, hosts: Sequence[str]) -> str:
    """Record the first start of a job and return the answer to its script: on which of its hosts."""
    spec = run.load_spec()
    used = _in_order(_preferred(run, hosts)[: spec.resources.nodes], hosts) if spec.survive.moves else tuple(hosts)
    mark = NONE
    with reported("checkpoints"):
        mark = checkpoint_mark(run, spec)
    with reported("starts.jsonl"):
        note_begin(run, attempt, attempt, mark, used)
    return " ".join(("start", attempt, *used))


def end(run: RunDirectory, attempt: str, code: int, signal: str, hosts: Sequence[str]) -> str:
    """Record how a start has ended, do what follows, and return the answer to the job script."""
    ended = _Ended(run, run.load_spec(), attempt, code, signal)
    code = ended.job_code
    cause = ended.cause(code)
    lost = _lost_hosts(ended, hosts) if cause is Cause.FAILED else set[str]()
    alive = tuple(host for host in _preferred(run, hosts) if host not in lost)
    known, mark = read_starts(run), checkpoint_mark(run, ended.spec)
    starts = [_as_start(one.job, one.mark, one.end) for one in known]
    job = next((one.job for one in known if one.attempt == attempt), attempt)
    starts = starts or [Start(job=job, mark=mark)]
    decision = recovery.decide(
        ended.spec.survive, ended.spec.resources.nodes, starts, End(cause=cause, mark=mark, alive=alive)
    )
    note_end(
        run,
        attempt,
        code=code,
        cause=cause,
        action=decision.action,
        reason=decision.reason,
        mark=mark,
        lost=sorted(lost),
    )
    return _follow(ended, decision, job, hosts, code)


def _follow(ended: _Ended, decision: Decision, job: str, hosts: Sequence[str], code: int) -> str:
    run, why = ended.run, _why(ended, decision)
    code = code if decision.code is None else decision.code
    if decision.reason:
        print(f"hpcsynapse: {why}", file=sys.stderr, flush=True)
    if decision.action is Action.RESTART:
        number = sum(one.job == job for one in read_starts(run))
        attempt, used = f"{job}+{number}", _in_order(decision.hosts, hosts)
        note_begin(run, attempt, job, checkpoint_mark(run, ended.spec), used)
        with suppress(OSError):
            run.append_history(RunState.SETUP, why)
        return " ".join(("start", attempt, *used))
    if decision.action is Action.QUEUE:
        return _queue(ended, ended.cause(code), why, code)
    return f"end {code or (1 if decision.code else 0)}"


def _queue(ended: _Ended, cause: Cause, why: str, code: int) -> str:
    from hpcsynapse.submission.successor import queue_again

    try:
        job_id = queue_again(ended.run, why, same_job=cause is Cause.FAILED)
    except HpcSynapseError as error:
        unknown = "unknown" in ended.run.read_submission()
        print(f"hpcsynapse: not queued again: {error}", file=sys.stderr, flush=True)
        note_end(ended.run, ended.attempt, action=Action.QUEUE if unknown else Action.END, reason=f"{why}: {error}")
        return f"queued {code}" if unknown else f"end {code or 1}"
    print(f"hpcsynapse: job {job_id} goes on with the run", file=sys.stderr, flush=True)
    return f"queued {code}"


def _why(ended: _Ended, decision: Decision) -> str:
    failure = first_failure(ended.run, ended.attempt)
    if not failure or not decision.reason:
        return decision.reason
    return f"{decision.reason}: rank {failure['rank']} on {failure['host']}: {failure['reason']}"


def _as_start(job: str, mark: int, told: dict[str, object]) -> Start:
    cause, action = str(told.get("cause")), str(told.get("action"))
    return Start(
        job=job,
        mark=mark,
        cause=Cause(cause) if cause in set(Cause) else None,
        action=Action(action) if action in set(Action) else None,
    )


def _preferred(run: RunDirectory, hosts: Sequence[str]) -> list[str]:
    """Return the hosts with those last that evidence of earlier starts speaks against."""
    doubtful = {one.host for one in suspects(run)} if len(hosts) > 1 else set[str]()
    return sorted(hosts, key=lambda host: host in doubtful)


def _in_order(chosen: Sequence[str], hosts: Sequence[str]) -> tuple[str, ...]:
    """Return hosts in the job's own order, in which its launcher numbers them."""
    return tuple(host for host in hosts if host in set(chosen))


def _lost_hosts(ended: _Ended, hosts: Sequence[str]) -> set[str]:
    """Return the hosts that are lost: ranks there left no word, and no process can be started there any more."""
    silent = [host for host in hosts if host in hosts_without_word(ended.run, ended.attempt)][:_PROBED]
    scheduler = create(ended.spec.queue.scheduler)
    owner = ended.run.owner_id() or ""
    probes = {host: command for host in silent if (command := scheduler.probe_host_command(owner, host))}
    asked = {host: _start(command) for host, command in probes.items()}
    return {host for host, child in asked.items() if not _answers(child)}


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    void = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=void, stdout=void, stderr=void, start_new_session=True)


def _answers(child: subprocess.Popen[bytes]) -> bool:
    try:
        return child.wait(timeout=_PROBE_SECONDS) == 0
    except subprocess.TimeoutExpired:
        supervise.end_tree(child.pid, 2.0)
        child.wait()
        return False


def main(arguments: list[str]) -> int:
    """`RUN_DIR begin ATTEMPT HOST...` or `RUN_DIR end ATTEMPT CODE SIGNAL HOST...`: print what the script does next."""
    path, event, attempt, *rest = arguments
    run = RunDirectory(Path(path))
    if event == "begin":
        print(begin(run, attempt, rest))
        return 0
    code, signal, *hosts = rest
    try:
        print(end(run, attempt, int(code), "" if signal == "none" else signal, hosts))
    except (OSError, HpcSynapseError) as error:
        print(f"hpcsynapse: the run does not come back: {error}", file=sys.stderr)
        print(f"end {int(code) or 1}")
    return 0
