"""Process groups: started, told to end, and ended for certain, with the ladder of graces between SIGTERM and SIGKILL.

Every rank, worker, task and script is the first process of a group of its own, so that a signal reaches all that it has
started and nothing else. Whoever is told to end tells the groups inside it, waits, and kills what is left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Self


@dataclass(frozen=True, slots=True)
class Graces:
    """Seconds between SIGTERM and SIGKILL, from what is nearest to a program outwards: each is longer than the last.

    A shorter outer grace would kill the one who waits for the inner, and nobody would record how a program ended.
    Launchers have their own: mpirun 1 s and horovodrun 5 s, which are shorter, torchrun 30 s, which `limit` cuts short.
    """

    program: float = 10.0  # ranks, workers and tasks: by the local launcher, task scripts and node supervisors
    farewell: float = 11.0  # a parameter server that was told to end waits so long for its workers to leave
    server: float = 13.0  # parameter servers: by node supervisors
    launcher: float = 14.0  # launchers that kill their ranks when told to end: by the job script, which tells the ranks
    script: float = 16.0  # task scripts, node supervisors and job steps: by `greasy run`
    limit: float = 18.0  # the launcher: by `timeout` in a job script that enforces its own time limit
    cancel: float = 20.0  # the job script: by `cancel` of the local scheduler
    packed: float = 25.0  # the job script of one run among several in an allocation
    queue: float = 30.0  # everything, by the queue: Slurm's KillWait (slurm.conf(5)), which is not set here


GRACES = Graces()


def start(
    argv: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
    cwd: str | None = None,
    output: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process as the first of a group of its own, its output and errors in a file where one is given.

    Raises OSError for a program that cannot be started.
    """
    errors = None if output is None else subprocess.STDOUT
    return subprocess.Popen(
        argv, env=environ, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
    )


def exit_code(returncode: int) -> int:
    """Return what a shell would call the end of a process: 128 + N where signal N ended it."""
    return 128 - returncode if returncode < 0 else returncode


def signal_name(code: int | None) -> str | None:
    """Return the name without SIG of the signal that an exit code tells of, or None."""
    with suppress(ValueError):
        return signal.Signals(code - 128).name.removeprefix("SIG") if code and code > 128 else None
    return None


def send(group: int, number: int) -> None:
    """Send a signal to a process group; one that is stopped goes on, since it takes SIGTERM only then."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        if number == signal.SIGTERM:
            os.killpg(group, signal.SIGCONT)


def left(group: int) -> bool:
    """Tell whether anything of a process group still runs; the dead whom nobody has collected do not count."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return any(stat[0] not in "ZX" and int(stat[2]) == group for stat in _processes().values())


class Ending:
    """Ends process groups: SIGTERM when it has begun, SIGKILL when the grace is over."""

    def __init__(self, grace: float) -> None:
        self._grace, self._told = grace, set[int]()
        self.deadline = float("inf")

    @property
    def begun(self) -> bool:
        """Whether anything was to end yet."""
        return self.deadline != float("inf")

    @property
    def over(self) -> bool:
        """Whether the grace is over."""
        return time.monotonic() > self.deadline

    def begin(self) -> None:
        """Let the grace run from now on, if it does not already."""
        if not self.begun:
            self.deadline = time.monotonic() + self._grace

    def tell(self, groups: Iterable[int], *, first_only: bool = False) -> None:
        """Tell each group to end, once, and kill it when the grace is over; to be called again until all have ended.

        `first_only` sends SIGTERM to the first process of a group alone, which tells the others itself.
        """
        for group in groups:
            if self.over:
                send(group, signal.SIGKILL)
            elif self.begun and group not in self._told:
                self._told.add(group)
                if first_only:
                    with suppress(ProcessLookupError):
                        os.kill(group, signal.SIGTERM)
                else:
                    send(group, signal.SIGTERM)


class Stopping(Ending):
    """Notes SIGTERM and SIGINT, from which on everything is to end; `signal` is the last that came, or 0."""

    def __init__(self, grace: float) -> None:
        super().__init__(grace)
        self.signal = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() itself has returned

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        self.begin()


def wait(child: subprocess.Popen[bytes], ending: Ending) -> int:
    """Wait for one process, which is told to end when that begins; return its code, -N for signal N."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=0.1)
        ending.tell([child.pid])


def wait_for_group(group: int, ending: Ending) -> None:
    """Wait for all that the first process of a group has left behind, as `wait` does for the process itself."""
    while left(group):
        ending.tell([group])
        time.sleep(0.1)


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Let the kernel send this process a signal when its parent dies (prctl(2), PR_SET_PDEATHSIG); Linux alone can."""
    with suppress(ImportError, OSError, AttributeError):  # a Python without ctypes, or not Linux
        import ctypes

        ctypes.CDLL(None).prctl(1, number)


def process_stat(pid: int | str) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on (proc(5)), or None for no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _processes() -> dict[int, list[str]]:
    found = {entry.name: process_stat(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    return {int(pid): stat for pid, stat in found.items() if stat}


def start_ticks(pid: int | str, *, alive: bool = True) -> int | None:
    """Return when a process was started, in clock ticks since boot, by which a reused number is known.

    None for no such process, or, unless `alive` is false, for one that has ended and waits to be collected.
    """
    stat = process_stat(pid)
    return None if stat is None or (alive and stat[0] in "ZX") else int(stat[19])


def is_stopped(pid: int) -> bool:
    """Tell whether a process is stopped by a signal (SIGSTOP, SIGTSTP); a debugger's hold is another state."""
    stat = process_stat(pid)
    return stat is not None and stat[0] == "T"


def is_tool(pid: int, name: str) -> bool:
    """Tell whether a process is a tool of `hpcsynapse.job` of that name; one that has ended is none."""
    try:
        return name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


class Above:
    """The process that started this one and, on the machine where the job script runs, all those up to the script.

    A job script says its own number in JOB_PID.
    """

    JOB_PID = "HPCSYNAPSE_JOB_PID"

    def __init__(self) -> None:
        self._chain = {os.getppid(): start_ticks(os.getppid())}
        script = os.environ.get(self.JOB_PID, "")
        chain = _ancestors(int(script)) if script.isdecimal() else []
        self._chain |= {pid: start_ticks(pid) for pid in chain}
        self._stopped: dict[int, float] = {}

    @property
    def gone(self) -> str:
        """Name the first of them that has ended; empty while all are there."""
        for number, (pid, ticks) in enumerate(self._chain.items()):
            if (number == 0 and os.getppid() != pid) or (ticks is not None and start_ticks(pid) != ticks):
                return f"the process that started it ({pid})" if number == 0 else f"process {pid} above it"
        return ""

    def keep_going(self, now: float, limit: float) -> None:
        """Let those go on that were stopped, alone, for the limit: nobody else would notice, nor enforce a time limit.

        `now` is in seconds in which this process ran.
        """
        for pid in self._chain:
            if not is_stopped(pid):
                self._stopped.pop(pid, None)
            elif now - self._stopped.setdefault(pid, now) > limit:
                print(f"hpcsynapse: process {pid} was stopped for {limit:g} s: it goes on", file=sys.stderr, flush=True)
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGCONT)


def _ancestors(last: int) -> list[int]:
    """Return the processes above this one up to `last`; none where it is not among them (another machine)."""
    found, pid = list[int](), os.getppid()
    while pid > 1:
        found.append(pid)
        if pid == last:
            return found
        stat = process_stat(pid)
        pid = int(stat[1]) if stat else 0
    return []


def descendants(pid: int) -> list[int]:
    """Return a process and everything below it, parents first."""
    children: dict[int, list[int]] = {}
    for one, stat in _processes().items():
        children.setdefault(int(stat[1]), []).append(one)
    found = [pid]
    for one in found:
        found.extend(children.get(one, []))
    return found


def end_tree(pid: int, grace: float) -> None:
    """Tell a process that is no child of this one to end, wait for it, and kill what is left of all below it."""
    everything = {one: start_ticks(one) for one in descendants(pid)}
    started = everything[pid]
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    limit = time.monotonic() + grace
    while started is not None and start_ticks(pid) == started and time.monotonic() < limit:
        time.sleep(0.05)
    for one, ticks in everything.items():
        if ticks is not None and start_ticks(one) == ticks:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
