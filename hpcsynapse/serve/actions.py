"""What can be done from the page, where that was allowed: through the functions that the commands use, once each.

Every request carries a word of its own, so that one which is sent twice (a double click, a connection that broke) is
done once and answered the same. Every action that was tried is a line of `actions.jsonl` in the folder of runs.
"""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from hpcsynapse import fields
from hpcsynapse.errors import HpcSynapseError, SpecError
from hpcsynapse.fields import setting
from hpcsynapse.files import append_json, user_name
from hpcsynapse.runs.states import FINAL_STATES
from hpcsynapse.serve.index import RunIndex
from hpcsynapse.submission.status import as_text

FILE = "actions.jsonl"
MOST_UPLOAD = 1 << 30  # bytes of an archive for the store
_REMEMBERED = 1000  # actions


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Which run something is to be done to; `once` is a word of the request's own."""

    name: str
    once: str
    time: str | None = setting(None, "resume: another time limit")

    def __post_init__(self) -> None:
        """Raise SpecError for values of the wrong kind."""
        fields.validate("", self)


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that is to be: settings as `--set` takes them, by `section.key`, a command line, and a name.

    Without a command it is the built-in trainer. `once` is a word of the request's own.
    """

    once: str
    name: str | None = None
    command: str = ""
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise SpecError for values of the wrong kind."""
        fields.validate("", self)


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """Which entry of the store is to be removed; `once` is a word of the request's own."""

    kind: str
    name: str
    once: str

    def __post_init__(self) -> None:
        """Raise SpecError for values of the wrong kind."""
        fields.validate("", self)


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, to what, in sentences, and the job where there is one."""

    action: str
    name: str
    job_id: str
    said: list[str]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check says of something: ok, warning or error."""

    level: str
    where: str
    message: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A run as it would be submitted: its name, its job file, and what the checks say of it."""

    name: str
    job_file: str
    findings: list[Finding]


class Actions:
    """The actions on the runs of one folder."""

    def __init__(self, index: RunIndex) -> None:
        self.index = index
        self._lock, self._locks = Lock(), dict[str, Lock]()
        self._done: dict[str, Done | HpcSynapseError] = {}

    def once(self, action: str, name: str, word: str, act: Callable[[], Done]) -> Done:
        """Do something, write it down, and return the same answer for the same word from then on."""
        if not 8 <= len(word) <= 100:
            raise SpecError("`once` must be a word of 8 to 100 characters")
        key = f"{action} {word}"
        with self._lock:
            own = self._locks.setdefault(key, Lock())
            while len(self._locks) > _REMEMBERED:
                oldest = next(iter(self._locks))
                self._locks.pop(oldest)
                self._done.pop(oldest, None)
        with own:
            if key not in self._done:
                self._done[key] = self._do(action, name, act)
        found = self._done[key]
        if isinstance(found, HpcSynapseError):
            raise found
        return found

    def _do(self, action: str, name: str, act: Callable[[], Done]) -> Done | HpcSynapseError:
        found: Done | HpcSynapseError
        try:
            found = act()
        except HpcSynapseError as error:
            found = error
        failed = isinstance(found, HpcSynapseError)
        told = {"error": str(found)} if failed else {"run": found.name, "job_id": found.job_id}  # type: ignore[union-attr]
        where = {"from": "serve", "host": os.uname().nodename, "pid": os.getpid(), "user": user_name()}
        with suppress(OSError):  # a full disk is no reason to say that nothing was done
            record = {"time": time.time(), "action": action, "name": name, **told, **where}
            append_json(self.index.folder / FILE, record)
        self.index.forget(name)
        return found


def check(actions: Actions, request: NewRun) -> Checked:
    """Return the job file of a run and what the checks say, as `check` does; nothing is written."""
    from hpcsynapse.submission.prepare import prepare

    prepared = prepare(_description(request), actions.index.folder, ask_queue=True)
    job_file = "" if isinstance(prepared.rendered, HpcSynapseError) else prepared.job_file
    findings = [Finding(one.level, as_text(one.where), as_text(one.message)) for one in prepared.findings]
    return Checked(str(prepared.spec.name), job_file, findings)


def submit(actions: Actions, request: NewRun) -> Done:
    """Queue a run, as `submit` does."""
    from hpcsynapse.submission.prepare import prepare, told
    from hpcsynapse.submission.submit import submit_prepared

    def act() -> Done:
        prepared = prepare(_description(request), actions.index.folder)
        done = submit_prepared(prepared)
        return Done("submit", done.run.name, done.job_id, [*told(prepared.findings), *done.notes])

    return actions.once("submit", request.name or "", request.once, act)


def _description(request: NewRun) -> Any:
    """Return the description that a form gives, over the user's own files, as the command line's options are."""
    from hpcsynapse.spec import settings

    tables = settings.parse_set(tuple(f"{key}={value}" for key, value in request.settings.items()))
    if request.name:
        tables["name"] = request.name
    try:
        words = shlex.split(request.command)
    except ValueError as error:
        raise SpecError(f"the command cannot be read: {error}") from None
    if words:
        tables["command"] = words
    return settings.load(None, tables)


def stop(actions: Actions, request: RunRequest) -> Done:
    """Ask a run to finish its step, save and end, as `stop` does."""

    def act() -> Done:
        run = actions.index.find(request.name)
        _refuse_ended(actions, request.name)
        run.request_stop("stopped by user")
        return Done("stop", request.name, "", ["It will stop after its step, if its program looks for that."])

    return actions.once("stop", request.name, request.once, act)


def cancel(actions: Actions, request: RunRequest) -> Done:
    """Tell the queue to end a run now, as `cancel` does."""
    from hpcsynapse.submission.cancel import request_cancel

    def act() -> Done:
        _refuse_ended(actions, request.name)
        request_cancel(actions.index.find(request.name))
        return Done("cancel", request.name, "", ["The queue was told to end it."])

    return actions.once("cancel", request.name, request.once, act)


def resume(actions: Actions, request: RunRequest) -> Done:
    """Queue a run that has ended once more, from its newest checkpoint, as `resume` does."""
    from hpcsynapse.submission.submit import resubmit

    def act() -> Done:
        done = resubmit(actions.index.find(request.name), request.time)
        return Done("resume", request.name, done.job_id, list(done.notes))

    return actions.once("resume", request.name, request.once, act)


def remove(actions: Actions, request: RunRequest) -> Done:
    """Remove a run that has ended, as `remove` does."""
    from hpcsynapse.runs.removal import remove_folder
    from hpcsynapse.submission.remove import refuse_unended

    def act() -> Done:
        run = actions.index.find(request.name)
        refuse_unended([run])
        remove_folder(run.path)
        return Done("remove", request.name, "", [f"removed: {run.path}"])

    return actions.once("remove", request.name, request.once, act)


def _refuse_ended(actions: Actions, name: str) -> None:
    actions.index.forget(name)
    if (state := actions.index.row(name)[0].state) in FINAL_STATES:
        raise SpecError(f"run {name} has ended already: {state}")


def store_remove(actions: Actions, request: StoreRequest) -> Done:
    """Remove an entry of the store, as `store remove` does."""
    from hpcsynapse.usercode import store

    def act() -> Done:
        if request.kind not in store.FOLDERS:
            raise SpecError(f"kind {request.kind!r} is not one of {', '.join(store.FOLDERS)}")
        store.remove(store.store_folder(), request.kind, request.name)
        return Done("store remove", f"{request.kind} {request.name}", "", [])

    return actions.once("store remove", request.name, request.once, act)


def store_add(actions: Actions, kind: str, name: str, once: str, archive: Path) -> Done:
    """Unpack a zip archive into the store, as `store add` does."""
    from hpcsynapse.usercode import store

    def act() -> Done:
        if kind not in store.FOLDERS:
            raise SpecError(f"kind {kind!r} is not one of {', '.join(store.FOLDERS)}")
        entry = store.add(store.store_folder(), kind, archive, name=name)
        return Done("store add", f"{kind} {entry.name}", "", [f"{entry.files} files"])

    return actions.once("store add", name, once, act)


def upload_file() -> Any:
    """Return a file of this machine for what is sent; it is gone when it is closed."""
    return tempfile.NamedTemporaryFile(prefix="hpcsynapse-", suffix=".zip")
