"""Several runs of a study in one job: the tasks of a job array, or one after another in one allocation.

Every run has its own run directory and job file all the same. What such a job asks its queue for is read from those
job files, so that a site's own templates hold here too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from hpcsynapse import __version__
from hpcsynapse.errors import SpecError
from hpcsynapse.files import write_atomic
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.schedulers import create
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.study.folder import StudyDirectory
from hpcsynapse.study.plan import Point
from hpcsynapse.study.prepare import ReadyPoint
from hpcsynapse.submission import render
from hpcsynapse.submission import submit as submission
from hpcsynapse.submission.enqueue import Queued, enqueue
from hpcsynapse.templating import fill
from hpcsynapse.units import counted, format_walltime

_MARGIN, _MARGIN_EACH = 60.0, 5.0  # seconds of an allocation beyond the limits of its runs


def directives(job_file: str, scheduler: str) -> tuple[str, ...]:
    """Return the lines by which a job file asks for resources: all directives but those of its name and log."""
    queue = create(scheduler)
    body = itertools.takewhile(lambda line: not line or line.startswith("#"), job_file.splitlines())
    own = tuple(queue.directive + option for option in queue.own_directives)
    return tuple(line for line in body if line.startswith(queue.directive) and not line.startswith(own))


def arrays(points: Sequence[ReadyPoint], chain: bool) -> list[list[ReadyPoint]]:
    """Return the runs of each array: those that ask for the same, since all tasks of an array do.

    Chained ones keep the order of the study, so that a repeat ends before the next begins.
    """
    if not points:
        return []
    queue = create(points[0].spec.queue.scheduler)
    asked = {point.name: directives(point.prepared.job_file, queue.name) for point in points}
    kinds = {header: number for number, header in enumerate(dict.fromkeys(asked.values()))}

    def kind(point: ReadyPoint) -> tuple[int, int]:
        return (point.repeat if chain and len(kinds) > 1 else 0, kinds[asked[point.name]])

    groups = [list(group) for _, group in itertools.groupby(sorted(points, key=kind), kind)]
    return [group[at : at + queue.max_tasks] for group in groups for at in range(0, len(group), queue.max_tasks)]


def allocation(points: Sequence[Point], budget: float | None) -> JobSpec:
    """Return the job that has room for every run, and time for all of them or as long as the node-hours last.

    Raises SpecError when these end before the shortest run could.
    """
    largest = max(points, key=lambda point: point.spec.allocated_nodes).spec
    nodes = largest.allocated_nodes
    limits = [point.spec.resources.walltime.total_seconds() for point in points]
    seconds = sum(limits) + _MARGIN + _MARGIN_EACH * len(limits)
    if budget is not None and budget * 3600 / nodes < seconds:
        seconds = budget * 3600 / nodes
        if seconds < min(limits):
            raise SpecError(
                f"{budget:g} node-hours of the budget are {seconds:.0f} s on {nodes} nodes, but the "
                f"shortest run may take {min(limits):.0f} s; give more, or a smaller --time"
            )
    every = [point.spec.resources for point in points]
    gpus, ranks = max(one.gpus for one in every), max(one.local_size for one in every)
    ranks = -(-ranks // gpus) * gpus if gpus else ranks
    cpus = max((one.cpus or 0) * one.local_size for one in every)
    signal = render.stop_signal(largest)
    return JobSpec(
        name=largest.name,
        command=("true",),
        workdir=largest.workdir,
        site=largest.site,
        launch=LaunchOptions(launcher=create(largest.queue.scheduler).preferred[-1]),
        queue=replace(largest.queue, signal=signal["value"] if signal else None),
        resources=replace(
            largest.resources,
            nodes=nodes,
            time=format_walltime(timedelta(seconds=int(seconds))),
            ranks_per_node=ranks,
            gpus=gpus,
            cpus=-(-cpus // ranks) or None,
        ),
    )


def queue_arrays(
    study: StudyDirectory, points: Sequence[ReadyPoint], chain: bool, after: str | None, say: Callable[[str], None]
) -> list[RunDirectory]:
    """Hand all runs to the queue as job arrays; chained, one task goes at a time. Raises SubmitError."""
    queued: list[RunDirectory] = []
    for group in arrays(points, chain):
        spec, text = group[0].spec, group[0].prepared.job_file
        runs = [point.prepared.at(study.runs_path / point.name).write()[0] for point in group]
        script = _write(study, "array", spec, runs, directives=directives(text, spec.queue.scheduler), chain=chain)
        done = enqueue(runs, spec, script, after if chain else None, array=True)
        job_ids = done.job_ids
        _tell(done, say)
        say(f"{counted(len(runs), 'run')}  array {job_ids[0].partition('_')[0]}")
        queued, after = queued + runs, job_ids[0].partition("_")[0]
    return queued


def queue_packed(
    study: StudyDirectory,
    points: Sequence[ReadyPoint],
    budget: float | None,
    after: str | None,
    say: Callable[[str], None],
) -> list[RunDirectory]:
    """Hand all runs to the queue as one job; raises SubmitError, and SpecError for a budget that is too small."""
    if not points:
        return []
    spec = allocation(points, budget)
    text = render.render(spec, study.jobs)
    runs = [point.prepared.at(study.runs_path / point.name).write()[0] for point in points]
    seconds = int(spec.resources.walltime.total_seconds())
    script = _write(
        study,
        "packed",
        spec,
        runs,
        directives=directives(text, spec.queue.scheduler),
        program_line=render.tool("packed", str(study.runs_path), str(seconds)),
    )
    done = enqueue(runs, spec, script, after, allocation_nodes=spec.resources.nodes)
    job_id = done.job_ids[0]
    _tell(done, say)
    size = f"{counted(spec.resources.nodes, 'node')} for {spec.resources.time}"
    say(f"{counted(len(runs), 'run')}  job {job_id}  {size}")
    return runs


def _tell(done: Queued, say: Callable[[str], None]) -> None:
    for note in submission.notes(done):
        say(note)


def _write(study: StudyDirectory, jobs: str, spec: JobSpec, runs: Iterable[RunDirectory], **names: object) -> Path:
    script = study.new_job_file(jobs)
    template = create(spec.queue.scheduler).shared_job_template(jobs)
    text = fill(
        template,
        spec.site.template_dir,
        version=__version__,
        name=study.name,
        points=str(study.runs_path),
        runs=[run.name for run in runs],
        log=str(script.with_suffix(".log")),
        **names,
    )
    write_atomic(script, text)
    return script
