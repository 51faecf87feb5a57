"""The built-in trainer's step against hand-written DDP and Horovod loops of the same model and data.

    python benchmarks/trainer.py [--worlds 4] [--rounds 6] [--steps 30] [--engine ddp] [--engine horovod]

Every world of 2 ranks runs the programs in turns, a block of steps each, so that other work on the machine meets
all alike; compared are best-decile step times of whole steps (data included, slowest rank). Ratio = hand-written
time / trainer's time in one world; printed are median, smallest and largest over worlds. The control is the
hand-written program against itself: what differs less than it does is noise. Writes benchmarks/results/trainer.json.
The goal is a ratio of at least 0.98.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "trainer.json"
BATCH, RANKS, WARMUP, GOAL = 32, 2, 5, 0.98


def hand_written(engine: str, digits, device):
    """Return a function that makes n steps as a careful user writes them and returns their times (s)."""
    import torch
    from torch import nn

    from hpcsynapse.trainer import models

    torch.manual_seed(0)
    model = models.create("simple-cnn", {})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    if engine == "ddp":
        model = nn.parallel.DistributedDataParallel(model)
    else:
        import horovod.torch as hvd

        optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
        hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    rank = int(os.environ["RANK"])
    order = np.random.default_rng(0).permutation(len(digits.train))
    position = 0

    def steps(count: int) -> list[float]:
        nonlocal position
        times = []
        model.train()
        for _ in range(count):
            begin = time.perf_counter()
            if position + BATCH * RANKS > len(order):
                position = 0
            chosen = order[position + rank : position + BATCH * RANKS : RANKS]
            position += BATCH * RANKS
            images, labels = digits.train.batch(chosen)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            loss.item()  # any user logs it
            times.append(time.perf_counter() - begin)
        return times

    return steps


def built_in(engine, digits, device, folder: Path):
    """Return a function that lets the trainer's own loop make n steps and returns their times (s)."""
    import torch

    from hpcsynapse import timing
    from hpcsynapse.runs import records
    from hpcsynapse.runs.directory import RunDirectory
    from hpcsynapse.spec.job import JobSpec
    from hpcsynapse.spec.training import TrainSpec
    from hpcsynapse.trainer import models, optim, strategies
    from hpcsynapse.trainer.checkpoint import Checkpoints
    from hpcsynapse.trainer.clock import StepClock
    from hpcsynapse.trainer.control import Control
    from hpcsynapse.trainer.data.loader import BatchLoader
    from hpcsynapse.trainer.data.sharding import Shards
    from hpcsynapse.trainer.loop import Loop
    from hpcsynapse.trainer.objective import Objective
    from hpcsynapse.trainer.reporter import Reporter
    from hpcsynapse.trainer.traffic import Traffic
    from hpcsynapse.trainer.watchdog import Watchdog

    torch.manual_seed(0)
    model = models.create("simple-cnn", {})
    run = RunDirectory(folder)
    train = TrainSpec(batch=BATCH, validate_every=0, checkpoint_every=0, steps=10**6)
    recorder = timing.StepRecorder(run.timings, rank=engine.rank)
    clock, reporter = StepClock(recorder, Traffic(between_hosts=False)), Reporter(run, engine.rank == 0)
    reporter.start()
    watchdog = Watchdog(300, "measuring")
    watchdog.start()
    strategy = strategies.strategy_class("allreduce")(engine, JobSpec(train=train), engine.identity)
    strategy.prepare(model, optim.make_optimizer(train, model.parameters()), Objective(model), clock, None)
    loop = Loop(
        train=train,
        strategy=strategy,
        data=digits,
        device=device,
        clock=clock,
        loader=BatchLoader(digits.train, train, engine.rank, device),
        shards=Shards(len(digits.train), BATCH, rank=engine.rank, ranks=RANKS, seed=0),
        checkpoints=Checkpoints(run.checkpoints, 1),
        reporter=reporter,
        control=Control(engine, reporter),
        watchdog=watchdog,
        wait_limit=300,
    )

    def steps(count: int) -> list[float]:
        loop.total = loop.progress.step + count
        first = loop.progress.step
        loop.run()
        clock.drain()
        part = next(part for part in records.parts(run.timings) if part.header["rank"] == engine.rank)
        steps = np.frombuffer(part.read(), dtype=[(name, kind) for name, kind, _ in timing.FIELDS])
        steps = steps[(steps["flags"] & timing.PAUSE) == 0][first:]
        # From one begin to the next, so that what the loop does between records is counted too.
        starts = np.append(steps["start"], steps["start"][-1] + steps["total"][-1])
        return [float(value) for value in np.diff(starts)]

    return steps


def rank_main(engine_name: str, rounds: int, count: int, folder: Path) -> None:
    """Measure on one rank; rank 0 prints the times as JSON."""
    import torch

    from hpcsynapse.job.discovery import RankIdentity
    from hpcsynapse.trainer import data, engines

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    device = torch.device("cpu")
    engine = engines.create(engine_name, RankIdentity.from_environ(), device, 120, 120)
    engine.start()
    digits = data.load("digits", None, {})
    programs = {
        "hand": hand_written(engine_name, digits, device),
        "trainer": built_in(engine, digits, device, folder),
        "control": hand_written(engine_name, digits, device),
    }
    times: dict[str, list[list[float]]] = {name: [] for name in programs}
    for _, steps in programs.items():
        steps(WARMUP)
    for number in range(rounds):
        for name in sorted(programs, reverse=bool(number % 2)):
            engine.barrier()
            times[name].append(engine.reduce(programs[name](count), "max"))
    if engine.rank == 0:
        (folder / "times.json").write_text(json.dumps(times))
    engine.close()
    sys.stdout.flush()
    os._exit(0)  # see hpcsynapse.trainer.run


def measure(engine: str, rounds: int, count: int) -> dict[str, float]:
    """Run one world and return the best-decile step time of each program (s)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            __file__,
            "--rank-of",
            engine,
            "--rounds",
            str(rounds),
            "--steps",
            str(count),
            "--folder",
            folder,
        ]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "WORLD_SIZE": str(RANKS),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        }
        if engine == "ddp":
            ranks = [subprocess.Popen(command, env={**environment, "RANK": str(rank)}) for rank in range(RANKS)]
            codes = [rank.wait(900) for rank in ranks]
            if any(codes):
                sys.exit("a rank failed")
        else:
            mpirun = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(RANKS)]
            subprocess.run([*mpirun, *command], env=environment, check=True, timeout=900)
        times = json.loads((Path(folder) / "times.json").read_text())
    return {name: float(np.quantile(np.concatenate(blocks), 0.1)) for name, blocks in times.items()}


def summary(engine: str, worlds: list[dict[str, float]], rounds: int, count: int) -> dict[str, object]:
    """Return best-decile times (median over worlds) and the ratios of all worlds."""
    ratios = {name: sorted(world["hand"] / world[name] for world in worlds) for name in ("trainer", "control")}
    return {
        "engine": engine,
        "ranks": RANKS,
        "batch": BATCH,
        "rounds": rounds,
        "steps": count,
        "ratios": ratios,
        "best_decile_s": {name: float(np.median([world[name] for world in worlds])) for name in worlds[0]},
        "ratio": float(np.median(ratios["trainer"])),
        "control": float(np.median(ratios["control"])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--engine", action="append", choices=("ddp", "horovod"))
    parser.add_argument("--rank-of", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_of:
        os.environ.setdefault("RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
        rank_main(options.rank_of, options.rounds, options.steps, options.folder)
    engines = options.engine or ("ddp", "horovod")
    worlds: dict[str, list[dict[str, float]]] = {engine: [] for engine in engines}
    for _ in range(options.worlds):
        for engine in engines:
            worlds[engine].append(measure(engine, options.rounds, options.steps))
    rows = [summary(engine, worlds[engine], options.rounds, options.steps) for engine in engines]
    print(f"{'engine':10} {'hand-written':>13} {'trainer':>9}   ratio (worlds)         control (worlds)   [ms]")
    for row in rows:
        spans = [
            f"{row[name]:.3f} ({row['ratios'][key][0]:.3f}-{row['ratios'][key][-1]:.3f})"
            for name, key in (("ratio", "trainer"), ("control", "control"))
        ]
        best = row["best_decile_s"]
        print(f"{row['engine']:10} {best['hand'] * 1e3:13.2f} {best['trainer'] * 1e3:9.2f}   {spans[0]:22} {spans[1]}")
    import torch

    about = {"python": platform.python_version(), "torch": torch.__version__, "cpus": os.cpu_count(), "goal": GOAL}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
