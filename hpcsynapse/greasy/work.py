"""What is to be run, where, and what is asked for: told to whatever runs a list."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse.greasy.recorded import is_node_script
from hpcsynapse.greasy.tasks import Task, TaskList


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What runs a list and where; workers are counted per node."""

    hosts: str | None = None
    hostfile: str | None = None
    workers: int | None = None
    by: str = "auto"
    engine: str | None = None
    greasy: str | None = None
    retries: int = 0
    resume: bool = False
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """A list that is ready: all tasks, those that are left to run, its file, and where they may run."""

    tasks: TaskList
    left: TaskList
    path: Path
    folder: Path
    places: list[str]
    environ: dict[str, str]

    @property
    def nodes_only(self) -> bool:
        """Whether every line that is left is the script of a node."""
        return all(is_node_script(task.command) for task in self.left.tasks)


def own_host(task: Task) -> str | None:
    """Return the host that the script of a node is for."""
    if not is_node_script(task.command):
        return None
    script = Path(shlex.split(task.command)[1])
    for line in script.read_text().splitlines():
        words = line.split()
        if words[:1] == ["node"] and len(words) >= 3:
            return words[2]
    return None
