"""`hpcsynapse predict`: communication counts, and what more ranks would bring."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcsynapse.errors import SpecError
from hpcsynapse.predict import comms
from hpcsynapse.units import parse_walltime

if TYPE_CHECKING:
    from hpcsynapse.predict.curve import Curve
    from hpcsynapse.predict.forecast import Forecast, Goals

_MAX_RANKS, _MAX_ROWS = 10_000_000, 1000


@click.group()
def command() -> None:
    """Count what ranks exchange, or predict what more of them would bring."""


@command.command("comms")
@click.option("--elements", required=True, metavar="N,...", help="Elements on every rank.")
@click.option("--ranks", required=True, metavar="R,...", help="Numbers of ranks.")
@click.option("--steps", required=True, metavar="E,...", help="Steps of an epoch.")
@click.option("--csv", "form", flag_value="csv", help="CSV with exact decimals; those that recur have 20 places.")
@click.option("--json", "form", flag_value="json", help="The same as a JSON list of numbers.")
def communications(elements: str, ranks: str, steps: str, form: str | None) -> None:
    """Print how many elements are exchanged in an epoch, by exact closed forms.

    \b
    centralized     2 N (R-1) E                    gradients to one rank, parameters back
    decentralized   2 E (N/R) (R-1)                ring all-reduce
    proposed        2 E (N/R) (R-1) + N (R-1)      and rank 0's parameters to all once in the epoch
    """
    rows = comms.counts(comms.parse_counts("--elements", elements), comms.parse_counts("--ranks", ranks),
                        comms.parse_counts("--steps", steps))  # fmt: skip
    tables = [row.to_dict() for row in rows]
    if form == "json":
        click.echo(json.dumps([{name: _number(value) for name, value in table.items()} for table in tables], indent=1))
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(comms.COLUMNS)
        writer.writerows([comms.decimal(value) for value in table.values()] for table in tables)
    else:
        lines = [comms.COLUMNS, *([str(value) for value in table.values()] for table in tables)]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        for line in lines:
            click.echo("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _number(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)


@command.command("scaling")
@click.argument("names", metavar="STUDY|RUN... | TABLE.csv", nargs=-1, required=True)
@click.option("--runs", default="runs", show_default=True, envvar="HPCSYNAPSE_RUNS", help="Folder of the runs.")
@click.option("--ranks", metavar="R,...", help="Numbers of ranks to predict [doublings of what was measured].")
@click.option("--nodes", metavar="N,...", help="The same in nodes, filled as those that were measured.")
@click.option("--deadline", metavar="TIME", help="Recommend the fewest ranks that train in this time, e.g. 2h.")
@click.option("--budget", type=float, metavar="RANK_HOURS", help="Recommend the fastest within so many rank-hours.")
@click.option("--epochs", type=click.IntRange(1, 10**9), default=1, show_default=True, help="Epochs of the two goals.")
@click.option("--epoch-samples", type=click.IntRange(1, 10**15), help="Samples of an epoch, where records do not tell.")
@click.option(
    "--collective",
    type=click.Choice(["ring", "tree", "binomial", "star"]),
    help="How gradients are exchanged [that of the strategy].",
)
@click.option("--scaling", type=click.Choice(["auto", "strong", "weak"]), default="auto", show_default=True,
              help="strong: equal global batch; weak: equal batch per rank.")  # fmt: skip
@click.option("--baseline", metavar="RUN|RANKS|STRATEGY", help="What to compare with, as in report.")
@click.option("--csv", "form", flag_value="csv", help="CSV with all columns in full precision.")
@click.option("--json", "form", flag_value="json", help="The rows and the fitted models as JSON.")
def scaling(names: tuple[str, ...], runs: str, form: str | None, **given: Any) -> None:
    """Predict step time, speedup and efficiency for numbers of ranks that were not run.

    A cost model of the strategy's own exchange is fitted to runs, studies or a table (as `report` takes them), with
    two numbers of ranks or more; Amdahl's law and the universal scalability law stand beside it. The error of a
    prediction is seen where points were measured: each is predicted from the others. Intervals are 95 %.
    """
    asked = _asked(given["ranks"], given["nodes"])
    goals = _goals(given["deadline"], given["budget"], given["epochs"], given["epoch_samples"])
    curves = _curves(names, Path(runs), given["scaling"], given["baseline"], given["collective"])
    from hpcsynapse.predict.forecast import Forecast
    from hpcsynapse.predict.rows import PREDICTION, rows
    from hpcsynapse.predict.summary import document, sentences
    from hpcsynapse.report.tables import to_csv, to_terminal

    found = []
    for curve in curves:
        forecast = Forecast(curve, goals)
        found.append((forecast, rows(forecast, _reachable(forecast, *asked))))
    if form == "csv":
        click.echo(to_csv([point for _, points in found for point in points], PREDICTION), nl=False)
    elif form == "json":
        click.echo(json.dumps([document(*one) for one in found], indent=1, allow_nan=False))
    else:
        for forecast, points in found:
            click.echo("\n".join(sentences(forecast)) + "\n\n" + to_terminal(points, PREDICTION))


def _asked(ranks: str | None, nodes: str | None) -> tuple[list[int], bool]:
    """Return the counts asked for, none for a choice of our own, and whether they are nodes."""
    if ranks is not None and nodes is not None:
        raise SpecError("--ranks and --nodes are two ways to ask for the same; give one of them")
    text, option = (ranks, "--ranks") if nodes is None else (nodes, "--nodes")
    counts = [] if text is None else comms.parse_counts(option, text, _MAX_RANKS)
    if len(counts) > _MAX_ROWS:
        raise SpecError(f"{option}: {len(counts)} numbers are too many; at most {_MAX_ROWS} are accepted")
    return counts, nodes is not None


def _goals(deadline: str | None, budget: float | None, epochs: int, epoch_samples: int | None) -> Goals:
    if budget is not None and not 0 < budget < math.inf:
        raise SpecError(f"--budget {budget}: give a number of rank-hours above zero")
    seconds = None if deadline is None else parse_walltime(deadline).total_seconds()
    _needs_numpy()
    from hpcsynapse.predict.forecast import Goals

    return Goals(epochs=epochs, deadline_s=seconds, budget=budget, epoch_samples=epoch_samples)


def _needs_numpy() -> None:
    try:
        import numpy  # noqa: F401
    except ModuleNotFoundError:
        raise SpecError("predictions need numpy, which is not installed; pip install 'hpcsynapse[report]'") from None


def _curves(names: Sequence[str], runs: Path, kind: str, baseline: str | None, collective: str | None) -> list[Curve]:
    """Return what was measured: the curves of runs and studies, or of a table."""
    from hpcsynapse.cli.report import sources_of
    from hpcsynapse.predict.curve import of_report, of_table
    from hpcsynapse.report.from_table import table_report
    from hpcsynapse.report.loading import load
    from hpcsynapse.report.scaling import scaling_report
    from hpcsynapse.report.sources import table_of

    if (table := table_of(names)) is not None:
        return of_table(table_report(table, kind, baseline).points, collective, kind)
    sources, meant = sources_of(names, runs)
    loaded = [load(source) for source in sources]
    report = scaling_report(loaded, meant if kind == "auto" else kind, baseline)
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    return of_report(report.compared, dict(zip(map(id, loaded), sources, strict=True)), collective)


def _reachable(forecast: Forecast, counts: list[int], are_nodes: bool) -> list[int]:
    """Return the ranks that were asked for, without those of which nothing can be said."""
    from hpcsynapse.predict.forecast import doublings

    curve = forecast.curve
    ranks = [count * curve.ranks_per_node if are_nodes else count for count in counts] or doublings(curve)
    most = forecast.most if curve.scaling == "strong" and curve.batches_known else math.inf
    for left_out, why in (
        ([count for count in ranks if count < forecast.fewest], "fewer ranks than were measured"),
        ([count for count in ranks if count > most], "more ranks than samples of a global batch"),
    ):
        if left_out and counts:
            click.echo(f"warning: {curve.title}: left out {', '.join(map(str, left_out))}: {why}", err=True)
    return [count for count in ranks if forecast.fewest <= count <= most]
