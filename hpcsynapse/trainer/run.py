"""The entry point in the job: `python -m hpcsynapse.trainer.run RUN_DIR` runs one rank of a run's training."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import torch

from hpcsynapse.rundir import RunDirectory
from hpcsynapse.spec import JobSpec
from hpcsynapse.timing import StepRecorder
from hpcsynapse.trainer import data, devices, engines, models, optim, strategies
from hpcsynapse.trainer.checkpoint import Checkpoints
from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.control import Control
from hpcsynapse.trainer.data.sharding import Shards
from hpcsynapse.trainer.engines.base import Engine
from hpcsynapse.trainer.identity import Identity
from hpcsynapse.trainer.loop import Loop
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.trainer.randomness import seed_all
from hpcsynapse.trainer.reporter import Reporter
from hpcsynapse.trainer.tensorboard import Scalars
from hpcsynapse.trainer.watchdog import Watchdog

_log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Train one rank; returns 0 when the run finished or was stopped on request.

    A failure is printed with its traceback and ends the process at once with code 1: an orderly exit would wait
    for peers that no longer answer.
    """
    paths = sys.argv[1:] if arguments is None else arguments
    if len(paths) != 1:
        print("usage: python -m hpcsynapse.trainer.run RUN_DIR", file=sys.stderr)
        return 2
    run = RunDirectory(Path(paths[0]).resolve())
    reporter: Reporter | None = None
    try:
        identity = Identity.from_environ()
        logging.basicConfig(level=logging.INFO, format=f"[rank {identity.rank}] %(levelname)s %(name)s: %(message)s")
        spec = run.load_spec()
        reporter = Reporter(run, identity.rank == 0, attempt=os.environ.get("HPCSYNAPSE_ATTEMPT", "0"))
        _train(run, spec, identity, reporter)
    except BaseException as error:  # noqa: BLE001 - reported, and the process ends
        traceback.print_exc()
        if reporter is not None:
            reporter.state("FAILED", f"{type(error).__name__}: {error}")
        _leave(1)
    return 0


def _train(run: RunDirectory, spec: JobSpec, identity: Identity, reporter: Reporter) -> None:
    launch, train = spec.launch, spec.train
    watchdog = Watchdog(launch.start_limit, "starting", lambda reason: reporter.state("FAILED", reason))
    watchdog.start()
    reporter.start()
    _configure_torch(spec)
    device = devices.choose(spec, identity)
    strategy_name, engine_name = _resolve(spec, identity)
    engine = engines.create(engine_name, identity, device, launch.start_limit, launch.wait_limit)
    watchdog.expect(f"starting engine {engine_name}", launch.start_limit + 5)  # the engine names who is missing
    engine.start()
    control = Control(engine, reporter)
    control.install()  # after the engine: MPI sets handlers of its own

    watchdog.expect("reading data", launch.start_limit)
    dataset = data.load(train.data, train.data_path, train.data_args)
    mode = dataset.sharding if train.sharding == "auto" else train.sharding
    shards = Shards(
        len(dataset.train), train.batch, rank=identity.rank, ranks=identity.world_size, seed=train.seed, mode=mode
    )
    watchdog.expect("building the model", launch.start_limit)
    seed_all(train.seed)
    model = models.create(train.model, train.model_args, dataset.shape, dataset.classes).to(device)
    engine.broadcast_state(model)
    objective = Objective(model)
    strategy = strategies.create(strategy_name, engine)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = {
        "strategy": strategy_name, "engine": engine.name, "controller": engine.controller, "model": train.model,
        "data": train.data, "optimizer": train.optimizer, "batch_per_rank": train.batch,
        "global_batch": train.batch * identity.world_size, "threads": spec.threads, "parameters": parameters,
        "steps_per_epoch": shards.steps,
    }  # fmt: skip
    reporter.about(**facts)
    with _recorder(run, spec, engine, model, device, facts) as recorder:
        clock = _clock(recorder, device)
        strategy.prepare(model, optim.make_optimizer(train, model.parameters()), objective, clock, train.clip_norm)
        if train.tensorboard and reporter.active:
            reporter.scalars = Scalars(run.tensorboard)
        loop = Loop(
            train=train, engine=engine, strategy=strategy, objective=objective, data=dataset, shards=shards,
            device=device, clock=clock, checkpoints=Checkpoints(run.checkpoints, train.keep_checkpoints),
            reporter=reporter, control=control, watchdog=watchdog, wait_limit=launch.wait_limit,
        )  # fmt: skip
        loop.resume()
        state = loop.run()
        watchdog.expect("leaving", launch.wait_limit)
        strategy.close()
        engine.close()
    result = {"result": loop.metrics} if loop.metrics else {}
    reporter.state(state, control.reason if state == "STOPPED" else "", **result)
    reporter.close()
    watchdog.stop()


def _configure_torch(spec: JobSpec) -> None:
    torch.set_num_threads(spec.threads)
    torch.set_flush_denormal(True)  # late in a training, denormal numbers slow some CPUs down a hundredfold


def _resolve(spec: JobSpec, identity: Identity) -> tuple[str, str]:
    """Return names of strategy and engine; `auto` is resolved on submission, here only for descriptions by hand."""
    strategy, engine = spec.train.strategy, spec.train.engine
    if strategy == "auto":
        strategy = "single" if identity.world_size == 1 else "allreduce"
    if strategy == "single":
        return strategy, "none"
    return strategy, "ddp" if engine == "auto" else engine


def _recorder(
    run: RunDirectory, spec: JobSpec, engine: Engine, model: torch.nn.Module, device: torch.device,
    facts: dict[str, Any],
) -> StepRecorder:  # fmt: skip
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    size = sum(parameter.numel() * parameter.element_size() for parameter in trained)
    return StepRecorder(
        run.timings,
        rank=engine.rank,
        warmup=spec.train.record_warmup,
        **facts,
        gradient_bytes=size,
        bytes_per_step=size if engine.size > 1 else 0,
        communicate=engine.communicate,
        device_name=devices.describe(device),
        torch=torch.__version__,
        seed=spec.train.seed,
    )


def _clock(recorder: StepRecorder, device: torch.device) -> StepClock:
    if device.type != "cuda":
        return StepClock(recorder)
    from hpcsynapse.trainer.cuda_clock import CudaClock

    return CudaClock(recorder, device)


def _leave(code: int) -> NoReturn:
    """End the process without tearing Python down.

    All is closed by now. A gloo thread that lets go of a Python object while the interpreter ends would abort the
    process (`terminate called without an active exception`, 1 of 40 short runs).
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _leave(main())
