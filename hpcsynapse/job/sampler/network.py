"""Bytes and packets of every network interface, and of InfiniBand and RoCE ports, which interfaces do not show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcsynapse.job.sampler.source import Increase, KeptOpen, Values
from hpcsynapse.runs.telemetry import Column

_MOST = 16  # interfaces, and as many ports
_LOOPBACK = "772"  # ARPHRD_LOOPBACK
_WORD = 4  # bytes that port_xmit_data and port_rcv_data count as one (Documentation/ABI/stable/sysfs-class-infiniband)
_AMOUNTS = (
    ("received_bytes", "B", "received"),
    ("received_packets", "packets", "received"),
    ("sent_bytes", "B", "sent"),
    ("sent_packets", "packets", "sent"),
)


def _columns(prefix: str, names: Sequence[str], what: str) -> list[Column]:
    return [
        Column(f"{prefix}.{name}.{amount}", "<f4", unit, f"{verb} by {what} {name}")
        for name in names
        for amount, unit, verb in _AMOUNTS
    ]


class Interfaces:
    """The interfaces of this network namespace, which is that of the ranks; one that comes later is not seen."""

    def __init__(self, proc: Path = Path("/proc/self"), net: Path = Path("/sys/class/net")) -> None:
        self._file = KeptOpen(proc / "net" / "dev")
        counted = self._counts()
        kinds = {name: _kind(net / name) for name in counted}
        physical = "physical" in kinds.values()
        # Where there are real ones, those of containers and virtual machines are left out: there may be hundreds.
        known = ("loopback", "physical", "bond", "vlan") if physical else ("loopback", "bond", "vlan", "virtual")
        order = sorted(counted, key=lambda name: (kinds[name] not in known, known[0] != kinds[name], -counted[name][0]))
        self._names = [name for name in order if kinds[name] in known][:_MOST]
        self.columns = _columns("net", self._names, "interface")
        # Summing over all counts twice: a bond or VLAN and the interface below it, a bridge and what is plugged in.
        self.told: dict[str, object] = {
            "interfaces": {
                name: {"kind": kinds[name], "counted": kinds[name] == ("physical" if physical else "virtual")}
                for name in self._names
            }
        }
        left = [f"{name} ({kinds[name]})" for name in order if name not in self._names]
        self.missing = {"interfaces": f"not recorded: {', '.join(left[:20])}"} if left else {}
        self._increase = Increase()

    def read(self, seconds: float) -> Values:
        """Return bytes and packets received and sent, by interface."""
        found = self._counts()
        return self._increase.of([one for name in self._names for one in found.get(name, (None,) * 4)])

    def _counts(self) -> dict[str, tuple[int, int, int, int]]:
        """Return received bytes and packets, sent bytes and packets, by interface (proc_net_dev)."""
        found = {}
        for line in self._file.text().splitlines()[2:]:
            name, _, rest = line.rpartition(":")
            words = rest.split()
            if len(words) >= 10:
                found[name.strip()] = (int(words[0]), int(words[1]), int(words[8]), int(words[9]))
        return found


def _kind(folder: Path) -> str:
    """Return what an interface is: loopback, physical, bond, bridge, tunnel, or virtual where nothing tells more."""
    try:
        if (folder / "type").read_text().strip() == _LOOPBACK:
            return "loopback"
        for name, kind in (("bonding", "bond"), ("bridge", "bridge"), ("tun_flags", "tunnel"), ("device", "physical")):
            if (folder / name).exists():
                return kind
        kind = (folder / "uevent").read_text()
        return "vlan" if "DEVTYPE=vlan" in kind else "ifb" if folder.name.startswith("ifb") else "virtual"
    except OSError:  # not shown in here: another namespace's /sys
        return "loopback" if folder.name == "lo" else "virtual"


class Ports:
    """InfiniBand and RoCE ports that are up."""

    def __init__(self, devices: Path = Path("/sys/class/infiniband")) -> None:
        folders = [port for port in sorted(devices.glob("*/ports/*")) if _is_up(port)]
        self._files = [
            (KeptOpen(folder / "counters" / name, 64), factor)
            for folder in folders[:_MOST]
            for name, factor in (
                ("port_rcv_data", _WORD),
                ("port_rcv_packets", 1),
                ("port_xmit_data", _WORD),
                ("port_xmit_packets", 1),
            )
        ]
        names = [f"{folder.parts[-3]}/{folder.name}" for folder in folders[:_MOST]]
        self.columns = _columns("ib", names, "port")
        self.told: dict[str, object] = {"ports": names} if names else {}
        self.missing: dict[str, str] = {}
        if not names:
            self.missing["infiniband"] = "no port is up" if devices.is_dir() else "this node has none"
        elif not all(file.there for file, _ in self._files):
            self.missing["infiniband"] = "not all counters may be read"
        self._increase = Increase()

    def read(self, seconds: float) -> Values:
        """Return bytes and packets received and sent, by port."""
        found: list[int | None] = []
        for file, factor in self._files:
            number = file.number()
            found.append(None if number is None else number * factor)
        return self._increase.of(found)


def _is_up(port: Path) -> bool:
    try:
        return "ACTIVE" in (port / "state").read_text()
    except OSError:
        return False
