"""What `check` finds on the machines of a list: ssh, clocks, the Python, the shared folder, GPUs."""

from __future__ import annotations

import platform
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcsynapse import __version__
from hpcsynapse.errors import CommandError
from hpcsynapse.findings import Finding
from hpcsynapse.schedulers.hosts import usable
from hpcsynapse.schedulers.hosts_commands import look_at
from hpcsynapse.spec.job import JobSpec

_CLOCK = 2.0  # seconds by which clocks may differ before times of different hosts mislead


def findings(spec: JobSpec, runs: Path) -> Iterator[Finding]:
    """Yield a finding for everything that is wrong on a machine, and one for each that is right."""
    machines = usable(spec)
    if not machines:
        return
    folder = next((one for one in (runs, *runs.absolute().parents) if one.is_dir()), Path("/"))
    word, mark = secrets.token_hex(8), folder / f".hpcsynapse-check-{secrets.token_hex(4)}"
    try:
        with suppress(OSError):  # that the folder cannot be written is found elsewhere
            mark.write_text(word)
        reach = list(machines) if spec.allocated_nodes > 1 else []
        before = time.time()
        for host, told in look_at(machines, {"file": str(mark), "reach": reach}).items():
            if isinstance(told, CommandError):
                yield Finding("error", f"host {host}", _why(host, told))
                continue
            problems = list(_problems(spec, told, word, folder, (before, time.time())))
            yield from (Finding(level, f"host {host}", text) for level, text in problems)
            if not problems:
                yield Finding("ok", f"host {host}", f"ssh, clock, Python and folder; {len(told['free'])} free GPUs")
    finally:
        mark.unlink(missing_ok=True)


def _why(host: str, error: CommandError) -> str:
    said = str(error).removeprefix(f"host {host}: ")
    if "No module named hpcsynapse" in said:
        return f"{sys.executable} there has no hpcsynapse; all hosts need the same environment in the same place"
    if "ermission denied" in said:
        return f"ssh may not log in without a password: {said}; put a key of yours there (ssh-copy-id {host})"
    if "ost key verification" in said:
        return f"ssh does not know its key: {said}; log in once by hand (ssh {host})"
    if "No such file" in said or "not found" in said:
        return f"{sys.executable} is not there: {said}; all hosts need the same Python in the same place"
    return said


def _problems(
    spec: JobSpec, told: dict[str, Any], word: str, folder: Path, around: tuple[float, float]
) -> Iterator[tuple[str, str]]:
    before, after = around
    if (off := max(before - told["time"], told["time"] - after)) > _CLOCK:
        yield "warning", f"its clock is {off:.0f} s off: times of different hosts will mislead; set it by NTP"
    if (told["python"], told["version"]) != (platform.python_version(), __version__):
        yield (
            "error",
            (
                f"Python {told['python']} with hpcsynapse {told['version']}, but here {platform.python_version()} with "
                f"{__version__}: all hosts need the same"
            ),
        )
    if told["file"] != word:
        yield "error", f"{folder} is another folder there: runs need one that all hosts share; choose it with --runs"
    gpus = 0 if spec.launch.emulate else spec.resources.gpus
    if len(told["gpus"]) < gpus:
        yield "error", f"{len(told['gpus'])} GPUs, {gpus} are asked for; NAME:N in queue.hosts says how many there are"
    elif len(told["free"]) < gpus:
        yield "warning", f"{len(told['free'])} of {len(told['gpus'])} GPUs are free now; the job waits for {gpus}"
    if told["unreached"]:
        yield "error", f"ssh from there does not reach {', '.join(told['unreached'])}, which the job needs"
