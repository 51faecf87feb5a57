"""Engines by name: a literal table, imported on selection."""

from __future__ import annotations

import torch

from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.trainer.engines.base import Engine
from hpcsynapse.trainer.plugins import Entry, select

_PACKAGE = "hpcsynapse.trainer.engines"
ENGINES: dict[str, Entry] = {
    "ddp": Entry(f"{_PACKAGE}.ddp", "DdpEngine", "torch.distributed: gloo on CPUs, NCCL on GPUs"),
    "horovod": Entry(f"{_PACKAGE}.horovod", "HorovodEngine", "Horovod over MPI, Gloo or NCCL", "horovod"),
    "mpi": Entry(f"{_PACKAGE}.mpi", "MpiEngine", "mpi4py: one MPI all-reduce after backward", "mpi"),
    "none": Entry(f"{_PACKAGE}.alone", "AloneEngine", "one rank, nothing to exchange"),
}


def create(name: str, identity: RankIdentity, device: torch.device, start_limit: float, wait_limit: float) -> Engine:
    """Return an engine that has not started yet; limits are seconds. Raises TrainError when it is not installed."""
    engine: Engine = select("engine", ENGINES, name)(identity, device, start_limit, wait_limit)
    return engine
