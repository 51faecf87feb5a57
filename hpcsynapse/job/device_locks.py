"""GPUs of this machine taken by one job at a time: names in the kernel, which end with the processes that hold them.

A name is an abstract socket: no file that a killed job or a reboot could leave behind, and the same for all users.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from hpcsynapse.job import devices

_NAME = "hpcsynapse-gpu-"


def present(slots: int | None) -> list[str]:
    """Return the GPUs of this machine: those that the driver lists, else as many as a list of hosts says."""
    return devices.installed() or [str(number) for number in range(slots or 0)]


def free(found: Sequence[str]) -> list[str]:
    """Return those GPUs that no job holds, without taking them for a moment."""
    try:
        names = {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()[1:] if line.split()}
    except OSError:
        return list(found)
    return [one for one in found if f"@{_NAME}{one}" not in names]


def take(found: Sequence[str], count: int) -> tuple[list[str], list[socket.socket]]:
    """Take so many of these GPUs, or none of them where fewer are free; the sockets hold them until all are closed."""
    taken: dict[str, socket.socket] = {}
    for one in found:
        if len(taken) < count and (claim := _claim(one)) is not None:
            taken[one] = claim
    if len(taken) < count:
        for claim in taken.values():
            claim.close()
        return [], []
    return list(taken), list(taken.values())


def _claim(device: str) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0{_NAME}{device}")
    except OSError:
        claim.close()
        return None
    return claim
