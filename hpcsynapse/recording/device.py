"""The device of a rank: set for a program that chooses none, and looked at where its first step was made.

Not run on a device yet: the tests have a stand-in for `torch.cuda`.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any


def set_when_used(cuda: Any, index: int) -> None:
    """Make a device the current one as soon as the program first uses CUDA, before its own choice, if it makes one."""

    def choose() -> None:
        if index < cuda.device_count():
            cuda.set_device(index)

    cuda._lazy_call(choose)


def first_parameter(optimizer: Any) -> Any:
    """Return the first parameter of an optimizer, or None."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            return parameter
    return None


def used(cuda: Any, index: int, environ: Any) -> dict[str, Any]:
    """Return which device a parameter is on: its index, name, and UUID or else its name in CUDA_VISIBLE_DEVICES."""
    about = cuda.get_device_properties(index)
    visible = [name.strip() for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    known = str(getattr(about, "uuid", "")) or (visible[index] if index < len(visible) else str(index))
    return {"host": socket.gethostname(), "device_index": index, "device": known, "device_name": str(about.name)}


def put_on_record(folder: Path, rank: int, found: dict[str, Any]) -> str | None:
    """Write what a rank uses, and return the warning when another rank of the host uses the same device.

    Of two ranks the later one sees the other; both may.
    """
    path = folder / f"device-{rank:05d}.json"
    temporary = folder / f".device-{rank:05d}.{os.getpid()}"
    temporary.write_text(json.dumps({"rank": rank, **found}) + "\n")
    temporary.replace(path)
    for other in sorted(folder.glob("device-*.json")):
        told = _read(other)
        same = told.get("host") == found["host"] and told.get("device") == found["device"]
        if same and told.get("rank") != rank:
            first, second = sorted((rank, int(told["rank"])))
            return f"ranks {first} and {second} on {found['host']} both use device {found['device']}"
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
