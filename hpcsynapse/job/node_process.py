"""One parameter server or worker of a node: what it is told, how it begins and what is recorded of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsynapse.files import read_json
from hpcsynapse.job import supervise
from hpcsynapse.spec.names import granted_gpus

# The kernel takes no longer word in a command line or an environment (MAX_ARG_STRLEN, execve(2)).
LONGEST_WORD = 131_000


@dataclass(slots=True)
class Process:
    """One server or worker: what it was given, and how it goes."""

    role: str
    index: int
    device: str | None  # what CUDA_VISIBLE_DEVICES is to be, None to leave it as it is
    local: int
    child: subprocess.Popen[bytes] | None = None
    not_started: int = 0
    code: int | None = None
    stopped: bool = False
    again: int = 0
    start: float = 0.0
    end: float | None = None

    @property
    def name(self) -> str:
        """What logs and messages call it."""
        return f"{self.role} {self.index}"

    @property
    def alive(self) -> bool:
        """Whether it has not been seen to end."""
        return self.code is None

    def poll(self) -> int | None:
        """Return its exit code when it has ended, or could not even begin."""
        if self.child is None:
            return self.not_started
        code = self.child.poll()
        return None if code is None else supervise.exit_code(code)

    def record(self) -> dict[str, Any]:
        """Return what the record of the node says of it."""
        return {
            "role": self.role,
            "index": self.index,
            "device": self.device or "",
            "exit_code": self.code,
            "signal": supervise.signal_name(self.code),
            "stopped": self.stopped,
            "start": self.start,
            "end": self.end,
        }

    def launch(self, folder: Path, settings: Mapping[str, Any], node: int, *, again: bool = True) -> None:
        """Begin, with the log of an earlier time behind it only where it begins again."""
        self.start, self.end, self.code, self.stopped = time.time(), None, None, False
        command = [*settings["command"]]
        if settings["flags"]:
            command += self._flags(folder)
        with (folder / "logs" / f"{self.role}-{self.index}.log").open("ab" if again else "wb") as log:
            try:
                environ = self._environ(folder, settings["ranks"], node)
                self.child = supervise.start(command, environ=environ, output=log)
            except OSError as error:
                log.write(f"hpcsynapse: cannot start {command[0]!r}: {error.strerror}\n".encode())
                self.child, self.not_started = None, 127 if isinstance(error, FileNotFoundError) else 126

    def _flags(self, folder: Path) -> list[str]:
        cluster = read_json(folder / "cluster.json") or {}
        return [
            f"--ps_hosts={','.join(cluster.get('ps', ()))}",
            f"--worker_hosts={','.join(cluster.get('worker', ()))}",
            f"--job_name={self.role}",
            f"--task_index={self.index}",
        ]

    def _tf_config(self, folder: Path) -> str:
        """Return what TensorFlow's estimators and parameter server strategies read instead of flags."""
        roles = {role: hosts for role, hosts in (read_json(folder / "cluster.json") or {}).items() if hosts}
        return json.dumps({"cluster": roles, "task": {"type": self.role, "index": self.index}})

    def _environ(self, folder: Path, ranks: int, node: int) -> dict[str, str]:
        environ = {**os.environ, "HPCSYNAPSE_ROLE": self.role, "HPCSYNAPSE_TASK_INDEX": str(self.index)}
        if self.device is None:
            environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            environ["CUDA_VISIBLE_DEVICES"] = self.device
        if ranks and self.role == "worker":
            environ |= {
                "HPCSYNAPSE_TASK_RANK": str(self.index),
                "HPCSYNAPSE_TASK_RANKS": str(ranks),
                "HPCSYNAPSE_TASK_LOCAL_RANK": str(self.local),
                "HPCSYNAPSE_TASK_NODE": str(node),
            }
        if not ranks and len(told := self._tf_config(folder)) < LONGEST_WORD:
            environ["TF_CONFIG"] = told
        return environ


def granted_here(gpus: int) -> list[str]:
    """Return the devices of this node as the queue names them, else by their numbers."""
    names = ("CUDA_VISIBLE_DEVICES", *granted_gpus())
    named = next((os.environ[name] for name in names if name in os.environ), None)
    granted = [str(number) for number in range(gpus)] if named is None else re.split(r"[ ,]+", named.strip(" ,"))
    return [] if granted[:1] in (["NoDevFiles"], [""]) else granted
