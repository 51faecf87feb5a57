"""What records and status say of a training, so that reports know what was run."""

from __future__ import annotations

from typing import Any

import torch

from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.timing import StepRecorder
from hpcsynapse.trainer import devices
from hpcsynapse.trainer.data.base import Data
from hpcsynapse.trainer.models.survey import training_flops
from hpcsynapse.trainer.strategies.base import Strategy


def describe(spec: JobSpec, strategy: Strategy, model: torch.nn.Module, dataset: Data, steps: int) -> dict[str, Any]:
    """Return what records and status say of the training; an epoch has so many steps."""
    train, engine = spec.train, strategy.engine
    return {
        "strategy": train.strategy,
        "engine": strategy.transport or engine.name,
        "controller": engine.controller,
        "model": train.model,
        "data": train.data,
        "optimizer": train.optimizer,
        "batch_per_rank": train.samples_per_step,
        "global_batch": train.samples_per_step * strategy.share[1],
        "precision": train.precision,
        "accumulate": train.accumulate,
        "compile": train.compile,
        "channels_last": train.channels_last,
        "recompute": train.recompute,
        "threads": spec.threads,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "flops_per_sample": training_flops(train.model, train.model_args, dataset.shape, dataset.classes),
        "tokens_per_sample": dataset.tokens,
        "steps_per_epoch": steps,
        "world_size": strategy.world.world_size,
        "exchange": spec.label,
    }


def make_recorder(
    run: RunDirectory,
    spec: JobSpec,
    strategy: Strategy,
    model: torch.nn.Module,
    device: torch.device,
    facts: dict[str, Any],
) -> StepRecorder:
    """Return the recorder of this rank, with what the header of its file says."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    size = sum(parameter.numel() * parameter.element_size() for parameter in trained)
    return StepRecorder(
        run.timings,
        rank=strategy.world.rank,
        warmup=spec.train.record_warmup,
        keep=strategy.transport == "tcp",  # a worker may be started again while the others go on
        **facts,
        gradient_bytes=size,
        communicate=strategy.communicate,
        traffic="tcp, to and from other hosts" if strategy.world.nodes > 1 else "tcp",
        device_name=devices.describe(device),
        torch=torch.__version__,
        **devices.libraries(device),
        seed=spec.train.seed,
    )
