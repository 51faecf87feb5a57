"""`hpcsynapse report`: speedup and efficiency of runs, or of a table of measured figures; samples to an accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcsynapse.errors import SpecError
from hpcsynapse.rundir import RunDirectory

if TYPE_CHECKING:
    from hpcsynapse.report.convergence import ConvergencePoint
    from hpcsynapse.report.dual import DualPoint
    from hpcsynapse.report.scaling import Report
    from hpcsynapse.study.folder import StudyDirectory

_BY_SUFFIX = {".csv": "csv", ".json": "json", ".md": "markdown"}


@click.command()
@click.argument("names", metavar="RUN|STUDY... | TABLE.csv", nargs=-1, required=True)
@click.option("--runs", default="runs", show_default=True, envvar="HPCSYNAPSE_RUNS", help="Folder of the runs.")
@click.option("--csv", "form", flag_value="csv", help="CSV with all columns in full precision.")
@click.option("--json", "form", flag_value="json", help="The same as JSON.")
@click.option("--markdown", "form", flag_value="markdown", help="A Markdown table, rounded.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write to this file; .csv, .json and .md choose the form.")
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
@click.option("--traffic", is_flag=True, help="Report bytes that every node sent and received, instead.")
@click.option("--dual", is_flag=True, help="Report what halves of dual nets (admm) did, beside other runs, instead.")
@click.option("--memory-limit", metavar="SIZE", help="With --dual: the largest batches that fit this memory, e.g. 16G.")
def command(
    names: tuple[str, ...], runs: str, form: str | None, out: str | None, target: float | None, traffic: bool,
    dual: bool, memory_limit: str | None, **how: Any,
) -> None:
    """Report how well runs scaled: step time, throughput, speedup and efficiency.

    RUN is the name or folder of a run, or a folder of record files; STUDY stands for all of its runs that have
    finished. TABLE.csv holds figures measured elsewhere: columns ranks or gpus, nodes, one of epoch_time_s,
    train_time_h, steps_per_s, images_per_s; optional strategy, batch, model.
    """
    from hpcsynapse.report.tables import CONVERGENCE, SCALING, WRITERS
    from hpcsynapse.rundir import write_atomic

    chosen = form or (_BY_SUFFIX.get(Path(out).suffix, "text") if out else "text")
    if traffic:
        from hpcsynapse.report.tables import TRAFFIC
        from hpcsynapse.report.traffic import traffic as of_nodes

        text = WRITERS[chosen](of_nodes(sources_of(names, Path(runs))[0]), TRAFFIC)
    elif dual or memory_limit:
        from hpcsynapse.report.tables import DUAL

        text = WRITERS[chosen](_dual(names, Path(runs), memory_limit), DUAL)
    elif target is None:
        report = scaling(names, Path(runs), **how)
        for warning in report.warnings:
            click.echo(f"warning: {warning}", err=True)
        for hint in report.hints if chosen == "text" else ():
            click.echo(f"hint: {hint}", err=True)
        text = WRITERS[chosen](report.points, SCALING)
    else:
        text = WRITERS[chosen](_convergence(names, Path(runs), target, **how), CONVERGENCE)
    if not out:
        click.echo(text, nl=False)
        return
    try:
        write_atomic(Path(out), text)
    except OSError as error:
        raise SpecError(f"--out {out}: {error.strerror or error}") from None


def scaling(names: Sequence[str], runs: Path, scaling: str = "auto", baseline: str | None = None) -> Report:
    """Return the scaling report of runs and studies, or of a table."""
    table = table_of(names)
    if table is None:
        from hpcsynapse.report.advice import advice
        from hpcsynapse.report.load import load
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


def table_of(names: Sequence[str]) -> Path | None:
    """Return the table that is named, or None for runs; raises SpecError for a table among others."""
    tables = [name for name in names if name.endswith(".csv") and not Path(name).is_dir()]
    if not tables:
        return None
    if len(names) > 1:
        raise SpecError(f"a table is reported alone, not together with {next(n for n in names if n != tables[0])!r}")
    return Path(tables[0])


def _convergence(
    names: Sequence[str], runs: Path, target: float, scaling: str, baseline: str | None
) -> list[ConvergencePoint]:
    if scaling != "auto" or baseline is not None:
        raise SpecError("--target compares no rank counts; leave --scaling and --baseline out")
    from hpcsynapse.report.convergence import convergence_report
    from hpcsynapse.report.load import load

    sources, _ = sources_of(names, runs)
    for source in sources:
        if not isinstance(source, RunDirectory):
            raise SpecError(f"{source} is a folder of step records without a learning curve; give the run")
    return convergence_report(((run, load(run)) for run in sources if isinstance(run, RunDirectory)), target)


def _dual(names: Sequence[str], runs: Path, limit: str | None) -> list[DualPoint]:
    from hpcsynapse.report.dual import dual_report
    from hpcsynapse.units import parse_mebibytes

    sources, _ = sources_of(names, runs)
    found = [source for source in sources if isinstance(source, RunDirectory)]
    return dual_report(found, None if limit is None else parse_mebibytes(limit) << 20)


def sources_of(names: Sequence[str], runs: Path) -> tuple[list[RunDirectory | Path], str]:
    """Return runs and folders of records, each once, and the kind of scaling where studies say it, else auto."""
    from hpcsynapse.report.load import find_records
    from hpcsynapse.study.folder import StudyDirectory

    found: dict[Path, RunDirectory | Path] = {}
    kinds = set()
    for name in names:
        study = StudyDirectory.at(runs, name)
        chosen, kind = ([find_records(runs, name)], "auto") if study is None else _of_study(study)
        kinds.add(kind)
        found.update({one.path if isinstance(one, RunDirectory) else one: one for one in chosen})
    return list(found.values()), kinds.pop() if len(kinds) == 1 else "auto"


def _of_study(study: StudyDirectory) -> tuple[list[RunDirectory | Path], str]:
    """Return the runs of a study that have finished, with a warning about others, and its kind of scaling."""
    from hpcsynapse.study.folder import has_finished

    lists, base = study.load()
    made = study.runs()
    finished: list[RunDirectory | Path] = [run for run in made if has_finished(run)]
    if left_out := [run.name for run in made if run not in finished]:
        click.echo(f"warning: left out, as they have not finished: {', '.join(left_out)}", err=True)
    if not finished:
        raise SpecError(f"no run of study {study.name} has finished yet")
    return finished, "auto" if base.command else lists.scaling
