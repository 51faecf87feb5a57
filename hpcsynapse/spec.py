"""The description of a run: frozen, validated on construction, the same from TOML, command line and Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain
from pathlib import PurePath
from typing import Any

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.fields import at_least, setting, word
from hpcsynapse.site import SiteSpec
from hpcsynapse.training import SERVED, DualOptions, ExchangeOptions, ServerOptions, TrainSpec
from hpcsynapse.units import parse_mebibytes, parse_walltime

SCHEDULERS = ("auto", "slurm", "loadleveler", "minotauro", "local")
LAUNCHERS = ("auto", "srun", "mpirun", "mpiexec", "poe", "horovodrun", "torchrun", "greasy", "local")

_SIGNAL = re.compile(r"([BR]{1,2}:)?(SIG)?[A-Z0-9]+(@\d{1,5})?")
_MAIL = re.compile(r"[A-Za-z0-9._%+@-]+")
# An option of sbatch, or a keyword and its value as LoadLeveler and BSC's dialect write them.
_DIRECTIVE = re.compile(r"-(-[a-z][a-z0-9-]*(=.*)?|[A-Za-z]( .*)?)|[A-Za-z][A-Za-z0-9_.]* = \S.*")
# A host, or several as Slurm abbreviates them (sbatch(1), --exclude); a slash would make it the name of a file.
_HOSTS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]|\[[0-9][0-9,-]*\])*")
# Variables that belong to the queue or the launcher; setting them would misplace ranks.
_RESERVED = re.compile(
    r"(SLURM|SBATCH|SRUN|PMIX?|OMPI_COMM|LOADL|HPCSYNAPSE)_.*|MP_CHILD|MP_PROCS|MPI_LOCALRANKID|"
    r"RANK|LOCAL_RANK|WORLD_SIZE|CUDA_VISIBLE_DEVICES"
)


def _check_signal(name: str, value: str) -> None:
    if not _SIGNAL.fullmatch(value):
        raise SpecError(f"{name}: {value!r} is not a signal; write for example USR1@120 or B:TERM@60")


def _check_mail(name: str, value: str) -> None:
    if not _MAIL.fullmatch(value) or value.startswith("-"):
        raise SpecError(f"{name}: {value!r} is not a mail address")


def _check_directive(name: str, value: str) -> None:
    if not _DIRECTIVE.fullmatch(value) or "#" in value:
        raise SpecError(
            f"{name}: {value!r} is not one directive; write for example --hint=nomultithread, "
            "for LoadLeveler 'rset = rset_mcm_affinity'"
        )


def _check_env(name: str, key: str) -> None:
    fields.env_name(name, key)
    if _RESERVED.fullmatch(key):
        raise SpecError(f"{name}: {key} is set by the queue or the launcher and cannot be given")


def _check_comment(name: str, value: str) -> None:
    if len(value.encode()) > 1000:  # slurmctld refuses more than 1024 bytes
        raise SpecError(f"{name}: {len(value.encode())} bytes are too many for a queue's comment; at most 1000")


def _check_hosts(name: str, value: str) -> None:
    if not _HOSTS.fullmatch(value) or len(value) > 1000:
        raise SpecError(f"{name}: {value!r} is not a host or a range of hosts; write for example node07 or node[1-3,5]")


def _check_argument(name: str, value: str) -> None:
    if value.startswith("-"):
        raise SpecError(f"{name}: {value!r} begins with a dash and would be read as an option")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequest:
    """What the queue is asked for; GPUs and ranks are counted per node, CPUs per rank."""

    nodes: int = setting(1, "number of nodes", check=at_least(1, 100_000))
    gpus: int = setting(0, "GPUs on each node", check=at_least(0, 64))
    ranks_per_node: int | None = setting(None, "ranks on each node [GPUs, else 1]", check=at_least(1, 1024))
    cpus: int | None = setting(None, "CPU cores for each rank [the site's share]", check=at_least(1, 1024))
    mem: str | None = setting(None, "memory of each node: 64G, 512M, 0 = all of it")
    time: str = setting("01:00:00", "time limit: HH:MM:SS, D-HH:MM:SS, 90m, 2h")
    gpu_type: str | None = setting(None, "kind of GPU, as the site names it", check=word)
    exclusive: bool = setting(False, "take whole nodes")

    def __post_init__(self) -> None:
        fields.validate("resources", self)
        parse_walltime(self.time)
        if self.mem is not None:
            parse_mebibytes(self.mem)
        if self.gpu_type and not self.gpus:
            raise SpecError(f"resources.gpu_type = {self.gpu_type!r} but resources.gpus = 0; add --gpus N")
        if self.gpus and self.local_size % self.gpus and self.gpus % self.local_size:
            raise SpecError(
                f"resources.ranks_per_node = {self.ranks_per_node} and resources.gpus = {self.gpus} do not divide "
                "one another; use as many ranks as GPUs, or a multiple or divisor"
            )

    @property
    def local_size(self) -> int:
        """Ranks on each node."""
        return self.ranks_per_node or self.gpus or 1

    @property
    def world_size(self) -> int:
        """Ranks on all nodes together."""
        return self.nodes * self.local_size

    @property
    def walltime(self) -> timedelta:
        """The time limit."""
        return parse_walltime(self.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """Which queue takes the job, and what it is told beside the resources."""

    scheduler: str = setting("auto", "queue system", choices=SCHEDULERS)
    partition: str | None = setting(None, "partition (LoadLeveler, BSC: class)", check=word)
    account: str | None = setting(None, "account that is charged", check=word)
    qos: str | None = setting(None, "quality of service", check=word)
    constraint: str | None = setting(None, "node features asked for", check=word)
    reservation: str | None = setting(None, "reservation", check=word)
    mail_user: str | None = setting(None, "mail address for notices", check=_check_mail)
    mail_type: str | None = setting(None, "events that send mail [END,FAIL with --mail-user]", check=word)
    comment: str | None = setting(None, "comment kept by the queue", check=_check_comment)
    signal: str | None = setting(
        None, "signal before the time limit, e.g. USR1@120: finish the step and save", check=_check_signal
    )
    requeue: bool | None = setting(None, "let the queue start the job again after a node failure")
    exclude: tuple[str, ...] = setting((), "host not to use, also node[1-3] (repeatable)", check=_check_hosts)
    dependency: str | None = setting(None, "start after other jobs, e.g. afterok:123", check=word)
    hint: str | None = setting(None, "binding hint, e.g. nomultithread", check=word)
    extra_directives: tuple[str, ...] = setting(
        (), "further directive for the queue (repeatable)", check=_check_directive, option="directive"
    )

    def __post_init__(self) -> None:
        fields.validate("queue", self)
        if self.mail_type and not self.mail_user:
            raise SpecError(f"queue.mail_type = {self.mail_type!r} but queue.mail_user is not given")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOptions:
    """How ranks are started, pinned to devices, and what surrounds them."""

    launcher: str = setting("auto", "what starts the ranks", choices=LAUNCHERS)
    pin: str = setting(
        "visible",
        "visible: a rank sees one device; local-rank: sees all, uses its own; none",
        choices=("visible", "local-rank", "none"),
    )
    share_devices: bool = setting(False, "allow several ranks on one device or core")
    emulate: bool = setting(False, "run all ranks of a larger request here on the CPU (scheduler local)")
    modules: tuple[str, ...] = setting((), "environment module to load (repeatable)", check=word, option="module")
    venv: str | None = setting(None, "virtual environment to activate", check=_check_argument)
    conda: str | None = setting(None, "conda environment to activate", check=_check_argument)
    env: dict[str, str] = setting({}, "KEY=VALUE for the job's environment (repeatable)", check=_check_env)
    prelude: tuple[str, ...] = setting((), "shell line before the ranks start (repeatable)")
    container: str | None = setting(None, "container image", check=_check_argument)
    container_runtime: str = setting("apptainer", "how it is run", choices=("apptainer", "singularity", "pyxis"))
    container_mounts: tuple[str, ...] = setting(
        (), "host:container folder to mount (repeatable)", option="container-mount", check=_check_argument
    )
    python: str | None = setting(
        None, "Python on the compute nodes [this one; python3 with venv, conda or container]", check=_check_argument
    )
    threads: int | None = setting(None, "threads of each rank [its CPUs, else 1]", check=at_least(1, 1024))
    start_limit: float = setting(300.0, "seconds within which all ranks must have started", check=at_least(1, 86400))
    wait_limit: float = setting(
        300.0, "seconds without progress after which a rank ends the job", check=at_least(1, 86400)
    )

    def __post_init__(self) -> None:
        fields.validate("launch", self)
        if self.venv and self.conda:
            raise SpecError(f"launch.venv = {self.venv!r} and launch.conda = {self.conda!r} exclude one another")
        if self.container_mounts and not self.container:
            raise SpecError("launch.container_mounts is given but launch.container is not")


SECTIONS: dict[str, type] = {
    "resources": ResourceRequest,
    "queue": QueueOptions,
    "launch": LaunchOptions,
    "train": TrainSpec,
    "exchange": ExchangeOptions,
    "ps": ServerOptions,
    "dual": DualOptions,
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
        if self.launch.emulate and self.queue.scheduler not in ("auto", "local"):
            raise SpecError(f"launch.emulate runs on this machine, but queue.scheduler = {self.queue.scheduler!r}")
        if self.launch.container and self.queue.scheduler == "local" and self.launch.container_runtime == "pyxis":
            raise SpecError("launch.container_runtime = 'pyxis' is a part of Slurm, but queue.scheduler = 'local'")

    def _check_training(self) -> None:
        world, train = self.resources.world_size, self.train
        for conflict in chain(
            self.exchange.conflicts(train.strategy, train.engine),
            self.dual.conflicts(train.strategy, train.engine, world),
        ):
            raise SpecError(conflict)
        if self.served:
            self._check_servers()
        if train.strategy == "single" and world > 1:
            raise SpecError(
                f"train.strategy = 'single' runs one rank, but {self.resources.nodes} nodes x "
                f"{self.resources.local_size} ranks are asked for; use --strategy allreduce"
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

    @property
    def label(self) -> str:
        """The strategy's name with those of its options that are not the defaults, as reports tell runs apart."""
        return self.dual.label() if self.train.strategy == "admm" else self.exchange.label(self.train.strategy)

    @property
    def served(self) -> bool:
        """Whether the built-in trainer runs with parameter servers."""
        return not self.command and self.train.strategy in SERVED

    @property
    def allocated_nodes(self) -> int:
        """Nodes that the queue is asked for: those of the ranks, and those of parameter servers alone."""
        return self.resources.nodes + (self.ps.server_nodes if self.served else 0)

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
