"""Where every rank really runs, and whether that is what was asked for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpcsynapse.errors import PlacementError
from hpcsynapse.job.discovery import RankIdentity


def verify(evidence: Iterable[Mapping[str, Any]], *, world_size: int, share_devices: bool) -> None:
    """Check what all ranks reported of themselves before the first step.

    Raises PlacementError that names ranks and hosts for: missing or double ranks, two ranks on one device, a rank on
    a device that was not granted, ranks confined to the same single core.
    """
    by_rank: dict[int, Mapping[str, Any]] = {}
    for item in evidence:
        rank = int(item["rank"])
        if rank in by_rank:
            raise PlacementError(f"rank {rank} exists twice: on {by_rank[rank]['host']} and on {item['host']}")
        by_rank[rank] = item
    missing = sorted(set(range(world_size)) - set(by_rank))
    if missing or len(by_rank) != world_size:
        raise PlacementError(f"{len(by_rank)} of {world_size} ranks reported; missing: {_short(missing)}")
    for item in by_rank.values():
        granted = item.get("granted") or []
        if item.get("device") is not None and item["device"] not in granted:
            raise PlacementError(
                f"rank {item['rank']} on {item['host']} uses device {item['device']}, granted were {','.join(granted)}"
            )
    if share_devices:
        return
    _refuse_shared(by_rank, "device", lambda item: item.get("device_uuid") or item.get("device"))
    _refuse_shared(by_rank, "core", lambda item: item["cpus"][0] if len(item.get("cpus") or []) == 1 else None)


def unlike_devices(evidence: Iterable[Mapping[str, Any]]) -> str:
    """Return a warning where ranks are on devices of several kinds, as far as the driver tells; empty where not."""
    kinds = Counter(str(item["device_name"]) for item in evidence if item.get("device_name"))
    if len(kinds) < 2:
        return ""
    told = ", ".join(f"{count} on {name}" for name, count in sorted(kinds.items()))
    return f"the ranks are on unlike GPUs ({told}): where they wait for one another, all go at the pace of the slowest"


def _refuse_shared(by_rank: Mapping[int, Mapping[str, Any]], what: str, key: Any) -> None:
    owners: dict[tuple[str, Any], int] = {}
    for rank, item in sorted(by_rank.items()):
        value = key(item)
        if value is None:
            continue
        other = owners.setdefault((str(item["host"]), value), rank)
        if other != rank:
            raise PlacementError(
                f"ranks {other} and {rank} on {item['host']} share {what} {value}; "
                "ask for one each, or allow it with --share-devices"
            )


def _short(ranks: Sequence[int]) -> str:
    text = ", ".join(str(rank) for rank in ranks[:8])
    return text + (f" and {len(ranks) - 8} more" if len(ranks) > 8 else "")


def evidence_of_this_process(identity: RankIdentity, granted: Sequence[str], device: str | None) -> dict[str, Any]:
    """Return where this process really runs: host, pid, CPU mask, NUMA nodes, device with UUID and PCI id by NVML."""
    import socket

    cpus = sorted(os.sched_getaffinity(0))
    return {
        "rank": identity.rank,
        "local_rank": identity.local_rank,
        "node_rank": identity.node_rank,
        "world_size": identity.world_size,
        "source": identity.source,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "cpus": cpus,
        "numa_nodes": _numa_nodes(cpus),
        "granted": list(granted),
        "device": device,
        **_nvml_facts(device),
    }


def _numa_nodes(cpus: Iterable[int]) -> list[int]:
    from pathlib import Path

    nodes = set()
    for cpu in cpus:
        for link in Path(f"/sys/devices/system/cpu/cpu{cpu}").glob("node[0-9]*"):
            nodes.add(int(link.name[4:]))
    return sorted(nodes)


def _nvml_facts(device: str | None) -> dict[str, str]:
    """Return UUID, PCI id and name of a device; nothing where there is no GPU, driver or pynvml."""
    if device is None:
        return {}
    try:
        import pynvml
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
        handle = (
            pynvml.nvmlDeviceGetHandleByIndex(int(device))
            if device.isdigit()
            else pynvml.nvmlDeviceGetHandleByUUID(device)
        )
        facts = {
            "device_uuid": pynvml.nvmlDeviceGetUUID(handle),
            "pci": pynvml.nvmlDeviceGetPciInfo(handle).busId,
            "device_name": pynvml.nvmlDeviceGetName(handle),
        }
        return {key: value.decode() if isinstance(value, bytes) else str(value) for key, value in facts.items()}
    except pynvml.NVMLError:
        return {}
