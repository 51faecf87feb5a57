"""What all reports begin with: the runs that are meant, and the scaling report of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcsynapse.cli.bars import reading
from hpcsynapse.cli.options import runs_option
from hpcsynapse.cli.report import REPORTS
from hpcsynapse.errors import RunNotFoundError, SpecError
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.find import runs_folder

if TYPE_CHECKING:
    from hpcsynapse.report.scaling import Report

Function = Callable[..., Any]
RUNS = "RUN|STUDY..."


def runs_argument(function: Function) -> Function:
    """Add names of runs, at least one, and `--runs`."""
    return click.argument("names", metavar=RUNS, nargs=-1, required=True)(runs_option(function))


def scaling_options(function: Function, required: bool = True) -> Function:
    """Add names of runs or of a table, `--runs`, and what is compared with what."""
    for option in (
        runs_option,
        click.option(
            "--baseline",
            metavar="RUN|RANKS|STRATEGY",
            help="what to compare with [single, else the fewest ranks of the same strategy]",
        ),
        click.option(
            "--scaling",
            type=click.Choice(["auto", "strong", "weak"]),
            default="auto",
            show_default=True,
            help="strong: equal global batch; weak: equal batch per rank",
        ),
        click.argument("names", metavar=f"{RUNS} | TABLE.csv", nargs=-1, required=required),
    ):
        function = option(function)
    return function


def sources_of(names: Sequence[str], runs: str | Path | None) -> tuple[list[RunDirectory | Path], str]:
    """Return runs and folders of records and their kind of scaling, with a warning about unfinished ones."""
    from hpcsynapse.report import sources

    try:
        return sources.sources_of(names, runs_folder(runs), warn)
    except RunNotFoundError as error:
        if not (meant := [name for name in names if name in REPORTS]):
            raise
        rest = " ".join(name for name in names if name != meant[0])
        raise SpecError(f"{error}; for that report write: hpcsynapse report {meant[0]} {rest}") from None


def scaling_report(
    names: Sequence[str], runs: str | Path | None, scaling: str = "auto", baseline: str | None = None
) -> Report:
    """Return the scaling report of runs and studies, or of a table, and say its warnings."""
    report = _scaling_report(names, runs, scaling, baseline)
    for text in report.warnings:
        warn(text)
    return report


def _scaling_report(names: Sequence[str], runs: str | Path | None, scaling: str, baseline: str | None) -> Report:
    from hpcsynapse.report.sources import table_of

    if (table := table_of(names)) is not None:
        from hpcsynapse.report.from_table import table_report

        return table_report(table, scaling, baseline)
    from hpcsynapse.report import scaling as reports
    from hpcsynapse.report.advice import advices
    from hpcsynapse.report.loading import load

    sources, meant = sources_of(names, runs)
    with reading():
        loaded = [load(source) for source in sources]
    report = reports.scaling_report(loaded, meant if scaling == "auto" else scaling, baseline)
    report.hints = advices(report.compared)
    if halved := [run.about.name for run in loaded if run.about.strategy.startswith("admm")]:
        report.hints.append(f"{', '.join(halved)}: two halves of a network; `report dual` shows what each did")
    return report


def compared_report(kind: str, names: Sequence[str], runs: str | None, **how: Any) -> Report:
    """Return the scaling report for a report that needs step records; raises SpecError for a table of figures."""
    report = scaling_report(names, runs, **how)
    if not report.compared:
        raise SpecError(f"report {kind} needs step records of runs; a table of figures has none")
    return report


def warn(text: str) -> None:
    """Say a warning."""
    click.echo(f"warning: {text}", err=True)
