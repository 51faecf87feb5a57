"""The runs of a folder and their states, kept in memory: a look costs one listing, and a few files of what goes on.

Nothing is read unless somebody looks. A run that has ended keeps its row until its folder changes, so thousands of
them cost nothing. What is new is read newest first, for a limited time a look; the answer says how many are left.
The queues are asked through the code of `status`, once for all runs and at most every 30 seconds.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

from hpcsynapse.errors import RunNotFoundError
from hpcsynapse.fields import nearest
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import FINAL_STATES
from hpcsynapse.serve.listing import Row, facts_of, row_of
from hpcsynapse.study.folder import StudyDirectory
from hpcsynapse.submission.queries import Answers, Known, ask_queues
from hpcsynapse.submission.status import RunStatus, statuses

QUEUE_SECONDS = 30.0  # between two questions to the queues
_LOOK_SECONDS = 1.0  # between two looks at the folder
_NEW_SECONDS = 5.0  # between two questions for runs that were queued since
_CHECK_SECONDS = 60.0  # between two looks at a run that has ended
_READ_SECONDS = 0.5  # for which new runs are read in one look
_CHUNK = 64
_SETTLED = 300.0  # seconds after which a run that has ended counts as ended for good


@dataclass
class _Known:
    """What is kept of a run beside its row."""

    run: RunDirectory
    created: float
    row: Row | None = None
    status: RunStatus | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    stamp: tuple[int, int] = (0, 0)
    checked: float = 0.0


class RunIndex:
    """All runs of a folder and of its studies."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.changed = folder, 0
        self._lock, self._looked, self._asked, self._asked_new = RLock(), -1e9, -1e9, -1e9
        self._known: dict[str, _Known] = {}
        self._studies: dict[str, StudyDirectory] = {}
        self._answers: Answers = {}
        self._in_answers: set[str] = set()
        self.gone: list[tuple[int, str]] = []

    def listed(self) -> list[Row]:
        """Return the rows of all runs that have been read, newest first."""
        with self._lock:
            found = [one for one in self._known.values() if one.row is not None]
            return [one.row for one in sorted(found, key=lambda one: -one.created) if one.row]

    @property
    def unread(self) -> int:
        """How many runs have not been read yet."""
        return sum(one.row is None for one in self._known.values())

    def studies(self) -> dict[str, StudyDirectory]:
        """Return the studies by name."""
        self.refresh()
        return dict(self._studies)

    def find(self, name: str) -> RunDirectory:
        """Return a run by its name in the list; raises RunNotFoundError for every other text, whatever it says."""
        self.refresh()
        with self._lock:
            if one := self._known.get(name):
                return one.run
            raise RunNotFoundError(f"no run {name!r} in {self.folder}{nearest(name, self._known)}")

    def row(self, name: str) -> tuple[Row, RunStatus]:
        """Return the row of a run and all that `status` tells of it, read now."""
        run = self.find(name)
        with self._lock:
            one = self._known[name]
            one.facts = one.facts or facts_of(run)
            self._ask([one], time.monotonic(), new=True)
            status = statuses([run], self._answers)[0]
            return self._put(one, status), status

    def forget(self, name: str) -> None:
        """Look at a run and its queue afresh the next time: somebody has done something to it."""
        with self._lock:
            self._looked = self._asked = self._asked_new = -1e9
            if one := self._known.get(name):
                one.checked, one.stamp = 0.0, (0, 0)

    def refresh(self, whole: bool = False) -> None:
        """Look for new runs, and read what may have changed; `whole` goes on until every run has been read."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked >= _LOOK_SECONDS or whole:
                self._looked = now
                self._list()
                open_runs = [one for one in self._known.values() if one.row and self._may_change(one, now)]
                self._ask(open_runs, now)
                self._read(open_runs)
            end = math.inf if whole else now + _READ_SECONDS
            self._read_new(end)
            self._describe(end)

    def _read_new(self, end: float) -> None:
        """Read runs that have no row yet, the newest first, until a time."""
        unread = sorted((one for one in self._known.values() if one.row is None), key=lambda one: -one.created)
        while unread:
            chunk, unread = unread[:_CHUNK], unread[_CHUNK:]
            self._ask(chunk, time.monotonic(), new=True)
            self._read(chunk)
            if time.monotonic() > end:
                break

    def _describe(self, end: float) -> None:
        """Read the descriptions of runs, which take longer than all else of them, until a time."""
        for one in self._known.values():
            if one.row is not None and not one.facts:
                if time.monotonic() > end:
                    break
                one.facts = facts_of(one.run)
                if one.status is not None:
                    self._put(one, one.status)

    def _list(self) -> None:
        found = dict(self._found())
        for name in [name for name in self._known if name not in found]:
            del self._known[name]
            self.changed += 1
            self.gone = [*self.gone[-999:], (self.changed, name)]
        for name, run in found.items():
            if name not in self._known:
                with suppress(OSError):  # removed at this moment
                    self._known[name] = _Known(run, run.run_toml.stat().st_mtime)

    def _found(self) -> Iterator[tuple[str, RunDirectory]]:
        for path in _folders(self.folder):
            if path.name in self._known:
                yield path.name, self._known[path.name].run
            elif path.name in self._studies or StudyDirectory.at(self.folder, path.name):
                study = self._studies.setdefault(path.name, StudyDirectory(path))
                for point in _folders(study.runs_path):
                    name = f"{study.name}/{point.name}"
                    if name in self._known or (point / "run.toml").is_file():
                        yield name, RunDirectory(point)
            elif (path / "run.toml").is_file():
                yield path.name, RunDirectory(path)

    def _may_change(self, one: _Known, now: float) -> bool:
        """Tell whether a run goes on, has just ended, or was changed since it ended."""
        if one.row is None or one.row.state not in FINAL_STATES:
            return True
        if one.row.since is not None and abs(time.time() - one.row.since) < _SETTLED:
            return True
        if now - one.checked < _CHECK_SECONDS:
            return False
        one.checked = now
        return _stamp(one.run) != one.stamp

    def _ask(self, runs: list[_Known], now: float, new: bool = False) -> None:
        """Ask the queues of these runs, all of them when it is time to, else those that were never asked for."""
        if not runs:
            return
        if now - self._asked >= QUEUE_SECONDS and not new:
            self._asked = time.monotonic()
            self._answers = ask_queues([one.run for one in runs])
            self._in_answers = {str(one.run.path) for one in runs}
            return
        fresh = [one for one in runs if str(one.run.path) not in self._in_answers]
        if fresh and (new or now - self._asked_new >= _NEW_SECONDS):
            self._asked_new = time.monotonic()
            self._asked = max(self._asked, self._asked_new - QUEUE_SECONDS + _NEW_SECONDS)
            for scheduler, answer in ask_queues([one.run for one in fresh]).items():
                before = self._answers.get(scheduler)
                if isinstance(before, Known) and isinstance(answer, Known):
                    answer = before.with_others(answer)
                self._answers[scheduler] = answer
            self._in_answers |= {str(one.run.path) for one in fresh}

    def _read(self, runs: Iterable[_Known]) -> None:
        asked = [one for one in runs if str(one.run.path) in self._in_answers]
        for one in asked:
            one.stamp = _stamp(one.run)
        for one, status in zip(asked, statuses([one.run for one in asked], self._answers), strict=True):
            self._put(one, status)

    def _put(self, one: _Known, status: RunStatus) -> Row:
        one.status = status
        row = row_of(one.run, status, one.created, one.facts, one.row.changed if one.row else 0)
        if row != one.row:
            self.changed += 1
            row = one.row = row_of(one.run, status, one.created, one.facts, self.changed)
        return row


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            return [Path(one.path) for one in found if not one.name.startswith(".") and one.is_dir()]
    except OSError:
        return []


def _stamp(run: RunDirectory) -> tuple[int, int]:
    """Return what changes when a file of a run's folder is replaced, made or removed."""
    try:
        found = run.path.stat()
    except OSError:
        return (0, 0)
    return found.st_mtime_ns, found.st_ino
