"""What a job file asks for, whatever its dialect, and what is to be said about it line by line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Directive:
    """One statement to the queue: its line, its keyword in the dialect's own spelling, its value."""

    line: int
    key: str
    value: str


@dataclass(frozen=True, slots=True, order=True)
class Complaint:
    """What is wrong with a line: `level` is error, warning, or lost (has no counterpart in another dialect)."""

    line: int
    directive: str
    level: str
    message: str

    def __str__(self) -> str:
        subject = f" {self.directive}:" if self.directive else ""
        return f"line {self.line}: {self.level}:{subject} {self.message}"


@dataclass(slots=True, kw_only=True)
class Request:
    """What a job asks its queue for; None where the file does not say.

    Times are in seconds, memory in MiB, file names have Slurm's patterns (%j, %x, %%), `features` is a list of
    properties that every node must have or one expression of the file's own, `mail` Slurm's events.
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
    gpu_type: str | None = None
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
    program: str | None = None
    arguments: str | None = None

    @property
    def all_tasks(self) -> int | None:
        """Tasks on all nodes together, where the file tells."""
        if self.geometry:
            return sum(len(group) for group in self.geometry)
        if self.tasks is None and self.nodes and self.tasks_per_node:
            return self.nodes * self.tasks_per_node
        return self.tasks

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
    complaints: list[Complaint]

    @property
    def errors(self) -> list[Complaint]:
        """What keeps the file from being used as it is."""
        return [complaint for complaint in self.complaints if complaint.level == "error"]

    @property
    def lost(self) -> list[Complaint]:
        """What has no counterpart in the dialect that the file was converted to."""
        return [complaint for complaint in self.complaints if complaint.level == "lost"]


# Puts a value into a request and returns what is odd about it, or None; raises ValueError when it cannot be meant.
Rule = Callable[[Request, str], str | None]
