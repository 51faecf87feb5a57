"""Comparisons on a machine that does other work meanwhile: programs take turns, ratios are taken pair by pair."""

from __future__ import annotations

import math
import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Usage:
    """What a process took, its children that it waited for included: processor time and wall time in seconds."""

    cpu: float
    wall: float


def process(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end and return what it took; raises CalledProcessError when it fails.

    Python may keep its bytecode, as it does for users.
    """
    environ = {**(env or os.environ)}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with (cwd / ".said").open("wb") as said:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, cwd=cwd, env=environ)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command, stderr=(cwd / ".said").read_text())
    return Usage(usage.ru_utime + usage.ru_stime, wall)


def in_turns(programs: Mapping[str, Callable[[], T]], rounds: int, warm: int = 1) -> dict[str, list[T]]:
    """Return what each program gave in every round; in each of them all run once, in random order."""
    found: dict[str, list[T]] = {name: [] for name in programs}
    order = random.Random(0)
    for number in range(rounds + warm):
        for name in order.sample(list(programs), len(programs)):
            value = programs[name]()
            if number >= warm:
                found[name].append(value)
    return found


def median_interval(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the order statistics that hold it with 95 % (binomial; the extremes of fewer than 6)."""
    ordered, count = sorted(values), len(values)
    reach, left = 0.0, 0
    for index in range(count // 2):  # how many may lie below the lower end
        reach += math.comb(count, index) / 2**count
        if reach > 0.025:
            break
        left = index
    return {"median": statistics.median(ordered), "low": ordered[left], "high": ordered[count - 1 - left]}


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """Return the median of the ratios pair by pair, with its interval."""
    return median_interval([a / b for a, b in zip(over, under, strict=True)])


def difference(one: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """Return the median of the differences pair by pair, with its interval."""
    return median_interval([a - b for a, b in zip(one, other, strict=True)])


def shown(value: Mapping[str, float], scale: float = 1.0, digits: int = 2) -> str:
    """Return a median with its interval as text."""
    median, low, high = (value[name] * scale for name in ("median", "low", "high"))
    return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def about() -> dict[str, object]:
    """Return what numbers depend on: Python, cores, load."""
    import platform

    return {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "date": time.strftime("%Y-%m-%d"),
    }
