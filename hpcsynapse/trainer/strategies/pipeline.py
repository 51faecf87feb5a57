"""A model cut into stages, one a rank, through which micro-batches of a batch flow: torch.distributed.pipelining."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hpcsynapse.errors import TrainError
from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
from hpcsynapse.trainer.clock import StepClock, StepResult
from hpcsynapse.trainer.data.base import Dataset, Indices
from hpcsynapse.trainer.data.batches import to_device
from hpcsynapse.trainer.dual.halves import narrow
from hpcsynapse.trainer.dual.state import Kept
from hpcsynapse.trainer.engines.base import Engine, Optimizer
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.trainer.stages import keep
from hpcsynapse.trainer.strategies.base import Strategy
from hpcsynapse.trainer.tally import Tally, Validation

_log = logging.getLogger(__name__)


class Pipeline(Strategy):
    """Equal to `single` with the same batch: all ranks work on one batch, which rank 0 counts.

    Raises TrainError for an engine other than ddp, and in a world of one.
    """

    whole_on_device = False
    communicate = "none"  # apart: micro-batches wait for one another within the phase backward

    def __init__(self, engine: Engine, spec: JobSpec, world: RankIdentity) -> None:
        if engine.name != "ddp" or engine.size < 2:
            raise TrainError(f"strategy 'pipeline' needs engine ddp and two ranks, not {engine.name} and {engine.size}")
        super().__init__(engine, spec, world)
        self._first, self._last = engine.rank == 0, engine.rank == engine.size - 1

    @property
    def share(self) -> tuple[int, int]:
        """All ranks take the same batch: the first its inputs, the last its labels."""
        return 0, 1

    def prepare(
        self, model: nn.Module, optimizer: Optimizer, objective: Objective, clock: StepClock, clip_norm: float | None
    ) -> None:
        """Keep this rank's stage; model and optimizer lose the others."""
        from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

        self.model, self.optimizer, self.objective, self.clock = model, optimizer, objective, clock
        self.clip_norm, device = clip_norm, self.engine.device
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._groups = [[names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
        stage = keep(model, self.engine.rank, self.engine.size).to(device)
        narrow(optimizer, stage)
        self._names = {parameter: names[id(parameter)] for parameter in stage.parameters()}
        kind = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}[self.spec.train.pipeline_schedule]
        part = PipelineStage(stage, self.engine.rank, self.engine.size, device)
        self._schedule = kind(part, self.spec.train.microbatches, loss_fn=objective.loss)

    def step(self, inputs: Any, targets: Any) -> StepResult:
        """Let all micro-batches flow forward and back, then update."""
        self.optimizer.zero_grad(set_to_none=True)
        losses: list[Tensor] = []
        self._flow(self._schedule.step, inputs, targets, losses)
        self.clock.mark("backward")
        loss = torch.stack(losses).mean().detach() if losses else torch.zeros((), device=self.engine.device)
        self.engine.all_reduce(loss)  # the last stage knows it, the first tells it
        self._clip()
        self.clock.mark("communicate")
        self.optimizer.step()
        self.clock.mark("update")
        return StepResult(loss, self.spec.train.batch if self._first else 0)

    def _flow(self, run: Callable[..., Any], inputs: Any, targets: Any, losses: list[Tensor]) -> Any:
        if self._first:
            return run(inputs)
        return run(target=targets, losses=losses) if self._last else run()

    def _clip(self) -> None:
        """Clip the norm of the gradient of all stages."""
        if self.clip_norm is None:
            return
        gradients = [parameter.grad for parameter in self._names if parameter.grad is not None]
        squares = torch.stack([gradient.square().sum() for gradient in gradients] or [torch.zeros(())]).sum()
        squares = squares.to(self.engine.device)
        self.engine.all_reduce(squares)
        factor = (self.clip_norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor)

    @torch.no_grad()
    def evaluate(self, data: Dataset, device: torch.device, alive: Callable[[], bool]) -> Validation | None:
        """Return loss and metrics, which the last stage measures; a validation is not left early."""
        self.model.eval()
        tally, batch = Tally(self.objective), self.spec.train.batch
        for first in range(0, len(data), batch):
            count = min(batch, len(data) - first)
            # Always as many as in training, as stages have agreed on sizes; what is too much is not counted.
            indices: Indices = (torch.arange(first, first + batch) % len(data)).numpy()
            inputs, targets = (to_device(part, device) for part in data.batch(indices))
            output = self._flow(self._schedule.eval, inputs, targets, [])
            if self._last:
                tally.add(output[:count], targets[:count], count)
            alive()
        self.model.train()
        found: list[Validation | None] = [tally.total() if self._last else None]
        dist.broadcast_object_list(found, src=self.engine.size - 1)
        return found[0]

    def save(self, checkpoints: Checkpoints, progress: Progress, about: dict[str, Any]) -> None:
        """Write a checkpoint of the whole model, put together on rank 0, from which any strategy can go on."""
        states = {
            name: to_device(dict(self.optimizer.state[parameter]), torch.device("cpu"))
            for parameter, name in self._names.items()
            if parameter in self.optimizer.state
        }
        own = (to_device(dict(self.model.state_dict()), torch.device("cpu")), states)
        gathered: list[Any] | None = [None] * self.engine.size if self._first else None
        dist.gather_object(own, gathered, dst=0)
        if gathered is not None:
            model, known = ({key: value for part in gathered for key, value in part[which].items()} for which in (0, 1))
            checkpoints.save(Kept(model), Kept(self._whole(known)), progress, about)
        self.engine.barrier()

    def _whole(self, states: dict[str, Any]) -> dict[str, Any]:
        """Return the optimizer's state of the whole model from that of its parameters by name."""
        number, groups = 0, []
        state: dict[int, Any] = {}
        for names, group in zip(self._groups, self.optimizer.state_dict()["param_groups"], strict=True):
            groups.append({**group, "params": list(range(number, number + len(names)))})
            state |= {number + index: states[name] for index, name in enumerate(names) if name in states}
            number += len(names)
        return {"state": state, "param_groups": groups}

    def resume(self, checkpoints: Checkpoints) -> Progress:
        """Take up this rank's stage of the newest whole checkpoint, of whatever strategy."""
        step, data = self.newest(checkpoints)
        if data is None:
            return Progress()
        with checkpoints.fitting(step):
            content = checkpoints.parse(step, data)
            self.model.load_state_dict({name: content["model"][name] for name in self.model.state_dict()})
            self.optimizer.load_state_dict(self._own(content["optimizer"]))
        _log.info("resumed from step %d", step)
        return Progress(**content["progress"])

    def _own(self, whole: dict[str, Any]) -> dict[str, Any]:
        """Return the state of this stage's parameters from that of the whole model."""
        own, groups, number, local = set(self._names.values()), [], 0, 0
        state: dict[int, Any] = {}
        for names, group in zip(self._groups, whole["param_groups"], strict=True):
            begin = local
            for name in names:
                if name in own:
                    if number in whole["state"]:
                        state[local] = whole["state"][number]
                    local += 1
                number += 1
            groups.append({**group, "params": list(range(begin, local))})
        return {"state": state, "param_groups": groups}
