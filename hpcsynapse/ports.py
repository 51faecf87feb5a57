"""Rendezvous ports: derived from the job, so that two jobs on one node differ, and tried before they are used."""

from __future__ import annotations

import socket
import sys
import zlib

from hpcsynapse.errors import PlacementError


def free_port(job_id: str, base: int, count: int, block: int = 1) -> int:
    """Return a port in [base, base + count) that binds on this machine, starting from one derived from the job id.

    With `block`, so many ports from there on are free and in the range. Raises PlacementError when 64 candidates are
    all in use or the range holds no such block.
    """
    places = count // block
    if not places:
        raise PlacementError(f"job {job_id} needs {block} ports, but only {count} from {base} on may be used")
    start = zlib.crc32(job_id.encode()) % places
    for offset in range(min(64, places)):
        port = base + (start + offset) % places * block
        if all(_free(port + one) for one in range(block)):
            return port
    tried = f"{min(64, places)} tried from {base + start * block} on"
    raise PlacementError(f"no free port for job {job_id} between {base} and {base + count - 1}: {tried}")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    print(free_port(sys.argv[1], *map(int, sys.argv[2:])))
