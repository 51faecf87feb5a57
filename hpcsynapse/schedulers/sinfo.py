"""What `sinfo` says of partitions and their nodes, with whatever a site prints around it. Source: sinfo(1)."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hpcsynapse.errors import CommandError, SiteError
from hpcsynapse.jobfiles import gres
from hpcsynapse.schedulers.base import Ask
from hpcsynapse.units import format_walltime

# Partition, whether it is up, CPUs, generic resources, time limit and name of every node in each of its partitions.
COMMAND = ("sinfo", "--noheader", "--Node", "--format=%P|%a|%c|%G|%l|%N")
_CPUS = re.compile(r"([0-9]{1,6})\+?")
_AMD = re.compile(r"\bgpu:(amd|mi[0-9]|gfx)", re.IGNORECASE)  # kinds as sites and gres.conf(5), AutoDetect, name them
_LIMIT = re.compile(r"(?:(?:([0-9]{1,5})-)?([0-9]{1,5}):)?([0-9]{1,5}):([0-9]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """One node in one partition; `limit` is None where jobs may take any time, `gpus` where they cannot be told."""

    partition: str
    default: bool
    up: bool
    node: str
    cpus: int
    gpus: int | None
    limit: timedelta | None


def parse(text: str) -> list[NodeRow]:
    """Return the rows of `COMMAND`; lines that are none (banners, warnings, headers) are passed over."""
    fields = ([field.strip() for field in line.split("|")] for line in text.splitlines())
    return [row for line in fields if len(line) == 6 and (row := _row(*line))]


def _row(partition: str, up: str, cpus: str, resources: str, limit: str, node: str) -> NodeRow | None:
    number = _CPUS.fullmatch(cpus)
    if not number or not partition.rstrip("*") or not node:
        return None
    try:
        gpus = gres.total(gres.parse_node(resources))
    except ValueError:
        gpus = None
    return NodeRow(
        partition=partition.rstrip("*"),
        default=partition.endswith("*"),
        up=up == "up",
        node=node,
        cpus=int(number[1]),
        gpus=gpus,
        limit=time_limit(limit),
    )


def time_limit(text: str) -> timedelta | None:
    """Return the limit that `[[days-]hours:]minutes:seconds` is; None for infinite, n/a and whatever else is none."""
    match = _LIMIT.fullmatch(text)
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def partitions(rows: list[NodeRow]) -> list[str]:
    """Return the partitions, each once: the default one first, then those that are up, then the others."""
    order = sorted(rows, key=lambda row: (not row.default, not row.up))
    return list(dict.fromkeys(row.partition for row in order))


def listed(ask: Ask) -> tuple[list[NodeRow], str]:
    """Return the nodes that sinfo lists, and what it printed; raises CommandError where it lists none."""
    text = ask(COMMAND)
    rows = parse(text)
    if not rows:
        raise CommandError("sinfo lists no nodes", command=["sinfo"], stdout=text)
    return rows, text


def describe_site(ask: Ask, partition: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return the tables of a site file for a partition, its commonest nodes, and what these cannot say.

    Without a name it is the default partition. Raises SiteError for one that sinfo does not list.
    """
    rows, text = listed(ask)
    names = partitions(rows)
    if partition and partition not in names:
        raise SiteError(f"partition {partition!r}: sinfo lists {', '.join(names)}")
    partition = partition or names[0]
    mine = [row for row in rows if row.partition == partition]
    kinds = Counter((row.cpus, row.gpus) for row in mine)
    (cpus, gpus), _ = kinds.most_common(1)[0]
    config = _config(ask)
    site: dict[str, Any] = {
        "name": config.get("ClusterName", "slurm"),
        "max_nodes": len({row.node for row in mine}),
        "cpus_per_node": cpus,
    }
    if gpus is not None:
        site["gpus_per_node"] = gpus
    if mine[0].limit and mine[0].limit <= timedelta(days=365):
        site["max_time"] = format_walltime(mine[0].limit)
    said = _unsaid(partition, kinds)
    if _AMD.search(text):
        site["gpu_vendor"] = "amd"
    if "gpu" not in config.get("GresTypes", "gpu").split(","):
        site["gpu_request"] = "none"
        said.append("Slurm counts no GPUs here: give site.gpus_per_node yourself where nodes have some")
    return {"site": site, "queue": {"scheduler": "slurm", "partition": partition}}, said


def _unsaid(partition: str, kinds: Counter[tuple[int, int | None]]) -> list[str]:
    """Say that nodes of one partition differ, or that their GPUs could not be read."""
    said = []
    if len(kinds) > 1:
        each = ", ".join(
            f"{number} with {cpus} CPUs and {gpus or 0} GPUs" for (cpus, gpus), number in kinds.most_common()
        )
        said.append(f"partition {partition} has nodes of several kinds ({each}): the first are written")
    if any(gpus is None for _, gpus in kinds):
        said.append(f"sinfo's GRES of partition {partition} cannot be read: give site.gpus_per_node yourself")
    return said


def _config(ask: Ask) -> dict[str, str]:
    """Return slurm.conf as the controller has it; nothing where it does not say."""
    with suppress(CommandError):
        return dict(re.findall(r"^(\w+)\s*=\s*(\S+)", ask(["scontrol", "show", "config"]), re.MULTILINE))
    return {}
