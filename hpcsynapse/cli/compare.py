"""`hpcsynapse compare`: a gate against regressions, for people and for continuous integration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcsynapse.cli.bars import reading
from hpcsynapse.cli.options import runs_option
from hpcsynapse.cli.report.runs import warn
from hpcsynapse.cli.tables import Output, table_options
from hpcsynapse.errors import HpcSynapseError, SpecError
from hpcsynapse.runs.find import runs_folder

if TYPE_CHECKING:
    from hpcsynapse.report.change import Change
    from hpcsynapse.report.entries import Entry


_SECOND_SIDE = __name__ + ".second_side"


class _TwoSides(click.Command):
    """Takes what stands before a `--` for one side, and what stands behind it for the other."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the `--` apart, which click would only take for the end of the options."""
        if "--" in args:
            place = args.index("--")
            args, ctx.meta[_SECOND_SIDE] = args[:place], tuple(args[place + 1 :])
        return super().parse_args(ctx, args)


@click.command(cls=_TwoSides)
@click.argument("names", metavar="A [A... --] B...", nargs=-1, required=True)
@runs_option
@click.option(
    "--tolerance",
    type=float,
    default=0.03,
    show_default=True,
    metavar="FRACTION",
    help="slowdown that is accepted, from 0 to 1",
)
@click.option("--strict", is_flag=True, help="points that are unclear or missing fail as well")
@table_options
def command(names: tuple[str, ...], runs: str | None, tolerance: float, strict: bool, output: Output) -> None:
    """Tell whether B has become slower than A, point by point.

    A and B are each a run, a study, a folder of record files, or a table that `report --csv` wrote (or one of
    figures, as `report` takes it); B may be several runs, its repeats, and so may A, with `--` behind them. A point
    is compared with the one of the same strategy, engine, model, data, nodes, ranks, batch, optimizer, hardware,
    threads, and of the same value of every setting in which one side varies; what the other side lacks is listed.
    Settings in which a whole side differs from the other are named by the flag other-settings.

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
        found, outcome = _compare(*_sides(names), runs, tolerance)
    except (HpcSynapseError, OSError) as error:  # the exit code 1 of damaged records would tell of a regression
        raise SpecError(str(error)) from error
    from hpcsynapse.report.change import COLUMNS

    output.table(found, COLUMNS)
    click.echo(outcome, err=output.form is not None)
    failing = {"slower", "unclear", "missing"} if strict else {"slower"}
    if any(one.verdict in failing for one in found):
        click.get_current_context().exit(1)


def _sides(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    second = click.get_current_context().meta.get(_SECOND_SIDE)
    reference, candidates = (names[:1], names[1:]) if second is None else (names, second)
    if not candidates:
        raise SpecError("compare A with what? hpcsynapse compare A B, or A1 A2 -- B1 B2")
    return reference, candidates


def _compare(
    reference: Sequence[str], candidates: Sequence[str], runs: str | None, tolerance: float
) -> tuple[list[Change], str]:
    try:
        from hpcsynapse.report.regression import changes, sentence
    except ModuleNotFoundError as error:
        raise SpecError(f"comparing needs numpy ({error}); pip install 'hpcsynapse[report]'") from None
    folder = runs_folder(runs)
    found = changes(_entries(reference, folder), _entries(candidates, folder), tolerance)
    return found, sentence(found, tolerance)


def _entries(names: Sequence[str], runs: Path) -> list[Entry]:
    from hpcsynapse.report.entries import entries_of

    with reading():
        return entries_of(names, runs, warn)
