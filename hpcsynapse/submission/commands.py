"""The one place that runs queue commands: argv lists without a shell, a time limit, a clean environment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse.errors import CommandError
from hpcsynapse.job import supervise
from hpcsynapse.spec import names

# A job submitted from inside another job would inherit these, and the variables that a queue owns, and be placed by
# them. Some of a queue's change nothing about placement but would change what its commands print.
_STRAY = re.compile(r"(PMI|PMI2|PMIX|OMPI|PRTE)_.*|MP_CHILD|MP_PROCS|MPI_LOCAL.*|HPCSYNAPSE_TASK.*")
_KEPT = frozenset({"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"})
# What modules of a login shell set: how MPI behaves here, as queues' own settings say which cluster takes jobs. Inside
# a process that mpirun started the first are that process's own.
_SETTINGS = re.compile(r"(OMPI|PMIX|PRTE)_MCA_.*")
_STARTED = ("OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK")
# Set by hpcsynapse or a launcher for one rank; a job of its own must not see them.
_RANK = frozenset({"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK", "MASTER_ADDR",
                   "MASTER_PORT", "TORCHELASTIC_RUN_ID", "HPCSYNAPSE_RUN_DIR", "HPCSYNAPSE_ATTEMPT",
                   "HPCSYNAPSE_NODES", "HPCSYNAPSE_USED_NODES"})  # fmt: skip  # a table


@dataclass(frozen=True, slots=True)
class Completed:
    """What a command printed and how it ended."""

    code: int
    stdout: str
    stderr: str


def clean_environment(environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the environment for a submission, and what was removed from it (recorded with the run)."""
    started = any(name in environ for name in _STARTED)

    def stays(key: str) -> bool:
        if key in _KEPT or names.reaches_queue(key) or (_is_setting(key) and not started):
            return True
        return not (_STRAY.fullmatch(key) or names.owned(key) or key in _RANK)

    removed = {key: value for key, value in environ.items() if not stays(key)}
    return {key: value for key, value in environ.items() if key not in removed}, removed


def _is_setting(key: str) -> bool:
    return bool(_SETTINGS.fullmatch(key)) or names.chosen_by_user(key)


def run(
    command: list[str],
    *,
    timeout: float = 60.0,
    cwd: str | None = None,
    leave_out: Collection[str] = (),
    stdin: Path | None = None,
) -> Completed:
    """Run a queue command in a clean environment and return what it printed.

    Raises CommandError when the program is missing or exceeds `timeout` seconds; its whole process group is killed
    then. A non-zero exit code is returned, not raised. Variables to `leave_out` are not passed on; `stdin` is a
    file that it reads.
    """
    environ, _ = clean_environment(os.environ)
    for name in leave_out:
        environ.pop(name, None)
    try:
        with Path(stdin or os.devnull).open("rb") as source:
            child = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdin=source,
                env=environ,
                cwd=cwd,
                text=True,
                errors="replace",
                start_new_session=True,
            )
    except OSError as error:
        raise CommandError(f"cannot run {command[0]}: {error.strerror}", command=command) from None
    try:
        stdout, stderr = child.communicate(timeout=timeout)
    except BaseException as error:
        supervise.send(child.pid, signal.SIGKILL)
        child.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise CommandError(f"{command[0]} did not answer within {timeout:g} s", command=command) from None
        raise
    return Completed(child.returncode, stdout, stderr)


def run_checked(
    command: list[str], *, timeout: float = 60.0, cwd: str | None = None, leave_out: Collection[str] = ()
) -> Completed:
    """Run a queue command as `run` does and raise CommandError with what it said when it fails."""
    done = run(command, timeout=timeout, cwd=cwd, leave_out=leave_out)
    if done.code:
        said = done.stderr.strip() or done.stdout.strip() or "no message"
        raise CommandError(
            f"{command[0]} failed with exit code {done.code}: {said}",
            command=command,
            stdout=done.stdout,
            stderr=done.stderr,
        )
    return done


def ask(command: Sequence[str]) -> str:
    """Return what a queue command prints, for adapters that ask their queue; raises CommandError."""
    return run_checked(list(command), timeout=30).stdout
