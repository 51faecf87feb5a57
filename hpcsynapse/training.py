"""What the built-in trainer does: the settings of training itself, and those of single strategies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.fields import at_least, setting

ENGINES = ("auto", "horovod", "ddp", "mpi")
STRATEGIES = (
    "auto", "single", "allreduce", "allreduce-broadcast", "central", "local-sgd", "ps-async", "ps-sync", "mixed",
    "admm",
)  # fmt: skip
# Strategies with parameter servers: their workers are started apart from one another, and one may die alone.
SERVED = ("ps-async", "ps-sync", "mixed")

_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*|[a-z][a-z0-9-]*")


def _check_target(name: str, value: str) -> None:
    if not _TARGET.fullmatch(value):
        raise SpecError(f"{name}: {value!r} is neither a known name nor package.module:attribute")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec:
    """What the built-in trainer does; batch sizes are per rank, schedules count optimizer steps."""

    strategy: str = setting("auto", "how ranks work together [allreduce; single for one rank]", choices=STRATEGIES)
    engine: str = setting("auto", "what moves the data [horovod where installed, else ddp]", choices=ENGINES)
    model: str = setting("simple-cnn", "model name or package.module:attribute", check=_check_target)
    model_args: dict[str, Any] = setting({}, "arguments of the model")
    data: str = setting("digits", "data set name or package.module:attribute", check=_check_target)
    data_path: str | None = setting(None, "folder with the data set's files")
    data_args: dict[str, Any] = setting({}, "arguments of the data set")
    sharding: str = setting(
        "auto", "how samples are dealt out [strided; npy: contiguous]", choices=("auto", "contiguous", "strided")
    )
    augment: bool = setting(False, "pad by 4, crop and flip at random")
    batch: int = setting(32, "samples a rank takes in a step", check=at_least(1, 1_000_000))
    epochs: int = setting(20, "passes over the training data", check=at_least(1, 1_000_000))
    steps: int | None = setting(None, "end after this many steps, whatever the epochs", check=at_least(1, 10**9))
    optimizer: str = setting("sgd", "update rule", choices=("sgd", "adam", "adadelta", "rmsprop"))
    lr: float = setting(0.02, "learning rate", check=at_least(0, 1000))
    momentum: float = setting(0.9, "momentum (sgd, rmsprop)", check=at_least(0, 1))
    nesterov: bool = setting(False, "Nesterov momentum (sgd)")
    weight_decay: float = setting(0.0, "weight decay", check=at_least(0, 10))
    milestones: tuple[int, ...] = setting(
        (), "step at which the rate is multiplied by gamma (repeatable)", option="milestone", check=at_least(1)
    )
    gamma: float = setting(0.1, "factor at each milestone", check=at_least(0, 1))
    lr_scaling: str = setting("none", "linear: multiply the rate by the number of ranks", choices=("none", "linear"))
    warmup_steps: int = setting(0, "steps over which the rate rises to its full value", check=at_least(0, 10**9))
    clip_norm: float | None = setting(None, "largest norm of the gradient", check=at_least(1e-12))
    seed: int = setting(0, "seed of everything random", check=at_least(0, 2**31 - 1))
    validate_every: int = setting(1, "epochs between validations, 0 = never", check=at_least(0))
    checkpoint_every: int = setting(1, "epochs between checkpoints, 0 = only when stopped", check=at_least(0))
    keep_checkpoints: int = setting(2, "newest checkpoints kept", check=at_least(1, 10_000))
    resume: bool = setting(True, "continue from the newest checkpoint of the run directory")
    record_warmup: int = setting(10, "first steps after a start that are flagged as warm-up", check=at_least(0))
    tensorboard: bool = setting(False, "write scalars for TensorBoard")

    def __post_init__(self) -> None:
        fields.validate("train", self)
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise SpecError("train.nesterov needs train.optimizer = 'sgd' and train.momentum > 0")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise SpecError(f"train.milestones = {list(self.milestones)} must rise")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeOptions:
    """How ranks in lock-step exchange gradients and parameters."""

    compression: str = setting(
        "none", "how gradients travel (powersgd: engine ddp)", choices=("none", "fp16", "bf16", "powersgd")
    )
    bucket_mb: float | None = setting(
        None, "engine ddp: MB of gradients sent at once [from the model's size]", check=at_least(0.01, 10_000)
    )
    broadcast_every: int = setting(
        0, "allreduce-broadcast: steps between broadcasts, 0 = every epoch", check=at_least(0, 10**9)
    )
    broadcast_optimizer: bool = setting(False, "allreduce-broadcast: the optimizer's state too")
    average_every: int = setting(8, "local-sgd: steps between averages of the parameters", check=at_least(1, 10**6))
    overlap: bool = setting(False, "local-sgd: average in the background, correct later")
    synchronous_steps: int = setting(
        0, "first steps with averaged gradients, before local-sgd or powersgd begin", check=at_least(0, 10**9)
    )

    def __post_init__(self) -> None:
        fields.validate("exchange", self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Parameter servers of the strategies ps-async, ps-sync and mixed."""

    servers: int = setting(1, "parameter servers in total", check=at_least(1, 1024))
    server_nodes: int = setting(
        0, "nodes for parameter servers alone, beside --nodes; 0 = on the workers' nodes", check=at_least(0, 1024)
    )
    needed: int | None = setting(
        None, "ps-sync: gradients averaged for an update; later ones are dropped [all]", check=at_least(1, 100_000)
    )
    staleness_limit: int | None = setting(
        None, "ps-async, mixed: drop gradients older than so many updates", check=at_least(0, 10**6)
    )
    staleness_lr: bool = setting(False, "ps-async, mixed: divide the learning rate by 1 + staleness")
    restarts: int = setting(2, "times that a lost worker or server is started again", check=at_least(0, 100))
    rejoin_limit: float = setting(
        60.0, "seconds for a lost worker or server to come back before it is given up", check=at_least(1, 86400)
    )
    server_save_seconds: float = setting(30.0, "seconds between saves of a server's state", check=at_least(0.1, 86400))

    def __post_init__(self) -> None:
        fields.validate("ps", self)
        if self.server_nodes > self.servers:
            raise SpecError(f"ps.server_nodes = {self.server_nodes} exceeds ps.servers = {self.servers}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DualOptions:
    """The strategy admm: one network cut in two, trained by alternation on two ranks."""

    cut: str | None = setting(None, "layer behind which the network is cut [the model's own choice]")

    def __post_init__(self) -> None:
        fields.validate("dual", self)
