"""What strategies with parameter servers have in common: a group in lock-step, whose first rank talks to the servers.

In ps-async and ps-sync the group is one rank, so that what is exchanged inside it costs nothing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from hpcsynapse.errors import OverError, TrainError
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.secret import ensure_secret
from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
from hpcsynapse.trainer.clock import StepClock, StepResult
from hpcsynapse.trainer.cluster import Cluster
from hpcsynapse.trainer.data.base import Dataset
from hpcsynapse.trainer.engines.base import Averager, Optimizer
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.trainer.parameter_server.layout import FlatModel
from hpcsynapse.trainer.parameter_server.servers import Answer, Servers
from hpcsynapse.trainer.strategies.base import GradientStrategy
from hpcsynapse.trainer.tally import Validation

_LOOK = 0.2  # seconds between questions whether the others are done
_log = logging.getLogger(__name__)


class Served(GradientStrategy):
    """Gradients go to parameter servers, which hold the optimizer's state, and parameters come back.

    The optimizer given to `prepare` only carries the learning rate of the schedule, which travels with every gradient;
    gradients are clipped by the worker. Buffers (running statistics of batch norm) stay a worker's own: those of the
    chief are validated and saved, in `mixed` the mean over the ranks of its node. Checkpoints hold the pulled model for
    tools and for a run whose servers lost their state; the optimizer's state is in the servers' own files.
    """

    lockstep = "rank"
    transport = "tcp"
    repeat = False

    @property
    def communicate(self) -> str:
        """The phase holds all of push and pull, and the server's own work."""
        return "complete"

    @property
    def worker(self) -> tuple[int, int]:
        """Which worker this group is to the servers: (number, of so many)."""
        return self.world.rank, self.world.world_size

    @property
    def chief(self) -> bool:
        """Whether this rank is the first of the group that server 0 named chief."""
        return self._leads and self.engine.rank == 0

    def join(self, run: RunDirectory, cluster: Cluster | None) -> None:
        """Learn where the servers are; they are met once the model is there. Raises OverError where they have ended."""
        if cluster is None:
            raise TrainError(
                f"strategy {self.spec.train.strategy!r} needs parameter servers: start every process with --ps-hosts, "
                "--worker-hosts, --job-name and --task-index"
            )
        number, workers = self.worker
        needed = self.spec.ps.needed
        if self.spec.train.strategy == "ps-sync" and needed is not None and needed > workers:
            raise TrainError(f"ps.needed = {needed} exceeds the {workers} workers")
        self._leads = number == 0
        self._addresses, self._key = cluster.servers, ensure_secret(run)
        self._over = run.servers_over(os.environ.get("HPCSYNAPSE_ATTEMPT", "0")).exists
        if self._over():
            raise OverError

    def prepare(
        self, model: nn.Module, optimizer: Optimizer, objective: Objective, clock: StepClock, clip_norm: float | None
    ) -> None:
        """Lay the parameters out as one vector and find the servers within the start limit; raises TrainError."""
        self._flat = FlatModel(model, self.spec.train)
        self._step = self._staleness = 0
        super().prepare(model, optimizer, objective, clock, clip_norm)
        launch, rejoin = self.spec.launch, self.spec.ps.rejoin_limit
        if self.engine.size > 1:
            rejoin = min(rejoin, 0.8 * launch.wait_limit)  # the others wait meanwhile, as long as the engine lets them
        self._servers: Servers | None = None
        if self.engine.rank == 0:
            number, workers = self.worker
            self._servers = Servers(
                self._addresses,
                self._key,
                self._flat,
                number,
                workers,
                repeat=self.repeat,
                alive=self.alive,
                start_limit=launch.start_limit,
                wait_limit=launch.wait_limit,
                rejoin_limit=rejoin,
                over=self._over,
            )

    def make_averager(self, model: nn.Module, optimizer: Optimizer, clock: StepClock) -> Averager:
        """Average over the group."""
        return self.engine.averager(model, optimizer, clock)

    def resume(self, checkpoints: Checkpoints) -> Progress:
        """Go on where server 0 says that this worker was; servers that have nothing are given the newest checkpoint's.

        Buffers are those of the newest checkpoint.
        """
        answer = None
        if self._servers is not None:
            progress = Progress()
            newest = checkpoints.newest() if self.spec.train.resume else None
            if newest is not None:
                progress = checkpoints.load(newest, self.model, self.optimizer)
            if self._servers.empty:
                self._servers.give(progress.step)
            answer = self._servers.pull()
        self.engine.broadcast_state(self.model)
        self._step = self._learn(answer)
        if self._step:
            _log.info("goes on from step %d", self._step)
        epoch, position = divmod(self._step, self.steps_per_epoch)
        return Progress(
            step=self._step, epoch=epoch, samples=position * self.spec.train.samples_per_step * self.share[1]
        )

    def step(self, inputs: Tensor, targets: Tensor) -> StepResult:
        """Make one step; its staleness is the largest that a server told."""
        result = super().step(inputs, targets)
        result.staleness, result.advance = self._staleness, max(0 if self.stopping else 1, self._reached - self._step)
        self._step += result.advance
        return result

    def update(self) -> None:
        """Push the gradient and pull the parameters."""
        self.clock.mark("update")
        answer = None
        if self._servers is not None:
            self._flat.gather()
            rate = float(self.optimizer.param_groups[0]["lr"])
            answer = self._servers.push(self._step, rate, self.spec.train.samples_per_step * self.engine.size)
        self.engine.broadcast(self._flat.vector)
        self._reached = self._learn(answer)
        self.clock.mark("communicate")

    def evaluate(self, data: Dataset, device: Any, alive: Callable[[], bool]) -> Validation | None:
        """Return loss and metrics of the newest parameters on all samples; only the chief's group takes part."""
        if not self._leads:
            return None
        self._pull()

        def working() -> bool:
            if self._servers is not None:
                self._servers.ping()
            return alive()

        return super().evaluate(data, device, working)

    def save(self, checkpoints: Checkpoints, progress: Progress, about: dict[str, Any]) -> None:
        """Let the chief write a checkpoint of the newest parameters; the servers save their state by themselves."""
        if self._leads:
            self._pull()
            super().save(checkpoints, progress, about)

    def finish(self, alive: Callable[[], None]) -> bool:
        """Say that this group is done; the chief waits for the others, and takes the parameters as they are then."""
        self._others = 1
        while self._others:
            self._learn(None if self._servers is None else self._servers.done())
            alive()
            if not self._leads:
                return False
            time.sleep(_LOOK if self._others else 0.0)
        self._pull()
        return True

    def close(self) -> None:
        """Say goodbye to the servers."""
        if self._servers is not None:
            self._servers.leave()
            if self._servers.lost_gradients:
                _log.warning("%d gradients were lost with their server", self._servers.lost_gradients)

    def _pull(self) -> None:
        """Take the newest parameters."""
        answer = None if self._servers is None else self._servers.pull()
        self.engine.broadcast(self._flat.vector)
        self._learn(answer)

    def _learn(self, answer: Answer | None) -> int:
        """Let the group know what the servers told its first rank, and return how many steps are done."""
        told = [0.0] * 5
        if answer is not None:
            chief = answer.chief == self.worker[0]
            told = [float(chief), answer.staleness, answer.step, answer.others, float(answer.stopping)]
        leads, staleness, step, others, stopping = self.engine.reduce(told, "max")
        self._leads, self._staleness, self._others = bool(leads), int(staleness), int(others)
        self.stopping = bool(stopping)
        return int(step)
