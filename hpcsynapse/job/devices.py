"""The GPUs of this machine, found without importing a training framework."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcsynapse.errors import PlacementError
from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.spec.names import granted_gpus


def installed() -> list[str]:
    """Return the GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; an empty list without any."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device.strip() for device in visible.split(",") if device.strip() not in ("", "-1", "NoDevFiles")]
    if not shutil.which("nvidia-smi"):
        return []
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split() if done.returncode == 0 else []


BY_NODE = "HPCSYNAPSE_HOSTS_GPUS"  # where a job's own locks grant GPUs: those of each node, nodes between `;`


def granted_devices(
    environ: Mapping[str, str], gpus: int, installed: Sequence[str] = (), *, node: int | None = None
) -> list[str]:
    """Return the devices the scheduler granted on this node, as CUDA_VISIBLE_DEVICES names them.

    What the job's own locks grant (BY_NODE) comes first, where the number of the node is known. In the variable,
    numbers, UUIDs and MIG names all occur. Without it, the queue's own list, then the machine's devices, then
    0..gpus-1 are taken. An empty or `NoDevFiles` value means that nothing was granted.
    """
    if environ.get(BY_NODE) and node is not None:
        return list(filter(None, environ[BY_NODE].split(";")[node].split(",")))
    if is_rocm(environ):  # HIP counts within the devices that ROCR shows
        return [str(index) for index in range(len(environ["ROCR_VISIBLE_DEVICES"].split(",")))]
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device.strip() for device in visible.split(",") if device.strip() not in ("", "NoDevFiles", "-1")]
    for name in granted_gpus():
        if environ.get(name):
            return [device.strip() for device in environ[name].split(",")]
    return list(installed[:gpus]) if installed else [str(index) for index in range(gpus)]


def own_devices(granted: Sequence[str], identity: RankIdentity, gpus: int) -> list[str]:
    """Return the devices of this rank among those granted, counted from its local rank, never of the machine.

    With more GPUs than ranks a rank has several; with fewer, neighbours share one. Raises PlacementError when fewer
    devices were granted than asked for.
    """
    if not gpus:
        return []
    if len(granted) == 1 and gpus > 1:
        return list(granted)  # the queue isolated this task already; the evidence shows whether ranks share it
    first = identity.local_rank * gpus // identity.local_size
    last = first + max(1, gpus // identity.local_size) - 1
    if last >= len(granted):
        raise PlacementError(
            f"rank {identity.rank} (local rank {identity.local_rank}) needs device number {last}, "
            f"but the queue granted only {','.join(granted) or 'none'} on this node"
        )
    return list(granted[first : last + 1])


def is_rocm(environ: Mapping[str, str]) -> bool:
    """Tell whether the queue grants AMD's devices, which ROCR_VISIBLE_DEVICES names.

    Slurm sets that and CUDA_VISIBLE_DEVICES on nodes of either kind unless it has looked (gres.conf(5), AutoDetect).
    """
    told = bool(environ.get("ROCR_VISIBLE_DEVICES"))
    return told and ("CUDA_VISIBLE_DEVICES" not in environ or Path("/dev/kfd").exists())
