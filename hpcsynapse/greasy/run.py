"""Runs a task list by Greasy where it is installed, else through srun or mpirun, else as processes of this machine.

The scripts and the records that they leave are the same; only those records say whether a task has succeeded.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import shlex
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse.errors import SpecError
from hpcsynapse.files import write_atomic
from hpcsynapse.greasy import hosts, pool
from hpcsynapse.greasy.engine import by_greasy
from hpcsynapse.greasy.outcomes import Outcome, from_record, of_list, with_commands
from hpcsynapse.greasy.recorded import TABLE_NAME, commands, is_node_script, result_path, write_recorded
from hpcsynapse.greasy.tasks import LIST_NAME, Task, TaskList, load, parse, read
from hpcsynapse.greasy.work import RunRequest, Work, own_host
from hpcsynapse.job import ssh, supervise
from hpcsynapse.job.supervise import GRACES, Stopping
from hpcsynapse.schedulers import mpirun, srun

METHODS = ("auto", "greasy", "srun", "mpirun", "local")
_LATE_SECONDS = 2.0
_LOCK_NAME = ".lock"


@dataclass(frozen=True, slots=True)
class ListRun:
    """How every line ended, what ran them, and the folder with records and logs."""

    outcomes: list[Outcome]
    by: str
    folder: Path
    signal: int = 0

    @property
    def exit_code(self) -> int:
        """0 when every task has certainly succeeded."""
        return 128 + self.signal if self.signal else 0 if all(one.ok for one in self.outcomes) else 1


def run_list(path: Path, request: RunRequest, say: Callable[[str], None]) -> ListRun:
    """Run a list and judge it by the records of its tasks.

    Raises SpecError for a list that is not in order, or where nothing can run it.
    """
    tasks, folder = _recorded(path.absolute(), request)
    by = choose(request, os.environ)
    with _alone(folder):
        return _run(tasks, folder, by, request, say)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Refuse a second run of a list while a first one goes on; the lock goes with the process that holds it."""
    with (folder / _LOCK_NAME).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpecError(f"another greasy run is at work in {folder}; wait for its end") from None
        except OSError:  # a file system without locks
            pass
        yield


def _run(tasks: TaskList, folder: Path, by: str, request: RunRequest, say: Callable[[str], None]) -> ListRun:
    left = _remaining(tasks, resume=request.resume)
    if not left.tasks:
        return ListRun(with_commands(of_list(tasks), commands(folder)), by, folder)
    nodes = any(is_node_script(task.command) for task in left.tasks)
    if nodes and request.retries:
        raise SpecError("--retries is for farms: the processes of a list with roles have to start together")
    places = _places(request, by, left)
    if (count := sum(is_node_script(task.command) for task in left.tasks)) > len(places):
        raise SpecError(
            f"{count} node scripts, but places for {len(places)} of them: each waits for the others; run "
            "greasy build again for these hosts"
        )
    shutil.rmtree(folder / "beats", ignore_errors=True)
    ready = folder / f"{'left' if left != tasks else 'run'}.greasy"
    write_atomic(ready, left.text())
    environ = {**os.environ, "HPCSYNAPSE_GREASY_RUN": uuid.uuid4().hex[:12]}
    work = Work(tasks, left, ready, folder, places, environ)
    with Stopping(GRACES.script) as stopping:
        codes = {"greasy": by_greasy, "srun": _by_srun, "mpirun": _by_mpirun, "local": _by_local}[by](
            work, request, stopping, say
        )
    outcomes = _judge(work, codes, wait=by != "local" and not stopping.signal)
    return ListRun(with_commands(outcomes, commands(folder)), by, folder, stopping.signal)


def _recorded(path: Path, request: RunRequest) -> tuple[TaskList, Path]:
    """Return a list whose lines record their ends, and its folder; lines that do not are given a script that does."""
    tasks = load(path)
    if not tasks.tasks:
        raise SpecError(f"{path}: there is no task in the list")
    results = [result_path(task.command) for task in tasks.tasks]
    if all(results):
        folders = {result.parents[1] for result in results if result}
        return tasks, folders.pop() if len(folders) == 1 else path.parent
    folder = path.with_name(path.name + ".d")
    before = _rows(folder / TABLE_NAME)
    recorded = write_recorded(folder, tasks, str(Path.cwd()), limit=request.limit)
    after = _rows(folder / TABLE_NAME)
    for task in recorded.tasks:  # the record of a line that has changed since says nothing about it
        if before[task.line - 1 : task.line] != after[task.line - 1 : task.line] and (old := result_path(task.command)):
            old.unlink(missing_ok=True)
    return recorded, folder


def _rows(table: Path) -> list[str]:
    return table.read_text().split("\n") if table.is_file() else []


def _remaining(tasks: TaskList, *, resume: bool) -> TaskList:
    """Return what is to be run, and remove the old records of just that; line numbers stay."""
    before = {task.line: from_record(task) for task in tasks.tasks}
    done = {line for line, one in before.items() if one.ok} if resume else set()
    for line, one in before.items():
        if one.state == "running":
            raise SpecError(
                f"line {line} of an earlier run is still at work on {one.host} ({one.reason}); "
                "wait for its end, or end it"
            )
    left = []
    for task in tasks.tasks:
        if task.line in done:
            continue
        if record := result_path(task.command):
            record.unlink(missing_ok=True)
        left.append(dataclasses.replace(task, after=tuple(line for line in task.after if line not in done)))
    return tasks if len(left) == len(tasks.tasks) else TaskList(tuple(left))


def choose(request: RunRequest, environ: Mapping[str, str]) -> str:
    """Return what runs lists here; raises SpecError when what was asked for is not there."""
    allocated = hosts.inside_job(environ)
    greasy = shutil.which(request.greasy or "greasy")
    given = bool(request.hosts or request.hostfile)
    if request.by == "auto":
        if greasy and (allocated or request.greasy):
            return "greasy"
        if hosts.has_steps(environ) and shutil.which("srun"):
            return "srun"
        if allocated and len(hosts.assigned_hosts(request.hosts, request.hostfile, environ)) > 1:
            if shutil.which("mpirun") and not hosts.has_steps(environ):
                return "mpirun"
            raise SpecError(
                "neither Greasy nor srun nor mpirun is here to reach the other nodes; name Greasy with --greasy PATH"
            )
        return "local"
    if request.by == "greasy" and not greasy:
        raise SpecError(f"{request.greasy or 'greasy'} is not a program here; name it with --greasy PATH")
    if request.by == "srun" and not hosts.has_steps(environ):
        raise SpecError("--by srun runs job steps, but this is no job that has them; use --by local, or submit a job")
    if request.by == "greasy" and not allocated and not given:
        raise SpecError("Greasy needs to know its nodes: run this inside a job, or give --hosts")
    return request.by


def _places(request: RunRequest, by: str, tasks: TaskList) -> list[str]:
    """Return one host for every task that may run at a time, hosts in turn: worker i serves the i-th."""
    nodes = sum(is_node_script(task.command) for task in tasks.tasks)
    given = request.hosts or request.hostfile
    if by == "local" and not given:
        return ["localhost"] * max(request.workers or os.cpu_count() or 1, nodes)
    found = hosts.assigned_hosts(request.hosts, request.hostfile)
    return found * (request.workers or 1)


def _by_local(work: Work, request: RunRequest, stopping: Stopping, say: Callable[[str], None]) -> dict[int, int]:
    def launch(task: Task, _place: str) -> list[str]:
        return shlex.split(task.command)

    return pool.Pool(work.left.tasks, work.places, launch, work.environ, request.retries, say).run(stopping)


def _by_srun(work: Work, request: RunRequest, stopping: Stopping, say: Callable[[str], None]) -> dict[int, int]:
    """Node scripts as one step with a program for every task (`--multi-prog`), others as one step a task."""
    if work.nodes_only:
        return _by_multi_prog(work, stopping)

    def launch(task: Task, place: str) -> list[str]:
        return srun.one_task(own_host(task) or place, shlex.split(task.command))

    return pool.Pool(work.left.tasks, work.places, launch, work.environ, request.retries, say).run(stopping)


def _by_multi_prog(work: Work, stopping: Stopping) -> dict[int, int]:
    """Start all node scripts as the tasks of one step, each on its own host."""
    tasks = work.left.tasks
    names = [own_host(task) or place for task, place in zip(tasks, work.places, strict=False)]
    if len(names) < len(tasks):
        raise SpecError(f"{len(tasks)} node scripts, but {len(names)} nodes in this job; run greasy build again here")
    program, place = work.folder / "multi-prog.conf", work.folder / "multi-prog.hosts"
    scripts = [Path(shlex.split(task.command)[1]).name for task in tasks]
    write_atomic(program, "".join(f"{number} bash ./{name}\n" for number, name in enumerate(scripts)))
    write_atomic(place, "".join(f"{name}\n" for name in names))
    argv = srun.one_program_each(names, program, work.folder)
    child = supervise.start(argv, environ={**work.environ, srun.HOSTFILE: str(place)})
    supervise.wait(child, stopping)
    return {}


def _by_mpirun(work: Work, request: RunRequest, stopping: Stopping, say: Callable[[str], None]) -> dict[int, int]:
    """Node scripts as the programs of one mpirun, others as one mpirun a task, or as processes of this node."""
    work.environ.update(mpirun.environment(work.environ, GRACES.script))
    if work.nodes_only:
        tasks = work.left.tasks
        names = [own_host(task) or place for task, place in zip(tasks, work.places, strict=False)]
        argv = mpirun.one_program_each(names, [shlex.split(task.command) for task in tasks])
        supervise.wait(supervise.start(argv, environ=work.environ), stopping)
        return {}
    variables = list(hosts.carried(work.environ))

    def launch(task: Task, place: str) -> list[str]:
        program = shlex.split(task.command)
        return program if ssh.is_here(place) else mpirun.one_task(place, program, variables)

    return pool.Pool(work.left.tasks, work.places, launch, work.environ, request.retries, say).run(stopping)


def _judge(work: Work, codes: Mapping[int, int], *, wait: bool) -> list[Outcome]:
    """Return the outcome of every line; where a script left no end, its process may tell why."""
    deadline = time.monotonic() + (_LATE_SECONDS if wait else 0)
    outcomes = of_list(work.tasks)
    while any(one.state in ("lost", "not-run") for one in outcomes) and time.monotonic() < deadline:
        time.sleep(0.2)  # records of other nodes may be late on a shared file system
        outcomes = of_list(work.tasks)
    return [_explain(one, codes.get(one.line)) for one in outcomes]


def _explain(outcome: Outcome, code: int | None) -> Outcome:
    if outcome.state not in ("lost", "not-run") or not code:
        return outcome
    number = -code if code < 0 else code - 128
    try:
        name = signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return dataclasses.replace(outcome, state="failed", exit_code=code, reason="it left no record of its end")
    return dataclasses.replace(
        outcome, state="killed", exit_code=128 + number, signal=name, reason="killed together with its script"
    )


def records_of(path: Path) -> list[Outcome] | None:
    """Return what is recorded for a list, or for the list of a folder; None when the path is something else."""
    if path.is_dir():
        path = path / LIST_NAME
    wrapped = path.with_name(path.name + ".d") / LIST_NAME
    source = wrapped if wrapped.is_file() else path
    tasks, problems = parse(read(source))
    if problems or not tasks.tasks or not all(result_path(task.command) for task in tasks.tasks):
        return None
    return with_commands(of_list(tasks, ended=_is_over(source)), commands(source.parent))


def _is_over(path: Path) -> bool:
    """Tell whether certainly no run of a list goes on; without locks nobody can know."""
    lock = path.parent / _LOCK_NAME
    try:
        with (lock if lock.is_file() else path).open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
