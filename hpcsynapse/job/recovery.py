"""What follows when a start of a run has ended: a pure function of recorded facts, without clock and files.

A start is one launch of all ranks. The ladder: again in the same job on the same nodes, on spare ones, on fewer; else
by another job. Every rung is bounded, and none is taken when starts no longer bring newer checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hpcsynapse.spec.survive import SurviveOptions

GAVE_UP = 93  # exit code of a run whose starts make no progress; other codes are those of programs


class Cause(StrEnum):
    """Why a start ended."""

    FINISHED = "finished"
    ASKED = "asked"  # a person stopped or cancelled the run
    TOLD = "told"  # the queue took its nodes, or somebody ended its job
    TIME = "time"  # its time limit had come
    FAILED = "failed"


class Action(StrEnum):
    """What follows."""

    END = "end"
    RESTART = "restart"  # in the same job
    QUEUE = "queue"  # by another job, or the same one once more


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start: its job, how far checkpoints reached when it began (`mark`), and, once known, its end."""

    job: str
    mark: int
    cause: Cause | None = None
    action: Action | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How the newest start has ended; `alive` are the nodes of the job that can be used, the preferred ones first."""

    cause: Cause
    mark: int
    alive: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What follows, on which nodes, why, and the exit code where it is not the program's own."""

    action: Action
    reason: str = ""
    hosts: tuple[str, ...] = ()
    code: int | None = None


def decide(options: SurviveOptions, nodes: int, starts: Sequence[Start], end: End) -> Decision:
    """Return what follows the end of the last of the starts of a run whose ranks have so many nodes."""
    if not options.active or end.cause in (Cause.FINISHED, Cause.ASKED, Cause.TOLD):
        return Decision(action=Action.END)
    if (idle := _without_progress(starts, end)) >= options.no_progress:
        reason = f"no progress: {idle} starts in a row without a newer checkpoint"
        return Decision(action=Action.END, reason=reason, code=GAVE_UP)
    if end.cause is Cause.FAILED and (again := _in_the_job(options, nodes, starts, end)):
        return again
    return _by_another_job(options, starts, end.cause)


def _without_progress(starts: Sequence[Start], end: End) -> int:
    """Count the last starts that have brought no newer checkpoint; those that the queue cut short do not count."""
    count = 0
    for start in reversed(starts):
        if start.mark < end.mark:
            break
        count += start.cause is not Cause.TOLD
    return count


def _in_the_job(options: SurviveOptions, nodes: int, starts: Sequence[Start], end: End) -> Decision | None:
    done, limit = sum(start.job == starts[-1].job for start in starts) - 1, options.restart_limit
    hosts = end.alive[:nodes] if options.moves else end.alive
    if done >= limit or len(hosts) < (options.min_nodes or nodes):
        return None
    fewer = f" on {len(hosts)} of {nodes} nodes" if len(hosts) < nodes else ""
    return Decision(action=Action.RESTART, hosts=hosts, reason=f"start {done + 1} of {limit} again in the job{fewer}")


def _by_another_job(options: SurviveOptions, starts: Sequence[Start], cause: Cause) -> Decision:
    jobs = len({start.job for start in starts})
    failures = sum(start.action is Action.QUEUE and start.cause is Cause.FAILED for start in starts)
    if cause is Cause.TIME and not options.chain_until_done:
        return Decision(action=Action.END)
    if cause is Cause.FAILED and failures >= options.requeues:
        return Decision(action=Action.END, reason=f"queued again {failures} times already" if failures else "")
    if jobs >= options.max_jobs:
        return Decision(action=Action.END, reason=f"it has had {jobs} jobs, as many as it may have")
    why = "after its time limit" if cause is Cause.TIME else f"after a failure, {failures + 1} of {options.requeues}"
    return Decision(action=Action.QUEUE, reason=f"queued again {why}")
