"""What a job file asks for, whatever its dialect, and what is to be said about it line by line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hpcsynapse.findings import Finding
from hpcsynapse.jobfiles.gres import Gres


@dataclass(frozen=True, slots=True)
class Directive:
    """One statement to the queue: its line, its keyword in the dialect's own spelling, its value."""

    line: int
    key: str
    value: str


@dataclass(slots=True, kw_only=True)
class Request:
    """What a job asks its queue for; None where the file does not say.

    Times are in seconds (0 is no limit), memory in MiB, file names have Slurm's patterns (%j, %x, %%), `features` is a
    list of properties that every node must have or one expression of the file's own, `mail` Slurm's events. GPUs are
    counted by node, for the whole job or by task, as the file does; `gpu_kinds` is there for several kinds,
    `gpu_option` where GPUs of a node are not asked for by Slurm's --gres. `own` are parts of statements that only their
    own queue can say, (what, text) each; `home` is set where a job starts in the home directory, `joined` tells whether
    errors go where the output goes.
    """

    name: str | None = None
    step: str | None = None
    workdir: str | None = None
    output: str | None = None
    error: str | None = None
    input: str | None = None
    nodes: int | None = None
    max_nodes: int | None = None
    tasks: int | None = None
    tasks_per_node: int | None = None
    geometry: tuple[tuple[int, ...], ...] = ()
    cpus: int | None = None
    gpus: int | None = None
    job_gpus: int | None = None
    task_gpus: int | None = None
    gpu_option: str | None = None
    gpu_type: str | None = None
    gpu_kinds: tuple[Gres, ...] = ()
    other_gres: tuple[Gres, ...] = ()
    memory: int | None = None
    task_memory: int | None = None
    seconds: int | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    features: tuple[str, ...] = ()
    exclusive: bool | None = None
    requeue: bool | None = None
    mail: tuple[str, ...] = ()
    mail_user: str | None = None
    comment: str | None = None
    dependency: str | None = None
    array: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    copy_environment: bool | None = None
    export: str | None = None
    program: str | None = None
    arguments: str | None = None
    account_option: str | None = None
    shell: str | None = None
    home: bool = False
    joined: bool | None = None
    own: tuple[tuple[str, str], ...] = ()

    @property
    def all_tasks(self) -> int | None:
        """Tasks on all nodes together, where the file tells."""
        if self.geometry:
            return sum(len(group) for group in self.geometry)
        if self.tasks is None and self.nodes and self.tasks_per_node:
            return self.nodes * self.tasks_per_node
        return self.tasks

    @property
    def all_nodes(self) -> int | None:
        """Nodes, where the file gives one number or it follows from those of the tasks."""
        if self.nodes is None and self.tasks and self.tasks_per_node:
            return -(-self.tasks // self.tasks_per_node)
        return None if self.max_nodes else self.nodes

    @property
    def node_tasks(self) -> int | None:
        """Tasks of each node, where the file tells and it is the same number everywhere."""
        if self.tasks_per_node or not self.all_nodes:
            return self.tasks_per_node
        whole, rest = divmod(self.tasks or self.all_nodes, self.all_nodes)
        return whole if not rest else None

    @property
    def node_gpus(self) -> int | None:
        """GPUs of each node: given as such, or of the whole job or a task where that is the same number everywhere."""
        if self.gpus is not None:
            return self.gpus
        if self.job_gpus is not None:
            nodes = self.all_nodes
            return self.job_gpus // nodes if nodes and self.job_gpus % nodes == 0 else None
        return self.task_gpus * self.node_tasks if self.task_gpus and self.node_tasks else None

    @property
    def node_memory(self) -> int | None:
        """Memory of each node: given as such, or of its tasks together."""
        if self.memory is None and self.task_memory is not None and self.tasks_per_node:
            return self.task_memory * self.tasks_per_node
        return self.memory


@dataclass(slots=True)
class Step:
    """One job step: every job has one, LoadLeveler files may have several.

    `lines` are its statements by keyword, `sources` those that filled each field of the request; `start` and `end`
    are the lines of the `# @ queue` before it and of its own.
    """

    request: Request = field(default_factory=Request)
    lines: dict[str, Directive] = field(default_factory=dict)
    sources: dict[str, Directive] = field(default_factory=dict)
    without_meaning: list[Directive] = field(default_factory=list)
    start: int = 0
    end: int = 0

    def next(self) -> Step:
        """Return what the following step inherits: everything but the dependency (LoadLeveler)."""
        request = replace(self.request, dependency=None, step=None, environment=dict(self.request.environment))
        lines = {name: one for name, one in self.lines.items() if name not in ("dependency", "step")}
        return Step(request, lines, dict(self.sources), list(self.without_meaning), start=self.end)


@dataclass(slots=True)
class JobFile:
    """A job file as it was read: `body` are the lines that are no directives, with their numbers."""

    dialect: str
    steps: list[Step]
    body: list[tuple[int, str]]
    complaints: list[Finding]

    @property
    def errors(self) -> list[Finding]:
        """What keeps the file from being understood as a whole."""
        return [complaint for complaint in self.complaints if complaint.level == "error"]

    @property
    def unusable(self) -> bool:
        """Whether a queue would refuse the file as it is."""
        return any(complaint.level in ("error", "refused") for complaint in self.complaints)

    @property
    def lost(self) -> list[Finding]:
        """What has no counterpart in the dialect that the file was converted to."""
        return [complaint for complaint in self.complaints if complaint.level == "lost"]


class NoCounterpartError(Exception):
    """Raised by a rule for a value that only its own dialect can express; the directive is kept as it is."""


# Puts a value into a request and returns what is odd about it, or None; raises ValueError when it cannot be meant.
Rule = Callable[[Request, str], str | None]
