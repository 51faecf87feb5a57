"""One network cut in two and trained on two ranks that exchange activations and targets: dual nets.

Per batch net1 (rank 0) sends the activation a at the cut; net2 (rank 1) learns the labels from it and answers z - a,
where z lowers its loss; net1 regresses its output on z. With one step at both sides (the defaults) this is
backpropagation in other clothes: beta (a - z) is the gradient at the cut, and net1's update is backpropagation's. What
targets add is that one exchange can feed several local steps. Measured (benchmarks/dual_nets.py): net2 must learn at a,
never at z; the source's distance between copies of the next layer is best satisfied by a = 0, and collapses; the
source's dual accuracy is that of a net1 that never learns (`frozen`).

Sources: Dziwulski, Oxford 2017; for ADMM, Boyd et al. 2011.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hpcsynapse.errors import TrainError
from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
from hpcsynapse.trainer.clock import StepClock, StepResult
from hpcsynapse.trainer.cluster import Cluster
from hpcsynapse.trainer.data.base import Dataset
from hpcsynapse.trainer.dual import halves, memory, state
from hpcsynapse.trainer.dual.cut import find_cut
from hpcsynapse.trainer.dual.exchange import EngineExchange, Exchange, FileExchange
from hpcsynapse.trainer.dual.ranks import DualRank, FirstRank, SecondRank
from hpcsynapse.trainer.dual.statistics import Statistics, restart_peak
from hpcsynapse.trainer.engines.base import Engine, Optimizer
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.trainer.strategies.base import Strategy
from hpcsynapse.trainer.tally import Validation

_log = logging.getLogger(__name__)
_PATIENCE = 0.9  # of the wait limit: who is missing is said before the watchdog ends this rank


class Admm(Strategy):
    """Keeps one half of the model on each of two ranks; raises TrainError in a world of another size."""

    dual_rank: DualRank

    def __init__(self, engine: Engine, spec: JobSpec, world: RankIdentity) -> None:
        if engine.size != 2:
            raise TrainError(f"strategy 'admm' cuts a network in two for 2 ranks, but there are {engine.size}")
        super().__init__(engine, spec, world)
        self.options = spec.dual
        self._epoch = self._position = 0

    @property
    def communicate(self) -> str:
        """One batch late the exchange overlaps with work; what is left of it is waiting."""
        return "exposed" if self.options.one_batch_late else "complete"

    @property
    def share(self) -> tuple[int, int]:
        """Both ranks take the same batch: one its inputs, the other its labels."""
        return 0, 1

    def join(self, run: RunDirectory, cluster: Cluster | None) -> None:
        """Make the exchange; what an earlier start left in its folder is removed."""
        self._run, rank = run, self.engine.rank
        limit = _PATIENCE * self.spec.launch.wait_limit
        if self.options.exchange == "files":
            attempt = os.environ.get("HPCSYNAPSE_ATTEMPT", "0")
            files = FileExchange(run.dual, rank, 1 - rank, attempt, limit)
            if rank == 0:
                files.prepare()
            self.exchange: Exchange = files
        else:
            self.exchange = EngineExchange(self.engine, 1 - rank, limit)
        self.engine.barrier()

    def prepare(
        self, model: nn.Module, optimizer: Optimizer, objective: Objective, clock: StepClock, clip_norm: float | None
    ) -> None:
        """Keep this rank's half; model and optimizer lose the other one, wherever else they are held."""
        rank, train, options = self.engine.rank, self.spec.train, self.options
        self.objective, self.optimizer = objective, optimizer
        self._plan = memory.blueprint(model) if rank == 0 else None
        cut = find_cut(model, options.cut)
        about = {
            "rank": rank,
            "half": f"net{rank + 1}",
            "method": options.method,
            "cut": cut.place,
            "exchange": options.exchange,
            "late": options.one_batch_late,
            "int8": options.int8_targets,
        }
        self.model = cut.model
        size = sum(parameter.numel() for layer in cut.halves[rank] for parameter in layer.module.parameters())
        self.statistics = Statistics(self._run.dual / f"rank-{rank}.json", **about, parameters=size)
        rest = (self.exchange, self.statistics, options, self.engine.device)
        if rank == 0:
            self.dual_rank = FirstRank(halves.make_first(cut, optimizer, clock, train, options), *rest)
        else:
            self.dual_rank = SecondRank(halves.make_second(cut, optimizer, clock, train, options, objective), *rest)
        restart_peak(self.engine.device)

    def step(self, inputs: Any, targets: Any) -> StepResult:
        """Make one exchange; the batch is counted on rank 0 alone, as both ranks took the same."""
        if self.options.method == "admm":
            self.dual_rank.take(self._shards.indices(self._epoch, self._position))
        self._set_beta()
        self._position += 1
        if self._plan is not None:
            self._survey(self._plan, inputs, targets)
        loss = self.dual_rank.step(inputs, targets)
        return StepResult(loss, self.spec.train.batch if self.engine.rank == 0 else 0)

    def _survey(self, plan: nn.Module, inputs: Any, targets: Any) -> None:
        """Tell, once, what memory the single net and each half take."""
        self._plan = None
        try:
            self.statistics.tell(memory=memory.survey(plan, self.spec.train, self.options, inputs, targets))
        except Exception as error:  # noqa: BLE001 - a model that does not run on shapes alone trains all the same
            _log.info("memory of the single net and of each half is not known: %s", error)

    @property
    def remark(self) -> str:
        """Say what has become of the activations."""
        found = self.statistics.verdict
        return f"{found}: activations at the cut have {found}, see {self._run.dual.name}/rank-0.json" if found else ""

    def after_epoch(self) -> None:
        """Let beta grow."""
        self._epoch, self._position = self._epoch + 1, 0
        self._set_beta()

    def _set_beta(self) -> None:
        self.dual_rank.set_beta(self._epoch, self._epoch * self._shards.steps + self._position)

    def finish(self, alive: Callable[[], None]) -> bool:
        """Learn from the last answer, where answers come one batch late."""
        changed = self.dual_rank.open
        self.dual_rank.settle()
        return changed

    def evaluate(self, data: Dataset, device: torch.device, alive: Callable[[], bool]) -> Validation | None:
        """Return loss and metrics of both halves together: rank 0 sends activations, rank 1 measures."""
        self.statistics.write()
        self.model.eval()
        found = self.dual_rank.evaluate(data, self.spec.train.batch, alive)
        self.model.train()
        return found

    def save(self, checkpoints: Checkpoints, progress: Progress, about: dict[str, Any]) -> None:
        """Write a checkpoint of the whole model, which any strategy can go on from; rank 1 gives its half to rank 0."""
        if isinstance(self.dual_rank, FirstRank):
            extra = self.dual_rank.extra_state()
            extra["facts"] = {"0": self._counted().state()}
            other = state.unpack(self.exchange.receive("state"))
            whole, extra["copy"] = state.join(self.optimizer.state_dict(), other["optimizer"])
            extra |= {"second": other["extra"]}
            extra["facts"]["1"] = other["facts"]
            model = {**self.model.state_dict(), **other["model"]}
            checkpoints.save(state.Kept(model), state.Kept(whole), progress, about, {"dual": extra})
        elif isinstance(self.dual_rank, SecondRank):
            own = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
            extra = {"extra": self.dual_rank.half.extra_state(), "facts": self._counted().state()}
            self.exchange.send("state", state.pack({**own, **extra}))
        self.engine.barrier()

    def resume(self, checkpoints: Checkpoints) -> Progress:
        """Take up this rank's half of the newest whole checkpoint that rank 0 finds, of whatever strategy."""
        self._shards = copy.copy(self.shards)  # its own place in the order: batches may be prepared ahead
        step, data = self.newest(checkpoints)
        if data is None:
            return Progress()
        with checkpoints.fitting(step):
            content = checkpoints.parse(step, data)
            progress = Progress(**content["progress"])
            self._load(content)
        self._epoch, self._position = progress.epoch, progress.samples // self.spec.train.batch
        self._set_beta()
        _log.info("resumed from step %d in epoch %d", step, progress.epoch + 1)
        return progress

    def _load(self, content: dict[str, Any]) -> None:
        rank, extra = self.engine.rank, content.get("dual", {})
        self.model.load_state_dict({name: content["model"][name] for name in self.model.state_dict()})
        copied = extra.get("copy", {}) if rank == 0 else {}
        self.optimizer.load_state_dict(state.part(content["optimizer"], self.optimizer, rank, copied))
        if isinstance(self.dual_rank, FirstRank):
            self.dual_rank.load_extra_state(extra)
        elif isinstance(self.dual_rank, SecondRank):
            self.dual_rank.half.load_extra_state(extra.get("second", {}))
        self.dual_rank.open = "due" in extra
        if str(rank) in extra.get("facts", {}):
            self.statistics.load(extra["facts"][str(rank)])

    def close(self) -> None:
        """Wait until the last message has been read, and write the statistics."""
        self.exchange.flush()
        self._counted().write()

    def _counted(self) -> Statistics:
        self.statistics.count(*self.dual_rank.bytes())
        return self.statistics
