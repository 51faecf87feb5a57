"""The hosts that the queue has assigned, as they are known inside the allocation only."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.greasy.tasks import read
from hpcsynapse.job import hostlist
from hpcsynapse.schedulers import queue_of_job
from hpcsynapse.spec.names import owned

# What belongs to one process or one machine and would mislead a process elsewhere.
_OWN = ("HPCSYNAPSE_TASK", "HPCSYNAPSE_ROLE", "HPCSYNAPSE_CLUSTER", "SSH_", "PMI", "GREASY_", "XDG_")
_OWN_NAMES = frozenset({"CUDA_VISIBLE_DEVICES", "HOSTNAME", "PWD", "OLDPWD", "SHLVL", "DISPLAY", "TMPDIR", "TERM", "_"})
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
    elif (queue := queue_of_job(environ)) and (names := queue.assigned(environ)):
        found = names
    else:
        raise SpecError("no hosts are assigned here; run this inside a job, or give --hosts n1,n2 or --hostfile FILE")
    if not found:
        raise SpecError("the list of hosts is empty")
    for host in found:
        if not is_name(host):
            raise SpecError(f"{host!r} is not the name of a host")
    return found


def is_name(host: str) -> bool:
    """Tell whether a text can be the name of a host."""
    return bool(_HOST.fullmatch(host))


def inside_job(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this is a job of a queue."""
    return queue_of_job(environ) is not None


def has_steps(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether job steps can be started from here."""
    queue = queue_of_job(environ)
    return queue is not None and queue.has_steps


def carried(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the job that ranks need on nodes where no job step leads: srun passes it on."""
    kept = {}
    for name, value in environ.items():
        try:
            fields.env_name("environment", name)
            fields.printable("environment", value)
        except SpecError:
            continue
        if name not in _OWN_NAMES and not name.startswith(_OWN) and not owned(name):
            kept[name] = value
    return kept


def _lines(name: str) -> list[str]:
    return [words[0] for line in read(Path(name)).splitlines() if (words := line.split()) and words[0][0] != "#"]
