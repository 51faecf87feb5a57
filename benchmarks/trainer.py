"""The built-in trainer's step against hand-written DDP and Horovod loops of the same model and data.

    python benchmarks/trainer.py [--rounds 20] [--steps 20] [--engine ddp] [--engine horovod]

Every world of 2 ranks runs both programs in turns, a block of steps each, so that other work on the machine meets
both alike; compared are best-decile step times of whole steps (data included, slowest rank). Prints a table and
writes benchmarks/results/trainer.json. Ratio = hand-written time / trainer's time, the median over pairs of
neighbouring blocks (`pooled`: over all blocks at once); the goal is at least 0.98.
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

    from hpcsynapse import records, timing
    from hpcsynapse.rundir import RunDirectory
    from hpcsynapse.spec import TrainSpec
    from hpcsynapse.trainer import models, optim, strategies
    from hpcsynapse.trainer.checkpoint import Checkpoints
    from hpcsynapse.trainer.clock import StepClock
    from hpcsynapse.trainer.control import Control
    from hpcsynapse.trainer.data.sharding import Shards
    from hpcsynapse.trainer.loop import Loop
    from hpcsynapse.trainer.objective import Objective
    from hpcsynapse.trainer.reporter import Reporter
    from hpcsynapse.trainer.watchdog import Watchdog

    torch.manual_seed(0)
    model = models.create("simple-cnn", {})
    run = RunDirectory(folder)
    train = TrainSpec(batch=BATCH, validate_every=0, checkpoint_every=0, steps=10**6)
    recorder = timing.StepRecorder(run.timings, rank=engine.rank)
    clock, reporter = StepClock(recorder), Reporter(run, engine.rank == 0)
    reporter.start()
    watchdog = Watchdog(300, "measuring")
    watchdog.start()
    strategy, objective = strategies.create("allreduce", engine), Objective(model)
    strategy.prepare(model, optim.make_optimizer(train, model.parameters()), objective, clock, None)
    loop = Loop(
        train=train, engine=engine, strategy=strategy, objective=objective, data=digits, device=device, clock=clock,
        shards=Shards(len(digits.train), BATCH, rank=engine.rank, ranks=RANKS, seed=0),
        checkpoints=Checkpoints(run.checkpoints, 1), reporter=reporter, control=Control(engine, reporter),
        watchdog=watchdog, wait_limit=300,
    )  # fmt: skip

    def steps(count: int) -> list[float]:
        loop.total = loop.progress.step + count
        first = loop.progress.step
        loop.run()
        clock.drain()
        part = next(part for part in records.parts(run.timings) if part.header["rank"] == engine.rank)
        steps = np.frombuffer(part.read(), dtype=[(name, kind) for name, kind, _ in timing.FIELDS])[first:]
        # From one begin to the next, so that what the loop does between records is counted too.
        starts = np.append(steps["start"], steps["start"][-1] + steps["total"][-1])
        return [float(value) for value in np.diff(starts)]

    return steps


def rank_main(engine_name: str, rounds: int, count: int, folder: Path) -> None:
    """Measure on one rank; rank 0 prints the times as JSON."""
    import torch

    from hpcsynapse.trainer import data, engines
    from hpcsynapse.trainer.identity import Identity

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    device = torch.device("cpu")
    engine = engines.create(engine_name, Identity.from_environ(), device, 120, 120)
    engine.start()
    digits = data.load("digits", None, {})
    programs = {"hand": hand_written(engine_name, digits, device), "trainer": built_in(engine, digits, device, folder)}
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


def measure(engine: str, rounds: int, count: int) -> dict[str, object]:
    """Run one world and return its summary."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--rank-of", engine, "--rounds", str(rounds), "--steps", str(count),
                   "--folder", folder]  # fmt: skip
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port), "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        }  # fmt: skip
        if engine == "ddp":
            ranks = [subprocess.Popen(command, env={**environment, "RANK": str(rank)}) for rank in range(RANKS)]
            codes = [rank.wait(900) for rank in ranks]
            if any(codes):
                sys.exit("a rank failed")
        else:
            mpirun = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(RANKS)]
            subprocess.run([*mpirun, *command], env=environment, check=True, timeout=900)
        times = json.loads((Path(folder) / "times.json").read_text())
    best = {name: float(np.quantile(np.concatenate(blocks), 0.1)) for name, blocks in times.items()}
    median = {name: float(np.median(np.concatenate(blocks))) for name, blocks in times.items()}
    paired = [np.quantile(hand, 0.1) / np.quantile(own, 0.1)
              for hand, own in zip(times["hand"], times["trainer"], strict=True)]  # fmt: skip
    return {
        "engine": engine, "ranks": RANKS, "batch": BATCH, "rounds": rounds, "steps": count,
        "hand_best_decile_s": best["hand"], "trainer_best_decile_s": best["trainer"],
        "hand_median_s": median["hand"], "trainer_median_s": median["trainer"],
        "ratio": float(np.median(paired)), "ratio_pooled": best["hand"] / best["trainer"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--engine", action="append", choices=("ddp", "horovod"))
    parser.add_argument("--rank-of", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_of:
        os.environ.setdefault("RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
        rank_main(options.rank_of, options.rounds, options.steps, options.folder)
    rows = [measure(engine, options.rounds, options.steps) for engine in options.engine or ("ddp", "horovod")]
    print(f"{'engine':10} {'hand-written':>13} {'trainer':>10} {'ratio':>7} {'pooled':>9}  (best-decile step, ms)")
    for row in rows:
        print(
            f"{row['engine']:10} {row['hand_best_decile_s'] * 1e3:13.2f} {row['trainer_best_decile_s'] * 1e3:10.2f} "
            f"{row['ratio']:7.3f} {row['ratio_pooled']:9.3f}"
        )
    import torch

    about = {"python": platform.python_version(), "torch": torch.__version__, "cpus": os.cpu_count(), "goal": GOAL}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
