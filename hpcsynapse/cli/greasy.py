"""`hpcsynapse greasy`: task lists inside an allocation."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcsynapse.cli.options import form_options, json_option
from hpcsynapse.errors import SpecError
from hpcsynapse.units import counted

if TYPE_CHECKING:
    from hpcsynapse.greasy.outcomes import Outcome

Function = Callable[..., Any]
_ENGINES = ("any", "basic-srun", "basic-ssh", "mpi")
_HOSTS = (
    click.option("--hosts", metavar="LIST", help="hosts instead of those of the allocation, e.g. n[1-4]"),
    click.option("--hostfile", metavar="FILE", help="the same from a file, one a line"),
)
_COMMAND = click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND ...")


def _with(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@click.group()
def command() -> None:
    """Task lists inside an allocation: one line a task, run by Greasy where it is installed, else without it.

    \b
    hpcsynapse greasy build --ps 1 --workers 4 --gpus 4 -- python train.py     servers and workers on every node
    hpcsynapse greasy farm --grid lr=0.1,0.01 -- python train.py --lr {lr}     a grid of parameters
    hpcsynapse greasy check LIST; hpcsynapse greasy run LIST; hpcsynapse greasy summary LOG
    """


@command.command()
@_with(_COMMAND, *_HOSTS)
@click.option("--dir", "folder", default="greasy", show_default=True, help="folder for list, scripts and records")
@click.option("--workers", default=None, type=int, help="workers on each node [GPUs, else 1]")
@click.option("--gpus", type=int, help="GPUs granted on each node, dealt out to its workers [those of this job]")
@click.option("--gpus-per-worker", type=int, help="GPUs that each worker sees [one]")
@click.option("--devices", metavar="N,...", help="which GPUs of a node to deal out, counted from 0 [all]")
@click.option("--ps", type=int, help="parameter servers in total, dealt out to the nodes from the first [1]")
@click.option("--ps-per-node", type=int, help="parameter servers on each node")
@click.option("--server-nodes", default=0, help="last nodes, for parameter servers alone [0: on the workers' nodes]")
@click.option("--port", default=2220, show_default=True, help="first port on each node: servers, then workers")
@click.option("--host-suffix", metavar="TEXT", help="appended to host names, e.g. -ib0 [the site file's]")
@click.option("--flags/--no-flags", default=True, help="append --ps_hosts --worker_hosts --job_name --task_index")
@click.option("--env", multiple=True, metavar="KEY=VALUE", help="environment of every process (repeatable)")
@click.option("--prelude", multiple=True, metavar="LINE", help="shell line before the processes start (repeatable)")
@click.option("--limit", default=0, help="seconds for the whole list [the job's own limit]")
@click.option("--patience", default=300, show_default=True, help="seconds that servers wait for a silent node")
@click.option("--site", metavar="FILE", help="site file [HPCSYNAPSE_SITE, else the user's]")
def build(
    words: tuple[str, ...],
    hosts: str | None,
    hostfile: str | None,
    folder: str,
    workers: int | None,
    gpus: int | None,
    gpus_per_worker: int | None,
    devices: str | None,
    ps: int | None,
    ps_per_node: int | None,
    host_suffix: str | None,
    env: tuple[str, ...],
    site: str | None,
    **more: Any,
) -> None:
    """Write a list with one line for each assigned node, and the script of each node.

    A script starts its node's parameter servers, which see no device, and its workers, each with a device of its own
    (or several: --gpus-per-worker); it waits for the workers, stops the servers, and exits with the first failure.
    """
    from hpcsynapse.greasy.build import RolesRequest, write_roles
    from hpcsynapse.greasy.hosts import assigned_hosts
    from hpcsynapse.schedulers import queue_of_job
    from hpcsynapse.spec import settings

    facts = settings.load(None, {"command": ["true"]}, site=site).site
    if ps is None and not ps_per_node:
        ps = max(1, more["server_nodes"])
    if gpus is None:
        queue = queue_of_job(os.environ)
        granted = os.environ.get(queue.gpus_variable, "") if queue else ""
        gpus = int(granted) if granted.isdigit() and not hosts and not hostfile else 0
    chosen = _numbers(devices)
    request = RolesRequest(
        command=_words(words),
        workdir=str(Path.cwd()),
        workers=workers or (len(chosen) or gpus) // (gpus_per_worker or 1) or 1,
        gpus=gpus,
        gpus_per_worker=gpus_per_worker or 0,
        devices=chosen,
        ps=ps,
        ps_per_node=ps_per_node or 0,
        host_suffix=facts.host_suffix if host_suffix is None else host_suffix,
        env=_pairs(env),
        **more,
    )
    place = Path(folder).absolute()
    tasks = write_roles(place, request, assigned_hosts(hosts, hostfile), facts.template_dir)
    click.echo(f"{place / 'tasks.greasy'}  {counted(len(tasks.tasks), 'node')}")


@command.command()
@_with(_COMMAND)
@click.option("--grid", multiple=True, metavar="NAME=VALUE,...", help="values of one parameter (repeatable)")
@click.option("--file", "table", metavar="FARM.toml", help="command, [grid], then and chain from a file")
@click.option("--then", metavar="COMMAND", help="a last task that waits for all others")
@click.option("--chain", metavar="NAME", help="tasks that differ only in this parameter wait for one another, in order")
@click.option("--dir", "folder", default="farm", show_default=True, help="folder for list, script and records")
@click.option("--limit", default=0, help="seconds for each task [none]")
@click.option("--gpus", type=click.IntRange(1, 64), help="GPUs of a node, of which each task takes one for itself")
@click.option("--force", is_flag=True, help="remove the results of an earlier farm in this folder")
def farm(
    words: tuple[str, ...],
    grid: tuple[str, ...],
    table: str | None,
    then: str | None,
    chain: str | None,
    folder: str,
    limit: int,
    gpus: int | None,
    force: bool,
) -> None:
    """Write a list with one line for every point of a grid; {name} in the command is replaced by its value."""
    import shlex

    from hpcsynapse.greasy.farm import Farm, from_toml, parse_grid, write_farm

    if table:
        if words or grid or then or chain:
            raise SpecError("--file holds the whole farm; give neither command nor --grid, --then or --chain beside it")
        wanted = from_toml(Path(table))
    else:
        try:
            last = tuple(shlex.split(then)) if then else ()
        except ValueError as error:
            raise SpecError(f"--then {then!r}: {error}") from None
        wanted = Farm(command=_words(words), grid=parse_grid(grid), then=last, chain=chain)
    place = Path(folder).absolute()
    tasks = write_farm(place, wanted, str(Path.cwd()), limit=limit, gpus=gpus, force=force)
    click.echo(f"{place / 'tasks.greasy'}  {counted(len(tasks.tasks), 'task')}")


@command.command()
@click.argument("path", metavar="LIST")
@click.option("--engine", type=click.Choice(_ENGINES), default="any", show_default=True, help="what Greasy is to use")
@click.option("--workers", type=click.IntRange(min=1), help="also check that node scripts start on their own nodes")
@json_option("print problems as JSON")
def check(path: str, engine: str, workers: int | None, as_json: bool) -> None:
    """Find what Greasy would crash on, drop, cut or run otherwise than it looks; exit code 2 on errors."""
    from dataclasses import asdict

    from hpcsynapse.greasy.check import check_text
    from hpcsynapse.greasy.tasks import read

    problems = check_text(read(Path(path)), engine, workers)
    if as_json:
        click.echo(json.dumps([asdict(problem) for problem in problems], indent=1))
    else:
        for problem in problems:
            click.echo(f"{path}: {problem}")
        if not problems:
            click.echo(f"{path}: nothing to object to")
    if any(problem.level == "error" for problem in problems):
        click.get_current_context().exit(2)


@command.command()
@click.argument("path", metavar="LIST")
@_with(*_HOSTS)
@click.option("--workers", type=click.IntRange(min=1), help="tasks at a time on each node [1; here: the cores]")
@click.option(
    "--by",
    type=click.Choice(("auto", "greasy", "srun", "mpirun", "local")),
    default="auto",
    show_default=True,
    help="Greasy where it is installed, else srun in jobs with steps, else mpirun, or processes here",
)
@click.option("--engine", type=click.Choice(_ENGINES[1:]), help="engine of Greasy [basic-srun where srun is]")
@click.option("--greasy", metavar="PATH", help="Greasy's own command [greasy]")
@click.option("--retries", type=click.IntRange(0, 1000), default=0, show_default=True, help="new tries of a task")
@click.option("--resume", is_flag=True, help="run only what has not succeeded before")
@click.option(
    "--limit", type=click.IntRange(min=0), default=0, help="seconds for each line that records nothing itself"
)
@form_options("csv", "json")
def run(path: str, form: str | None, **more: Any) -> None:
    """Run a list and say which tasks did not succeed; exit code 0 only when all have.

    A task is judged by the record that its own script leaves; a line that is no such script is given one.
    """
    from hpcsynapse.greasy import outcomes
    from hpcsynapse.greasy.run import run_list
    from hpcsynapse.greasy.work import RunRequest

    done = run_list(Path(path), RunRequest(**more), lambda text: click.echo(f"hpcsynapse: {text}", err=True))
    _print(done.outcomes, form, exit_code=done.exit_code, by=done.by, folder=str(done.folder))
    if form is None:
        click.echo(f"{outcomes.summary(done.outcomes)}  (by {done.by}, records and logs in {done.folder})")
    click.get_current_context().exit(done.exit_code)


@command.command()
@click.argument("path", metavar="LOG|LIST|DIR")
@click.option("--rst", metavar="FILE", help="restart file that belongs to the log")
@form_options("csv", "json")
def summary(path: str, rst: str | None, form: str | None) -> None:
    """Show how tasks ended, from a log of Greasy and its restart file, or from the records of a list or its folder."""
    from hpcsynapse.greasy import outcomes
    from hpcsynapse.greasy.log import read_log, read_restart
    from hpcsynapse.greasy.run import records_of
    from hpcsynapse.greasy.tasks import read

    found = None if rst else records_of(Path(path))
    if found is not None:
        _print(found, form, every=True)
        text = outcomes.summary(found)
    else:
        log = read_log(read(Path(path)), read_restart(read(Path(rst))) if rst else None)
        _print(log.outcomes, form, every=True, **log.of_the_run())
        text = outcomes.summary(log.outcomes)
        text += f"; {log.remark}" if log.remark else ""
        text += "" if log.total_seconds is None else f"; {log.total_seconds} s"
        text += "" if log.utilization is None else f", {log.utilization:g} % of the workers' time used"
        for error in log.errors:
            click.echo(f"hpcsynapse: Greasy says: {error}", err=True)
    if form is None:
        click.echo(text)


def _print(found: list[Outcome], form: str | None, *, every: bool = False, **more: Any) -> None:
    """Print outcomes in the form wanted; for people only those that did not succeed, unless all are asked for."""
    from hpcsynapse.greasy import outcomes

    if form == "json":
        click.echo(outcomes.as_json(found, **more), nl=False)
    elif form == "csv":
        click.echo(outcomes.as_csv(found), nl=False)
    elif shown := [one for one in found if every or not one.ok]:
        click.echo(outcomes.as_text(shown), nl=False)


def _words(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command; click has removed a leading `--` only when nothing came before it."""
    return words[1:] if words[:1] == ("--",) else words


def _numbers(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(",")) if text is not None else ()
    except ValueError:
        raise SpecError(f"--devices {text!r}: write numbers with commas between, e.g. 0,3") from None


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, found, value = text.partition("=")
        if not found:
            raise SpecError(f"--env {text!r}: write KEY=VALUE")
        pairs[key] = value
    return pairs
