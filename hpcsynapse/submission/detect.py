"""Which queue answers on this machine."""

from __future__ import annotations

import shutil

from hpcsynapse.errors import CommandError, SubmitError
from hpcsynapse.schedulers import SCHEDULERS, create
from hpcsynapse.schedulers.base import Scheduler
from hpcsynapse.spec.names import THIS_MACHINE
from hpcsynapse.submission import commands

_OF_OTHERS = ("oarsub", "condor_submit", "pjsub")


def detect_scheduler() -> str:
    """Return the first queue, in the order of their rows, whose commands are here and which answers.

    Raises SubmitError when one is configured but does not answer: running on a login node instead of the queue must
    be somebody's decision.
    """
    others = (name for name in SCHEDULERS if name != THIS_MACHINE)
    return next((name for name in others if _answers(create(name))), THIS_MACHINE)


def unanswered() -> list[str]:
    """Say of every queue whose commands are here and fail what they say, e.g. before a module of it is loaded."""
    said = []
    for queue in map(create, SCHEDULERS):
        probe = queue.probe_command()
        if probe and _is_here(queue) and (done := _probed(probe)).code:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            said.append(f"{probe[0]} is here but failed ({lines[-1].strip()})")
    said += [f"{name} is here, of a queue that hpcsynapse does not know" for name in _OF_OTHERS if shutil.which(name)]
    return said


def _is_here(queue: Scheduler) -> bool:
    return bool(queue.programs) and all(map(shutil.which, queue.programs))


def _probed(probe: list[str]) -> commands.Completed:
    try:
        return commands.run(probe, timeout=20)
    except CommandError as error:
        return commands.Completed(1, "", str(error))


def _answers(queue: Scheduler) -> bool:
    if not _is_here(queue):
        return False
    probe = queue.probe_command()
    if probe is None:
        return True
    done = _probed(probe)
    if done.code and queue.configured():
        raise SubmitError(
            f"{queue.name} is configured here but does not answer: {done.stderr.strip() or 'no message'}; "
            f"try again, or run on this machine with --scheduler {THIS_MACHINE}"
        )
    return done.code == 0
