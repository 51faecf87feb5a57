"""`hpcsynapse report`: speedup and efficiency of runs, or of a table of measured figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcsynapse.errors import SpecError

if TYPE_CHECKING:
    from hpcsynapse.report.scaling import Report

_BY_SUFFIX = {".csv": "csv", ".json": "json", ".md": "markdown"}


@click.command()
@click.argument("names", metavar="RUN... | TABLE.csv", nargs=-1, required=True)
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
@click.option("--baseline", metavar="RUN|RANKS", help="What to compare with [single, else the fewest ranks].")
def command(
    names: tuple[str, ...], runs: str, form: str | None, out: str | None, scaling: str, baseline: str | None
) -> None:
    """Report how well runs scaled: step time, throughput, speedup and efficiency.

    RUN is the name or folder of a run, or a folder of record files. TABLE.csv holds figures measured elsewhere: columns
    ranks or gpus, nodes, one of epoch_time_s, train_time_h, steps_per_s, images_per_s; optional strategy, batch, model.
    """
    from hpcsynapse.report.tables import WRITERS
    from hpcsynapse.rundir import write_atomic

    report = _report(names, Path(runs), scaling, baseline)
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    chosen = form or (_BY_SUFFIX.get(Path(out).suffix, "text") if out else "text")
    text = WRITERS[chosen](report.points)
    if not out:
        click.echo(text, nl=False)
        return
    try:
        write_atomic(Path(out), text)
    except OSError as error:
        raise SpecError(f"--out {out}: {error.strerror or error}") from None


def _report(names: tuple[str, ...], runs: Path, scaling: str, baseline: str | None) -> Report:
    tables = [name for name in names if name.endswith(".csv") and not Path(name).is_dir()]
    if not tables:
        from hpcsynapse.report.load import find_records, load
        from hpcsynapse.report.scaling import scaling_report

        sources = [find_records(runs, name) for name in dict.fromkeys(names)]
        return scaling_report((load(source) for source in sources), scaling, baseline)
    if len(names) > 1:
        raise SpecError(f"a table is reported alone, not together with {next(n for n in names if n != tables[0])!r}")
    from hpcsynapse.report.from_table import table_report

    return table_report(Path(tables[0]), scaling, baseline)
