"""`hpcsynapse compare`: a gate against regressions, for people and for continuous integration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcsynapse.errors import HpcSynapseError, SpecError

if TYPE_CHECKING:
    from hpcsynapse.report.entries import Entry
    from hpcsynapse.report.regression import Change


@click.command()
@click.argument("reference", metavar="A")
@click.argument("candidates", metavar="B...", nargs=-1, required=True)
@click.option("--runs", default="runs", show_default=True, envvar="HPCSYNAPSE_RUNS", help="Folder of the runs.")
@click.option("--tolerance", type=float, default=0.05, show_default=True, metavar="FRACTION",
              help="Slowdown that is accepted, from 0 to 1.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Points that are unclear or missing fail as well.")
@click.option("--csv", "form", flag_value="csv", help="CSV with all columns in full precision.")
@click.option("--json", "form", flag_value="json", help="The same as JSON.")
def command(
    reference: str, candidates: tuple[str, ...], runs: str, tolerance: float, strict: bool, form: str | None
) -> None:  # fmt: skip
    """Tell whether B has become slower than A, point by point.

    A and B are each a run, a study, a folder of record files, or a table that `report --csv` wrote (or one of figures,
    as `report` takes it); B may be several runs, its repeats. A point is compared with the one of the same strategy,
    engine, model, data, nodes, ranks, batch, optimizer, hardware and threads; what the other side lacks is listed.

    \b
    slower   the 95 % interval of B's time / A's time lies wholly above 1 + tolerance
    faster   it lies wholly below 1 / (1 + tolerance)
    same     it lies between these
    unclear  it is too wide to say: more repeats, or longer runs
    missing  only A has this point; new: only B has it

    Verdicts are corrected for their number (Benjamini-Hochberg), so that a large study does not fail by chance.

    Exit code: 0 nothing is slower, 1 something is, 2 the input cannot be used or has nothing in common.
    """
    try:
        found, outcome = _compare([reference], candidates, Path(runs), tolerance)
    except (HpcSynapseError, OSError) as error:  # the exit code 1 of damaged records would tell of a regression
        raise SpecError(str(error)) from error
    from hpcsynapse.report.layouts import CHANGES
    from hpcsynapse.report.tables import WRITERS

    click.echo(WRITERS[form or "text"](found, CHANGES), nl=False)
    click.echo(outcome, err=form is not None)
    failing = {"slower", "unclear", "missing"} if strict else {"slower"}
    if any(one.verdict in failing for one in found):
        click.get_current_context().exit(1)


def _compare(
    reference: Sequence[str], candidates: Sequence[str], runs: Path, tolerance: float
) -> tuple[list[Change], str]:  # fmt: skip
    try:
        from hpcsynapse.report.regression import changes, sentence
    except ModuleNotFoundError as error:
        raise SpecError(f"comparing needs numpy ({error}); pip install 'hpcsynapse[report]'") from None
    found = changes(_entries(reference, runs), _entries(candidates, runs), tolerance)
    return found, sentence(found, tolerance)


def _entries(names: Sequence[str], runs: Path) -> list[Entry]:
    from hpcsynapse.report.entries import entries_of

    return entries_of(names, runs, lambda text: click.echo(f"warning: {text}", err=True))
