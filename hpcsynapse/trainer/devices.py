"""The device a rank computes on, of those that were granted to it."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Mapping
from typing import Any

import torch

from hpcsynapse.errors import TrainError
from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.units import counted


def choose(spec: JobSpec, identity: RankIdentity, environ: Mapping[str, str] = os.environ) -> torch.device:
    """Return the CPU, or the CUDA device that the launcher pinned this rank to.

    One visible device is the rank's own; HPCSYNAPSE_DEVICE_INDEX says which of several; else the local rank does.
    Raises TrainError where a GPU was asked for and torch finds none: an allocation is not spent on the CPU unasked.
    """
    if spec.on_cpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        why = "its driver or the grant of the queue is missing" if built else "it is a build for CPUs"
        raise TrainError(
            f"{counted(spec.resources.gpus, 'GPU')} on each node asked for, but torch {torch.__version__} finds none "
            f"on {platform.node()}: {why}; to compute on the CPU all the same, say --device cpu"
        )
    count = torch.cuda.device_count()
    text = environ.get("HPCSYNAPSE_DEVICE_INDEX", "")
    index = int(text) if text.isdecimal() else identity.local_rank % count
    if index >= count:
        raise TrainError(f"HPCSYNAPSE_DEVICE_INDEX={index}, but torch sees {count} CUDA devices")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def libraries(device: torch.device) -> dict[str, str]:
    """Return the versions of what computes and exchanges on a CUDA device; nothing for the CPU."""
    if device.type != "cuda":
        return {}
    found = {"cuda": torch.version.cuda or torch.version.hip or ""}
    if torch.distributed.is_available() and torch.distributed.is_nccl_available():
        nccl: Any = torch.cuda.nccl
        found["nccl"] = ".".join(map(str, nccl.version()))
    return found


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that this rank has held: on a GPU what torch allocated there, else resident memory."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def describe(device: torch.device) -> str:
    """Return a device's name for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"
