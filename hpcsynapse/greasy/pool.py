"""Runs the tasks of a list as processes or job steps, as Greasy would: in file order, as they become free to go."""

from __future__ import annotations

import subprocess
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hpcsynapse.greasy.outcomes import from_record
from hpcsynapse.greasy.tasks import Task
from hpcsynapse.job import supervise
from hpcsynapse.job.supervise import Stopping

_RECORD_SECONDS = 2.0


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
        while self._running or (self._ready and not stopping.signal):
            while self._ready and self._free and not stopping.signal:
                self._begin(self._ready.popleft(), self._free.popleft())
            if not self._collect(stopping):
                time.sleep(0.01)
            stopping.tell(child.pid for _, _, child in self._running.values())
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
        child = supervise.start(self.launch(task, place), environ=self.environ)
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
