"""Rendezvous ports: derived from the job, tried before they are used, and held while the job lasts."""

from __future__ import annotations

import os
import select
import socket
import zlib

from hpcsynapse.errors import PlacementError


def free_port(job_id: str, base: int, count: int, block: int = 1) -> int:
    """Return a port in [base, base + count) that is free on this machine, starting from one derived from the job id.

    With `block`, so many ports from there on are free and in the range. Raises PlacementError when 64 candidates are
    all in use or the range holds no such block.
    """
    port, claims = claim_port(job_id, base, count, block)
    for claim in claims:
        claim.close()
    return port


def claim_port(job_id: str, base: int, count: int, block: int = 1) -> tuple[int, list[socket.socket]]:
    """Return such a port, and what keeps other jobs of this machine from taking it until it is closed."""
    places = count // block
    if not places:
        raise PlacementError(f"job {job_id} needs {block} ports, but only {count} from {base} on may be used")
    start = zlib.crc32(job_id.encode()) % places
    for offset in range(min(64, places)):
        port = base + (start + offset) % places * block
        claims = [claim for one in range(block) if (claim := _claim(port + one)) is not None]
        if len(claims) == block and all(_free(port + one) for one in range(block)):
            return port, claims
        for claim in claims:
            claim.close()
    tried = f"{min(64, places)} tried from {base + start * block} on"
    raise PlacementError(f"no free port for job {job_id} between {base} and {base + count - 1}: {tried}")


def _claim(port: int) -> socket.socket | None:
    """Take the name of a port among the jobs of this machine: an abstract socket, which ends with its process.

    The port itself is left free for whoever will listen there. Returns None where another job has it.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0hpcsynapse-port-{port}")
    except OSError:
        claim.close()
        return None
    return claim


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def main(arguments: list[str]) -> int:
    """`PROCESS JOB_ID BASE COUNT [BLOCK]`: print a port, and hold it in the background until that process ends."""
    process, job_id = int(arguments[0]), arguments[1]
    port, _claims = claim_port(job_id, *map(int, arguments[2:]))
    print(port, flush=True)
    if os.fork() == 0:
        _hold_until_end_of(process)
        os._exit(0)
    return 0


def _hold_until_end_of(process: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # whoever reads our output must not wait for us
        os.dup2(nothing, descriptor)
    try:
        watched = os.pidfd_open(process)
    except OSError:
        return  # it has ended, or the kernel is older than 5.3: the port is not held then
    select.select([watched], [], [])
