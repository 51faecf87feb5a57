"""`hpcsynapse report why`: where rank-seconds were lost from one number of ranks to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hpcsynapse.cli.report.runs import compared_report, scaling_options
from hpcsynapse.cli.tables import Output, table_options
from hpcsynapse.errors import SpecError

if TYPE_CHECKING:
    from hpcsynapse.report.points import Point


@click.command()
@scaling_options
@table_options
def command(names: tuple[str, ...], runs: str | None, output: Output, **how: Any) -> None:
    """Report where rank-seconds were lost from one number of ranks to the next, in parts that add up.

    Each number of ranks is compared with the next smaller one, with --baseline with that. Ranks that were slow are
    named below.
    """
    report = compared_report("why", names, runs, **how)
    from hpcsynapse.report import why, why_text

    losses = why.losses(report.compared, how["baseline"] is not None)
    if not losses:
        raise SpecError("there is nothing to compare: report why needs runs with different numbers of ranks")
    if output.form is None and not output.names:
        output.text(why_text.to_text(losses, _notes))
    else:
        output.table([row for loss in losses for row in loss.breakdown()], why.COLUMNS)


def _notes(point: Point) -> list[str]:
    """Return who was slow, of what runs nothing of the kind can be told, and where the node-hours of runs went."""
    from hpcsynapse.report.lost_work import sentence
    from hpcsynapse.report.stragglers import rank_times, without_phases

    found: list[str] = []
    for one in point.repeats:
        slow = [f"{rank.run}: {rank.sentence()}" for rank in rank_times(one.run) if rank.slow]
        found += without_phases(one.run) or slow
    return found + [told for one in point.repeats if (told := sentence(one.run.source))]
