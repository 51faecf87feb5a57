"""The built-in trainer's tax: what its step costs beside a hand-written loop of the same model, data and engine.

    python benchmarks/trainer.py [--engine none --engine ddp --engine horovod] [--width 16 ...] [--pairs 30]

Both loops live in one process (one in each of 2 ranks), and take turns in blocks of steps of about `--block` seconds
of work, in random order, so that other work on the machine meets all alike. Both take their batches sample by sample
from one torch data set: the hand-written loop through torch's DataLoader. Compared is the processor time of the whole
process (all threads, all ranks), which other work lengthens far less than the clock; for every pair of blocks the
difference and the ratio are taken. Printed are medians with 95 % intervals; the control is a second copy of the
hand-written loop: what differs less than it does is noise. What the trainer does once a second (status, stop file,
counts of bytes) falls on fewer steps where other work leaves this process little of the machine. Writes
benchmarks/results/trainer.json.

Goals: at most 100 us of processor time a step and rank; a ratio of at least 0.99 from steps of 10 ms on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import paired

RESULTS = Path(__file__).parent / "results" / "trainer.json"
BATCH, RANKS, WARMUP, FEATURES, SAMPLES = 32, 2, 20, 64, 4096
WIDTHS = (16, 256, 768, 2048)
ENGINES = ("none", "ddp", "horovod")


def make_model(width: int):
    """Return four linear layers; the width decides how long a step takes."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    hidden = [layer for _ in range(3) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), *hidden, nn.Linear(width, 10))


def make_samples():
    import torch
    from torch.utils.data import TensorDataset

    torch.manual_seed(1)
    return TensorDataset(torch.randn(SAMPLES, FEATURES), torch.randint(10, (SAMPLES,)))


def hand_written(engine, width: int, samples) -> Callable[[int], None]:
    """Return a function that makes n steps as a careful user writes them."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader
    from torch.utils.data.distributed import DistributedSampler

    model = make_model(width)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    if engine.name == "ddp":
        model = nn.parallel.DistributedDataParallel(model)
    elif engine.name == "horovod":
        import horovod.torch as hvd

        optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
        hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    sampler = DistributedSampler(samples, engine.size, engine.rank)
    loader = DataLoader(samples, batch_size=BATCH, sampler=sampler, drop_last=True)
    device = torch.device("cpu")

    def forever():
        for epoch in itertools.count():
            sampler.set_epoch(epoch)
            yield from loader

    batches = forever()

    def steps(count: int) -> None:
        model.train()
        for inputs, targets in itertools.islice(batches, count):
            inputs, targets = inputs.to(device), targets.to(device)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            loss.item()  # any user logs it

    return steps


def gated(control: type) -> type:
    """Return a Control that lets the loop, in a thread of its own, make `left` steps and then wait: it never leaves."""

    class Gate(control):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)
            self.go, self.done, self.left = threading.Semaphore(0), threading.Semaphore(0), 0

        def stop_after_step(self) -> bool:
            stop = super().stop_after_step()
            self.left -= 1
            if not self.left:
                self.done.release()
                self.go.acquire()
            return stop

    return Gate


def built_in(engine, width: int, samples, folder: Path) -> Callable[[int], None]:
    """Return a function that lets the trainer's own loop make n steps."""
    import torch

    from hpcsynapse import timing
    from hpcsynapse.runs.directory import RunDirectory
    from hpcsynapse.spec.job import JobSpec
    from hpcsynapse.spec.training import TrainSpec
    from hpcsynapse.trainer import optim, strategies
    from hpcsynapse.trainer.checkpoint import Checkpoints
    from hpcsynapse.trainer.clock import StepClock
    from hpcsynapse.trainer.control import Control
    from hpcsynapse.trainer.data.base import Data, MapDataset
    from hpcsynapse.trainer.data.loader import BatchLoader
    from hpcsynapse.trainer.data.sharding import Shards
    from hpcsynapse.trainer.loop import Loop
    from hpcsynapse.trainer.objective import Objective
    from hpcsynapse.trainer.reporter import Reporter
    from hpcsynapse.trainer.save_interval import SaveInterval
    from hpcsynapse.trainer.traffic import Traffic
    from hpcsynapse.trainer.watchdog import Watchdog

    model, device, run = make_model(width), torch.device("cpu"), RunDirectory(folder)
    train = TrainSpec(batch=BATCH, lr=0.02, validate_every=0, checkpoint_every=0, steps=10**8)
    clock = StepClock(timing.StepRecorder(run.timings, rank=engine.rank), Traffic(between_hosts=False))
    reporter, watchdog = Reporter(run, engine.rank == 0), Watchdog(300, "measuring")
    reporter.start()
    watchdog.start()
    gate = gated(Control)(engine, reporter)
    name = "single" if engine.name == "none" else "allreduce"
    strategy = strategies.strategy_class(name)(engine, JobSpec(train=train), engine.identity)
    strategy.prepare(model, optim.make_optimizer(train, model.parameters()), Objective(model), clock, None)
    data = Data(train=MapDataset(samples))
    loop = Loop(
        train=train,
        strategy=strategy,
        data=data,
        device=device,
        clock=clock,
        loader=BatchLoader(data.train, train, engine.rank, device),
        shards=Shards(SAMPLES, BATCH, rank=engine.rank, ranks=engine.size, seed=0),
        checkpoints=Checkpoints(run.checkpoints, 1),
        save_interval=SaveInterval(train, 1, 0.0),
        reporter=reporter,
        control=gate,
        watchdog=watchdog,
        wait_limit=300,
    )

    loop.resume()

    def forever() -> None:
        gate.go.acquire()
        try:
            loop.run()
        except BaseException:  # noqa: BLE001 - else the main thread would wait for it
            traceback.print_exc()
            os._exit(1)

    threading.Thread(target=forever, daemon=True).start()

    def steps(count: int) -> None:
        watchdog.tick()
        gate.left = count
        gate.go.release()
        gate.done.acquire()

    return steps


def rank_main(options: argparse.Namespace) -> None:
    """Measure on one rank; rank 0 writes processor and wall time of a step of all blocks, in seconds."""
    import torch

    from hpcsynapse.job.discovery import RankIdentity
    from hpcsynapse.trainer import engines

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    engine = engines.create(options.rank_of, RankIdentity.from_environ(), torch.device("cpu"), 120, 120)
    engine.start()
    samples, width = make_samples(), options.width[0]
    loops = {
        "hand": hand_written(engine, width, samples),
        "control": hand_written(engine, width, samples),
        "trainer": built_in(engine, width, samples, options.folder),
    }
    begin = time.process_time()
    for steps in loops.values():
        steps(WARMUP)
    each = (time.process_time() - begin) / WARMUP / len(loops)
    count = max(5, int(engine.reduce([options.block / each], "max")[0]))

    def block(steps: Callable[[int], None]) -> tuple[float, float]:
        engine.barrier()
        cpu, wall = time.process_time(), time.perf_counter()
        steps(count)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        cpus = engine.reduce([cpu if rank == engine.rank else 0.0 for rank in range(engine.size)], "max")
        return sum(cpus) / engine.size / count, engine.reduce([wall], "max")[0] / count

    programs = {name: lambda steps=steps: block(steps) for name, steps in loops.items()}
    found = paired.in_turns(programs, options.pairs)
    if engine.rank == 0:
        (options.folder / "found.json").write_text(json.dumps({"count": count, "blocks": found}))
    engine.close()
    sys.stdout.flush()
    os._exit(0)  # see hpcsynapse.trainer.run


def measure(engine: str, width: int, options: argparse.Namespace) -> dict[str, object]:
    """Run one world; return the costs of a step in each loop and what the trainer's costs beyond."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = 1 if engine == "none" else RANKS
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--rank-of", engine, "--width", str(width), "--pairs", str(options.pairs)]
        command += ["--block", str(options.block), "--folder", folder]
        environ = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "1",  # threads allocate as the main thread does
            "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        }
        if engine == "horovod":
            mpirun = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)]
            subprocess.run([*mpirun, *command], env=environ, check=True, timeout=1800)
        else:
            started = [subprocess.Popen(command, env={**environ, "RANK": str(rank)}) for rank in range(ranks)]
            if any(code for code in [process.wait(1800) for process in started]):
                sys.exit("a rank failed")
        found = json.loads((Path(folder) / "found.json").read_text())
    cpu, wall = ({name: [pair[i] for pair in blocks] for name, blocks in found["blocks"].items()} for i in (0, 1))
    return {
        "engine": engine,
        "ranks": ranks,
        "width": width,
        "steps_a_block": found["count"],
        "hand_cpu_s": paired.median_interval(cpu["hand"]),
        "hand_wall_s": paired.median_interval(wall["hand"]),
        "tax_cpu_s": paired.difference(cpu["trainer"], cpu["hand"]),
        "control_cpu_s": paired.difference(cpu["control"], cpu["hand"]),
        "ratio_cpu": paired.ratio(cpu["hand"], cpu["trainer"]),
        "ratio_wall": paired.ratio(wall["hand"], wall["trainer"]),
        "control_ratio_cpu": paired.ratio(cpu["hand"], cpu["control"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", action="append", choices=ENGINES)
    parser.add_argument("--width", action="append", type=int)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--block", type=float, default=0.3, help="processor time of a block, about (s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to write")
    parser.add_argument("--rank-of", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_of:
        os.environ.setdefault("RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
        rank_main(options)
    print("engine    width   hand ms cpu   tax us cpu               control us              ratio cpu            wall")
    rows = []
    for engine, width in itertools.product(options.engine or ENGINES, options.width or WIDTHS):
        row = measure(engine, width, options)
        rows.append(row)
        tax, control = (paired.shown(row[name], 1e6, 0) for name in ("tax_cpu_s", "control_cpu_s"))
        ratios = "   ".join(paired.shown(row[name], 1, 3) for name in ("ratio_cpu", "ratio_wall"))
        print(
            f"{engine:9} {width:5} {row['hand_cpu_s']['median'] * 1e3:11.2f}   {tax:22} {control:22} {ratios}",
            flush=True,
        )
    import torch

    about = {**paired.about(), "torch": torch.__version__, "batch": BATCH, "pairs": options.pairs}
    options.results.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
