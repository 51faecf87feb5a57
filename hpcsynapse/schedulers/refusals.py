"""What Slurm would have taken instead of what it has refused: partitions, limits, accounts, asked of Slurm itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

from hpcsynapse.errors import CommandError
from hpcsynapse.schedulers import sacctmgr, sinfo
from hpcsynapse.schedulers.base import Ask
from hpcsynapse.schedulers.sinfo import NodeRow
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.units import counted, format_walltime


def explain(said: str, spec: JobSpec, ask: Ask) -> str:
    """Return what could be asked for instead, for a refusal that is known; nothing for others, or without an answer."""
    with suppress(CommandError):
        for pattern, answer in _ANSWERS:
            if re.search(pattern, said, re.IGNORECASE):
                return answer(spec, ask)
    return ""


def _partitions(spec: JobSpec, ask: Ask) -> str:
    rows = sinfo.parse(ask(sinfo.COMMAND))
    names = sinfo.partitions(rows)
    return f"partitions here: {', '.join(_described(rows, name) for name in names)}" if names else ""


def _described(rows: list[NodeRow], name: str) -> str:
    """Return a partition with what a job may ask of it."""
    mine = [row for row in rows if row.partition == name]
    limit = format_walltime(mine[0].limit) if mine[0].limit else "any time"
    gpus = max((row.gpus or 0 for row in mine), default=0)
    nodes, cores = len({row.node for row in mine}), max(row.cpus for row in mine)
    size = f"{counted(nodes, 'node')}, {counted(cores, 'core')} and {counted(gpus, 'GPU')} on each"
    return f"{name} ({'default, ' if mine[0].default else ''}{limit}, {size})"


def _limits(spec: JobSpec, ask: Ask) -> str:
    """Describe the partition that was asked for, or the default."""
    rows = sinfo.parse(ask(sinfo.COMMAND))
    if not rows:
        return ""
    wanted = (spec.queue.partition or sinfo.partitions(rows)[0]).split(",")
    known = [name for name in wanted if any(row.partition == name for row in rows)]
    described = ", ".join(_described(rows, name) for name in known)
    request = spec.resources
    asked = (
        f"asked for: {counted(request.nodes, 'node')}, {counted(request.gpus, 'GPU')} on each, --time {request.time}"
    )
    return f"partition {described}; {asked}" if described else ""


def _associations(what: str) -> Callable[[JobSpec, Ask], str]:
    def answer(spec: JobSpec, ask: Ask) -> str:
        names = sacctmgr.choices(ask).get(what, [])
        return f"yours are: --{what} {', '.join(names)}" if names else ""

    return answer


def _features(spec: JobSpec, ask: Ask) -> str:
    told = ask(["sinfo", "--noheader", "--format=%f"])
    names = sorted(
        {name for line in told.splitlines() for name in line.strip().split(",") if name not in ("", "(null)")}
    )
    return f"features here: {', '.join(names)}" if names else "no node here has a feature; leave --constraint out"


# sbatch's messages (slurm_errno.c), the first that fits.
_ANSWERS: tuple[tuple[str, Callable[[JobSpec, Ask], str]], ...] = (
    (r"invalid partition", _partitions),
    (r"invalid account|account/partition combination", _associations("account")),
    (r"invalid qos", _associations("qos")),
    (r"invalid feature", _features),
    (r"time limit is invalid|node count specification invalid|node configuration is not available", _limits),
)
