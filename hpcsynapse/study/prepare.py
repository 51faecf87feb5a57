"""Handing the runs of a study to their queue: all are resolved and checked before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpcsynapse.errors import CheckError
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RESTARTABLE, RunState
from hpcsynapse.schedulers import create
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.study.folder import StudyDirectory
from hpcsynapse.study.lists import StudySpec
from hpcsynapse.study.plan import Point
from hpcsynapse.submission import prepare as submission
from hpcsynapse.submission.enqueue import fate_is_unknown
from hpcsynapse.submission.prepare import Prepared
from hpcsynapse.submission.resolve import resolve, with_queue
from hpcsynapse.submission.status import statuses


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of a study: runs to be made, runs of before to be set aside for them, and runs that still go on."""

    points: list[Point]
    again: list[RunDirectory]
    underway: list[RunDirectory]


def settle(base: JobSpec) -> JobSpec:
    """Return the description of all runs with what must not depend on where a study is repeated or resumed from."""
    base = with_queue(base)
    if base.site.template_dir:
        base = base.with_("site", template_dir=str(Path(base.site.template_dir).expanduser().resolve()))
    return replace(base, workdir=base.workdir or str(Path.cwd()))


def remaining(study: StudyDirectory, points: Iterable[Point]) -> Remaining:
    """Return what is left of a study that was begun: runs that have finished, or that a queue has, stay as they are."""
    made = {run.name: run for run in study.runs()}
    states = {status.name: status.state for status in statuses(list(made.values()))}
    over = {
        name
        for name, state in states.items()
        if state in RESTARTABLE and state != RunState.FINISHED and not fate_is_unknown(made[name])
    }
    missing = [point for point in points if point.name in over or point.name not in made]
    return Remaining(
        points=missing,
        again=[made[point.name] for point in missing if point.name in over],
        underway=[made[name] for name, state in states.items() if name not in over and state != RunState.FINISHED],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyPoint(Point):
    """A run of a study as its queue will get it."""

    prepared: Prepared


def prepare(study: StudySpec, points: Sequence[Point], folder: Path) -> tuple[list[ReadyPoint], list[str]]:
    """Return the runs as they will be submitted, every `auto` decided, and warnings about them.

    Raises CheckError with all that checks find, naming the first of the runs concerned, and SpecError when runs are to
    wait for one another, or to share a job, and their queue cannot let them.
    """
    engines = _engines(points, folder)
    ready: list[ReadyPoint] = []
    errors: dict[str, str] = {}
    warnings: dict[str, None] = {}
    for point in points:
        # A run that is yet to be set aside may have the name still.
        spec = _with_engine(point.spec, engines)
        prepared = submission.prepare(spec, folder, name=point.name, packed=study.jobs == "packed")
        ready.append(ReadyPoint(repeat=point.repeat, spec=prepared.spec, settings=point.settings, prepared=prepared))
        for finding in prepared.findings:
            text = f"{finding.where}: {finding.message}"
            if finding.level == "error":
                errors.setdefault(text, point.name)
            elif finding.level == "warning":
                warnings[text] = None
    if errors:
        raise CheckError("\n".join(f"{text} (run {name})" for text, name in errors.items()))
    if ready:
        scheduler = create(ready[0].spec.queue.scheduler)
        if study.jobs != "separate":
            scheduler.shared_job_template(study.jobs)
        if study.chain and not scheduler.one_machine:
            scheduler.after_options("0")
    return ready, list(warnings)


def _engines(points: Iterable[Point], folder: Path) -> dict[str, str]:
    """Decide `auto` once for every strategy, by its largest run: points of a curve are to differ in ranks alone."""
    largest: dict[str, JobSpec] = {}
    for point in points:
        known = largest.setdefault(point.spec.train.strategy, point.spec)
        if point.spec.resources.world_size > known.resources.world_size:
            largest[point.spec.train.strategy] = point.spec
    return {strategy: resolve(spec, folder).train.engine for strategy, spec in largest.items()}


def _with_engine(spec: JobSpec, engines: dict[str, str]) -> JobSpec:
    auto = spec.train.engine == "auto" and not spec.command
    return spec.with_("train", engine=engines[spec.train.strategy]) if auto else spec


def job_id(run: RunDirectory) -> str | None:
    """Return the id that the queue gave to a run."""
    found = run.read_submission().get("job_id")
    return found if isinstance(found, str) else None
