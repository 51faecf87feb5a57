"""Runs the parameter servers and workers of one node of a task list, each with its own device.

`python -m hpcsynapse.job node FOLDER NUMBER HOST ROLE:INDEX:DEVICES...`, called by FOLDER/node_NUMBER.sh; what is the
same on all nodes lies in FOLDER/roles.json. It waits for the workers, stops the servers when the workers of all nodes
have ended, and leaves a record in FOLDER/results; its exit code is that of the first failure.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from hpcsynapse.errors import PlacementError
from hpcsynapse.files import read_json, write_json
from hpcsynapse.job import supervise
from hpcsynapse.job.node_files import Beats, NodeLog
from hpcsynapse.job.node_process import Process, granted_here
from hpcsynapse.job.supervise import GRACES, Ending

_LOOK = 0.1  # seconds between looks at the processes
_BEAT = 5.0  # seconds between signs of life for the other nodes


@dataclass(slots=True)
class Node:
    """The processes of this node; `settings` are those of roles.json, which write_roles has written."""

    folder: Path
    number: int
    host: str
    settings: dict[str, Any]
    log: NodeLog
    beats: Beats
    attempt: int
    processes: list[Process] = field(default_factory=list)
    begin: float = field(default_factory=time.time)
    began: float = field(default_factory=time.monotonic)
    beaten: float = 0.0
    first: int = 0
    caught: int = 0
    reason: str = ""

    def run(self, words: list[str]) -> int:
        """Start the processes that the words tell of, attend to them, and return the exit code of the node."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._catch)
        for number in (signal.SIGUSR1, signal.SIGUSR2):  # queues send them to all processes of a step
            signal.signal(number, _leave_it)
        try:
            self._prepare()
            self.tell("running")
            for word in words:
                self._add(word)
            return self._finish(self._attend())
        except PlacementError as error:
            self.reason = str(error)
            self.log.say(self.reason)
            self.stop("worker", "ps")
            return self._finish(1)

    def _catch(self, number: int, _frame: FrameType | None) -> None:
        self.caught = 128 + number

    def _prepare(self) -> None:
        """Refuse to run on another host, where nobody would find the processes, and without a place to work."""
        actual = os.uname().nodename
        if self.host != "localhost" and self.host.partition(".")[0] != actual.partition(".")[0]:
            raise PlacementError(f"started on {actual}, but node {self.number} is {self.host}")
        try:
            os.chdir(self.settings["workdir"])
        except OSError:
            raise PlacementError("the working directory is missing") from None
        self._beat()

    def _add(self, word: str) -> None:
        """Start a process told by ROLE:INDEX:DEVICES: none, granted, or numbers of what was granted here."""
        role, index, devices = word.split(":")
        own: str | None = ""
        if devices == "granted":
            own = os.environ.get("CUDA_VISIBLE_DEVICES")
        elif devices != "none":
            granted, numbers = granted_here(self.settings["gpus"]), [int(number) for number in devices.split(",")]
            if lost := [number for number in numbers if number >= len(granted)]:
                has = " ".join(granted) or "none"
                raise PlacementError(f"{role}-{index} needs device number {lost[0]}, granted here: {has}")
            own = ",".join(granted[number] for number in numbers)
        local = sum(1 for _ in self._with_role("worker"))
        process = Process(role, int(index), own, local)
        self.processes.append(process)
        process.launch(self.folder, self.settings, self.number, again=False)

    def _with_role(self, *roles: str) -> Iterator[Process]:
        return (process for process in self.processes if process.role in roles)

    def _any_alive(self, role: str) -> bool:
        return any(process.alive for process in self._with_role(role))

    def _attend(self) -> int:
        """Wait until every worker has ended, here and, where this node has servers, on all others; then end those."""
        while self._any_alive("worker") and not self._told():
            self._look()
            if self.settings["together"] == "world" and not self.first and self.beats.failed():
                self.first, self.reason = 143, "ended because a rank of another node failed"
                self.stop("worker")
            if self._any_alive("worker"):
                time.sleep(_LOOK)
        self._look()
        if self.caught:
            self.stop("worker", "ps")
            return self.caught
        self.beats.beat("done")
        self._await_others()
        self.stop("ps")
        return self.caught or self.first

    def _look(self) -> None:
        """Note who has ended, and give a sign of life."""
        for process in self.processes:
            if process.alive and (code := process.poll()) is not None:
                process.code = code
                self._ended(process)
        if time.monotonic() - self.beaten >= _BEAT:
            self._beat()

    def _ended(self, process: Process) -> None:
        """A server that fails ends this node's workers, which need it, a rank that fails all others."""
        process.end = time.time()
        if not process.code or process.stopped or self._relaunch(process):
            return
        together = self.settings["together"]
        if not self.first:
            self.first, self.reason = process.code, f"{process.name} ended with exit code {process.code}"
        if together == "world":
            self.beats.fail()
        if process.role == "ps" or together != "rank":
            self.stop("worker")

    def _relaunch(self, process: Process) -> bool:
        """Begin a lost process again, with all workers of the node where they go together; false when it may not."""
        together, limit = self.settings["together"], self.settings["restarts"]
        if process.again >= limit or together == "world" or self._told():
            return False
        self.log.say(f"{process.name} ended with exit code {process.code}; starting it again")
        again, those = process.again + 1, [process]
        if together == "node" and process.role == "worker":
            self.stop("worker")
            those = list(self._with_role("worker"))
        for one in those:
            one.again = again
            one.launch(self.folder, self.settings, self.number)
        return True

    def _told(self) -> bool:
        limit = self.settings["limit"]
        if not self.caught and limit and time.monotonic() - self.began >= limit:
            self.caught, self.reason = 124, f"not done within {limit} s"
        return bool(self.caught)

    def _await_others(self) -> None:
        """Servers are for all workers: they stay until those of every node have ended, or are silent for long."""
        others = [number for number in range(self.settings["nodes"]) if number != self.number]
        patience = self.settings["patience"]
        while self._any_alive("ps") and not self._told() and self.beats.waits_for(others, patience):
            self._look()
            time.sleep(_LOOK)
        if silent := self.beats.silent:
            what = f"no word from nodes {' '.join(map(str, silent))} for {patience} s"
            self.reason = f"{self.reason}; {what}" if self.reason else what

    def stop(self, *roles: str) -> None:
        """Tell all that is left of these roles to end, and end it for certain: workers first, servers after them."""
        graces = {"worker": Ending(GRACES.program), "ps": Ending(GRACES.server)}
        those = [process for process in self._with_role(*roles) if process.alive and process.child is not None]
        groups = {process.child.pid: process for process in those if process.child is not None}
        for process in those:
            process.stopped = True
        for ending in graces.values():
            ending.begin()
        while groups:
            for group, process in groups.items():
                graces[process.role].tell([group])
            self._look()
            groups = {group: one for group, one in groups.items() if one.alive or supervise.left(group)}
            if groups:
                time.sleep(_LOOK)

    def _beat(self) -> None:
        self.beaten = time.monotonic()
        self.beats.beat(str(int(self.beaten - self.began)))

    def _finish(self, code: int) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        self.beats.beat("done")
        self.tell("ended", code)
        return code

    def tell(self, state: str, code: int | None = None) -> None:
        """Replace the record of this node in one step."""
        write_json(
            self.folder / "results" / f"node_{self.number}.json",
            {
                "node": self.number,
                "line": self.number + 1,
                "attempt": self.attempt,
                "host": os.uname().nodename,
                "expected": self.host,
                "pid": os.getpid(),
                "state": state,
                "exit_code": code,
                "signal": supervise.signal_name(code),
                "start": self.begin,
                "end": time.time() if state == "ended" else None,
                "locked": self.log.locked,
                "reason": re.sub(r"[^A-Za-z0-9 :;.,_/-]", "?", self.reason),
                "tasks": [process.record() for process in self.processes],
            },
        )


def _leave_it(_number: int, _frame: FrameType | None) -> None:
    """Take a signal without dying of it; programs that are started take it as they like."""


def main(arguments: list[str]) -> int:
    """`FOLDER NUMBER HOST ROLE:INDEX:DEVICES...`: run one node and return its exit code, 75 where it still runs."""
    folder, number, host = Path(arguments[0]), int(arguments[1]), arguments[2]
    settings = read_json(folder / "roles.json")
    if settings is None:
        print(f"hpcsynapse: {folder / 'roles.json'} is missing or damaged; run greasy build again", file=sys.stderr)
        return 1
    for name in ("results", "logs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    log = NodeLog(folder / "logs" / f"node_{number}.log")
    if log.busy:
        print(f"hpcsynapse: node {number} of {folder} is still at work", file=sys.stderr)
        return 75
    before = (read_json(folder / "results" / f"node_{number}.json") or {}).get("attempt", 0)
    attempt = before + 1 if isinstance(before, int) else 1
    return Node(folder, number, host, settings, log, Beats.of(folder, number), attempt).run(arguments[3:])
