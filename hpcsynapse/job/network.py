"""The network interface and address by which ranks of other hosts reach this one, for libraries that would guess."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Mapping

from hpcsynapse.errors import PlacementError

_SIOCGIFADDR = 0x8915  # netdevice(7)
# gloo takes the interface that the host's own name resolves to, on Debian often loopback; NCCL takes the first that is
# not lo or docker; Open MPI takes all of them. `=` lets NCCL match the whole name.
_VARIABLES = {
    "GLOO_SOCKET_IFNAME": "{}",
    "NCCL_SOCKET_IFNAME": "={}",
    "OMPI_MCA_btl_tcp_if_include": "{}",
    "HOROVOD_GLOO_IFACE": "{}",
}


def bind(environ: Mapping[str, str], interface: str | None) -> dict[str, str]:
    """Return the variables that make libraries use one interface to reach other hosts; what is set already stays.

    It is the site's interface, else the one that leads to HPCSYNAPSE_PEER, a host of the job that is another than
    this one. Raises PlacementError when names of other hosts lead nowhere or back to this host, or the interface has
    no address: a hang for the whole start limit would be the alternative.
    """
    for name in ("MASTER_ADDR", "HPCSYNAPSE_PEER"):
        if host := environ.get(name):
            _refuse_loopback(host)
    if interface is not None and address_of(interface) is None:
        names = ", ".join(name for _, name in socket.if_nameindex())
        raise PlacementError(f"site.interface = {interface!r} has no address on {socket.gethostname()}: it has {names}")
    peers = [host for name in ("HPCSYNAPSE_PEER", "MASTER_ADDR") if (host := environ.get(name))]
    found = interface or next(filter(None, map(interface_towards, peers)), None)
    if found is None:
        return {}
    return {name: form.format(found) for name, form in _VARIABLES.items() if not _given(name, environ)}


def _given(name: str, environ: Mapping[str, str]) -> bool:
    """Tell whether the user has set a variable, or the one that excludes it (Open MPI takes no two of them)."""
    return name in environ or ("if_include" in name and name.replace("if_include", "if_exclude") in environ)


def _refuse_loopback(host: str) -> None:
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise PlacementError(
            f"host {host} of this job is not known on {socket.gethostname()} ({error.strerror}); "
            "a site whose fast network has names of its own says so with site.host_suffix"
        ) from None
    name, here = host.partition(".")[0], socket.gethostname().partition(".")[0]
    own = name == here or name.startswith(f"{here}-")  # Debian maps a host's own name to loopback
    if not own and all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found):
        raise PlacementError(
            f"host {host} of this job maps to loopback ({', '.join(sorted(map(str, found)))}) on "
            f"{socket.gethostname()}: no other host can be reached there; /etc/hosts is wrong, or set site.host_suffix"
        )


def interface_towards(host: str) -> str | None:
    """Return the name of the interface whose IPv4 address this host would use to talk to another; None if unknown."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # sends nothing
            address = probe.getsockname()[0]
            if address.startswith("127."):
                return None
            for _, name in socket.if_nameindex():
                if address_of(name) == address:
                    return name
    except OSError:
        return None
    return None


def address_of(interface: str) -> str | None:
    """Return the IPv4 address of an interface of this host; None when it has none or does not exist."""
    request = struct.pack("256s", interface.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            return socket.inet_ntoa(fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)[20:24])
        except OSError:
            return None
