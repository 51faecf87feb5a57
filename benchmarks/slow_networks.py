"""Data parallel training over a link of 100 Mbit/s: step times and accuracy of compressed and less frequent exchange.

    python benchmarks/slow_networks.py [--part speed] [--part accuracy] [--rounds 5] [--seeds 8] [--model resnet56]

Speed (as root): two nodes of the Slurm lab, each with its own network behind token buckets of 100 Mbit/s (burst 70 kB,
no latency added), one rank and one core each. In one pair of processes blocks of steps of all methods take turns with
blocks in which the same two processes train apart from one another: efficiency = best-decile step time apart / with the
method, the slower rank of each. A step of local SGD is the mean over the k steps from one average to the next.

Accuracy: digits at 32x32, a small network with batch norm, 2 ranks, equal epochs, validation accuracy at the end over
seeds; `single` takes the batch of both ranks. Writes benchmarks/results/slow_networks.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "slow_networks.json"
LAB = HERE.parent / "scripts" / "slurm-lab"
RATE, NAME, BATCH = "100mbit", "slow", 32
GOALS = {"resnet56": 0.94, "resnet83": 0.94, "simple-cnn": 0.95}
SHAPES = {"resnet56": [3, 32, 32], "resnet83": [3, 32, 32], "simple-cnn": [1, 28, 28]}
EVERY = {"resnet56": 4, "resnet83": 4, "simple-cnn": 16}  # steps between averages
ALONE = {"strategy": "local-sgd", "average_every": 10**6}  # never, within a measurement


def methods(model: str) -> dict[str, dict[str, Any]]:
    """Return what is compared, by name: strategy and exchange options."""
    every = EVERY[model]
    local = {"strategy": "local-sgd", "average_every": every}
    return {
        "ddp, bucket 25 MB": {"strategy": "allreduce", "bucket_mb": 25.0},
        "ddp": {"strategy": "allreduce"},
        "fp16": {"strategy": "allreduce", "compression": "fp16"},
        "powersgd": {"strategy": "allreduce", "compression": "powersgd", "synchronous_steps": 2},
        f"local-sgd:{every}": local,
        f"overlapped:{every}": {**local, "overlap": True},
        f"overlapped:{every} fp16": {**local, "overlap": True, "compression": "fp16"},
        "overlapped:1 fp16": {**local, "average_every": 1, "overlap": True, "compression": "fp16"},
    }


def job(strategy: str, exchange: dict[str, Any], ranks: int, **train: Any):
    from hpcsynapse.spec.job import JobSpec
    from hpcsynapse.spec.queue import QueueOptions
    from hpcsynapse.spec.resources import ResourceRequest
    from hpcsynapse.spec.training import ExchangeOptions, TrainSpec

    return JobSpec(
        resources=ResourceRequest(ranks_per_node=ranks),
        queue=QueueOptions(scheduler="local"),
        train=TrainSpec(strategy=strategy, engine="ddp", **train),
        exchange=ExchangeOptions(**exchange),
    )


def started(spec, model, engine, identity, recorder):
    """Return a strategy that is ready for its first step."""
    from hpcsynapse.trainer import optim
    from hpcsynapse.trainer.checkpoint import Checkpoints
    from hpcsynapse.trainer.clock import StepClock
    from hpcsynapse.trainer.objective import Objective
    from hpcsynapse.trainer.strategies import strategy_class

    strategy = strategy_class(spec.train.strategy)(engine, spec, identity)
    optimizer = optim.make_optimizer(spec.train, model.parameters())
    strategy.prepare(model, optimizer, Objective(model), StepClock(recorder), spec.train.clip_norm)
    strategy.resume(Checkpoints(Path(tempfile.mkdtemp()), 1))
    return strategy


class Program:
    """One method's training in this process: blocks of steps, timed one by one."""

    def __init__(self, options: dict[str, Any], model: str, engine, identity, data, recorder) -> None:
        import torch

        from hpcsynapse.trainer import models

        exchange = {key: value for key, value in options.items() if key != "strategy"}
        torch.manual_seed(0)
        net = models.create(model, {}, tuple(SHAPES[model]), 10)
        spec = job(options["strategy"], exchange, engine.size, batch=BATCH, lr=0.01)
        self.strategy = started(spec, net, engine, identity, recorder)
        self.every = options.get("average_every", 1) if options != ALONE else 1
        self.steps = 3 * self.every if self.every > 1 else 3 * EVERY[model] if options == ALONE else 10
        self.engine, self.data, self.overlaps = engine, data, bool(options.get("overlap"))

    def block(self, traffic) -> tuple[list[float], float]:
        """Return the times (s) of all steps but those before the first average, and the bytes sent in one."""
        import numpy as np

        self.engine.barrier()
        times, order = [], np.random.default_rng(0).permutation(len(self.data))
        first = self.every if self.every > 1 else 1
        for step in range(self.steps):
            if step == first:
                traffic.look()
            begin = time.perf_counter()
            chosen = order[step * BATCH % 960 :][:BATCH]
            self.strategy.step(*self.data.batch(chosen)).loss.item()
            times.append(time.perf_counter() - begin)
        sent = traffic.look()[0] / (self.steps - first)
        # What is under way ends here, unmeasured, so that it does not disturb the next block.
        if self.every > 1 or self.overlaps:
            self.strategy.finish(lambda: None)
        self.engine.barrier()
        return times[first:], sent


def measure_rank(model: str, rounds: int, folder: Path) -> None:
    """Measure on one rank and write the times of all blocks."""
    import torch

    from hpcsynapse.job.discovery import RankIdentity
    from hpcsynapse.timing import StepRecorder
    from hpcsynapse.trainer import engines
    from hpcsynapse.trainer.data.synthetic import SyntheticDataset
    from hpcsynapse.trainer.traffic import Traffic

    identity = RankIdentity.from_environ()
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[identity.rank % os.cpu_count()]})
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    engine = engines.create("ddp", identity, torch.device("cpu"), 120, 120)
    engine.start()
    data = SyntheticDataset(1000, tuple(SHAPES[model]), 10, seed=engine.rank)
    chosen = {"apart": ALONE, **json.loads((folder / "methods.json").read_text())}
    times: dict[str, list[list[float]]] = {name: [] for name in chosen}
    sent: dict[str, float] = {}
    with StepRecorder(folder / "timings", rank=engine.rank) as recorder:
        programs = {name: Program(options, model, engine, identity, data, recorder) for name, options in chosen.items()}
        traffic = Traffic(between_hosts=False, interval=0.0)
        for program in programs.values():
            program.block(traffic)
        for number in range(rounds):
            for name in list(programs)[:: -1 if number % 2 else 1]:
                found, sent[name] = programs[name].block(traffic)
                times[name].append(found)
    every = {name: program.every for name, program in programs.items()}
    (folder / f"rank-{engine.rank}.json").write_text(json.dumps({"times": times, "sent": sent, "every": every}))
    engine.close()
    sys.stdout.flush()
    os._exit(0)  # see hpcsynapse.trainer.run


def best_decile(blocks: list[list[float]], every: int) -> float:
    """Return the best-decile time of a step, averaged over `every` steps in a row."""
    windows = [
        statistics.fmean(block[first : first + every])
        for block in blocks
        for first in range(0, len(block) - every + 1, every)
    ]
    return sorted(windows)[len(windows) // 10]


def speed(model: str, rounds: int, chosen: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Run one pair of processes on two nodes of the lab and return a row for each method."""
    run_folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"slurm-lab-{NAME}"
    subnet = (run_folder / "subnet").read_text().strip()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "methods.json").write_text(json.dumps(chosen))
        words = [sys.executable, __file__, "--rank-of", "speed", "--model", model, "--rounds", str(rounds)]
        ranks = []
        for rank in range(2):
            environment = {
                "RANK": rank,
                "WORLD_SIZE": 2,
                "NODE_RANK": rank,
                "HPCSYNAPSE_NODES": 2,
                "OMP_NUM_THREADS": 1,
                "MASTER_ADDR": f"{subnet}.1",
                "MASTER_PORT": 29600,
                "GLOO_SOCKET_IFNAME": "eth0",
            }
            own = ["env", *(f"{key}={value}" for key, value in environment.items()), *words, "--folder", place]
            ranks.append(subprocess.Popen([LAB / "node", "exec", str(rank + 1), "--lab", NAME, *own]))
        finish(ranks)
        found = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]
    rows = []
    for name, options in chosen.items():
        every = found[0]["every"][name]
        apart, own_time = (max(best_decile(one["times"][key], every) for one in found) for key in ("apart", name))
        rows.append(
            {
                "model": model,
                "method": name,
                "efficiency": round(apart / own_time, 3),
                "apart_ms": round(apart * 1e3, 2),
                "step_ms": round(own_time * 1e3, 2),
                "sent_mb_per_step": round(max(one["sent"][name] for one in found) / 1e6, 3),
                "options": options,
            }
        )
    return rows


def finish(ranks: list[subprocess.Popen[bytes]], limit: float = 5400.0) -> None:
    """Wait for both ranks; end them when one fails or they take too long."""
    end = time.monotonic() + limit
    while any(rank.poll() is None for rank in ranks):
        if any(rank.poll() for rank in ranks) or time.monotonic() > end:
            for rank in ranks:
                rank.kill()
            sys.exit("a rank failed or took too long")
        time.sleep(0.2)


def priority() -> str:
    """Return how the kernel favours this session over others, where it does so by session (sched(7), autogroup)."""
    path = Path("/proc/self/autogroup")
    return path.read_text().strip().partition(" ")[2] if path.is_file() else f"nice {os.nice(0)}"


def lab(command: str, *options: str) -> None:
    subprocess.run([LAB / command, "--lab", NAME, *options], check=True, stdout=subprocess.DEVNULL)


ACCURACY = {
    "single": {"strategy": "single"},
    "ddp": {"strategy": "allreduce"},
    "fp16": {"strategy": "allreduce", "compression": "fp16"},
    "bf16": {"strategy": "allreduce", "compression": "bf16"},
    "powersgd": {"strategy": "allreduce", "compression": "powersgd"},
    "local-sgd:8": {"strategy": "local-sgd", "average_every": 8},
    "overlapped:8": {"strategy": "local-sgd", "average_every": 8, "overlap": True},
    "overlapped:16 fp16": {"strategy": "local-sgd", "average_every": 16, "overlap": True, "compression": "fp16"},
    "overlapped:8, 1 synchronous epoch": {
        "strategy": "local-sgd",
        "average_every": 8,
        "overlap": True,
        "synchronous_steps": 22,
    },
    "overlapped:4, 3 synchronous epochs": {
        "strategy": "local-sgd",
        "average_every": 4,
        "overlap": True,
        "synchronous_steps": 66,
    },
    "overlapped:1 fp16": {"strategy": "local-sgd", "average_every": 1, "overlap": True, "compression": "fp16"},
}


def train_rank(seeds: range, chosen: list[str], epochs: int, folder: Path) -> None:
    """Train the methods with every seed on one rank; rank 0 writes the accuracies."""
    import torch

    from hpcsynapse.job.discovery import RankIdentity
    from hpcsynapse.timing import StepRecorder
    from hpcsynapse.trainer import data, engines

    identity = RankIdentity.from_environ()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    cpu = torch.device("cpu")
    engine = engines.create("ddp", identity, cpu, 120, 300)
    engine.start()
    single = engines.create("none", RankIdentity(), cpu, 120, 120)
    digits = data.load("digits", None, {"size": 32})
    found: dict[str, list[float]] = {name: [] for name in ACCURACY if name in chosen}
    with StepRecorder(folder / "timings", rank=engine.rank) as recorder:
        for seed in seeds:
            for name in found:
                options = ACCURACY[name]
                alone = options["strategy"] == "single"
                if alone and engine.rank:
                    continue
                own = (single, RankIdentity()) if alone else (engine, identity)
                found[name].append(accuracy(options, seed, epochs, digits, *own, recorder))
    if engine.rank == 0:
        (folder / "accuracy.json").write_text(json.dumps(found))
    engine.close()
    sys.stdout.flush()
    os._exit(0)


def accuracy(options: dict[str, Any], seed: int, epochs: int, digits, engine, identity, recorder) -> float:
    """Return the validation accuracy after a training; the rate falls tenfold after two thirds of it."""
    import torch

    from hpcsynapse.spec.optimizer import Span
    from hpcsynapse.trainer import models
    from hpcsynapse.trainer.data.sharding import Shards
    from hpcsynapse.trainer.optim import Schedule

    exchange = {key: value for key, value in options.items() if key != "strategy"}
    batch = 2 * BATCH // engine.size
    shards = Shards(len(digits.train), batch, rank=engine.rank, ranks=engine.size, seed=seed, mode="strided")
    spec = job(
        options["strategy"],
        exchange,
        engine.size,
        batch=batch,
        lr=0.05,
        weight_decay=1e-4,
        milestones=(shards.steps * epochs * 2 // 3,),
    )
    torch.manual_seed(seed)
    model = models.create("resnet56", {"n": 1}, digits.shape, digits.classes)
    span = Span(shards.steps, shards.steps * epochs, batch * engine.size)
    strategy, schedule = started(spec, model, engine, identity, recorder), Schedule(spec.train, engine.size, span)
    model.train()
    for step in range(shards.steps * epochs):
        schedule.apply(strategy.optimizer, step)
        strategy.step(*digits.train.batch(shards.indices(*divmod(step, shards.steps))))
    strategy.finish(lambda: None)
    result = strategy.evaluate(digits.validation, engine.device, lambda: False)
    return float(result["accuracy"])


def accuracies(seeds: range, chosen: list[str], epochs: int) -> list[dict[str, Any]]:
    """Run the two ranks and return a row for each method."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as place:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        words = [
            sys.executable,
            __file__,
            "--rank-of",
            "accuracy",
            "--seeds",
            str(len(seeds)),
            "--first-seed",
            str(seeds.start),
            "--epochs",
            str(epochs),
            "--folder",
            place,
            *[word for name in chosen for word in ("--method", name)],
        ]
        finish([subprocess.Popen(words, env={**environment, "RANK": str(rank)}) for rank in range(2)])
        found = json.loads((Path(place) / "accuracy.json").read_text())
    rows = []
    for name, values in found.items():
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        rows.append({"method": name, "mean": statistics.fmean(values), "standard_error": error, "accuracies": values})
    reference = next(row for row in rows if row["method"] == "ddp")
    for row in rows:
        both = (row["standard_error"] ** 2 + reference["standard_error"] ** 2) ** 0.5
        row["below_ddp"] = reference["mean"] - row["mean"]
        row["within_one_standard_error"] = row["below_ddp"] <= reference["standard_error"]
        row["within_standard_error_of_the_difference"] = row["below_ddp"] <= both
    return rows


def show(document: dict[str, Any]) -> None:
    for row in document.get("speed", []):
        print(
            f"{row['model']:11} {row['method']:20} {row['efficiency']:6.3f}  {row['apart_ms']:7.1f} "
            f"{row['step_ms']:7.1f} ms  {row['sent_mb_per_step']:6.2f} MB"
        )
    for row in itertools.chain(*(rows for name, rows in document.items() if name.startswith("accuracy"))):
        print(
            f"{row['method']:34} {row['mean']:.4f} +- {row['standard_error']:.4f}  "
            f"{'' if row['within_one_standard_error'] else 'below ddp'}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=("speed", "accuracy"))
    parser.add_argument("--model", action="append", choices=tuple(GOALS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=0, help="further seeds have an entry of their own")
    parser.add_argument("--method", action="append", choices=tuple(ACCURACY), help="of the accuracies, beside ddp")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--rank-of", choices=("speed", "accuracy"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_of == "speed":
        measure_rank(options.model[0], options.rounds, options.folder)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    chosen = ["ddp", *(options.method or ACCURACY)]
    if options.rank_of == "accuracy":
        train_rank(seeds, chosen, options.epochs, options.folder)
    parts = options.part or ("speed", "accuracy")
    document = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    import torch

    document |= {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpus": os.cpu_count(),
        "goals": GOALS,
        "rate": RATE,
        "batch": BATCH,
    }
    if "speed" in parts:
        lab("up", "--nodes", "2", "--gpus", "0", "--cpus", "2", "--rate", RATE)
        try:
            models, before = options.model or list(GOALS), os.getloadavg()[0]
            rows = [row for row in document.get("speed", []) if row["model"] not in models]
            for model in models:
                rows += speed(model, options.rounds, methods(model))
            load = {"before": before, "after": os.getloadavg()[0], "priority": priority()}
            document |= {"speed": rows, "rounds": options.rounds, "load": load}
            RESULTS.write_text(json.dumps(document, indent=1) + "\n")
        finally:
            lab("down")
    if "accuracy" in parts:
        name = f"accuracy_from_seed_{seeds.start}" if seeds.start else "accuracy"
        document |= {name: accuracies(seeds, chosen, options.epochs), "epochs": options.epochs}
    show(document)
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
