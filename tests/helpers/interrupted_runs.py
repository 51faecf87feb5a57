"""Run directories of runs that were interrupted, written with what is true of them: seconds of every part by node."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

from hpcsynapse.files import append_json, write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.timing import FIELDS, FORMAT, RECORD, VERSION, pause_flags

PARTS = ("useful", "save", "validation", "detection", "restart", "replayed", "waiting")


@dataclass
class Truth:
    """What a run did: node-seconds by part, and of every interruption its cause, host and lost steps."""

    parts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    allocated: float = 0.0
    interruptions: list[tuple[str, str, int]] = field(default_factory=list)


class History:
    """Writes one run start by start; every start has `start_up`, steps, pauses and an end."""

    def __init__(self, runs: Path, name: str, nodes: int, random_: random.Random) -> None:
        self.run = RunDirectory.create(runs, JobSpec(name=name))
        self.nodes, self.random, self.truth = nodes, random_, Truth()
        self.clock, self.number, self.saved = 1.8e9, 0, 0
        self._records: list[bytes] = []
        self._made: list[tuple[int, float]] = []  # step, seconds that the period of it took

    def start(self, start_up: float) -> None:
        """Give the run its nodes; the first step begins after `start_up` seconds."""
        self.number += 1
        self.attempt, self.begun = f"{self.number}.0", self.clock
        self._records, self._made, self.step = [], [], self.saved
        hosts = " ".join(f"n{node}" for node in range(self.nodes))
        append_json(
            self.run.starts, {"event": "allocated", "attempt": self.attempt, "time": self.begun, "hosts": hosts}
        )
        folder = self.run.evidence(self.attempt)
        folder.mkdir(parents=True)
        for node in range(self.nodes):
            write_json(folder / f"rank-{node:05d}.json", {"rank": node, "host": f"n{node}"})
        self._add("restart", start_up)

    def _add(self, part: str, seconds: float) -> None:
        self.truth.parts[part] += seconds * self.nodes
        self.clock += seconds

    def steps(self, count: int) -> None:
        """Make steps, with a little time between them."""
        for _ in range(count):
            gap = self.random.uniform(0, 0.1) if self._made else 0.0
            length = self.random.uniform(0.05, 1.0)
            self.clock += gap
            self._records.append(_record(self.step, self.clock, length, 0))
            self.clock += length
            self._made.append((self.step, gap + length))
            self.step += 1

    def pause(self, cause: str, part: str, seconds: float) -> None:
        """Pause; a checkpoint keeps all steps so far."""
        self._records.append(_record(self.step, self.clock, seconds, pause_flags(cause)))
        self._add(part, seconds)
        if cause == "checkpoint":
            self.saved = self.step
            (self.run.checkpoints / f"step-{self.step:09d}.pt").touch()

    def end(self, *, detected: float = 0.0, tidied: float = 0.0, host: int = -1, signal: str = "", word: bool = True):
        """End the start: a rank of a host fails, or it is told to end, or its script leaves no word."""
        lost = [seconds for step, seconds in self._made if step >= self.saved]
        kept = [seconds for step, seconds in self._made if step < self.saved]
        self.truth.parts["replayed"] += sum(lost) * self.nodes
        self.truth.parts["useful"] += sum(kept) * self.nodes
        self._add("detection", detected)
        if host >= 0:
            failure = {"rank": host, "host": f"n{host}", "reason": "killed by SIGKILL", "code": 137, "time": self.clock}
            write_json(self.run.failure(self.attempt, host), failure)
        self._add("waiting", tidied)
        if word:
            told = {"event": "released", "attempt": self.attempt, "time": self.clock, "code": 1, "signal": signal}
            append_json(self.run.starts, told)
        self.truth.allocated += (self.clock - self.begun) * self.nodes
        self._write()
        told_cause = {"TERM": "told to end", "PREEMPTED": "preempted", "TIMEOUT": "time limit reached"}.get(signal, "")
        cause = f"rank {host}: killed by SIGKILL" if host >= 0 else told_cause
        self.truth.interruptions.append((cause, f"n{host}" if host >= 0 else "", len(lost)))
        self.clock += self.random.uniform(1, 1000)  # in the queue: nodes of others

    def finish(self, tidied: float) -> None:
        """End the run as one that has finished."""
        self.truth.parts["useful"] += sum(seconds for _, seconds in self._made) * self.nodes
        self._add("waiting", tidied)
        append_json(
            self.run.starts, {"event": "released", "attempt": self.attempt, "time": self.clock, "code": 0, "signal": ""}
        )
        write_json(self.run.exit, {"exit_code": 0, "start": self.begun, "time": self.clock, "attempt": self.attempt})
        write_json(
            self.run.status, {"state": "FINISHED", "attempt": self.attempt, "step": self.step, "steps": self.step}
        )
        self.truth.allocated += (self.clock - self.begun) * self.nodes
        self._write()

    def _write(self) -> None:
        for node in range(self.nodes):
            header = {
                "format": FORMAT,
                "version": VERSION,
                "record_size": RECORD.size,
                "rank": node,
                "host": f"n{node}",
                "world_size": self.nodes,
                "attempt": self.attempt,
                "started": self.begun + 0.1,
                "fields": [[name, kind] for name, kind, _ in FIELDS],
            }
            path = self.run.timings / f"rank-{node:05d}.{self.attempt}.steps"
            path.write_bytes(json.dumps(header).encode() + b"\n" + b"".join(self._records))


def _record(step: int, start: float, total: float, flags: int) -> bytes:
    samples = 0 if flags else 32
    return RECORD.pack(step, 0, start, 0, 0, 0, 0, 0, total, samples, 0.5, -1, flags, 0, 0)


def generated(runs: Path, seed: int) -> History:
    """Return a run of up to five starts with random lengths of everything; every second one finishes."""
    chance = random.Random(seed)
    history = History(runs, f"r{seed}", chance.randint(1, 4), chance)
    starts = chance.randint(1, 5)
    for number in range(starts):
        history.start(chance.uniform(0.5, 60))
        for _ in range(chance.randint(1, 5)):
            history.steps(chance.randint(1, 30))
            if chance.random() < 0.7:
                history.pause("checkpoint", "save", chance.uniform(0.01, 5))
            if chance.random() < 0.4:
                history.pause("validation", "validation", chance.uniform(0.01, 5))
            if chance.random() < 0.1:
                history.pause("other", "waiting", chance.uniform(0.01, 5))
        if number == starts - 1 and seed % 2:
            history.finish(chance.uniform(0, 3))
            break
        if chance.random() < 0.6:
            host = chance.randrange(history.nodes)
            history.end(detected=chance.uniform(0, 40), tidied=chance.uniform(0, 20), host=host)
        else:
            signal = chance.choice(["TERM", "PREEMPTED", "TIMEOUT"])
            history.end(tidied=chance.uniform(0, 20), signal=signal)
    return history
