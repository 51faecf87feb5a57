"""`hpcsynapse submit`."""

from __future__ import annotations

import json
from typing import Any

import click

from hpcsynapse.cli.options import SectionedCommand, description_options, load_description
from hpcsynapse.errors import SpecError


@click.command(cls=SectionedCommand)
@click.option("-f", "--follow", is_flag=True, help="stay and show progress until the run has ended")
@click.option("--resume-run", metavar="RUN", help="queue an ended run again; training continues in its directory")
@click.option("--json", "as_json", is_flag=True, help="print run, job id and directory as JSON")
@description_options
def command(follow: bool, resume_run: str | None, as_json: bool, **given: Any) -> None:
    """Queue a run: the built-in trainer, or your own program behind `--`.

    Prints the run's name and job id. Every option is also a setting of RUN.toml, of hpcsynapse.toml and of the
    site file; the command line wins.
    """
    from hpcsynapse import checks, submission
    from hpcsynapse.rundir import RunDirectory

    runs = submission.runs_folder(given["runs"])
    if resume_run:
        if typed := [name for name, value in given.items() if name != "runs" and value not in (None, ())]:
            raise SpecError(f"--resume-run takes the description of the run; leave {typed[0].split('__')[-1]!r} out")
        done = submission.resubmit(RunDirectory.find(runs, resume_run))
    else:
        spec = submission.resolve(load_description(given), runs)
        for finding in checks.require(checks.run_checks(spec, runs)):
            if finding.level == "warning":
                click.echo(f"hpcsynapse: {finding.subject}: {finding.message}", err=True)
        done = submission.submit_checked(spec, runs)
    if as_json:
        click.echo(json.dumps({"run": done.run.name, "job_id": done.job_id, "path": str(done.run.path)}))
    else:
        click.echo(f"run {done.run.name}  job {done.job_id}  {done.run.path}")
    if follow:
        from hpcsynapse.cli.progress import follow as follow_run

        click.get_current_context().exit(follow_run(done.run, to_stderr=as_json))
