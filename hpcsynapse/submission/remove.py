"""Which runs may be removed: those that have ended, as their queues say."""

from __future__ import annotations

from collections.abc import Sequence

from hpcsynapse.errors import SpecError
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import FINAL_STATES
from hpcsynapse.submission.status import statuses


def refuse_unended(runs: Sequence[RunDirectory]) -> None:
    """Raise SpecError where a run goes on, or where its queue does not say that it has ended."""
    for run, status in zip(runs, statuses(runs), strict=True):
        if status.state not in FINAL_STATES:
            raise SpecError(f"run {run.name} is {status.state}; end it first: hpcsynapse cancel {run.name}")
