"""Node-hours of a study: what has been used, what runs that a queue has may use, and which others are within a budget.

A run that has ended counts with the time from the start of its job file to its end; one that left no word of its end,
or goes on, with its whole limit; one that never began with nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeVar

from hpcsynapse.errors import SpecError
from hpcsynapse.files import read_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RunState
from hpcsynapse.study.folder import StudyDirectory
from hpcsynapse.study.plan import Point
from hpcsynapse.submission.status import statuses

AnyPoint = TypeVar("AnyPoint", bound=Point)
_NOT_BEGUN = (RunState.CREATED, RunState.QUEUED)


def node_hours(run: RunDirectory, waits: bool) -> float:
    """Return the node-hours that a run has used, or may use; `waits` says that a queue has it. Raises SpecError."""
    spec, ended = run.load_spec(), read_json(run.exit) or {}
    submission = run.read_submission()
    shared = submission.get("allocation_nodes")
    nodes = shared if isinstance(shared, int) else spec.allocated_nodes
    start, end = ended.get("start"), ended.get("time")
    if isinstance(start, (int, float)) and isinstance(end, (int, float)):
        return nodes * max(0.0, end - start) / 3600
    if waits or read_json(run.status) is not None:
        return nodes * spec.resources.walltime.total_seconds() / 3600
    return 0.0


def taken(study: StudyDirectory) -> float:
    """Return the node-hours that the study's runs have used and that those underway may use."""
    made, aside = study.runs(), list(RunDirectory.all(study.failed))
    underway = {
        status.path
        for status in statuses(made)
        if status.state not in (RunState.FINISHED, RunState.STOPPED, RunState.FAILED)
    }
    waiting = [str(run.path) in underway and run.read_submission().get("job_id") is not None for run in made]
    return sum(
        node_hours(run, waits) for run, waits in zip([*made, *aside], [*waiting, *[False] * len(aside)], strict=True)
    )


def within(points: Sequence[AnyPoint], budget: float | None, used: float) -> list[AnyPoint]:
    """Return the runs, up to the first that could exceed the budget; raises SpecError when that is the very first."""
    if budget is None:
        return list(points)
    sums = itertools.accumulate((point.node_hours for point in points), initial=used)
    found = [point for point, total in zip(points, list(sums)[1:], strict=True) if total <= budget + 1e-9]
    if points and not found:
        raise SpecError(
            f"a budget of {budget:g} node-hours, of which {used:.3g} are taken, is too small for run {points[0].name}: "
            f"it may take {points[0].node_hours:.3g}; give more, or a smaller --time"
        )
    return found
