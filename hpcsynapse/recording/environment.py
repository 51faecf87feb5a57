"""What the rank's first process gives to its program, and what the recording inside it reads again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

ON = "HPCSYNAPSE_RECORD"  # "auto" where steps are recorded
SAMPLES = "HPCSYNAPSE_SAMPLES_PER_STEP"
DEVICE = "HPCSYNAPSE_SET_DEVICE"  # index among the visible devices, for programs that choose none
SAME_DEVICE = "HPCSYNAPSE_SAME_DEVICE"  # what two ranks do that use one: warn, end, or allow
STEPS = "HPCSYNAPSE_STEPS"  # that the program is known to make in all
NO_PYTHON = "its program is no Python, or one with -I, -E or -S"
SITE = Path(__file__).parent / "site"


def variables(
    environ: Mapping[str, str],
    samples_per_step: int | None = None,
    steps: int | None = None,
    device: str | None = None,
    same_device: str = "warn",
) -> dict[str, str]:
    """Return the variables with which every Python below finds the recording."""
    path = [str(SITE), *(entry for entry in [environ.get("PYTHONPATH", "")] if entry)]
    found = {ON: "auto", SAME_DEVICE: same_device, "PYTHONPATH": os.pathsep.join(path)}
    for name, number in ((SAMPLES, samples_per_step), (STEPS, steps)):
        if number is not None:
            found[name] = str(number)
    if device is not None:
        found[DEVICE] = device
    return found


def remark_path(run: Path, attempt: str, rank: int) -> Path:
    """Return the file in which a rank's recording says how far it came: one line of plain text."""
    return run / "evidence" / attempt / f"recording-{rank:05d}.txt"


def shared_path(run: Path, attempt: str) -> Path:
    """Return the file that names two ranks which made their steps on one device."""
    return run / "evidence" / attempt / "shared-device.txt"
