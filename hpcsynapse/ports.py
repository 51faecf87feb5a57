"""Rendezvous ports: derived from the job, so that two jobs on one node differ, and tried before they are used."""

from __future__ import annotations

import socket
import sys
import zlib

from hpcsynapse.errors import PlacementError


def free_port(job_id: str, base: int, count: int) -> int:
    """Return a port in [base, base + count) that binds on this machine, starting from one derived from the job id.

    Raises PlacementError when 64 candidates are all in use.
    """
    start = zlib.crc32(job_id.encode()) % count
    for offset in range(min(64, count)):
        port = base + (start + offset) % count
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
        return port
    raise PlacementError(f"no free port between {base + start} and {base + start + 63} for job {job_id}")


if __name__ == "__main__":
    print(free_port(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
