"""The network interface through which this host reaches another, for libraries that would guess a wrong one."""

from __future__ import annotations

import fcntl
import socket
import struct

_SIOCGIFADDR = 0x8915  # netdevice(7)


def interface_towards(host: str) -> str | None:
    """Return the name of the interface whose IPv4 address this host would use to talk to another; None if unknown.

    gloo takes the interface that the host's own name resolves to, which on Debian is often loopback (127.0.1.1).
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # sends nothing
            address = probe.getsockname()[0]
            if address.startswith("127."):
                return None
            for _, name in socket.if_nameindex():
                if _address(probe, name) == address:
                    return name
    except OSError:
        return None
    return None


def _address(any_socket: socket.socket, interface: str) -> str | None:
    request = struct.pack("256s", interface.encode()[:15])
    try:
        return socket.inet_ntoa(fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)[20:24])
    except OSError:  # an interface without an IPv4 address
        return None
