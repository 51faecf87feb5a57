"""`hpcsynapse study`."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

import click

from hpcsynapse import fields
from hpcsynapse.cli.bars import Bar
from hpcsynapse.cli.options import SectionedCommand, description_options, json_option, load_description, split_words
from hpcsynapse.cli.progress import fraction, print_failure, watch, words
from hpcsynapse.cli.tables import Output
from hpcsynapse.errors import HpcSynapseError, SpecError, SubmitError
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.find import runs_folder
from hpcsynapse.runs.states import FINAL_STATES, RunState
from hpcsynapse.study.lists import LISTS, StudySpec
from hpcsynapse.study.plan import COLUMNS, Point
from hpcsynapse.units import counted

if TYPE_CHECKING:
    from hpcsynapse.spec.job import JobSpec
    from hpcsynapse.study.folder import StudyDirectory
    from hpcsynapse.study.prepare import ReadyPoint, Remaining
    from hpcsynapse.submission.prepare import Prepared

_PREFIX = "study__"
_LISTED = [(path.partition(".")[0], path.partition(".")[2]) for path in LISTS.values()]  # lists take their place
_GRACE = 120.0  # seconds beyond its time limit within which a run of this machine must have ended


def _split(kind: type) -> Callable[[click.Context, click.Parameter, str | None], tuple[Any, ...] | None]:
    """Return what reads the values of an option with commas between them."""

    def read(context: click.Context, option: click.Parameter, text: str | None) -> tuple[Any, ...] | None:
        words = [] if text is None else [word.strip() for word in text.split(",")]
        if not all(word and (kind is str or (word.isascii() and word.isdecimal())) for word in words):
            what = "whole numbers" if kind is int else "names"
            raise click.BadParameter(f"{text!r} is not a list of {what} with commas between them", context, option)
        return None if text is None else tuple(map(kind, words))

    return read


def _study_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every list of a study, and those of a description that no list takes the place of."""
    # Whether a run continues from its checkpoint is no question here: `--resume` makes runs of a study afresh.
    function = description_options(function, without=[*_LISTED, ("train", "resume")])
    for item in reversed(dataclasses.fields(StudySpec)):
        kind = fields.base_type(fields.hints(StudySpec)[item.name])
        text, choices = item.metadata["help"], item.metadata["choices"]
        names = [f"--{item.name.replace('_', '-')}"]
        more: dict[str, Any] = {"help": f"{text} [{item.default}]", "type": click.Choice(choices) if choices else kind}
        if get_origin(kind) is tuple:
            element = get_args(kind)[0]
            metavar = "N,N,..." if element is int else "A,B,..."
            more = {"help": text, "metavar": metavar, "callback": _split(element)}
        elif get_origin(kind) is dict:
            more = {"help": text, "metavar": "SECTION.KEY=A,B", "multiple": True}
        elif kind is bool:
            names, more = [f"--{item.name}/--no-{item.name}"], {"help": text, "default": None}
        function = click.option(*names, _PREFIX + item.name, **more)(function)
    return function


@click.command(cls=SectionedCommand)
@click.option("--resume", metavar="STUDY", help="go on with a study: make what is missing")
@click.option("--dry-run", is_flag=True, help="print the runs of the study and write nothing")
@click.option("-f", "--follow", is_flag=True, help="stay until all runs have ended")
@json_option("print the runs as JSON")
@_study_options
def command(resume: str | None, dry_run: bool, follow: bool, as_json: bool, **given: Any) -> None:
    """Run every combination of the lists, and report how it scales.

    \b
    hpcsynapse study --nodes 1,2,4,8 --gpus 4 --repeats 3 -- python train.py
    hpcsynapse study --setups 1x1,1x4,2x4 --strategy allreduce,ps-async --epochs 5
    hpcsynapse study --batch 32,64 -- python train.py --batch {batch}
    hpcsynapse study study.toml --repeats 3 --time 10m --jobs packed --budget 12

    STUDY.toml is a description as submit takes it, with the lists in a table [study]. Queues get all runs at once,
    each waiting for the one before.
    """
    from hpcsynapse.schedulers import create
    from hpcsynapse.study.folder import StudyDirectory
    from hpcsynapse.study.prepare import prepare

    runs = runs_folder(given["runs"])
    study, lists, base, left = _again(resume, runs, given) if resume else _new(given)
    place = study or StudyDirectory.named(runs, base)
    ready, warnings = prepare(lists, left.points, place.runs_path)
    for text in warnings:
        click.echo(f"hpcsynapse: {text}", err=True)
    allowed = _within_budget(study, lists, ready)
    if dry_run:
        _print_plan(ready, as_json)
        return
    study = study or StudyDirectory.create(runs, lists, dataclasses.replace(base, name=place.name))
    for run in left.again:
        study.set_aside(run)
    words = f"{counted(len(ready), 'run')} to make  at most {sum(point.node_hours for point in ready):.3g} node-hours"
    click.echo(f"study {study.name}  {words}  {study.path}", err=as_json)
    local = create(base.queue.scheduler).one_machine
    try:
        if local:
            _run_here(study, ready, left.underway, lists.budget, as_json)
        else:
            # An allocation ends in time by itself, and goes on as long as its runs leave node-hours over.
            queued = _queue(study, ready if lists.jobs == "packed" else allowed, left.underway, lists, as_json)
            _stay(queued if follow else [], as_json)
    except KeyboardInterrupt:
        click.echo(f"what has begun goes on; {_go_on(study)}", err=True)
        click.get_current_context().exit(130)
    click.get_current_context().exit(_conclude(study, as_json, local or follow))


def _new(given: dict[str, Any]) -> tuple[None, StudySpec, JobSpec, Remaining]:
    """Return what a new study consists of, from all that was typed."""
    from hpcsynapse.study import vary
    from hpcsynapse.study.folder import TABLE, load_lists
    from hpcsynapse.study.plan import expand
    from hpcsynapse.study.prepare import Remaining, settle

    typed = {name.removeprefix(_PREFIX): given.pop(name) for name in list(given) if name.startswith(_PREFIX)}
    typed["vary"] = vary.parse(typed["vary"]) or None
    path, _ = split_words(given["words"])
    lists = load_lists(path, {name: value for name, value in typed.items() if value is not None})
    base = settle(load_description(given, beside=(TABLE,)))
    return None, lists, base, Remaining(expand(lists, base), [], [])


def _again(name: str, runs: Path, given: dict[str, Any]) -> tuple[StudyDirectory, StudySpec, JobSpec, Remaining]:
    """Return a study that was begun and what is left of it."""
    from hpcsynapse.study.folder import StudyDirectory
    from hpcsynapse.study.plan import expand
    from hpcsynapse.study.prepare import remaining

    # How the rest reaches the queue, and what it may take, can be decided anew.
    anew = {name: value for name in ("jobs", "budget") if (value := given.pop(_PREFIX + name)) is not None}
    if typed := [name for name, value in given.items() if name != "runs" and value not in (None, ())]:
        raise SpecError(f"--resume takes the description of the study; leave {typed[0].split('__')[-1]!r} out")
    study = StudyDirectory.find(runs, name)
    lists, base = study.load()
    lists = dataclasses.replace(lists, **anew)
    return study, lists, base, remaining(study, expand(lists, base))


def _within_budget(study: StudyDirectory | None, lists: StudySpec, ready: Sequence[ReadyPoint]) -> list[ReadyPoint]:
    """Return the runs that the budget has room for, by what was used and what the others may use; says what is left."""
    from hpcsynapse.study.budget import taken, within

    used = taken(study) if study and lists.budget is not None else 0.0
    allowed = within(ready, lists.budget, used)
    if lists.budget is not None and len(allowed) < len(ready):
        click.echo(
            f"hpcsynapse: {lists.budget:g} node-hours, of which {used:.3g} are taken, have room for "
            f"{len(allowed)} of {len(ready)} runs if each takes its whole time limit",
            err=True,
        )
    return allowed


def _print_plan(points: Sequence[Point], as_json: bool) -> None:
    Output("json" if as_json else None).table([point.planned() for point in points], COLUMNS)


def _run_here(
    study: StudyDirectory,
    points: Sequence[ReadyPoint],
    underway: list[RunDirectory],
    budget: float | None,
    to_stderr: bool,
) -> None:
    """Make the runs one after another, so that none disturbs the next; first those that still go on."""
    from hpcsynapse.study.budget import taken, within
    from hpcsynapse.submission.submit import submit_prepared

    waiting: list[RunDirectory | ReadyPoint] = [*underway, *points]
    for number, item in enumerate(waiting, 1):
        if not isinstance(item, RunDirectory):
            try:
                within([item], budget, 0.0 if budget is None else taken(study))
            except SpecError as error:
                click.echo(f"hpcsynapse: {error}", err=True)
                return
        run = item if isinstance(item, RunDirectory) else submit_prepared(_at(item, study)).run
        limit = run.load_spec().resources.walltime.total_seconds() + _GRACE
        if not _stay([run], to_stderr, limit, place=(number, len(waiting))):
            raise SubmitError(f"run {run.name} goes on although its time limit has passed; {_go_on(study)}")


def _queue(
    study: StudyDirectory, points: Sequence[ReadyPoint], underway: list[RunDirectory], lists: StudySpec, to_stderr: bool
) -> list[RunDirectory]:
    """Hand runs to the queue, each behind the one before when they are chained; return those that it has."""
    from hpcsynapse.study.budget import taken
    from hpcsynapse.study.prepare import job_id
    from hpcsynapse.study.shared_jobs import queue_arrays, queue_packed

    def say(text: str) -> None:
        click.echo(text, err=to_stderr)

    before = job_id(underway[-1]) if underway and lists.chain else None
    try:
        if lists.jobs == "array":
            return [*underway, *queue_arrays(study, points, lists.chain, before, say)]
        if lists.jobs == "packed":
            left = None if lists.budget is None else lists.budget - taken(study)
            return [*underway, *queue_packed(study, points, left, before, say)]
        return [*underway, *_queue_each(study, points, lists.chain, before, say)]
    except SubmitError as error:
        raise SubmitError(f"{error}; {_go_on(study)}") from None


def _queue_each(
    study: StudyDirectory, points: Sequence[ReadyPoint], chain: bool, before: str | None, say: Callable[[str], None]
) -> list[RunDirectory]:
    from hpcsynapse.submission.submit import submit_prepared

    queued = []
    for number, point in enumerate(points):
        try:
            done = submit_prepared(_at(point, study), after=before if chain else None)
        except SubmitError as error:
            raise SubmitError(f"{error}; {number} of {len(points)} runs were queued") from None
        say(f"run {done.run.name}  job {done.job_id}")
        queued.append(done.run)
        before = done.job_id
    return queued


def _at(point: ReadyPoint, study: StudyDirectory) -> Prepared:
    """Return a run as prepared, in the study's folder: another study may have taken the name meanwhile."""
    return point.prepared.at(study.runs_path / point.name)


def _stay(
    runs: list[RunDirectory], to_stderr: bool, limit: float = math.inf, place: tuple[int, int] | None = None
) -> bool:
    """Show a line for every run that ends, on a terminal also a bar of the study; return whether all have ended.

    `place` is the number of the only run among those that are made one after another.
    """
    bar, ended = Bar(to_stderr), set[str]()
    title = f"{place[0]}/{place[1]}  " if place else ""
    try:
        for found in watch(runs, limit):
            for status in found:
                if status.state in FINAL_STATES and status.path not in ended:
                    ended.add(status.path)
                    bar.clear()
                    click.echo("  ".join([f"{title}{status.name}", *words(status)]), err=to_stderr)
                    print_failure(status)
            if others := [status for status in found if status.path not in ended]:
                shown = next((status for status in others if status.state != RunState.QUEUED), others[0])
                before, of = (place[0] - 1, place[1]) if place else (len(ended), len(runs))
                made = before + sum(fraction(status) or 0.0 for status in others)
                bar.show(made / of, [title.strip() or f"{len(ended)}/{of} ended", shown.name, *words(shown)])
    finally:
        bar.clear()
    return len(ended) == len(runs)


def _conclude(study: StudyDirectory, as_json: bool, stays: bool) -> int:
    """Print the runs as JSON, or the report where this command has stayed; return its exit code."""
    from hpcsynapse.submission.status import statuses

    if not as_json and not stays:
        click.echo(f"see: hpcsynapse status {study.name}; hpcsynapse report {study.name}")
        return 0
    found = statuses(study.runs())
    if as_json:
        rows = [{"run": one.name, "job_id": one.job_id, "state": one.state, "path": one.path} for one in found]
        click.echo(json.dumps({"study": study.name, "path": str(study.path), "runs": rows}, indent=1))
    else:
        _report(study)
    if not stays:
        return 0
    size = study.size
    unfinished = size - sum(status.state == RunState.FINISHED for status in found)
    if unfinished:
        click.echo(f"{unfinished} of {size} runs have not finished; {_go_on(study)}", err=True)
    return 1 if unfinished else 0


def _report(study: StudyDirectory) -> None:
    from hpcsynapse.cli.report.runs import scaling_report
    from hpcsynapse.report import points

    try:
        report = scaling_report([str(study.path)], study.path.parent)
    except HpcSynapseError as error:  # a program that records no steps has been run all the same
        click.echo(f"no report: {error}", err=True)
        return
    Output().table(report.points, points.COLUMNS)


def _go_on(study: StudyDirectory) -> str:
    return f"later: hpcsynapse resume {study.name}"
