"""Checkpoints of a model in pieces: a folder `step-N.shards` to which every rank writes its own, by torch's own format.

The folder counts once `step-N.pt` says so, which holds all else. Pieces are put together anew for any number of ranks.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
from hpcsynapse.trainer.dual.state import Kept
from hpcsynapse.trainer.engines.base import Engine

_log = logging.getLogger(__name__)
_ENDING = ".shards"


def save(
    engine: Engine,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    checkpoints: Checkpoints,
    progress: Progress,
    about: dict[str, Any],
) -> None:
    """Write a checkpoint; every rank calls it. One that holds numbers that are not finite is left out, with a warning.

    Raises TrainError when it cannot be written.
    """
    file = checkpoints.path(progress.step)
    folder = file.with_suffix(_ENDING)
    if engine.reduce([float(not _finite(model))], "max")[0]:
        _log.warning("no checkpoint of step %d: parameters hold numbers that are not finite", progress.step)
        return
    if engine.rank == 0:
        file.parent.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(file.parent)
    engine.barrier()
    names, states = get_state_dict(model, optimizer)
    try:
        state_dict_saver.save({"model": names, "optimizer": states}, checkpoint_id=folder)
    except (CheckpointException, OSError) as error:
        raise TrainError(f"checkpoint {folder} cannot be written: {error}") from error
    if engine.rank == 0:
        empty = Kept({})
        checkpoints.save(empty, empty, progress, {**about, "pieces": engine.size}, {"shards": folder.name})
        _remove_unfinished(file.parent)
    engine.barrier()


def load(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Take up the pieces of a folder; every rank calls it. Raises RuntimeError where they do not fit or are damaged."""
    names, states = get_state_dict(model, optimizer)
    content: dict[str, Any] = {"model": names, "optimizer": states}
    try:
        state_dict_loader.load(content, checkpoint_id=folder)
    except CheckpointException as error:
        raise RuntimeError(f"{folder}: {error}") from error
    set_state_dict(model, optimizer, model_state_dict=content["model"], optim_state_dict=content["optimizer"])


def _finite(model: nn.Module) -> bool:
    pieces = (getattr(parameter, "to_local", lambda own=parameter: own)() for parameter in model.parameters())
    return all(bool(piece.isfinite().all()) for piece in pieces)


def _remove_unfinished(folder: Path) -> None:
    """Remove pieces whose checkpoint is not there: of a start that was killed, or of one that was pruned."""
    for pieces in folder.glob(f"step-*{_ENDING}"):
        if not pieces.with_suffix(".pt").exists():
            shutil.rmtree(pieces, ignore_errors=True)
