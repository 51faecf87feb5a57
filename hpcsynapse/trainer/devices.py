"""The device a rank computes on, of those that were granted to it."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Mapping

import torch

from hpcsynapse.errors import TrainError
from hpcsynapse.spec import JobSpec
from hpcsynapse.trainer.identity import Identity

_log = logging.getLogger(__name__)


def choose(spec: JobSpec, identity: Identity, environ: Mapping[str, str] = os.environ) -> torch.device:
    """Return the CPU, or the CUDA device that the launcher pinned this rank to.

    One visible device is the rank's own; HPCSYNAPSE_DEVICE_INDEX says which of several; else the local rank does.
    """
    if not spec.resources.gpus or spec.launch.emulate:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        _log.warning("resources.gpus = %d, but torch finds no CUDA device: computing on the CPU", spec.resources.gpus)
        return torch.device("cpu")
    count = torch.cuda.device_count()
    text = environ.get("HPCSYNAPSE_DEVICE_INDEX", "")
    index = int(text) if text.isdecimal() else identity.local_rank % count
    if index >= count:
        raise TrainError(f"HPCSYNAPSE_DEVICE_INDEX={index}, but torch sees {count} CUDA devices")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def describe(device: torch.device) -> str:
    """Return a device's name for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"
