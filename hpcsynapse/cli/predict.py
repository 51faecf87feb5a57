"""`hpcsynapse predict`: communication counts, and what more ranks would bring."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import click

from hpcsynapse.cli.bars import reading
from hpcsynapse.cli.options import form_options, runs_option
from hpcsynapse.cli.report.runs import scaling_options, sources_of, warn
from hpcsynapse.cli.tables import Output, terminal_width
from hpcsynapse.errors import SpecError
from hpcsynapse.predict import comms
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.reliability import PRIOR_RATE
from hpcsynapse.units import parse_walltime

if TYPE_CHECKING:
    from hpcsynapse.predict.curve import Curve
    from hpcsynapse.predict.forecast import Forecast, Goals

_MAX_RANKS, _MAX_ROWS = 10_000_000, 1000


class _Amount(click.FloatRange):
    """A finite number of at least 0."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; nan, which lies in no range, is refused."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


_SECONDS = _Amount(0, 1e9)


@click.group()
def command() -> None:
    """Count what ranks exchange, or predict what more of them would bring."""


@command.command("comms", short_help="Count the elements that ranks exchange.")
@click.option("--elements", required=True, metavar="N,...", help="elements on every rank")
@click.option("--ranks", required=True, metavar="R,...", help="numbers of ranks")
@click.option("--steps", required=True, metavar="E,...", help="steps of an epoch")
@form_options(
    "csv",
    "json",
    csv="CSV with exact decimals; those that recur have 20 places",
    json="the same as a JSON list of numbers",
)
def communications(elements: str, ranks: str, steps: str, form: str | None) -> None:
    """Print how many elements are exchanged in an epoch, by exact closed forms.

    \b
    centralized     2 N (R-1) E                    gradients to one rank, parameters back (strategy central)
    decentralized   2 E (N/R) (R-1)                ring all-reduce (strategy allreduce)
    proposed        2 E (N/R) (R-1) + N (R-1)      ring all-reduce, and rank 0's parameters to all once in the epoch:
                                                   what Raja, Brain imaging, UT Arlington 2019, proposes
                                                   (strategy allreduce-broadcast)
    """
    rows = comms.counts(
        comms.parse_counts("--elements", elements),
        comms.parse_counts("--ranks", ranks),
        comms.parse_counts("--steps", steps),
    )
    forms: dict[str | None, Callable[[Fraction], Any]] = {"csv": comms.decimal, "json": _number, None: str}
    Output(form).table(
        [{name: forms[form](value) for name, value in row.to_dict().items()} for row in rows], comms.COLUMNS
    )


def _number(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)


@command.command("scaling", short_help="Predict step time and speedup of more ranks.")
@scaling_options
@click.option("--ranks", metavar="R,...", help="numbers of ranks in all to predict [doublings of what was measured]")
@click.option("--nodes", metavar="N,...", help="the same in nodes, filled as those that were measured")
@click.option("--deadline", metavar="TIME", help="recommend the fewest ranks that train in this time, e.g. 2h")
@click.option("--budget", type=float, metavar="RANK_HOURS", help="recommend the fastest within so many rank-hours")
@click.option("--epochs", type=click.IntRange(1, 10**9), default=1, show_default=True, help="epochs of the two goals")
@click.option("--epoch-samples", type=click.IntRange(1, 10**15), help="samples of an epoch, where records do not tell")
@click.option(
    "--collective",
    type=click.Choice(["ring", "tree", "binomial", "star"]),
    help="how gradients are exchanged [that of the strategy]",
)
@click.option("--ranks-per-node", type=click.IntRange(1, _MAX_RANKS), help="ranks on a full node [the most measured]")
@click.option(
    "--network", metavar="BANDWIDTH", help="network between nodes, e.g. 100Gbit, for points of one node alone"
)
@click.option("--latency", metavar="TIME", help="its latency, e.g. 2us")
@form_options("csv", "json", json="the rows and the fitted models as JSON")
def scaling(names: tuple[str, ...], runs: str | None, form: str | None, **given: Any) -> None:
    """Predict step time, speedup and efficiency for numbers of ranks that were not run.

    A cost model of the strategy's own exchange is fitted to runs, studies or a table (as `report` takes them), with
    two numbers of ranks or more; beside it stand Amdahl's law and the universal scalability law, for strong scaling.
    The error of a prediction is seen where points were measured: each is predicted from the others. Intervals are 95 %.
    Where all points share one node, nothing is said beyond it unless --network and --latency are given.
    """
    asked = _asked(given["ranks"], given["nodes"])
    goals = _goals(given["deadline"], given["budget"], given["epochs"], given["epoch_samples"])
    network = _network(given["network"], given["latency"])
    curves = [
        _placed(curve, given["ranks_per_node"], network)
        for curve in _curves(names, runs, given["scaling"], given["baseline"], given["collective"])
    ]
    from hpcsynapse.predict.forecast import Forecast
    from hpcsynapse.predict.rows import COLUMNS, rows
    from hpcsynapse.predict.summary import document, sentences
    from hpcsynapse.writers import json_text, to_csv, to_text

    found = []
    for curve in curves:
        forecast = Forecast(curve, goals)
        found.append((forecast, rows(forecast, _reachable(forecast, *asked))))
    if form == "csv":
        click.echo(to_csv([point for _, points in found for point in points], COLUMNS), nl=False)
    elif form == "json":
        click.echo(json_text([document(*one) for one in found]), nl=False)
    else:
        for forecast, points in found:
            click.echo("\n".join(sentences(forecast)) + "\n\n" + to_text(points, COLUMNS, terminal_width()))


@command.command("survive", short_help="Predict what failures leave of a run's time.")
@click.argument("names", metavar="[RUN|STUDY]...", nargs=-1)
@click.option("--nodes", required=True, metavar="N,...", help="numbers of nodes")
@click.option("--time", metavar="TIME", default="24h", show_default=True, help="how long the run has them")
@click.option(
    "--rate", type=_SECONDS, metavar="X", help="failures per 1,000 node-days [2, with those that the runs have seen]"
)
@click.option("--save", type=_SECONDS, metavar="S", help="seconds that steps stand still for a save [the runs', or 10]")
@click.option("--write", type=_SECONDS, metavar="S", default=0.0, help="seconds of writing beside the steps [0]")
@click.option(
    "--restart", type=_SECONDS, metavar="S", help="seconds from a failure to the next step [the runs', or 300]"
)
@click.option(
    "--spare-restart", type=_SECONDS, metavar="S", default=60.0, show_default=True, help="the same on a spare node"
)
@runs_option
@form_options("csv", "json")
def survive(names: tuple[str, ...], nodes: str, runs: str | None, form: str | None, **given: Any) -> None:
    """Predict failures, the best interval between checkpoints, goodput and the worth of spares, before submission.

    Failures are taken to come at random (Daly 2006). Of runs that are named, saves, restarts and failures are what they
    measured; what is given here comes first. Published rates: 2.3 to 6.5 failures per 1,000 node-days.
    """
    from hpcsynapse.predict.survive import COLUMNS, Costs, forecasts

    counts = comms.parse_counts("--nodes", nodes, _MAX_RANKS)
    seen = {"rate": PRIOR_RATE, "save": 10.0, "restart": 300.0}
    if names:
        _needs_numpy()
        from hpcsynapse.predict.seen_failures import seen_of

        seen |= seen_of([source for source in sources_of(names, runs)[0] if isinstance(source, RunDirectory)])
    said = {name: value for name, value in given.items() if value is not None}
    duration = parse_walltime(said.pop("time")).total_seconds()
    costs = Costs(duration=duration, **{**seen, **said})
    Output(form).table(forecasts(counts, costs), COLUMNS)


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


def _network(rate: str | None, latency: str | None) -> tuple[float, float] | None:
    """Return bytes/s and seconds of the network that is given, if any."""
    if (rate is None) != (latency is None):
        raise SpecError(
            "--network and --latency belong together; give both, for example --network 100Gbit --latency 2us"
        )
    if rate is None or latency is None:
        return None
    from hpcsynapse.predict.network import parse_latency, parse_rate

    return parse_rate(rate), parse_latency(latency)


def _placed(curve: Curve, ranks_per_node: int | None, network: tuple[float, float] | None) -> Curve:
    """Return a curve with what was said of its nodes and of the network between them."""
    import dataclasses

    from hpcsynapse.predict.network import with_network

    if ranks_per_node is not None and ranks_per_node < curve.ranks_per_node:
        raise SpecError(f"--ranks-per-node {ranks_per_node}: {curve.title} had {curve.ranks_per_node} ranks on a node")
    curve = dataclasses.replace(curve, full_node=ranks_per_node)
    return curve if network is None else with_network(curve, *network)


def _needs_numpy() -> None:
    try:
        import numpy  # noqa: F401
    except ModuleNotFoundError:
        raise SpecError("predictions need numpy, which is not installed; pip install 'hpcsynapse[report]'") from None


def _curves(
    names: Sequence[str], runs: str | None, kind: str, baseline: str | None, collective: str | None
) -> list[Curve]:
    """Return what was measured: the curves of runs and studies, or of a table."""
    from hpcsynapse.predict.measured_curves import of_report, of_table
    from hpcsynapse.report.from_table import table_report
    from hpcsynapse.report.loading import load
    from hpcsynapse.report.scaling import scaling_report
    from hpcsynapse.report.sources import table_of

    if (table := table_of(names)) is not None:
        return of_table(table_report(table, kind, baseline).points, collective, kind)
    sources, meant = sources_of(names, runs)
    with reading():
        loaded = [load(source) for source in sources]
    report = scaling_report(loaded, meant if kind == "auto" else kind, baseline)
    for text in report.warnings:
        warn(text)
    return of_report(report.compared, dict(zip(map(id, loaded), sources, strict=True)), collective)


def _reachable(forecast: Forecast, counts: list[int], are_nodes: bool) -> list[int]:
    """Return the ranks that were asked for, without those of which nothing can be said."""
    from hpcsynapse.predict.forecast import doublings

    curve = forecast.curve
    ranks = [count * curve.ranks_per_node if are_nodes else count for count in counts] or doublings(curve)
    if counts and curve.one_node and curve.network is None:
        _refuse_beyond_node(curve, ranks)
    most = forecast.most if curve.scaling == "strong" and curve.batches_known else math.inf
    for left_out, why in (
        ([count for count in ranks if count < forecast.fewest], "fewer ranks than were measured"),
        ([count for count in ranks if count > most], "more ranks than samples of a global batch"),
    ):
        if left_out and counts:
            click.echo(f"warning: {curve.title}: left out {', '.join(map(str, left_out))}: {why}", err=True)
    return [count for count in ranks if forecast.fewest <= count <= most]


def _refuse_beyond_node(curve: Curve, ranks: list[int]) -> None:
    """Raise SpecError where ranks on other nodes are asked for, whose network nothing is known of."""
    if beyond := [count for count in ranks if count > curve.ranks_per_node]:
        raise SpecError(
            f"{', '.join(map(str, beyond))} ranks need more than one node, but {curve.title} was measured on one node "
            f"of {curve.ranks_per_node} ranks, which tells nothing of the network: measure two nodes too, or give its "
            "data, for example --network 100Gbit --latency 2us (more ranks on that node: --ranks-per-node)"
        )
