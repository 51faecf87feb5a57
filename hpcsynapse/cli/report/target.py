"""`hpcsynapse report target`: samples and time until an accuracy, or another metric, was reached."""

from __future__ import annotations

import click

from hpcsynapse.cli.report.runs import runs_argument, sources_of
from hpcsynapse.cli.tables import Output, table_options
from hpcsynapse.errors import SpecError
from hpcsynapse.runs.directory import RunDirectory


@click.command()
@click.argument("target", metavar="ACCURACY|'METRIC>=X'")
@runs_argument
@table_options
def command(target: str, names: tuple[str, ...], runs: str | None, output: Output) -> None:
    """Report how many samples and how much time runs took until a validation reached a target.

    ACCURACY is a fraction such as 0.95; 'METRIC>=X' and 'METRIC<=X' take any metric of the validations: top5_accuracy,
    f1, loss, mae, or one of the model's own. Numbers are as fine as the runs were validated (train.validate_every).
    """
    from hpcsynapse.report.convergence import COLUMNS, Target, convergence_report

    wanted = Target.parse(target)
    sources, _ = sources_of(names, runs)
    from hpcsynapse.report.loading import load

    for source in sources:
        if not isinstance(source, RunDirectory):
            raise SpecError(f"{source} is a folder of step records without a learning curve; give the run")
    pairs = ((run, load(run)) for run in sources if isinstance(run, RunDirectory))
    output.table(convergence_report(pairs, wanted), COLUMNS)
