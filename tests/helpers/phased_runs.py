"""Runs whose phases are known: ranks that work, some of them longer, and a collective in which the others wait."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np

from hpcsynapse.timing import StepRecorder

PHASES = ("data", "forward", "backward", "update")


@dataclass(frozen=True, kw_only=True)
class Phased:
    """A run to be written; times in seconds of one step of one rank.

    `slow` adds seconds to a phase of a rank: {(rank, phase): seconds}, in the steps that `every` divides, from step
    `since` on; `pauses` are seconds that pass between the steps of a rank, outside of them. `exchange` is
    what the collective takes once all have come, `together` whether ranks wait for one another in it. `noise` is the
    relative standard deviation of every phase.
    """

    ranks: int = 4
    steps: int = 200
    warmup: int = 10
    data: float = 0.01
    forward: float = 0.03
    backward: float = 0.06
    update: float = 0.005
    exchange: float = 0.02
    between: float = 0.001
    noise: float = 0.02
    seed: int = 0
    batch: int = 32
    slow: dict = field(default_factory=dict)
    every: int = 1
    since: int = 0
    pauses: dict = field(default_factory=dict)
    per_node: int = 1
    together: bool = True
    start: float = 1.8e9
    facts: dict = field(default_factory=dict)

    def stale(self, step):
        """Return the staleness of a step: about ranks - 1 where ranks do not wait, else that there is none."""
        return -1 if self.together else max(0, self.ranks - 1 + (step * 7) % 5 - 2)

    def write(self, folder):
        """Write the records of all ranks; returns the folder."""
        rng = np.random.default_rng(self.seed)
        shape = (self.ranks, self.steps)
        spent = {name: np.full(shape, getattr(self, name)) for name in PHASES}
        for values in spent.values():
            values *= np.maximum(0.0, 1 + self.noise * rng.standard_normal(shape))
        spent["communicate"] = np.zeros(shape)
        for (rank, phase), seconds in self.slow.items():
            spent[phase][rank, self.since :: self.every] += seconds
        ready = spent["data"] + spent["forward"] + spent["backward"]
        for rank, seconds in self.pauses.items():
            ready[rank, 1:] += seconds
        spent["communicate"] += self.exchange + (ready.max(axis=0) - ready if self.together else 0.0)
        loss = 2.3 * np.exp(-np.arange(self.steps) * self.batch * self.ranks / 20_000) + 0.1
        for rank in range(self.ranks):
            own = {name: values[rank] for name, values in spent.items()}
            self._rank(Path(folder), rank, own, loss * rng.normal(1, 0.1, self.steps))
        return Path(folder)

    def _rank(self, folder, rank, spent, loss):
        environ = {
            "WORLD_SIZE": str(self.ranks),
            "HPCSYNAPSE_NODES": str(-(-self.ranks // self.per_node)),
            "CUDA_VISIBLE_DEVICES": str(rank % self.per_node),
        }
        facts = {
            "strategy": "allreduce",
            "engine": "ddp",
            "model": "simple-cnn",
            "data": "digits",
            "optimizer": "sgd",
            "device_name": "gpu",
            "threads": 1,
            "started": self.start,
            "host": f"node{rank // self.per_node}",
            "world_size": self.ranks,
            **self.facts,
        }
        with mock.patch.dict(os.environ, environ, clear=True):
            recorder = StepRecorder(folder, rank=rank, warmup=self.warmup, **facts)
        with recorder:
            now = self.start
            for step in range(self.steps):
                own = {name: float(values[step]) for name, values in spent.items()}
                total = sum(own.values()) + self.between
                recorder.write(
                    step,
                    step // 50,
                    now,
                    own["data"],
                    own["forward"],
                    own["backward"],
                    own["communicate"],
                    own["update"],
                    total,
                    self.batch,
                    float(loss[step]),
                    self.stale(step),
                )
                now += total + self.pauses.get(rank, 0.0)


def write_curve(run, accuracies, epoch_samples, epoch_time, start=1.8e9):
    """Write history and learning curve of a run directory with these accuracies after its epochs."""
    states, metrics, now = [("SETUP", start - 5), ("TRAINING", start)], [], start
    for number, accuracy in enumerate(accuracies, 1):
        now += epoch_time
        states += [("EVALUATING", now), ("TRAINING", now + 1)]
        metrics.append(
            {
                "time": now + 0.9,
                "step": number,
                "epoch": number,
                "samples": number * epoch_samples,
                "loss": 2.4 - 2 * accuracy,
                "accuracy": accuracy,
                "f1": accuracy**2,
                "train_f1": accuracy**1.5,
            }
        )
        now += 1
    run.history.write_text("".join(json.dumps({"time": when, "state": state}) + "\n" for state, when in states))
    run.metrics.write_text("".join(json.dumps(metric) + "\n" for metric in metrics))
