"""One rank of several small trainings in a row, on one engine that is started once: lockstep_ranks.py FOLDER ENGINE.

Reads FOLDER/cases.json; leaves in FOLDER/CASE step records, check sums over the bits of parameters and buffers after
every step (rank-R.json), checkpoints and, from rank 0, the trained parameters (model.pt).
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import ExchangeOptions, TrainSpec
from hpcsynapse.timing import StepRecorder
from hpcsynapse.trainer import engines, models, optim, precision
from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.data.synthetic import SyntheticDataset
from hpcsynapse.trainer.engines.base import Engine, state_tensors
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.trainer.strategies import strategy_class
from hpcsynapse.trainer.traffic import Traffic

SHAPE = (1, 14, 14)
GLOBAL_BATCH = 8


def new_model(name: str = "simple-cnn", args: dict[str, Any] | None = None) -> torch.nn.Module:
    """Return the model as every rank begins with it."""
    torch.manual_seed(0)
    return models.create(name, args or {"dropout": 0.0}, SHAPE, 10)


def global_batch(step: int) -> tuple[Tensor, Tensor]:
    """Return what all ranks together take in a step."""
    numbers = torch.Generator().manual_seed(step)
    return (torch.randn(GLOBAL_BATCH, *SHAPE, generator=numbers), torch.randint(10, (GLOBAL_BATCH,), generator=numbers))


def bits(tensors: Iterable[Tensor]) -> str:
    """Return a check sum over all bits."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def train(case: dict[str, Any], folder: Path, engine: Engine, identity: RankIdentity) -> None:
    """Run one case; steps of a case are numbered from 0, and `drift`, `evaluate` and `save` name one."""
    parts = case["train"].get("accumulate", 1)
    spec = JobSpec(
        train=TrainSpec(engine=engine.name, batch=GLOBAL_BATCH // engine.size // parts, **case["train"]),
        exchange=ExchangeOptions(**case["exchange"]),
        resources=ResourceRequest(ranks_per_node=engine.size),
        queue=QueueOptions(scheduler="local"),
    )
    own = folder / case["name"]
    model = precision.apply(new_model(*case.get("model", ())), spec.train, engine.device)
    strategy = strategy_class(spec.train.strategy)(engine, spec, identity)
    checkpoints = Checkpoints(folder / case.get("resume", case["name"]) / "checkpoints", 1)
    parameters, buffers = [], []
    with StepRecorder(own / "timings", rank=engine.rank, warmup=0) as recorder:
        clock = StepClock(recorder, Traffic(between_hosts=False, interval=0.0))
        optimizer = optim.make_optimizer(spec.train, model.parameters())
        strategy.prepare(model, optimizer, Objective(model), clock, spec.train.clip_norm)
        first = strategy.resume(checkpoints).step
        engine.barrier()
        clock.take_traffic()  # of the start
        for step in range(first, case["steps"]):
            inputs, targets = (part[engine.rank :: engine.size] for part in global_batch(step))
            if parts > 1:
                inputs, targets = inputs.chunk(parts), targets.chunk(parts)
            clock.begin()
            clock.end(step, 0, strategy.step(inputs, targets))
            parameters.append(bits(model.parameters()))
            buffers.append(bits(model.buffers()))
            if case.get("drift") == step and engine.rank == 1:
                drift(model, strategy.optimizer)
            if case.get("evaluate") == step:
                strategy.evaluate(SyntheticDataset(8, SHAPE, 10, seed=1), engine.device, lambda: False)
            if case.get("save") == step:
                strategy.save(checkpoints, Progress(step=step + 1), {})
    found = {"parameters": parameters, "buffers": buffers, "state": len(state_tensors(strategy.optimizer))}
    strategy.finish(lambda: None)
    found["end"] = bits(model.parameters())
    (own / f"rank-{engine.rank}.json").write_text(json.dumps(found))
    if engine.rank == 0:
        torch.save(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]), own / "model.pt")


def drift(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Change a parameter and its momentum."""
    with torch.no_grad():
        next(model.parameters()).add_(0.01)
        state_tensors(optimizer)[0].add_(0.01)


def main() -> None:
    folder, name = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    identity = RankIdentity.from_environ()
    engine = engines.create(name, identity, torch.device("cpu"), 60, 30)
    engine.start()
    for case in json.loads((folder / "cases.json").read_text()):
        (folder / case["name"]).mkdir(exist_ok=True)
        train(case, folder, engine, identity)
    engine.close()
    sys.stdout.flush()
    os._exit(0)  # as hpcsynapse.trainer.run ends


if __name__ == "__main__":
    main()
