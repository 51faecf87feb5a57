"""Checkpoints: whole files or none, the newest few kept, a damaged one passed over."""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from hpcsynapse.errors import TrainError

FORMAT = 1
_NAME = re.compile(r"step-(\d{9,})\.pt")
_log = logging.getLogger(__name__)


class Stateful(Protocol):
    """A model, an optimizer, or what stands for one."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that is to be kept."""
        ...


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a run has come.

    `step` counts optimizer steps of the whole run, `epoch` finished epochs, `samples` those taken by all ranks in
    the epoch under way: the data position, which holds for any number of ranks.
    """

    step: int = 0
    epoch: int = 0
    samples: int = 0


def write(path: Path, content: dict[str, Any]) -> None:
    """Replace a file of tensors in one step, and remove what one killed while writing it has left; raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        for left in path.parent.glob(f".{path.name}.*"):
            left.unlink(missing_ok=True)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, RuntimeError):  # what torch makes of a write that fails
            raise OSError(str(error.__context__ or error)) from error
        raise


class Checkpoints:
    """The folder of a run's checkpoints, `step-N.pt`.

    A file holds model, optimizer, schedule, seeds, and `Progress`; random numbers follow from seed, rank and step
    (`randomness`). It is read with `weights_only=True`: loading runs no code.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep

    def path(self, step: int) -> Path:
        """Return the file of a step."""
        return self._folder / f"step-{step:09d}.pt"

    def steps(self) -> list[int]:
        """Return the steps that have a file, newest first."""
        if not self._folder.is_dir():
            return []
        found = (_NAME.fullmatch(entry.name) for entry in self._folder.iterdir())
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def save(
        self, model: Stateful, optimizer: Stateful, progress: Progress, about: dict[str, Any],
        extra: Mapping[str, Any] | None = None,
    ) -> Path:  # fmt: skip
        """Write a checkpoint of this step, then remove the oldest; raises TrainError when it cannot be written.

        `extra` holds further entries, of a strategy's own.
        """
        target = self.path(progress.step)
        content = {
            "format": FORMAT,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "progress": asdict(progress),
            "about": about,
            **(extra or {}),
        }
        try:
            write(target, content)
            self._prune()
        except OSError as error:
            raise TrainError(f"checkpoint {target} cannot be written: {error.strerror or error}") from error
        return target

    def _prune(self) -> None:
        for step in self.steps()[self._keep :]:
            self.path(step).unlink(missing_ok=True)
        for left in self._folder.glob(".step-*.pt.*"):  # of a process killed while writing
            left.unlink(missing_ok=True)

    def newest(self) -> int | None:
        """Return the step of the newest whole checkpoint; damaged ones are named in a warning and passed over."""
        for step in self.steps():
            reason = damage(self.path(step))
            if reason is None:
                return step
            _log.warning("checkpoint %s is damaged (%s): trying the one before", self.path(step), reason)
        return None

    def load(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Put the state of a checkpoint into model and optimizer; raises TrainError when they do not fit it."""
        with self.fitting(step):
            content = self.read(step)
            model.load_state_dict(content["model"])
            optimizer.load_state_dict(content["optimizer"])
            return Progress(**content["progress"])

    def read(self, step: int) -> dict[str, Any]:
        """Return what a checkpoint holds; raises TrainError when another release wrote it in another way."""
        content: dict[str, Any] = torch.load(self.path(step), map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise TrainError(f"checkpoint {self.path(step)}: format {content['format']} is not known to this release")
        return content

    @contextmanager
    def fitting(self, step: int) -> Iterator[None]:
        """Turn what goes wrong inside, where the state of a checkpoint is taken up, into a TrainError that names it."""
        try:
            yield
        except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
            raise TrainError(
                f"checkpoint {self.path(step)} does not fit this model and optimizer; "
                f"take another run name, or --set train.resume=false: {error}"
            ) from error


def damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint file, or None: its check sums are computed, which torch does not do."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        return str(error) or type(error).__name__
    return f"wrong check sum of {broken}" if broken else None
