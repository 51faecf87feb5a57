"""The states of a run."""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """What a run is doing; the last four are final.

    FINISHING is a run whose program has ended and whose job script has not, PREEMPTED one that the queue has put back
    and that will go on, SUSPENDED one that the queue holds still. UNKNOWN means that nobody knows whether its queue has
    it.
    """

    CREATED = "CREATED"
    QUEUED = "QUEUED"
    PREEMPTED = "PREEMPTED"
    SETUP = "SETUP"
    TRAINING = "TRAINING"
    EVALUATING = "EVALUATING"
    SAVING = "SAVING"
    FINISHING = "FINISHING"
    SUSPENDED = "SUSPENDED"
    UNKNOWN = "UNKNOWN"
    FINISHED = "FINISHED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    LOST = "LOST"


FINAL_STATES = frozenset({RunState.FINISHED, RunState.STOPPED, RunState.FAILED, RunState.LOST})
# From these a run may be queued: it has ended, or was never given to a queue.
RESTARTABLE = FINAL_STATES | {RunState.CREATED}
