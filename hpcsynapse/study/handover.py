"""Handing the runs of a study to their queue: all are resolved and checked before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpcsynapse import checks, submission
from hpcsynapse.errors import CheckError
from hpcsynapse.rundir import FINAL_STATES, RunDirectory, read_json
from hpcsynapse.schedulers import create
from hpcsynapse.spec import JobSpec
from hpcsynapse.status import statuses
from hpcsynapse.study.folder import StudyDirectory
from hpcsynapse.study.plan import Point, StudySpec

LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a study: runs to be made, runs of before to be set aside for them, and runs that still go on."""

    points: list[Point]
    again: list[RunDirectory]
    underway: list[RunDirectory]


def settle(base: JobSpec) -> JobSpec:
    """Return the description of all runs with what must not depend on where a study is repeated or resumed from."""
    if base.queue.scheduler == "auto":
        scheduler = LOCAL if base.launch.emulate else submission.detect_scheduler()
        base = base.with_("queue", scheduler=scheduler)
    if base.site.template_dir:
        base = base.with_("site", template_dir=str(Path(base.site.template_dir).expanduser().resolve()))
    return replace(base, workdir=base.workdir or str(Path.cwd()))


def left_of(study: StudyDirectory, points: Iterable[Point]) -> Left:
    """Return what is left of a study that was begun: runs that have finished, or that a queue has, stay as they are."""
    made = {run.name: run for run in study.runs()}
    states = {status.name: status.state for status in statuses(list(made.values()))}
    over = {name for name, state in states.items() if state in (*FINAL_STATES, "CREATED") and state != "FINISHED"}
    missing = [point for point in points if point.name in over or point.name not in made]
    return Left(
        points=missing,
        again=[made[point.name] for point in missing if point.name in over],
        underway=[made[name] for name, state in states.items() if name not in over and state != "FINISHED"],
    )


def prepare(study: StudySpec, points: Sequence[Point], folder: Path) -> tuple[list[Point], list[str]]:
    """Return the runs as they will be submitted, every `auto` decided, and warnings about them.

    Raises CheckError with all that checks find, naming the first of the runs concerned, and SpecError when runs are to
    wait for one another, or to share a job, and their queue cannot let them.
    """
    engines = _engines(points, folder)
    ready: list[Point] = []
    errors: dict[str, str] = {}
    warnings: dict[str, None] = {}
    for point in points:
        spec = submission.resolve(_with_engine(point.spec, engines), folder)
        spec = replace(spec, name=point.name)  # a run that is yet to be set aside may have it still
        ready.append(replace(point, spec=spec))
        for finding in checks.run_checks(spec, folder):
            text = f"{finding.subject}: {finding.message}"
            if finding.level == "error":
                errors.setdefault(text, point.name)
            elif finding.level == "warning":
                warnings[text] = None
    if errors:
        raise CheckError("\n".join(f"{text} (run {name})" for text, name in errors.items()))
    if ready:
        scheduler = create(ready[0].spec.queue.scheduler)
        if study.jobs != "separate":
            scheduler.together(study.jobs)
        if study.chain and scheduler.name != LOCAL:
            scheduler.after_options("0")
    return ready, list(warnings)


def _engines(points: Iterable[Point], folder: Path) -> dict[str, str]:
    """Decide `auto` once for every strategy, by its largest run: points of a curve are to differ in ranks alone."""
    largest: dict[str, JobSpec] = {}
    for point in points:
        known = largest.setdefault(point.spec.train.strategy, point.spec)
        if point.spec.resources.world_size > known.resources.world_size:
            largest[point.spec.train.strategy] = point.spec
    return {strategy: submission.resolve(spec, folder).train.engine for strategy, spec in largest.items()}


def _with_engine(spec: JobSpec, engines: dict[str, str]) -> JobSpec:
    auto = spec.train.engine == "auto" and not spec.command
    return spec.with_("train", engine=engines[spec.train.strategy]) if auto else spec


def job_id(run: RunDirectory) -> str | None:
    """Return the id that the queue gave to a run."""
    found = (read_json(run.submission) or {}).get("job_id")
    return found if isinstance(found, str) else None
