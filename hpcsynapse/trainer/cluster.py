"""Which processes a run with parameter servers has, as its command lines say it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse.errors import TrainError
from hpcsynapse.job.discovery import RankIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Addresses `host:port` of all parameter servers and workers, and which of them this process is."""

    servers: tuple[str, ...]
    workers: tuple[str, ...]
    job: str
    index: int

    def __post_init__(self) -> None:
        for address in (*self.servers, *self.workers):
            if not _is_address(address):
                raise TrainError(f"{address[:100]!r} is not host:port")
        for what, addresses in (("--ps-hosts", self.servers), ("--worker-hosts", self.workers)):
            if not addresses:
                raise TrainError(f"{what} names nobody")
        if len(set(self.servers)) != len(self.servers):
            raise TrainError(f"--ps-hosts {','.join(self.servers)} names a server twice")
        count = len(self.servers if self.job == "ps" else self.workers)
        if not 0 <= self.index < count:
            raise TrainError(f"--task-index {self.index} is not one of the {count} of --job-name {self.job}")


def parse_arguments(arguments: Sequence[str]) -> tuple[Path, Cluster | None]:
    """Return the run directory and, where it is given, the cluster; options may be written with - or _.

    Raises TrainError for addresses or numbers that do not fit; exits with code 2 for wrong usage.
    """
    parser = argparse.ArgumentParser(prog="python -m hpcsynapse.job train", allow_abbrev=False)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--ps-hosts", "--ps_hosts", default="", metavar="HOST:PORT,...")
    parser.add_argument("--worker-hosts", "--worker_hosts", default="", metavar="HOST:PORT,...")
    parser.add_argument("--job-name", "--job_name", choices=("ps", "worker"))
    parser.add_argument("--task-index", "--task_index", type=int, default=0)
    given = parser.parse_args(arguments)
    if given.job_name is None:
        if given.ps_hosts or given.worker_hosts:
            parser.error("--ps-hosts and --worker-hosts need --job-name and --task-index")
        return given.run_dir.resolve(), None
    cluster = Cluster(
        servers=_addresses(given.ps_hosts),
        workers=_addresses(given.worker_hosts),
        job=given.job_name,
        index=given.task_index,
    )
    return given.run_dir.resolve(), cluster


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    try:
        host.encode("idna")  # as sockets do
    except UnicodeError:  # an empty label, or one of more than 63 letters
        return False
    return bool(host) and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536


def _addresses(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def identity_of_worker(cluster: Cluster, environ: Mapping[str, str] = os.environ) -> RankIdentity:
    """Return worker `task_index`; what the environment does not say follows from neighbours on the same host."""
    hosts = [address.rpartition(":")[0] for address in cluster.workers]
    own, names = hosts[cluster.index], list(dict.fromkeys(hosts))
    neighbours = [index for index, host in enumerate(hosts) if host == own]
    told = {
        "RANK": cluster.index,
        "WORLD_SIZE": len(hosts),
        "LOCAL_RANK": neighbours.index(cluster.index),
        "LOCAL_WORLD_SIZE": len(neighbours),
        "NODE_RANK": names.index(own),
        "HPCSYNAPSE_NODES": len(names),
    }
    found = RankIdentity.from_environ({**{key: str(value) for key, value in told.items()}, **environ})
    if (found.rank, found.world_size) != (cluster.index, len(hosts)):
        raise TrainError(
            f"--task-index {cluster.index} of {len(hosts)} workers, but the environment says "
            f"RANK={found.rank} of WORLD_SIZE={found.world_size}"
        )
    return found
