"""The hosts that the queue has assigned, as they are known inside the allocation only."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from hpcsynapse import hostlist
from hpcsynapse.errors import SpecError
from hpcsynapse.greasy.tasks import read
from hpcsynapse.task_hosts import task_hosts

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?")


def assigned_hosts(
    hosts: str | None = None, hostfile: str | None = None, environ: Mapping[str, str] = os.environ
) -> list[str]:
    """Return the hosts given, else those of the allocation in its order, each once.

    Hosts that are given may repeat: `localhost,localhost` tries a list of two nodes out on this machine. Raises
    SpecError outside an allocation, and for names that are none.
    """
    if hosts:
        found = hostlist.expand(hosts)
    elif hostfile:
        found = _lines(hostfile)
    elif nodes := environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST"):
        found = hostlist.expand(nodes)
    elif environ.get("LOADL_HOSTFILE") or environ.get("LOADL_PROCESSOR_LIST"):
        found = list(dict.fromkeys(task_hosts(environ)))
    else:
        raise SpecError("no hosts are assigned here; run this inside a job, or give --hosts n1,n2 or --hostfile FILE")
    if not found:
        raise SpecError("the list of hosts is empty")
    for host in found:
        if not _HOST.fullmatch(host):
            raise SpecError(f"{host!r} is not the name of a host")
    return found


def inside_slurm(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether job steps can be started from here."""
    return "SLURM_JOB_ID" in environ


def _lines(name: str) -> list[str]:
    return [words[0] for line in read(Path(name)).splitlines() if (words := line.split()) and words[0][0] != "#"]
