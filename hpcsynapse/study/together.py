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

from hpcsynapse import __version__, render, submission
from hpcsynapse.errors import SpecError
from hpcsynapse.rundir import RunDirectory, write_atomic
from hpcsynapse.schedulers import create
from hpcsynapse.spec import JobSpec, LaunchOptions
from hpcsynapse.study.folder import StudyDirectory
from hpcsynapse.study.plan import Point
from hpcsynapse.units import format_walltime

MAX_TASKS = 1000  # of an array; MaxArraySize is 1001 unless a site has changed it (slurm.conf(5))
_MARGIN, _MARGIN_EACH = 60.0, 5.0  # seconds of an allocation beyond the limits of its runs
_OWN = ("--job-name=", "--output=", "--open-mode=")  # directives that each job file has of its own


def directives(job_file: str) -> tuple[str, ...]:
    """Return the lines by which a job file asks for resources: all directives but those of its name and log."""
    body = itertools.takewhile(lambda line: not line or line.startswith("#"), job_file.splitlines())
    found = (line.removeprefix("#SBATCH ") for line in body if line.startswith("#SBATCH "))
    return tuple(f"#SBATCH {line}" for line in found if not line.startswith(_OWN))


def arrays(points: Sequence[Point], folder: Path, chain: bool) -> list[list[Point]]:
    """Return the runs of each array: those that ask for the same, since all tasks of an array do.

    Chained ones keep the order of the study, so that a repeat ends before the next begins.
    """
    asked = {point.name: directives(render.render(point.spec, folder / point.name)) for point in points}
    kinds = {header: number for number, header in enumerate(dict.fromkeys(asked.values()))}

    def kind(point: Point) -> tuple[int, int]:
        return (point.repeat if chain and len(kinds) > 1 else 0, kinds[asked[point.name]])

    groups = [list(group) for _, group in itertools.groupby(sorted(points, key=kind), kind)]
    return [group[at : at + MAX_TASKS] for group in groups for at in range(0, len(group), MAX_TASKS)]


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
            raise SpecError(f"{budget:g} node-hours of the budget are {seconds:.0f} s on {nodes} nodes, but the "
                            f"shortest run may take {min(limits):.0f} s; give more, or a smaller --time")  # fmt: skip
    every = [point.spec.resources for point in points]
    gpus, ranks = max(one.gpus for one in every), max(one.local_size for one in every)
    ranks = -(-ranks // gpus) * gpus if gpus else ranks
    cpus = max((one.cpus or 0) * one.local_size for one in every)
    signal = render.stop_signal(largest)
    return JobSpec(
        name=largest.name, command=("true",), workdir=largest.workdir, site=largest.site,
        launch=LaunchOptions(launcher="srun"), queue=replace(largest.queue, signal=signal["value"] if signal else None),
        resources=replace(largest.resources, nodes=nodes, time=format_walltime(timedelta(seconds=int(seconds))),
                          ranks_per_node=ranks, gpus=gpus, cpus=-(-cpus // ranks) or None),
    )  # fmt: skip


def queue_arrays(
    study: StudyDirectory, points: Sequence[Point], chain: bool, after: str | None, say: Callable[[str], None]
) -> list[RunDirectory]:  # fmt: skip
    """Hand all runs to the queue as job arrays; chained, one task goes at a time. Raises SubmitError."""
    queued: list[RunDirectory] = []
    for group in arrays(points, study.points, chain):
        spec = group[0].spec
        runs = [submission.write_run(point.spec, study.points / point.name)[0] for point in group]
        text = render.render(spec, runs[0].path)
        script = _write(study, "array", spec, runs, directives=directives(text), chain=chain)
        job_ids = submission.hand_over(runs, spec, script, after if chain else None, array=True)
        say(f"{len(runs)} runs  array {job_ids[0].partition('_')[0]}")
        queued, after = queued + runs, job_ids[0].partition("_")[0]
    return queued


def queue_packed(
    study: StudyDirectory, points: Sequence[Point], budget: float | None, after: str | None,
    say: Callable[[str], None],
) -> list[RunDirectory]:  # fmt: skip
    """Hand all runs to the queue as one job; raises SubmitError, and SpecError for a budget that is too small."""
    if not points:
        return []
    spec = allocation(points, budget)
    text = render.render(spec, study.jobs)
    runs = [submission.write_run(point.spec, study.points / point.name, packed=True)[0] for point in points]
    seconds = int(spec.resources.walltime.total_seconds())
    script = _write(study, "packed", spec, runs, directives=directives(text),
                    program_line=render.tool("study.allocation", str(study.points), str(seconds)))  # fmt: skip
    (job_id, *_) = submission.hand_over(runs, spec, script, after, allocation_nodes=spec.resources.nodes)
    say(f"{len(runs)} runs  job {job_id}  {spec.resources.nodes} nodes for {spec.resources.time}")
    return runs


def _write(study: StudyDirectory, jobs: str, spec: JobSpec, runs: Iterable[RunDirectory], **names: object) -> Path:
    script = study.new_job_file(jobs)
    text = render.fill(
        create(spec.queue.scheduler).together(jobs), spec.site.template_dir, version=__version__, name=study.name,
        points=str(study.points), runs=[run.name for run in runs], log=str(script.with_suffix(".log")), **names,
    )  # fmt: skip
    write_atomic(script, text)
    return script
