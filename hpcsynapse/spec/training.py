"""What the built-in trainer does: the settings of training itself, and those of single strategies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.fields import at_least, setting
from hpcsynapse.spec.data import DataSettings
from hpcsynapse.spec.names import COMPRESSIBLE, DDP_ONLY
from hpcsynapse.spec.optimizer import OptimizerSettings
from hpcsynapse.spec.profile import ProfileSettings
from hpcsynapse.spec.step import StepSettings
from hpcsynapse.spec.stopping import StoppingSettings
from hpcsynapse.spec.work import WorkSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec(ProfileSettings, StoppingSettings, StepSettings, OptimizerSettings, DataSettings, WorkSettings):
    """What the built-in trainer does; batch sizes are per rank, schedules count optimizer steps.

    Settings are listed with those of the last base class first.
    """

    seed: int = setting(0, "seed of everything random", check=at_least(0, 2**31 - 1))
    validate_every: int = setting(1, "epochs between validations, 0 = never", check=at_least(0))
    validate_train: bool = setting(False, "validate on as many training samples too, evenly spaced: metrics train_NAME")
    checkpoint_every: int = setting(1, "epochs between checkpoints, 0 = only when stopped", check=at_least(0))
    checkpoint_seconds: float = setting(
        0.0, "seconds between further checkpoints within epochs, 0 = none", check=at_least(0, 10**9)
    )
    checkpoint_auto: bool = setting(False, "further checkpoints as often as what they take and failures make best")
    checkpoint_async: bool = setting(True, "write checkpoints beside the steps, from a copy of the state in memory")
    keep_checkpoints: int = setting(2, "newest checkpoints kept", check=at_least(1, 10_000))
    resume: bool = setting(True, "continue from the newest checkpoint of the run directory")
    record_warmup: int = setting(10, "first steps after a start that are flagged as warm-up", check=at_least(0))
    tensorboard: bool = setting(False, "write scalars for TensorBoard")

    def __post_init__(self) -> None:
        fields.validate("train", self)
        if self.checkpoint_auto and self.checkpoint_seconds:
            raise SpecError(
                f"train.checkpoint_auto chooses the seconds between checkpoints; leave "
                f"train.checkpoint_seconds = {self.checkpoint_seconds:g} out"
            )
        self.check_optimizer()
        self.check_shares()
        self.check_patience(self.validate_every)

    @property
    def saves_within_epochs(self) -> bool:
        """Whether there are checkpoints beside those at the ends of epochs."""
        return self.checkpoint_auto or self.checkpoint_seconds > 0

    @property
    def samples_per_step(self) -> int:
        """Samples that a rank takes in a step."""
        return self.batch * self.accumulate


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
    synchronous_steps: int | None = setting(
        None, "first steps with averaged gradients, then local-sgd [0] or powersgd [10]", check=at_least(0, 10**9)
    )

    def __post_init__(self) -> None:
        fields.validate("exchange", self)

    @property
    def synchronous(self) -> int:
        """Steps before local-sgd or powersgd begin."""
        if self.synchronous_steps is not None:
            return self.synchronous_steps
        return 10 if self.compression == "powersgd" else 0

    def conflicts(self, strategy: str, engine: str) -> Iterator[str]:
        """Yield why strategy and engine cannot do what is asked for, if they cannot."""
        compression, ddp = self.compression, engine in ("auto", "ddp")
        if strategy in DDP_ONLY and engine not in ("auto", "ddp"):
            yield f"train.engine = {engine!r} does not carry out strategy {strategy}; use ddp"
        if strategy == "central" and engine == "horovod":
            yield "train.engine = 'horovod' reduces to no single rank, as strategy central does; use mpi or ddp"
        if compression != "none" and strategy not in (*COMPRESSIBLE, "auto", "single"):
            yield f"exchange.compression = {compression!r} does not go with strategy {strategy}, which sends fp32"
        if compression == "bf16" and engine == "horovod":
            yield "exchange.compression = 'bf16': Horovod cannot sum it; use fp16, or engine ddp or mpi"
        if compression == "powersgd" and not (ddp and strategy not in ("central", "local-sgd")):
            yield (
                "exchange.compression = 'powersgd' goes with engine ddp and strategy allreduce or allreduce-broadcast, "
                f"not with {engine} and {strategy}"
            )
        if self.bucket_mb is not None and compression == "powersgd":
            yield f"exchange.bucket_mb = {self.bucket_mb:g}, but compression powersgd takes all gradients at once"
        if self.bucket_mb is not None and not ddp:
            yield f"exchange.bucket_mb = {self.bucket_mb:g} is for engine ddp, not {engine}"
        if self.overlap and strategy == "local-sgd" and engine == "mpi":
            yield "exchange.overlap: engine mpi sums nothing in the background; use --engine ddp or horovod"

    def label(self, strategy: str) -> str:
        """Return the strategy's name with those of its options that are not the defaults: `local-sgd+every16+fp16`."""
        every = {"local-sgd": self.average_every, "allreduce-broadcast": self.broadcast_every}.get(strategy)
        reduces = strategy in ("allreduce", "allreduce-broadcast")
        parts = {
            strategy: True,
            f"every{every}": every not in (None, 0, 8),
            "overlap": self.overlap and strategy == "local-sgd",
            self.compression: self.compression != "none" and strategy in COMPRESSIBLE,
            f"bucket{self.bucket_mb}": self.bucket_mb is not None and reduces,
        }
        return "+".join(part for part, differs in parts.items() if differs)


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
    method: str = setting(
        "proximal",
        "what net1 learns from net2's answers: targets, targets with multipliers, a distance, nothing",
        option="dual-method",
        choices=("proximal", "admm", "distance", "frozen"),
    )
    exchange: str = setting(
        "engine",
        "what carries activations and answers: the engine, or .npy files in the run directory",
        option="dual-exchange",
        choices=("engine", "files"),
    )
    target_steps: int = setting(1, "proximal, admm: steps from an activation to its target", check=at_least(1, 1000))
    target_rate: float = setting(1.0, "proximal, admm: length of such a step, 1 = whole", check=at_least(1e-6, 10))
    beta: float = setting(0.1, "weight of the distance between activation and target", check=at_least(1e-9, 1e9))
    net1_lr: float | None = setting(None, "learning rate of net1 [that of the run]", check=at_least(0, 1000))
    net1_steps: int = setting(1, "proximal, admm: local steps of net1 on a target", check=at_least(1, 1000))
    net2_steps: int = setting(1, "local steps of net2 on an activation", check=at_least(1, 1000))
    int8_targets: bool = setting(False, "proximal, admm: answers travel as int8, a quarter of the bytes")
    one_batch_late: bool = setting(
        False, "proximal, admm: both halves work at once, net1 on the answer to the batch before"
    )
    multiplier_damping: float = setting(
        0.5, "admm: part of a multiplier that is kept, 1 = all (textbook)", check=at_least(0, 1)
    )
    beta_growth: float = setting(1.0, "admm: factor of beta after every epoch", check=at_least(1, 1000))
    beta_step_growth: float = setting(1.0, "admm: factor of beta after every step", check=at_least(1, 1000))
    train_at: str = setting(
        "activation",
        "admm: what net2 learns at (target: textbook, collapses)",
        option="net2-at",
        choices=("activation", "target"),
    )
    norm: str = setting(
        "none", "distance: what it is divided by", option="distance-norm", choices=("none", "one", "both")
    )
    copy_start: str = setting(
        "drawn",
        "distance: how net1's copy of net2's first layers begins",
        option="distance-copy",
        choices=("drawn", "equal"),
    )

    def __post_init__(self) -> None:
        fields.validate("dual", self)
        method, targets = self.method, self.method in ("proximal", "admm")
        only_admm = ("multiplier_damping", "beta_growth", "beta_step_growth", "train_at")
        only_targets = ("target_steps", "target_rate", "beta", "net1_steps", "int8_targets", "one_batch_late")
        only_distance = ("norm", "copy_start")
        given = {item.name for item in dataclasses.fields(self) if getattr(self, item.name) != item.default}
        for names, goes in (
            (only_admm, method == "admm"),
            (only_targets, targets),
            (only_distance, method == "distance"),
        ):
            if not goes and (wrong := sorted(given.intersection(names))):
                name = wrong[0]
                raise SpecError(f"dual.{name} = {getattr(self, name)!r} means nothing to dual.method = {method!r}")

    def label(self) -> str:
        """Return `admm` with what differs from the plain method: `admm+frozen`, `admm+steps3,3,3+late+int8`."""
        steps = (self.target_steps, self.net1_steps, self.net2_steps)
        parts = {
            "admm": True,
            "multipliers" if self.method == "admm" else self.method: self.method != "proximal",
            "at-target": self.train_at == "target",
            f"by-{self.norm}": self.norm != "none",
            "equal-copy": self.copy_start == "equal",
            "steps{},{},{}".format(*steps): steps != (1, 1, 1),
            f"beta{self.beta:g}": self.beta != 0.1,
            "late": self.one_batch_late,
            "int8": self.int8_targets,
            "files": self.exchange == "files",
        }
        return "+".join(part for part, differs in parts.items() if differs)

    def conflicts(self, strategy: str, engine: str, world: int) -> Iterator[str]:
        """Yield why strategy, engine and number of ranks cannot do what is asked for, if they cannot."""
        if strategy == "admm":
            if world != 2:
                yield (
                    f"train.strategy = 'admm' cuts a network in two for 2 ranks, but {world} are asked for; "
                    "use --nodes 2, or --ranks-per-node 2"
                )
            if engine == "horovod":
                yield "train.engine = 'horovod' sends nothing to one rank alone, as strategy admm does; use ddp or mpi"
        elif self != DualOptions():
            changed = [item.name for item in dataclasses.fields(self) if getattr(self, item.name) != item.default]
            yield f"dual.{changed[0]} is for strategy admm, not {strategy}"
