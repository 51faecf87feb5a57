"""The description of a run: frozen, validated on construction, the same from TOML, command line and Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import PurePath
from typing import Any

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.names import SERVED, THIS_MACHINE
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.site import SiteSpec
from hpcsynapse.spec.survive import SurviveOptions
from hpcsynapse.spec.telemetry import TelemetryOptions
from hpcsynapse.spec.training import DualOptions, ExchangeOptions, ServerOptions, TrainSpec
from hpcsynapse.units import counted

FORMAT = 1  # of run.toml
SECTIONS: dict[str, type] = {
    "resources": ResourceRequest,
    "queue": QueueOptions,
    "launch": LaunchOptions,
    "train": TrainSpec,
    "exchange": ExchangeOptions,
    "ps": ServerOptions,
    "dual": DualOptions,
    "telemetry": TelemetryOptions,
    "survive": SurviveOptions,
    "site": SiteSpec,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One run: resources, queue, launch, and either the built-in trainer or a command of the user's own.

    Raises SpecError when any value, or any two together, cannot be meant.
    """

    name: str | None = None
    command: tuple[str, ...] = ()
    workdir: str | None = None
    resources: ResourceRequest = field(default_factory=ResourceRequest)
    queue: QueueOptions = field(default_factory=QueueOptions)
    launch: LaunchOptions = field(default_factory=LaunchOptions)
    train: TrainSpec = field(default_factory=TrainSpec)
    exchange: ExchangeOptions = field(default_factory=ExchangeOptions)
    ps: ServerOptions = field(default_factory=ServerOptions)
    dual: DualOptions = field(default_factory=DualOptions)
    telemetry: TelemetryOptions = field(default_factory=TelemetryOptions)
    survive: SurviveOptions = field(default_factory=SurviveOptions)
    site: SiteSpec = field(default_factory=SiteSpec)

    def __post_init__(self) -> None:
        object.__setattr__(self, "command", fields.coerce("command", tuple[str, ...], self.command))
        if self.name is not None:
            fields.run_name("name", fields.coerce("name", str, self.name))
        for argument in self.command:
            fields.printable("command", argument)
        if self.command and not self.command[0]:
            raise SpecError("command: the program's name is empty")
        if self.workdir is not None:
            fields.printable("workdir", fields.coerce("workdir", str, self.workdir))
            if not PurePath(self.workdir).is_absolute():
                raise SpecError(f"workdir = {self.workdir!r} must be an absolute path")
        for section, kind in SECTIONS.items():
            if not isinstance(getattr(self, section), kind):
                raise SpecError(f"{section} = {getattr(self, section)!r} must be a {kind.__name__}")
        if not self.command:
            self._check_training()
        self._check_survival()
        if self.launch.emulate and self.queue.scheduler not in ("auto", THIS_MACHINE):
            raise SpecError(f"launch.emulate runs on this machine, but queue.scheduler = {self.queue.scheduler!r}")
        if self.launch.container and self.queue.scheduler == THIS_MACHINE and self.launch.container_runtime == "pyxis":
            raise SpecError(
                f"launch.container_runtime = 'pyxis' is an option of srun, but queue.scheduler = {THIS_MACHINE!r}"
            )

    def _check_training(self) -> None:
        world, train = self.resources.world_size, self.train
        for conflict in chain(
            self.exchange.conflicts(train.strategy, train.engine),
            self.dual.conflicts(train.strategy, train.engine, world),
            train.optimizer_conflicts(train.strategy),
            train.patience_conflicts(train.strategy),
            train.data_conflicts(train.strategy, train.accumulate),
            train.pipeline_conflicts(train.batch, world) if train.strategy == "pipeline" else (),
            train.step_conflicts(train.strategy, self.exchange.compression, self.on_cpu),
        ):
            raise SpecError(conflict)
        if self.served:
            self._check_servers()
        if train.strategy == "single" and world > 1:
            raise SpecError(
                f"train.strategy = 'single' runs one rank, but {counted(self.resources.nodes, 'node')} "
                f"x {counted(self.resources.local_size, 'rank')} are asked for; use --strategy allreduce"
            )
        if self.launch.launcher == "horovodrun" and train.engine not in ("auto", "horovod"):
            raise SpecError(f"launch.launcher = 'horovodrun' starts Horovod, but train.engine = {train.engine!r}")
        if (launcher := self.launch.launcher) in ("torchrun", "greasy") and train.engine in ("horovod", "mpi"):
            raise SpecError(f"launch.launcher = {launcher!r} starts no MPI, but train.engine = {train.engine!r}")
        if self.launch.launcher == "local" and train.engine in ("horovod", "mpi") and world > 1:
            raise SpecError(
                f"launch.launcher = 'local' starts no MPI, but train.engine = {train.engine!r}; use --launcher mpirun"
            )

    def _check_servers(self) -> None:
        launcher, strategy, needed = self.launch.launcher, self.train.strategy, self.ps.needed
        if launcher not in ("auto", "greasy"):
            raise SpecError(
                f"launch.launcher = {launcher!r} starts no parameter servers, which train.strategy = {strategy!r} "
                "needs; use --launcher greasy (it needs no Greasy: srun or this machine will do)"
            )
        if self.train.engine not in ("auto", "ddp"):
            raise SpecError(f"train.engine = {self.train.engine!r} does not go with strategy {strategy}; leave it out")
        if needed is not None and needed > self.resources.world_size:
            raise SpecError(f"ps.needed = {needed} gradients, but there are {self.resources.world_size} workers")

    def _check_survival(self) -> None:
        survive, launcher, nodes = self.survive, self.launch.launcher, self.resources.nodes
        if survive.moves and launcher not in ("auto", "srun"):
            raise SpecError(f"survive.spares and survive.min_nodes need launcher srun, not {launcher!r}")
        if survive.restart_limit and self.served:
            raise SpecError("survive.restarts: parameter servers and their workers are started again by their nodes")
        if survive.min_nodes and self.command:
            raise SpecError(
                "survive.min_nodes is for the built-in trainer: your own program has as many ranks as asked"
            )
        if survive.min_nodes and survive.min_nodes > nodes:
            raise SpecError(f"survive.min_nodes = {survive.min_nodes}, but {counted(nodes, 'node')} are asked for")
        if survive.min_nodes and self.train.strategy == "admm":
            raise SpecError("survive.min_nodes: strategy admm has two ranks, never fewer")

    @property
    def label(self) -> str:
        """The strategy's name with those of its options that are not the defaults, as reports tell runs apart."""
        return self.dual.label() if self.train.strategy == "admm" else self.exchange.label(self.train.strategy)

    @property
    def served(self) -> bool:
        """Whether the built-in trainer runs with parameter servers."""
        return not self.command and self.train.strategy in SERVED

    @property
    def on_cpu(self) -> bool:
        """Whether the built-in trainer computes on CPUs."""
        asked = self.train.device == "cuda" or (self.train.device == "auto" and self.resources.gpus > 0)
        return self.launch.emulate or not asked

    @property
    def pins_one_device(self) -> bool:
        """Whether a rank sees its own devices alone; most programs choose theirs by LOCAL_RANK among the node's."""
        return self.launch.pin == "visible" or (self.launch.pin == "auto" and not self.command)

    @property
    def allocated_nodes(self) -> int:
        """Nodes that the queue is asked for: those of the ranks, of parameter servers alone, and spare ones."""
        return self.resources.nodes + (self.ps.server_nodes if self.served else 0) + self.survive.spares

    @property
    def threads(self) -> int:
        """Threads of each rank."""
        return self.launch.threads or self.resources.cpus or 1

    def with_(self, section: str, **changes: Any) -> JobSpec:
        """Return a copy with some settings of one section changed, validated again."""
        return replace(self, **{section: replace(getattr(self, section), **changes)})

    def to_dict(self) -> dict[str, Any]:
        """Return TOML-ready tables from which `from_dict` builds an equal description."""
        top = {"name": self.name, "command": list(self.command), "workdir": self.workdir}
        result: dict[str, Any] = {key: value for key, value in top.items() if value}
        for section in SECTIONS:
            result[section] = fields.plain(getattr(self, section))
        return result

    def to_toml(self) -> str:
        """Return the text of run.toml."""
        import tomli_w

        return tomli_w.dumps({"format": FORMAT, **self.to_dict()})

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> JobSpec:
        """Build a description from tables; unknown keys are SpecErrors that name the nearest valid one."""
        top = ("name", "command", "workdir")
        arguments: dict[str, Any] = {}
        for key, value in table.items():
            if key in SECTIONS:
                arguments[key] = fields.build(SECTIONS[key], value, key)
            elif key in top:
                arguments[key] = tuple(value) if key == "command" and isinstance(value, list) else value
            else:
                raise SpecError(f"unknown setting {key}{fields.nearest(key, [*top, *SECTIONS])}")
        return cls(**arguments)
