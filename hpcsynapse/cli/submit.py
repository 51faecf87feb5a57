"""`hpcsynapse submit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcsynapse.cli.options import SectionedCommand, description_options, json_option, load_description
from hpcsynapse.errors import SpecError
from hpcsynapse.runs.find import runs_folder

if TYPE_CHECKING:
    from hpcsynapse.spec.job import JobSpec
    from hpcsynapse.submission.submit import Submission


@click.command(cls=SectionedCommand)
@click.option("-f", "--follow", is_flag=True, help="stay and show progress until the run has ended")
@click.option("--resume-run", metavar="RUN", hidden=True)  # the name of `resume` of old
@click.option("--exclude-slow", is_flag=True, help="leave out the hosts that `report hosts` names")
@json_option("print run, job id and directory as JSON")
@description_options
def command(follow: bool, resume_run: str | None, exclude_slow: bool, as_json: bool, **given: Any) -> None:
    """Queue a run: the built-in trainer, or your own program behind `--`.

    \b
    hpcsynapse submit --nodes 2 --gpus 4 -- python train.py
    hpcsynapse submit --nodes 2 --gpus 4 --model resnet50 --epochs 90 --follow
    hpcsynapse submit run.toml --time 4h

    Prints the run's name and job id. Every option is also a setting of RUN.toml, of hpcsynapse.toml and of the
    site file; the command line wins.
    """
    from hpcsynapse.study.folder import find_run
    from hpcsynapse.submission import submit as submission
    from hpcsynapse.submission.prepare import prepare, told

    runs = runs_folder(given["runs"])
    if resume_run:
        also = {**given, "exclude-slow": exclude_slow or None}
        if typed := [name for name, value in also.items() if name != "runs" and value not in (None, ())]:
            raise SpecError(
                f"--resume-run takes the description of the run; leave {typed[0].split('__')[-1]!r} out, or queue it "
                f"anew: hpcsynapse submit {runs / resume_run / 'run.toml'} with it"
            )
        done = submission.resubmit(find_run(runs, resume_run))
    else:
        spec = load_description(given)
        prepared = prepare(_without_slow_hosts(spec, runs) if exclude_slow else spec, runs)
        for line in told(prepared.findings):
            click.echo(f"hpcsynapse: {line}", err=True)
        done = submission.submit_prepared(prepared)
    finish(done, follow, as_json)


def finish(done: Submission, follow: bool, as_json: bool) -> None:
    """Say what was queued, stay where that is wanted, and tell what can be typed next."""
    for note in done.notes:
        click.echo(f"hpcsynapse: {note}", err=True)
    run = done.run
    if as_json:
        click.echo(json.dumps({"run": run.name, "job_id": done.job_id, "path": str(run.path)}))
    else:
        click.echo(f"run {run.name}  job {done.job_id}  {run.path}")
    if follow:
        from hpcsynapse.cli.progress import follow as follow_run

        click.get_current_context().exit(follow_run(run, to_stderr=as_json))
    elif not as_json:
        click.echo(f"see: hpcsynapse status {run.name}; hpcsynapse logs -f {run.name}", err=True)


def _without_slow_hosts(spec: JobSpec, runs: Path) -> JobSpec:
    """Return the description with the hosts excluded that the runs of this folder show to be slow."""
    from hpcsynapse.report.hosts import slow_hosts
    from hpcsynapse.schedulers import create
    from hpcsynapse.submission.resolve import with_queue

    spec = with_queue(spec)
    queue = create(spec.queue.scheduler)
    if "queue.exclude" in queue.lacks:
        raise SpecError(f"--exclude-slow: {queue.name} cannot be told to leave out hosts; leave the option out")
    found = slow_hosts(runs, queue.name)
    for one in found:
        click.echo(f"hpcsynapse: leaves out {one.host}: slow in {one.slow_runs} of {one.runs} runs", err=True)
    hosts = dict.fromkeys((*spec.queue.exclude, *(one.host for one in found)))
    return spec.with_("queue", exclude=tuple(hosts))
