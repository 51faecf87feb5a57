"""`hpcsynapse study`."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

import click

from hpcsynapse import fields
from hpcsynapse.cli.options import SectionedCommand, description_options, load_description, split_words
from hpcsynapse.cli.progress import describe, print_failure, show, watch
from hpcsynapse.errors import HpcSynapseError, SpecError, SubmitError
from hpcsynapse.rundir import FINAL_STATES, RunDirectory
from hpcsynapse.study.plan import DIMENSIONS, Point, StudySpec

if TYPE_CHECKING:
    from hpcsynapse.spec import JobSpec
    from hpcsynapse.study.folder import StudyDirectory
    from hpcsynapse.study.handover import Left

_PREFIX = "study__"
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
    function = description_options(function, without=[*DIMENSIONS.values(), ("train", "resume")])
    for item in reversed(dataclasses.fields(StudySpec)):
        kind = fields.base_type(fields.hints(StudySpec)[item.name])
        text, choices = item.metadata["help"], item.metadata["choices"]
        names = [f"--{item.name}", *(["--ranks-per-node"] if item.name == "ranks" else [])]
        more: dict[str, Any] = {"help": f"{text} [{item.default}]", "type": click.Choice(choices) if choices else kind}
        if get_origin(kind) is tuple:
            element = get_args(kind)[0]
            metavar = "N,N,..." if element is int else "A,B,..."
            more = {"help": text, "metavar": metavar, "callback": _split(element)}
        elif kind is bool:
            names, more = [f"--{item.name}/--no-{item.name}"], {"help": text, "default": None}
        function = click.option(*names, _PREFIX + item.name, **more)(function)
    return function


@click.command(cls=SectionedCommand)
@click.option("--resume", metavar="STUDY", help="go on with a study: make what is missing or has not finished")
@click.option("--dry-run", is_flag=True, help="print the runs of the study and write nothing")
@click.option("-f", "--follow", is_flag=True, help="queues: stay until all runs have ended, then report")
@click.option("--json", "as_json", is_flag=True, help="print the runs as JSON")
@_study_options
def command(resume: str | None, dry_run: bool, follow: bool, as_json: bool, **given: Any) -> None:
    """Run the same training at every combination of the lists, and report how it scales.

    \b
    hpcsynapse study --strategy single,allreduce --ranks 1,2,4 --epochs 5 --scaling strong --batch 64
    hpcsynapse study study.toml --repeats 3
    hpcsynapse study --nodes 1,2,4,8 --gpus 4 --repeats 3 --time 10m --jobs packed --budget 12

    STUDY.toml is a description as submit takes it, with the lists in a table [study]; the other options are those of
    submit. Here the runs follow one another; queues get all of them at once, each waiting for the one before, as job
    arrays, or packed into one allocation of the largest size.
    """
    from hpcsynapse import submission
    from hpcsynapse.study.folder import StudyDirectory
    from hpcsynapse.study.handover import LOCAL, prepare

    runs = submission.runs_folder(given["runs"])
    study, lists, base, left = _again(resume, runs, given) if resume else _new(given)
    ready, warnings = prepare(lists, left.points, study.points if study else runs / (base.name or "study") / "points")
    for text in warnings:
        click.echo(f"hpcsynapse: {text}", err=True)
    allowed = _within_budget(study, lists, ready)
    if dry_run:
        _print_plan(ready, as_json)
        return
    study = study or StudyDirectory.create(runs, lists, base)
    for run in left.again:
        study.set_aside(run)
    words = f"{len(ready)} runs to make  at most {sum(point.node_hours for point in ready):.3g} node-hours"
    click.echo(f"study {study.name}  {words}  {study.path}", err=as_json)
    local = base.queue.scheduler == LOCAL
    try:
        if local:
            _run_here(study, ready, left.underway, lists.budget, as_json)
        else:
            # An allocation ends in time by itself, and goes on as long as its runs leave node-hours over.
            queued = _queue(study, ready if lists.jobs == "packed" else allowed, left.underway, lists, as_json)
            _stay(queued if follow else [], "", as_json)
    except KeyboardInterrupt:
        click.echo(f"\nwhat has begun goes on; {_go_on(study)}", err=True)
        click.get_current_context().exit(130)
    click.get_current_context().exit(_conclude(study, as_json, local or follow))


def _new(given: dict[str, Any]) -> tuple[None, StudySpec, JobSpec, Left]:
    """Return what a new study consists of, from all that was typed."""
    from hpcsynapse.study.folder import TABLE, load_lists
    from hpcsynapse.study.handover import Left, settle
    from hpcsynapse.study.plan import expand

    typed = {name.removeprefix(_PREFIX): given.pop(name) for name in list(given) if name.startswith(_PREFIX)}
    path, _ = split_words(given["words"])
    lists = load_lists(path, {name: value for name, value in typed.items() if value is not None})
    base = settle(load_description(given, beside=(TABLE,)))
    return None, lists, base, Left(expand(lists, base), [], [])


def _again(name: str, runs: Path, given: dict[str, Any]) -> tuple[StudyDirectory, StudySpec, JobSpec, Left]:
    """Return a study that was begun and what is left of it."""
    from hpcsynapse.study.folder import StudyDirectory
    from hpcsynapse.study.handover import left_of
    from hpcsynapse.study.plan import expand

    # How the rest reaches the queue, and what it may take, can be decided anew.
    anew = {name: value for name in ("jobs", "budget") if (value := given.pop(_PREFIX + name)) is not None}
    if typed := [name for name, value in given.items() if name != "runs" and value not in (None, ())]:
        raise SpecError(f"--resume takes the description of the study; leave {typed[0].split('__')[-1]!r} out")
    study = StudyDirectory.find(runs, name)
    lists, base = study.load()
    lists = dataclasses.replace(lists, **anew)
    return study, lists, base, left_of(study, expand(lists, base))


def _within_budget(study: StudyDirectory | None, lists: StudySpec, ready: Sequence[Point]) -> list[Point]:
    """Return the runs that the budget has room for, by what was used and what the others may use; says what is left."""
    from hpcsynapse.study.budget import taken, within

    used = taken(study) if study and lists.budget is not None else 0.0
    allowed = within(ready, lists.budget, used)
    if lists.budget is not None and len(allowed) < len(ready):
        click.echo(f"hpcsynapse: {lists.budget:g} node-hours, of which {used:.3g} are taken, have room for "
                   f"{len(allowed)} of {len(ready)} runs if each takes its whole time limit", err=True)  # fmt: skip
    return allowed


def _print_plan(points: Sequence[Point], as_json: bool) -> None:
    rows = [point.to_dict() for point in points]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    columns = [name for name in (rows[0] if rows else {}) if any(row[name] not in (None, "") for row in rows)]
    table = [columns, *[[str(row[name]) for name in columns] for row in rows]]
    widths = [max(len(line[index]) for line in table) for index in range(len(columns))]
    for line in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _run_here(study: StudyDirectory, points: Sequence[Point], underway: list[RunDirectory], budget: float | None,
              to_stderr: bool) -> None:  # fmt: skip
    """Make the runs one after another, so that none disturbs the next; first those that still go on."""
    from hpcsynapse.study.budget import taken, within
    from hpcsynapse.submission import submit_checked

    waiting: list[RunDirectory | Point] = [*underway, *points]
    for number, item in enumerate(waiting, 1):
        if isinstance(item, Point):
            try:
                within([item], budget, 0.0 if budget is None else taken(study))
            except SpecError as error:
                click.echo(f"hpcsynapse: {error}", err=True)
                return
        run = submit_checked(item.spec, study.points).run if isinstance(item, Point) else item
        limit = run.load_spec().resources.walltime.total_seconds() + _GRACE
        if not _stay([run], f"{number}/{len(waiting)}  ", to_stderr, limit):
            raise SubmitError(f"run {run.name} goes on although its time limit has passed; {_go_on(study)}")


def _queue(study: StudyDirectory, points: Sequence[Point], underway: list[RunDirectory], lists: StudySpec,
           to_stderr: bool) -> list[RunDirectory]:  # fmt: skip
    """Hand runs to the queue, each behind the one before when they are chained; return those that it has."""
    from hpcsynapse.study.budget import taken
    from hpcsynapse.study.handover import job_id
    from hpcsynapse.study.together import queue_arrays, queue_packed

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
        raise SubmitError(f"{error}; {_go_on(study)}", transient=error.transient) from None


def _queue_each(study: StudyDirectory, points: Sequence[Point], chain: bool, before: str | None,
                say: Callable[[str], None]) -> list[RunDirectory]:  # fmt: skip
    from hpcsynapse.submission import submit_checked

    queued = []
    for number, point in enumerate(points):
        try:
            done = submit_checked(point.spec, study.points, after=before if chain else None)
        except SubmitError as error:
            raise SubmitError(f"{error}; {number} of {len(points)} runs were queued",
                              transient=error.transient) from None  # fmt: skip
        say(f"run {done.run.name}  job {done.job_id}")
        queued.append(done.run)
        before = done.job_id
    return queued


def _stay(runs: list[RunDirectory], title: str, to_stderr: bool, limit: float = math.inf) -> bool:
    """Show a line for every run that ends, on a terminal also how the others come on; return whether all have ended."""
    terminal, ended = (sys.stderr if to_stderr else sys.stdout).isatty(), set()
    for found in watch(runs, limit):
        for status in found:
            if status.state in FINAL_STATES and status.path not in ended:
                ended.add(status.path)
                show(f"{title}{status.name}  {describe(status)}", terminal, to_stderr)
                if terminal:
                    click.echo(err=to_stderr)
                print_failure(status)
        others = [status for status in found if status.path not in ended]
        if terminal and others:
            shown = next((status for status in others if status.state != "QUEUED"), others[0])
            counted = title or f"{len(ended)}/{len(runs)} ended  "
            show(f"{counted}{shown.name}  {describe(shown)}", terminal, to_stderr)
    return len(ended) == len(runs)


def _conclude(study: StudyDirectory, as_json: bool, stays: bool) -> int:
    """Print the runs as JSON, or the report where this command has stayed; return its exit code."""
    from hpcsynapse.status import statuses

    found = statuses(study.runs())
    if as_json:
        rows = [{"run": one.name, "job_id": one.job_id, "state": one.state, "path": one.path} for one in found]
        click.echo(json.dumps({"study": study.name, "path": str(study.path), "runs": rows}, indent=1))
    elif stays:
        _report(study)
    else:
        click.echo(f"see: hpcsynapse status {study.name}; hpcsynapse report {study.name}")
    unfinished = study.size - sum(status.state == "FINISHED" for status in found)
    if stays and unfinished:
        click.echo(f"{unfinished} of {study.size} runs have not finished; {_go_on(study)}", err=True)
    return 1 if stays and unfinished else 0


def _report(study: StudyDirectory) -> None:
    from hpcsynapse.cli.report import scaling
    from hpcsynapse.report.tables import to_terminal

    try:
        report = scaling([str(study.path)], study.path.parent)
    except HpcSynapseError as error:  # a program that records no steps has been run all the same
        click.echo(f"no report: {error}", err=True)
        return
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(to_terminal(report.points), nl=False)


def _go_on(study: StudyDirectory) -> str:
    return f"later: hpcsynapse study --resume {study.name}"
