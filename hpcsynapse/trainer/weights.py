"""The trained parameters and buffers of a run, taken out of its checkpoints for other programs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpcsynapse.errors import SpecError, TrainError
from hpcsynapse.files import draft_of
from hpcsynapse.trainer.checkpoint import Checkpoints

FORMS = (".pt", ".pth", ".safetensors")


def export_weights(checkpoints: Path, target: Path, step: int | None = None) -> tuple[int, int]:
    """Write the state dict of a model to a file, which appears whole, and return the step and how many tensors it has.

    The newest whole checkpoint counts unless a `step` is named. The ending of the file is its form: .pt and .pth are
    read by torch.load, .safetensors by the library of that name. Raises SpecError for another one, a package that is
    missing, or a file that cannot be written, TrainError where there is no checkpoint.
    """
    if target.suffix not in FORMS:
        raise SpecError(f"{target}: the ending says the form; use one of {', '.join(FORMS)}")
    known = Checkpoints(checkpoints, 1)
    if step is not None and step not in known.steps():
        there = ", ".join(map(str, known.steps())) or "none"
        raise SpecError(f"--step {step}: no checkpoint of that step; there are {there}")
    found = known.newest() if step is None else step
    if found is None:
        raise TrainError(f"{checkpoints} holds no checkpoint; the run has saved nothing yet")
    state = _state(known, found)
    draft = draft_of(target)
    try:
        draft.touch()  # what cannot be written is an OSError, which torch does not raise
        _write(state, draft, target.suffix)
        draft.replace(target)
    except OSError as error:
        raise SpecError(f"{target} cannot be written: {error.strerror or error}") from None
    finally:
        draft.unlink(missing_ok=True)
    return found, len(state)


def _state(checkpoints: Checkpoints, step: int) -> dict[str, Tensor]:
    with checkpoints.fitting(step):
        content = checkpoints.parse(step, checkpoints.data(step))
        model: Any = content["model"]
        if "shards" in content:
            model = _joined(checkpoints.path(step).with_name(content["shards"]))
    return {name: value for name, value in model.items() if isinstance(value, Tensor)}


def _joined(folder: Path) -> Any:
    """Return the model of pieces that ranks wrote (strategy sharded), put together by torch's own tool."""
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    with tempfile.TemporaryDirectory() as room:
        dcp_to_torch_save(folder, Path(room) / "whole.pt")
        return torch.load(Path(room) / "whole.pt", map_location="cpu", weights_only=True)["model"]


def _write(state: dict[str, Tensor], file: Path, form: str) -> None:
    if form != ".safetensors":
        torch.save(state, file)
        return
    try:
        from safetensors.torch import save_file
    except ModuleNotFoundError:
        raise SpecError("a .safetensors file needs the package safetensors; pip install safetensors") from None
    save_file({name: value.clone().contiguous() for name, value in state.items()}, file)
