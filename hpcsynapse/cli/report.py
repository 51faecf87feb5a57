"""`hpcsynapse report`: speedup and efficiency of runs, or of a table of measured figures, and what explains them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcsynapse.errors import SpecError
from hpcsynapse.rundir import RunDirectory

if TYPE_CHECKING:
    from hpcsynapse.report.dual import DualPoint
    from hpcsynapse.report.points import Point
    from hpcsynapse.report.scaling import Report

_BY_SUFFIX = {".csv": "csv", ".json": "json", ".md": "markdown", ".tex": "latex"}


@click.command()
@click.argument("names", metavar="RUN|STUDY... | TABLE.csv", nargs=-1)
@click.option("--runs", default="runs", show_default=True, envvar="HPCSYNAPSE_RUNS", help="Folder of the runs.")
@click.option("--csv", "form", flag_value="csv", help="CSV with all columns in full precision.")
@click.option("--json", "form", flag_value="json", help="The same as JSON.")
@click.option("--markdown", "form", flag_value="markdown", help="A Markdown table, rounded.")
@click.option("--latex", "form", flag_value="latex", help="A LaTeX table (package booktabs), rounded.")
@click.option("--out", type=click.Path(dir_okay=False), help="A file; .csv, .json, .md and .tex choose the form.")
@click.option("--plots", metavar="DIR", help="Also draw all plots that the runs allow, as PNG and SVG.")
@click.option("--html", metavar="FILE", help="Also write table, plots, why and slow ranks as one self-contained page.")
@click.option(
    "--scaling",
    type=click.Choice(["auto", "strong", "weak"]),
    default="auto",
    show_default=True,
    help="strong: equal global batch; weak: equal batch per rank.",
)
@click.option(
    "--baseline",
    metavar="RUN|RANKS|STRATEGY",
    help="What to compare with [single, else the fewest ranks of the same strategy].",
)
@click.option(
    "--target", type=float, metavar="ACCURACY", help="Report samples and time to this accuracy, a fraction, instead."
)
@click.option(
    "--against", metavar="NAME", help="Published figures beside: bk-synapse, minotauro, horovod, goyal, tensorflow."
)
@click.option("--why", is_flag=True, help="Report where rank-seconds were lost from one number of ranks to the next.")
@click.option("--stragglers", is_flag=True, help="Report every rank's time before the collective, and which are slow.")
@click.option("--slow-hosts", is_flag=True, help="Report the hosts of these runs, else of the last 30 days.")
@click.option("--table", type=click.Choice(["batch", "modes", "models"]), help="A table as published: training time by "
              "batch and set-up; steps/s, error and hours by strategy; images/s by model.")  # fmt: skip
@click.option("--traffic", is_flag=True, help="Report bytes that every node sent and received, instead.")
@click.option("--dual", is_flag=True, help="Report what halves of dual nets (admm) did, beside other runs, instead.")
@click.option("--memory-limit", metavar="SIZE", help="With --dual: the largest batches that fit this memory, e.g. 16G.")
def command(
    names: tuple[str, ...], runs: str, form: str | None, out: str | None, plots: str | None, html: str | None,
    target: float | None, memory_limit: str | None, against: str | None, table: str | None, **how: Any,
) -> None:  # fmt: skip
    """Report how well runs scaled: step time, throughput, speedup and efficiency.

    RUN is the name or folder of a run, or a folder of record files; STUDY stands for all of its runs that have
    finished. TABLE.csv holds figures measured elsewhere: columns ranks or gpus, nodes, one of epoch_time_s,
    train_time_h, steps_per_s, images_per_s; optional strategy, batch, model.
    """
    instead = {"target": target is not None, "dual": bool(how.pop("dual") or memory_limit), "table": bool(table),
               **{name: how.pop(name) for name in ("why", "stragglers", "slow_hosts", "traffic")},
               "against": against is not None}  # fmt: skip
    kind = _only(instead)
    if not names and kind != "slow_hosts":
        raise click.UsageError("Missing argument 'RUN|STUDY... | TABLE.csv'.")
    if (plots or html) and kind not in ("", "why", "table", "against"):
        raise SpecError(f"--plots and --html go with the scaling report; leave --{kind.replace('_', '-')} out")
    chosen = form or (_BY_SUFFIX.get(Path(out).suffix, "text") if out else "text")
    if kind in ("", "why", "table", "against"):
        report = scaling(names, Path(runs), **how)
        for warning in report.warnings:
            click.echo(f"warning: {warning}", err=True)
        for hint in report.hints if chosen == "text" else ():
            click.echo(f"hint: {hint}", err=True)
        text = _of_report(report, kind, chosen, against, table, how["baseline"] is not None)
        if plots or html:
            _draw(report, names, plots, html, how["baseline"] is not None)
    elif kind == "target":
        text = _convergence(names, Path(runs), chosen, target or 0.0, **how)
    else:
        text = _of_runs(kind, names, Path(runs), chosen, memory_limit)
    if out:
        _write(Path(out), text, "--out")
    else:
        click.echo(text, nl=False)


def _only(asked: dict[str, bool]) -> str:
    """Return the one report that was asked for in place of the scaling report, else an empty text."""
    found = [name for name, wanted in asked.items() if wanted]
    if len(found) > 1:
        first, second = (f"--{name.replace('_', '-')}" for name in found[:2])
        raise SpecError(f"{first} and {second} are different reports; ask for one at a time")
    return found[0] if found else ""


def _write(path: Path, text: str, option: str) -> None:
    from hpcsynapse.rundir import write_atomic

    try:
        write_atomic(path, text)
    except OSError as error:
        raise SpecError(f"{option} {path}: {error.strerror or error}") from None


def _of_report(
    report: Report, kind: str, form: str, against: str | None, table: str | None, from_baseline: bool
) -> str:  # fmt: skip
    """Return the scaling report, or what else is made of its points."""
    from hpcsynapse.report.tables import SCALING, WRITERS

    if kind in ("why", "table") and not report.compared:
        raise SpecError(f"--{kind} needs step records of runs; a table of figures has none")
    if kind == "why":
        return _why(report, form, from_baseline)
    if table:
        from hpcsynapse.report.publication import TABLES

        return WRITERS[form](*TABLES[table](report.compared))
    return WRITERS[form](report.points, SCALING) if against is None else _beside(report, against, form)


def _why(report: Report, form: str, from_baseline: bool) -> str:
    from hpcsynapse.report import why
    from hpcsynapse.report.layouts import WHY
    from hpcsynapse.report.tables import WRITERS

    losses = why.losses(report.compared, from_baseline)
    if not losses:
        raise SpecError("there is nothing to compare: --why needs runs with different numbers of ranks")
    if form == "text":
        return why.to_text(losses, _slow_ranks)
    return WRITERS[form]([row for loss in losses for row in loss.rows()], WHY)


def _slow_ranks(point: Point) -> list[str]:
    from hpcsynapse.report.stragglers import rank_times

    return [f"{one.run}: {one.sentence()}" for measured in point.repeats for one in rank_times(measured.run)
            if one.slow]  # fmt: skip


def _draw(report: Report, names: Sequence[str], plots: str | None, html: str | None, from_baseline: bool) -> None:
    """Draw the plots of a report; write them as files, and the page with them."""
    from hpcsynapse.report.stragglers import rank_times
    from hpcsynapse.report.why import losses

    try:
        from hpcsynapse.report.page import page
        from hpcsynapse.report.plots.draw import draw, write
    except ImportError as error:
        raise SpecError(f"plots need matplotlib ({error}); pip install 'hpcsynapse[report]'") from None
    lost = losses(report.compared, from_baseline)
    drawn = draw(report, lost)
    if plots:
        try:
            written = write(drawn, Path(plots))
        except OSError as error:
            raise SpecError(f"--plots {plots}: {error.strerror or error}") from None
        click.echo(f"drawn: {', '.join(path.name for path in written)} in {plots}", err=True)
    if html:
        ranks = [one for every in report.compared for point in every.points for measured in point.repeats
                 for one in rank_times(measured.run)]  # fmt: skip
        _write(Path(html), page(", ".join(names), report, lost, ranks, drawn), "--html")


def _of_runs(kind: str, names: Sequence[str], runs: Path, form: str, memory_limit: str | None) -> str:
    """Return what is said of runs one by one, or of their hosts."""
    from hpcsynapse.report import tables

    if kind in ("stragglers", "slow_hosts"):
        return _of_ranks(kind, names, runs, form)
    sources, _ = sources_of(names, runs)
    if kind == "traffic":
        from hpcsynapse.report.traffic import traffic

        return tables.WRITERS[form](traffic(sources), tables.TRAFFIC)
    return tables.WRITERS[form](_dual(sources, memory_limit), tables.DUAL)


def _of_ranks(kind: str, names: Sequence[str], runs: Path, form: str) -> str:
    from hpcsynapse.report import hosts, layouts
    from hpcsynapse.report.loading import load
    from hpcsynapse.report.stragglers import rank_times
    from hpcsynapse.report.tables import WRITERS

    sources = sources_of(names, runs)[0] if names else hosts.runs_of(runs)
    rows: list[Any] = hosts.host_times(sources) if kind == "slow_hosts" else []
    if kind == "stragglers":
        rows = [one for run in sources for one in rank_times(load(run))]
    if not rows:
        click.echo("no run has ranks that can be compared with one another", err=True)
    return WRITERS[form](rows, layouts.HOSTS if kind == "slow_hosts" else layouts.RANKS)


def scaling(names: Sequence[str], runs: Path, scaling: str = "auto", baseline: str | None = None) -> Report:
    """Return the scaling report of runs and studies, or of a table."""
    from hpcsynapse.report.sources import table_of

    table = table_of(names)
    if table is None:
        from hpcsynapse.report.advice import advice
        from hpcsynapse.report.loading import load
        from hpcsynapse.report.scaling import scaling_report

        sources, meant = sources_of(names, runs)
        loaded = [load(source) for source in sources]
        report = scaling_report(loaded, meant if scaling == "auto" else scaling, baseline)
        report.hints = [hint for run in loaded if (hint := advice(run))]
        if halved := [run.about.name for run in loaded if run.about.strategy.startswith("admm")]:
            report.hints.append(f"{', '.join(halved)}: two halves of a network; --dual shows what each did")
        return report
    from hpcsynapse.report.from_table import table_report

    return table_report(table, scaling, baseline)


def _beside(report: Report, name: str, form: str) -> str:
    """Return the table of one's own points with published ones below, and cite these on stderr."""
    from hpcsynapse.report.published import own, published
    from hpcsynapse.report.tables import COMPARED, WRITERS

    citation, points = published(name)
    click.echo(f"published: {citation}", err=True)
    return WRITERS[form]([*own(report.points), *points], COMPARED)


def _convergence(
    names: Sequence[str], runs: Path, form: str, target: float, scaling: str, baseline: str | None
) -> str:  # fmt: skip
    if scaling != "auto" or baseline is not None:
        raise SpecError("--target compares no rank counts; leave --scaling and --baseline out")
    from hpcsynapse.report.convergence import convergence_report
    from hpcsynapse.report.loading import load
    from hpcsynapse.report.tables import CONVERGENCE, WRITERS

    sources, _ = sources_of(names, runs)
    for source in sources:
        if not isinstance(source, RunDirectory):
            raise SpecError(f"{source} is a folder of step records without a learning curve; give the run")
    pairs = ((run, load(run)) for run in sources if isinstance(run, RunDirectory))
    return WRITERS[form](convergence_report(pairs, target), CONVERGENCE)


def _dual(sources: Sequence[RunDirectory | Path], limit: str | None) -> list[DualPoint]:
    from hpcsynapse.report.dual import dual_report
    from hpcsynapse.units import parse_mebibytes

    found = [source for source in sources if isinstance(source, RunDirectory)]
    return dual_report(found, None if limit is None else parse_mebibytes(limit) << 20)


def sources_of(names: Sequence[str], runs: Path) -> tuple[list[RunDirectory | Path], str]:
    """Return runs and folders of records and their kind of scaling, with a warning about unfinished ones."""
    from hpcsynapse.report import sources

    return sources.sources_of(names, runs, lambda text: click.echo(f"warning: {text}", err=True))
