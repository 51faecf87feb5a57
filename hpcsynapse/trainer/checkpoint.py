"""Checkpoints: whole files or none, the newest few kept, a damaged one passed over."""

from __future__ import annotations

import io
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.checkpoint_files import damage, remove, write
from hpcsynapse.trainer.checkpoint_writer import Snapshot, Writer

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
    the epoch under way: the data position, which holds for any number of ranks. `dealt` says who has taken them: ranks,
    samples of each in a step, and steps, anew where another number of ranks went on.
    """

    step: int = 0
    epoch: int = 0
    samples: int = 0
    dealt: list[list[int]] = field(default_factory=list)


class Checkpoints:
    """The folder of a run's checkpoints, `step-N.pt`.

    A file holds model, optimizer, schedule, seeds, and `Progress`; random numbers follow from seed, rank and step
    (`randomness`). It is read with `weights_only=True`: loading runs no code.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep, self._writer, self._snapshot = folder, keep, Writer(), Snapshot()
        self.background = False  # whether `save` returns once it has a copy, which is written beside the steps
        self.write_s = 0.0  # what the newest write took, seconds

    def path(self, step: int) -> Path:
        """Return the file of a step."""
        return self._folder / f"step-{step:09d}.pt"

    def steps(self) -> list[int]:
        """Return the steps that have a file, newest first; raises OSError for a folder that cannot be read."""
        try:
            names = [entry.name for entry in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        found = (_NAME.fullmatch(name) for name in names)
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def save(
        self,
        model: Stateful,
        optimizer: Stateful,
        progress: Progress,
        about: dict[str, Any],
        extra: Mapping[str, Any] | None = None,
    ) -> Path | None:
        """Write a checkpoint of this step, then remove the oldest; raises TrainError when it cannot be written.

        In the background that is raised by the next call of `check`, `wait` or this, and two are never written at once.

        `extra` holds further entries, of a strategy's own. A model that has diverged is not written, with a warning:
        the newest checkpoint stays one from which a run can go on; None is returned then.
        """
        target = self.path(progress.step)
        if name := not_finite(model):
            _log.warning("no checkpoint of step %d: %s holds numbers that are not finite", progress.step, name)
            return None
        content = {
            "format": FORMAT,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "progress": asdict(progress),
            "about": about,
            **(extra or {}),
        }
        if self.background:
            self.wait()  # the copy's memory is that of the one before
            copy = self._snapshot.take(content)
            self._writer.start(lambda: self._write(target, copy))
        else:
            self.wait()
            self._write(target, content)
        return target

    def _write(self, target: Path, content: dict[str, Any]) -> None:
        began = time.monotonic()
        try:
            write(target, content)
        except OSError as error:
            raise TrainError(f"checkpoint {target} cannot be written: {error.strerror or error}") from error
        self.write_s = time.monotonic() - began
        self._prune()

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written in the background."""
        return self._writer.busy

    def check(self) -> None:
        """Raise TrainError where a checkpoint could not be written in the background."""
        self._writer.check()

    def wait(self) -> None:
        """Return when no checkpoint is being written; raises TrainError where one could not be."""
        self._writer.wait()

    def _prune(self) -> None:
        """Remove the oldest files; the new one is whole, so that no failure here is worth a run."""
        try:
            for step in self.steps()[self._keep :]:
                remove(self._folder, self.path(step).name)
        except OSError as error:
            _log.warning("old checkpoints in %s cannot be removed: %s", self._folder, error.strerror or error)
        remove(self._folder, ".step-*.pt.*")  # of a process killed while writing

    def newest(self) -> int | None:
        """Return the step of the newest whole checkpoint; others are named in a warning and passed over.

        Raises TrainError where files are there that cannot be read, and no other: beginning anew would write over them.
        """
        unread = ""
        try:
            for step in self.steps():
                try:
                    reason = damage(self.path(step))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    unread = str(error.strerror or error)
                    reason = f"cannot be read: {unread}"
                if reason is None:
                    return step
                _log.warning("checkpoint %s %s; trying the one before", self.path(step), reason)
        except OSError as error:
            unread = str(error.strerror or error)
        if unread:
            raise TrainError(f"no checkpoint in {self._folder} can be read: {unread}")
        return None

    def data(self, step: int) -> bytes:
        """Return the bytes of a checkpoint; raises TrainError."""
        try:
            return self.path(step).read_bytes()
        except OSError as error:
            raise TrainError(f"checkpoint {self.path(step)} cannot be read: {error.strerror or error}") from error

    def load(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        data: bytes | None = None,
        rest: Callable[[dict[str, Any]], None] = lambda content: None,
    ) -> Progress:
        """Put the state of a checkpoint, whose bytes may be at hand, into model, optimizer and whatever takes the rest.

        Raises TrainError when they do not fit it.
        """
        with self.fitting(step):
            content = self.parse(step, self.data(step) if data is None else data)
            model.load_state_dict(content["model"])
            optimizer.load_state_dict(content["optimizer"])
            rest(content)
            return Progress(**content["progress"])

    def parse(self, step: int, data: bytes) -> dict[str, Any]:
        """Return what a checkpoint's bytes hold; raises TrainError when another release wrote it in another way."""
        content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
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


def not_finite(model: Stateful) -> str | None:
    """Return the first parameter that holds an infinite number or NaN, or the first buffer with NaN; None for none.

    Buffers may hold infinite numbers on purpose, as masks do. What is no module tells no parameter from a buffer.
    """
    parameters = {name for name, _ in model.named_parameters()} if isinstance(model, nn.Module) else set[str]()
    for name, value in model.state_dict().items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            if bool(value.sum().isfinite()):  # a tenth of the time; what overflows is looked at more closely
                continue
            sound = value.isfinite() if name in parameters else ~value.isnan()
            if not bool(sound.all()):
                return name
    return None
