"""The entry point in the job: `python -m hpcsynapse.job train RUN_DIR` runs one rank of a run's training."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

import torch

from hpcsynapse.errors import OverError
from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.job.search_path import add_modules_of_users
from hpcsynapse.runs.allocations import rate_so_far
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RunState
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.timing import StepRecorder
from hpcsynapse.trainer import data, description, devices, engines, models, optim, precision, strategies, tracebacks
from hpcsynapse.trainer.checkpoint import Checkpoints
from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.cluster import Cluster, identity_of_worker, parse_arguments
from hpcsynapse.trainer.control import Control
from hpcsynapse.trainer.data import staging
from hpcsynapse.trainer.data.base import Data
from hpcsynapse.trainer.data.loader import BatchLoader
from hpcsynapse.trainer.data.sharding import Shards
from hpcsynapse.trainer.data.split import split
from hpcsynapse.trainer.engines.base import Engine
from hpcsynapse.trainer.loop import Loop
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.trainer.profiler import profiler_of
from hpcsynapse.trainer.randomness import seed_all
from hpcsynapse.trainer.reporter import Reporter
from hpcsynapse.trainer.save_interval import SaveInterval
from hpcsynapse.trainer.strategies.base import Strategy
from hpcsynapse.trainer.tensorboard import Scalars
from hpcsynapse.trainer.traffic import Traffic
from hpcsynapse.trainer.watchdog import Watchdog

_log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Train one rank, or serve parameters; returns 0 when the run finished or was stopped on request.

    A failure is printed with its traceback and ends the process at once with code 1: an orderly exit would wait
    for peers that no longer answer.
    """
    reporter: Reporter | None = None
    try:
        path, cluster = parse_arguments(arguments)
        run = RunDirectory(path)
        if cluster is not None and cluster.job == "ps":
            _log_as(f"ps {cluster.index}")
            return _serve(run, cluster)
        identity = RankIdentity.from_environ() if cluster is None else identity_of_worker(cluster)
        _log_as(f"rank {identity.rank}")
        spec = run.load_spec()
        reporter = Reporter(run, identity.rank == 0, attempt=os.environ.get("HPCSYNAPSE_ATTEMPT", "0"))
        _train(run, spec, identity, cluster, reporter)
    except OverError as error:
        _log.info("%s: nothing is left to do", error)
        return 0
    except BaseException as error:
        if isinstance(error, SystemExit) and reporter is None:  # wrong usage, which argparse has told
            raise
        print(tracebacks.render(error), end="", file=sys.stderr, flush=True)
        if reporter is not None:
            reporter.state(RunState.FAILED, tracebacks.describe(error))
        _leave(1)
    return 0


def _log_as(name: str) -> None:
    logging.basicConfig(level=logging.INFO, format=f"[{name}] %(levelname)s %(name)s: %(message)s")


def _serve(run: RunDirectory, cluster: Cluster) -> int:
    from hpcsynapse.trainer.parameter_server.serve import serve

    spec = run.load_spec()
    _configure_torch(spec)
    return serve(run, spec, cluster)


def _train(
    run: RunDirectory, spec: JobSpec, identity: RankIdentity, cluster: Cluster | None, reporter: Reporter
) -> None:
    spec = _resolve(spec, identity)
    launch, train = spec.launch, spec.train
    watchdog = _begin(reporter, launch.start_limit)
    _configure_torch(spec)
    device = devices.choose(spec, identity)
    precision.configure(train, device)
    dataset = _data(train, launch.start_limit, watchdog)
    loader = BatchLoader(dataset.train, train, identity.rank, device)  # forks, so before the engine
    strategy = _strategy(run, spec, identity, cluster, device, watchdog)
    engine = strategy.engine
    control = _control(engine, reporter)
    shards = _shards(dataset, train, strategy)
    watchdog.expect("building the model", launch.start_limit)
    seed_all(train.seed)
    model = models.create(train.model, train.model_args, dataset.shape, dataset.classes)
    model.to(device if strategy.whole_on_device else "cpu")
    precision.apply(model, train, device)
    about = description.describe(spec, strategy, model, dataset, shards.steps)
    reporter.about(**about)
    with description.make_recorder(run, spec, strategy, model, device, about) as recorder:
        clock = _clock(recorder, device, identity, strategy)
        optimizer = optim.make_optimizer(train, model.parameters())
        strategy.prepare(model, optimizer, Objective(model), clock, train.clip_norm)
        if train.tensorboard and reporter.active:
            reporter.scalars = Scalars(run.tensorboard)
        loop = Loop(
            train=train,
            strategy=strategy,
            data=dataset,
            shards=shards,
            loader=loader,
            device=device,
            clock=clock,
            checkpoints=Checkpoints(run.checkpoints, train.keep_checkpoints),
            save_interval=SaveInterval(train, identity.nodes, rate_so_far(run) if engine.rank == 0 else 0.0),
            reporter=reporter,
            control=control,
            watchdog=watchdog,
            wait_limit=launch.wait_limit,
            profiler=profiler_of(run, train, strategy.world.rank, device, clock),
        )
        watchdog.expect("taking up the newest state", launch.start_limit)
        loop.resume()
        state = loop.run()
        watchdog.expect("leaving", launch.wait_limit)
        reporter.about(peak_memory=int(engine.reduce([devices.peak_memory(device)], "max")[0]))
        loader.close()
        strategy.close()
        engine.close()
    result = {"result": loop.metrics} if loop.metrics else {}
    reporter.about(remark=strategy.remark)  # of a run that was over within a second, the only time
    reporter.state(state, control.reason if state == RunState.STOPPED else "", **result)
    reporter.close()
    watchdog.stop()


def _begin(reporter: Reporter, limit: float) -> Watchdog:
    watchdog = Watchdog(limit, "starting", lambda reason: reporter.state(RunState.FAILED, reason))
    watchdog.start()
    reporter.start()
    return watchdog


def _control(engine: Engine, reporter: Reporter) -> Control:
    control = Control(engine, reporter)
    control.install()  # after the engine: MPI sets handlers of its own
    reporter.listens = engine.rank == 0
    return control


def _shards(dataset: Data, train: TrainSpec, strategy: Strategy) -> Shards:
    """Return which samples this rank trains on."""
    mode = dataset.sharding if train.sharding == "auto" else train.sharding
    number, shares = strategy.share
    return Shards(
        len(dataset.train),
        train.samples_per_step,
        rank=number,
        ranks=shares,
        seed=train.seed,
        mode=mode,
        keep=train.last_batch == "keep",
    )


def _data(train: TrainSpec, limit: float, watchdog: Watchdog) -> Data:
    """Return the data set, from a copy on this node where one is asked for."""
    if train.stage is not None:
        watchdog.expect("staging data", limit + 5)  # staging itself tells how far it has come
        train = staging.staged(train, train.stage, limit)
    watchdog.expect("reading data", limit)
    seed_all(train.seed)  # a data set that splits its samples at random does so alike on every rank
    found = data.load(train.data, train.data_path, train.data_args)
    return split(found, train.validation_share, train.test_share, train.folds, train.fold)


def _strategy(
    run: RunDirectory,
    spec: JobSpec,
    identity: RankIdentity,
    cluster: Cluster | None,
    device: torch.device,
    watchdog: Watchdog,
) -> Strategy:
    """Return the strategy on its started engine: of the whole world, or of the ranks that it keeps in lock-step."""
    launch = spec.launch
    kind = strategies.strategy_class(spec.train.strategy)
    group = identity.lockstep(kind.lockstep)
    name = spec.train.engine if kind.lockstep == "world" or group.world_size > 1 else "none"
    if kind.lockstep == "node":
        _meet_on_this_node(identity, cluster)
    engine = engines.create(
        "none" if spec.train.strategy == "single" else name, group, device, launch.start_limit, launch.wait_limit
    )
    watchdog.expect(f"starting engine {engine.name}", launch.start_limit + 5)  # the engine names who is missing
    engine.start()
    strategy = kind(engine, spec, identity)
    strategy.alive = watchdog.tick
    strategy.join(run, cluster)
    return strategy


def _configure_torch(spec: JobSpec) -> None:
    torch.set_num_threads(spec.threads)
    torch.set_flush_denormal(True)  # late in a training, denormal numbers slow some CPUs down a hundredfold


def _resolve(spec: JobSpec, identity: RankIdentity) -> JobSpec:
    """Decide what `auto` means; on submission it is resolved, here only for descriptions by hand."""
    train = spec.train
    if train.strategy == "auto":
        spec = spec.with_("train", strategy="single" if identity.world_size == 1 else "allreduce")
    return spec.with_("train", engine="ddp") if train.engine == "auto" else spec


def _meet_on_this_node(identity: RankIdentity, cluster: Cluster | None) -> None:
    """Let the ranks of a node meet at the port of the node's first worker."""
    first = identity.rank - identity.local_rank
    port = cluster.workers[first].rpartition(":")[2] if cluster else os.environ.get("MASTER_PORT", "")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)


def _clock(recorder: StepRecorder, device: torch.device, identity: RankIdentity, strategy: Strategy) -> StepClock:
    several = identity.world_size > 1 or strategy.transport == "tcp"
    traffic = Traffic(between_hosts=identity.nodes > 1) if several else None
    if device.type != "cuda":
        return StepClock(recorder, traffic)
    from hpcsynapse.trainer.cuda_clock import CudaClock

    return CudaClock(recorder, device, traffic)


def _leave(code: int) -> NoReturn:
    """End the process without tearing Python down.

    All is closed by now. A gloo thread that lets go of a Python object while the interpreter ends would abort the
    process (`terminate called without an active exception`, 1 of 40 short runs).
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def command(arguments: list[str]) -> NoReturn:
    """Train one rank or serve parameters, as a process of its own, and end it with the exit code of `main`."""
    add_modules_of_users()
    _leave(main(arguments))
