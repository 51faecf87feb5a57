"""Runs the tasks of a list as processes or job steps, as Greasy would: in file order, as they become free to go."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType

from hpcsynapse.greasy.outcomes import from_record
from hpcsynapse.greasy.tasks import Task

# The scripts give their programs ten seconds between SIGTERM and SIGKILL; they need to survive that themselves.
GRACE_SECONDS = 25.0
_RECORD_SECONDS = 2.0


class Stopping:
    """Notes SIGTERM and SIGINT while tasks run, so that they can be told to end and their ends be recorded."""

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Stopping:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() itself has returned

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number


def start(argv: Sequence[str], environ: Mapping[str, str], cwd: str | None = None) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that a signal reaches all of it and only it."""
    return subprocess.Popen(argv, env=dict(environ), cwd=cwd, stdin=subprocess.DEVNULL, start_new_session=True)


def tell(children: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    """Send a signal to processes and what they have started."""
    for child in children:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)


def wait(child: subprocess.Popen[bytes], stopping: Stopping) -> int:
    """Wait for one process; when told to stop, tell it, and end it after a while."""
    deadline = float("inf")
    while True:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=0.1)
        if stopping.signal and deadline == float("inf"):
            tell([child], signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SECONDS
        elif time.monotonic() > deadline:
            tell([child], signal.SIGKILL)


@dataclass(slots=True)
class Pool:
    """As many tasks at a time as there are places; a place is the name of a host, which may repeat.

    `launch` returns the argv of a task at a place, `say` is told of failures as they happen.
    """

    tasks: Sequence[Task]
    places: Sequence[str]
    launch: Callable[[Task, str], list[str]]
    environ: Mapping[str, str]
    retries: int = 0
    say: Callable[[str], None] = print
    codes: dict[int, int] = field(default_factory=dict)
    _running: dict[int, tuple[Task, str, subprocess.Popen[bytes]]] = field(default_factory=dict)
    _ready: deque[Task] = field(default_factory=deque)
    _free: deque[str] = field(default_factory=deque)
    _open: dict[int, int] = field(default_factory=dict)
    _children: dict[int, list[Task]] = field(default_factory=dict)
    _tries: Counter[int] = field(default_factory=Counter)

    def run(self, stopping: Stopping) -> dict[int, int]:
        """Run everything that can be run; return the exit code of each process by line, -N for signal N."""
        self._prepare()
        deadline = float("inf")
        while self._running or (self._ready and not stopping.signal):
            while self._ready and self._free and not stopping.signal:
                self._begin(self._ready.popleft(), self._free.popleft())
            if not self._collect(stopping):
                time.sleep(0.01)
            if stopping.signal and deadline == float("inf"):
                tell([child for _, _, child in self._running.values()], signal.SIGTERM)
                deadline = time.monotonic() + GRACE_SECONDS
            elif time.monotonic() > deadline:
                tell([child for _, _, child in self._running.values()], signal.SIGKILL)
        return self.codes

    def _prepare(self) -> None:
        self._free.extend(self.places)
        for task in self.tasks:
            self._open[task.line] = len(task.after)
            for line in task.after:
                self._children.setdefault(line, []).append(task)
            if not task.after:
                self._ready.append(task)

    def _begin(self, task: Task, place: str) -> None:
        self._tries[task.line] += 1
        child = start(self.launch(task, place), self.environ)
        self._running[task.line] = (task, place, child)

    def _collect(self, stopping: Stopping) -> bool:
        """Take in every process that has ended; return whether there was one."""
        ended = [entry for entry in self._running.values() if entry[2].poll() is not None]
        for task, place, child in ended:
            del self._running[task.line]
            self._free.append(place)
            self._judge(task, child.returncode, stopping)
        return bool(ended)

    def _judge(self, task: Task, code: int, stopping: Stopping) -> None:
        """Believe the record that the task left; only where there is none, what the process says."""
        self.codes[task.line] = code
        outcome = from_record(task)
        deadline = time.monotonic() + _RECORD_SECONDS
        while code == 0 and not outcome.ok and time.monotonic() < deadline:  # a shared file system may be late
            time.sleep(0.05)
            outcome = from_record(task)
        if outcome.ok:
            for child in self._children.get(task.line, ()):
                self._open[child.line] -= 1
                if not self._open[child.line]:
                    self._ready.append(child)
            return
        how = (
            f"exit code {code}" if outcome.how == "-" else outcome.how if outcome.signal else f"exit code {outcome.how}"
        )
        again = self._tries[task.line] <= self.retries and not stopping.signal
        more = f"; retry {self._tries[task.line]} of {self.retries}" if again else ""
        self.say(f"line {task.line} {outcome.state} ({how}) on {outcome.host or 'its node'}{more}")
        if again:
            self._ready.appendleft(task)
