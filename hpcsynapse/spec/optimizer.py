"""The update rule of the built-in trainer, and how its learning rate goes up and down."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hpcsynapse.errors import SpecError
from hpcsynapse.fields import at_least, setting
from hpcsynapse.spec.names import SERVED

_POINT = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(e|samples)")
_LAYERWISE = ("lamb", "lars")


def milestone(value: int | str) -> tuple[float, str]:
    """Return what `32000` (steps), `100e` (epochs) or `6400000samples` means, as amount and unit; raises SpecError."""
    found = (float(value), "steps") if isinstance(value, int) else None
    if found is None and (match := _POINT.fullmatch(str(value))):
        found = (float(match[1]), "epochs" if match[2] == "e" else "samples")
    if found is None:
        raise SpecError(
            f"train.milestones: {value!r} is no point of a run; write 32000 (steps), 100e (epochs) or 6400000samples"
        )
    if found[0] <= 0:
        raise SpecError(f"train.milestones: {value!r} must be at least 1")
    return found


@dataclass(frozen=True, slots=True)
class Span:
    """How long a run is: steps of a rank in an epoch and in all, samples of all ranks in a step.

    `workers` make their updates one by one, each of its own share of these samples; 1 where ranks update together.
    """

    steps_per_epoch: float
    total: float
    global_batch: int
    workers: int = 1

    @property
    def last(self) -> float:
        """Updates in all, those of all workers."""
        return self.total * self.workers

    def updates(self, point: int | str) -> float:
        """Return after how many updates, those of all workers, a milestone comes."""
        amount, unit = milestone(point)
        each = {"epochs": self.steps_per_epoch * self.workers, "samples": self.workers / self.global_batch}
        return amount * each.get(unit, 1.0)

    def beyond(self, points: Iterable[int | str]) -> list[int | str]:
        """Return the milestones that the run never reaches."""
        return [point for point in points if self.updates(point) >= self.last]


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The update rule and its learning rate; settings of `[train]`."""

    optimizer: str = setting(
        "sgd", "update rule", choices=("sgd", "adam", "adamw", "adadelta", "rmsprop", "lamb", "lars")
    )
    lr: float = setting(0.02, "learning rate", check=at_least(0, 1000))
    momentum: float = setting(0.9, "momentum (sgd, rmsprop, lars)", check=at_least(0, 1))
    nesterov: bool = setting(False, "Nesterov momentum (sgd)")
    weight_decay: float = setting(0.0, "weight decay", check=at_least(0, 10))
    decay_norms: bool = setting(True, "weight decay on norms and biases too")
    lr_decay: str = setting(
        "milestones",
        "how the rate falls: at milestones, or as a cosine or a line to --lr-end at the end of the run",
        choices=("milestones", "cosine", "linear"),
    )
    lr_end: float = setting(0.0, "rate at the end of a cosine or a line", check=at_least(0, 1000))
    milestones: tuple[int | str, ...] = setting(
        (),
        "where the rate is multiplied by gamma: 32000 (steps), 100e (epochs) or 640000samples (repeatable)",
        option="milestone",
    )
    gamma: float = setting(0.1, "factor at each milestone", check=at_least(0, 1))
    lr_scaling: str = setting("none", "linear: multiply the rate by the number of ranks", choices=("none", "linear"))
    warmup_steps: int = setting(0, "steps over which the rate rises to its full value", check=at_least(0, 10**9))
    warmup_epochs: float = setting(0.0, "the same in epochs", check=at_least(0, 10**6))
    clip_norm: float | None = setting(None, "largest norm of the gradient", check=at_least(1e-12))

    def check_optimizer(self) -> None:
        """Refuse settings that cannot be meant together; raises SpecError."""
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise SpecError("train.nesterov needs train.optimizer = 'sgd' and train.momentum > 0")
        points = tuple(int(one) if str(one).isdecimal() else one for one in self.milestones)  # as typed: "32000"
        object.__setattr__(self, "milestones", points)
        for unit in ("steps", "epochs", "samples"):
            amounts = [amount for amount, of in map(milestone, points) if of == unit]
            if amounts != sorted(set(amounts)):
                raise SpecError(f"train.milestones = {list(points)} must rise")
        if points and self.lr_decay != "milestones":
            raise SpecError(f"train.milestones go with train.lr_decay = 'milestones', not {self.lr_decay!r}")
        if self.lr_end and self.lr_decay == "milestones":
            raise SpecError("train.lr_end is for train.lr_decay = 'cosine' or 'linear'")
        if self.warmup_steps and self.warmup_epochs:
            raise SpecError("train.warmup_steps and train.warmup_epochs are two forms of the same; give one of them")

    def optimizer_conflicts(self, strategy: str) -> Iterator[str]:
        """Yield why a strategy cannot update as asked for, if it cannot."""
        if self.optimizer in _LAYERWISE and strategy in SERVED:
            yield (
                f"train.optimizer = {self.optimizer!r} looks at whole layers, which parameter servers do not hold "
                f"(strategy {strategy}); use sgd or adamw"
            )
        if not self.decay_norms and strategy in (*SERVED, "admm"):
            yield f"train.decay_norms = false does not go with strategy {strategy}, which decays all parameters alike"
