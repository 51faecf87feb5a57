"""The one place that runs queue commands: argv lists without a shell, a time limit, a clean environment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from hpcsynapse.errors import CommandError

# A job submitted from inside another job would inherit these and be placed by them. SLURM_CONF only says where the
# controller is; SLURM_TIME_FORMAT and the like change nothing about placement but would change what squeue prints.
_STRAY = re.compile(
    r"(SLURM|SLURMD|SBATCH|SRUN|SQUEUE|PMI|PMI2|PMIX|OMPI|LOADL|PRTE)_.*|MP_CHILD|MP_PROCS|MPI_LOCAL.*|HPCSYNAPSE_TASK.*"
)
_KEPT = frozenset({"SLURM_CONF", "OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"})
# Set by hpcsynapse or a launcher for one rank; a job of its own must not see them.
_RANK = frozenset({"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK", "MASTER_ADDR",
                   "MASTER_PORT", "TORCHELASTIC_RUN_ID", "HPCSYNAPSE_RUN_DIR", "HPCSYNAPSE_ATTEMPT",
                   "HPCSYNAPSE_NODES"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Completed:
    """What a command printed and how it ended."""

    code: int
    stdout: str
    stderr: str


def clean_environment(environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the environment for a submission, and what was removed from it (recorded with the run)."""
    removed = {
        key: value for key, value in environ.items() if (_STRAY.fullmatch(key) and key not in _KEPT) or key in _RANK
    }
    return {key: value for key, value in environ.items() if key not in removed}, removed


def run(command: list[str], *, timeout: float = 60.0, cwd: str | None = None) -> Completed:
    """Run a queue command in a clean environment and return what it printed.

    Raises CommandError when the program is missing or exceeds `timeout` seconds; its whole process group is killed
    then. A non-zero exit code is returned, not raised.
    """
    environ, _ = clean_environment(os.environ)
    try:
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
            env=environ, cwd=cwd, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise CommandError(f"cannot run {command[0]}: {error.strerror}", command=command) from None
    try:
        stdout, stderr = child.communicate(timeout=timeout)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise CommandError(f"{command[0]} did not answer within {timeout:g} s", command=command) from None
        raise
    return Completed(child.returncode, stdout, stderr)


def run_checked(command: list[str], *, timeout: float = 60.0, cwd: str | None = None) -> Completed:
    """Run a queue command as `run` does and raise CommandError with what it said when it fails."""
    done = run(command, timeout=timeout, cwd=cwd)
    if done.code:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise CommandError(
            f"{command[0]} failed with exit code {done.code}: {' '.join(said[:3])}",
            command=command, stdout=done.stdout, stderr=done.stderr,
        )  # fmt: skip
    return done
