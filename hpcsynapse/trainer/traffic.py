"""Bytes that a rank exchanges with others, as the kernel counts them for each TCP connection (tcp(7), TCP_INFO).

Whatever library owns the connections is counted: gloo, MPI over TCP, NCCL's sockets, parameter servers. Shared memory
and InfiniBand are not.
"""

from __future__ import annotations

import os
import socket
import struct
import time

_INFO_SIZE = 208
_ACKED_RECEIVED = struct.Struct("=QQ")  # struct tcp_info: tcpi_bytes_acked, tcpi_bytes_received at 120
_SENT = struct.Struct("=Q")  # tcpi_bytes_sent at 200, since Linux 4.19


class Traffic:
    """Counts bytes sent and received over TCP by this process since the last look.

    `between_hosts` leaves out connections within this host. A look costs some microseconds a connection, so there is
    one in `interval` seconds at most.
    """

    def __init__(self, *, between_hosts: bool, interval: float = 0.1) -> None:
        self._between_hosts, self._interval = between_hosts, interval
        self._seen: dict[str, tuple[int, int]] = {}
        self._next = 0.0
        self.look()

    def take(self) -> tuple[int, int]:
        """Return bytes (sent, received) since the last look; (0, 0) when that was less than `interval` ago."""
        return (0, 0) if time.perf_counter() < self._next else self.look()

    def look(self) -> tuple[int, int]:
        """Return bytes (sent, received) since the last look."""
        before, found = self._seen, {}
        try:
            entries = list(os.scandir("/proc/self/fd"))
        except OSError:  # no descriptor left
            return 0, 0
        for entry in entries:
            link = ""
            try:
                link = os.readlink(entry.path)  # noqa: PTH115 - Path costs more than all the rest
                if link.startswith("socket:"):
                    found[link] = self._count(int(entry.name))
            except OSError:  # closed meanwhile, no TCP connection, or no descriptor left
                if link in before:
                    found[link] = before[link]
        sent = sum(max(0, now[0] - before.get(link, (0, 0))[0]) for link, now in found.items())
        received = sum(max(0, now[1] - before.get(link, (0, 0))[1]) for link, now in found.items())
        self._seen = found
        self._next = time.perf_counter() + self._interval
        return sent, received

    def _count(self, descriptor: int) -> tuple[int, int]:
        # A duplicate, so that closing the object leaves the library's own descriptor open.
        copy = os.dup(descriptor)
        try:
            connection = socket.socket(fileno=copy)
        except OSError:  # no socket any more
            os.close(copy)
            raise
        with connection:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
            if self._between_hosts and connection.getpeername()[0] == connection.getsockname()[0]:
                return 0, 0
        acked, received = _ACKED_RECEIVED.unpack_from(info, 120) if len(info) >= 136 else (0, 0)
        sent = _SENT.unpack_from(info, 200)[0] if len(info) >= 208 else acked
        return sent, received
