"""`hpcsynapse submit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcsynapse.cli.options import SectionedCommand, description_options, load_description
from hpcsynapse.errors import SpecError

if TYPE_CHECKING:
    from hpcsynapse.spec import JobSpec


@click.command(cls=SectionedCommand)
@click.option("-f", "--follow", is_flag=True, help="stay and show progress until the run has ended")
@click.option("--resume-run", metavar="RUN", help="queue an ended run again; training continues in its directory")
@click.option("--exclude-slow", is_flag=True, help="leave out the hosts that `report --slow-hosts` names")
@click.option("--json", "as_json", is_flag=True, help="print run, job id and directory as JSON")
@description_options
def command(follow: bool, resume_run: str | None, exclude_slow: bool, as_json: bool, **given: Any) -> None:
    """Queue a run: the built-in trainer, or your own program behind `--`.

    Prints the run's name and job id. Every option is also a setting of RUN.toml, of hpcsynapse.toml and of the
    site file; the command line wins.
    """
    from hpcsynapse import checks, submission
    from hpcsynapse.rundir import RunDirectory

    runs = submission.runs_folder(given["runs"])
    if resume_run:
        also = {**given, "exclude-slow": exclude_slow or None}
        if typed := [name for name, value in also.items() if name != "runs" and value not in (None, ())]:
            raise SpecError(f"--resume-run takes the description of the run; leave {typed[0].split('__')[-1]!r} out")
        done = submission.resubmit(RunDirectory.find(runs, resume_run))
    else:
        spec = submission.resolve(load_description(given), runs)
        spec = _without_slow_hosts(spec, runs) if exclude_slow else spec
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


def _without_slow_hosts(spec: JobSpec, runs: Path) -> JobSpec:
    """Return the description with the hosts excluded that the runs of this folder show to be slow."""
    from hpcsynapse.report.hosts import slow_hosts
    from hpcsynapse.schedulers import create

    queue = create(spec.queue.scheduler)
    if "queue.exclude" in queue.lacks:
        raise SpecError(f"--exclude-slow: {queue.name} cannot be told to leave out hosts; leave the option out")
    found = slow_hosts(runs, queue.name)
    for one in found:
        click.echo(f"hpcsynapse: leaves out {one.host}: slow in {one.slow_runs} of {one.runs} runs", err=True)
    hosts = dict.fromkeys((*spec.queue.exclude, *(one.host for one in found)))
    return spec.with_("queue", exclude=tuple(hosts))
