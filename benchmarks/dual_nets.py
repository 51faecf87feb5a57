"""Every method of the dual nets on `cluttered-digits`, each run with two real processes, against one whole network.

    python benchmarks/dual_nets.py [--seeds 3] [--only proximal]

Accuracies are those of the 1800 test images after 8 epochs of 57 batches of 50 (456 exchanges), or after 3 (171). Ranks
are forked from one process that has imported torch, which saves the start-up of a hundred interpreters; all else is
as in a job. Writes benchmarks/results/dual_nets.json and .csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import platform
import socket
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hpcsynapse.report.dual import dual_report
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import DualOptions, TrainSpec
from hpcsynapse.trainer import models
from hpcsynapse.trainer import run as trainer
from hpcsynapse.trainer.data import cluttered_digits
from hpcsynapse.trainer.dual import memory
from hpcsynapse.trainer.engines import alone, ddp
from hpcsynapse.trainer.models import dualnet
from hpcsynapse.trainer.strategies import admm, single

RESULTS = Path(__file__).parent / "results" / "dual_nets.json"
ADAM: dict[str, Any] = {"optimizer": "adam", "lr": 2e-3}
SGD: dict[str, Any] = {"optimizer": "sgd", "lr": 0.02, "momentum": 0.9}
LIMIT = 256 << 20
FACTS = ("norm_ratio", "net1_loss", "net2_loss", "bytes_forward", "bytes_back", "net1_memory", "net2_memory")
PRELOADED = (cluttered_digits, alone, ddp, dualnet, admm, single)  # imported before the forks, as torch is


@dataclass(frozen=True)
class Method:
    """One row: a name, the optimizer of both halves, epochs, and the options of the dual nets; None is one process."""

    name: str
    train: dict[str, Any]
    dual: dict[str, Any] | None
    epochs: int = 8


THREE = {"target_steps": 3, "target_rate": 0.3, "net1_steps": 3, "net2_steps": 3}
TEXTBOOK = {
    "method": "admm",
    "target_steps": 3,
    "target_rate": 0.3,
    "multiplier_damping": 1.0,
    "beta_growth": 10.0,
    "train_at": "target",
}
METHODS = (
    Method("single", ADAM, None),
    Method("frozen", ADAM, {"method": "frozen"}),
    Method("proximal", ADAM, {}),
    Method("proximal, files", ADAM, {"exchange": "files"}),
    Method("proximal, int8", ADAM, {"int8_targets": True}),
    Method("proximal, one batch late", ADAM, {"one_batch_late": True}),
    Method("admm, damped, net2 at a", ADAM, {"method": "admm"}),
    Method("distance", ADAM, {"method": "distance"}),
    Method("distance by one norm", ADAM, {"method": "distance", "norm": "one"}),
    Method("distance by both norms", ADAM, {"method": "distance", "norm": "both"}),
    Method("distance, copy begins equal", ADAM, {"method": "distance", "copy_start": "equal"}),
    Method("single, 171 steps", ADAM, None, 3),
    Method("proximal, 171 exchanges of 3 steps", ADAM, THREE, 3),
    Method("single", SGD, None),
    Method("frozen", SGD, {"method": "frozen"}),
    Method("proximal", SGD, {}),
    Method("distance", SGD, {"method": "distance"}),
    Method("distance by one norm", SGD, {"method": "distance", "norm": "one"}),
    Method("distance by both norms", SGD, {"method": "distance", "norm": "both"}),
    Method("admm, textbook, net2 at z, beta x10", SGD, TEXTBOOK),
)


@dataclass
class Row:
    """What the seeds of a method gave."""

    method: Method
    accuracies: list[float] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)

    def table(self) -> dict[str, Any]:
        """Return the row of the results; losses, bytes and memory are medians over the seeds."""
        found: dict[str, Any] = {
            "method": self.method.name,
            "optimizer": self.method.train["optimizer"],
            "exchanges": self.facts[0]["exchanges"],
            "accuracy": statistics.mean(self.accuracies),
            "deviation": statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None,
            "accuracies": self.accuracies,
            "verdicts": [verdict or "-" for verdict in self.verdicts],
        }
        for key in FACTS:
            known = [facts[key] for facts in self.facts if facts[key] is not None]
            found[key] = statistics.median(known) if known else None
        return found


def rank_main(path: Path, environment: dict[str, str]) -> None:
    """Be one rank."""
    os.environ.update(environment)
    with (path / "logs" / f"rank-{environment['RANK']}.log").open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    code = trainer.main([str(path)])
    sys.stdout.flush()
    os._exit(code)


def train(folder: Path, name: str, method: Method, seed: int) -> RunDirectory:
    """Train one run and return it."""
    ranks = 1 if method.dual is None else 2
    spec = JobSpec(
        name=name,
        train=TrainSpec(
            strategy="single" if ranks == 1 else "admm",
            engine="ddp",
            model="dualnet",
            data="cluttered-digits",
            batch=50,
            epochs=method.epochs,
            seed=seed,
            validate_every=method.epochs,
            checkpoint_every=0,
            **method.train,
        ),
        dual=DualOptions(**method.dual or {}),
        resources=ResourceRequest(ranks_per_node=ranks),
        queue=QueueOptions(scheduler="local"),
        launch=LaunchOptions(wait_limit=120.0),
    )
    run = RunDirectory.create(folder, spec)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    forks = multiprocessing.get_context("fork")
    workers = [
        forks.Process(target=rank_main, args=(run.path, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}))
        for rank in range(ranks)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(600)
    if any(worker.exitcode for worker in workers):
        for worker in workers:
            worker.kill()
        sys.exit(f"{name} failed:\n" + "\n".join(path.read_text() for path in run.logs.glob("rank-*.log")))
    return run


def figures(run: RunDirectory) -> dict[str, Any]:
    """Return what is kept of a run."""
    if run.load_spec().train.strategy == "single":
        return {**dict.fromkeys(FACTS), "verdict": "", "exchanges": run.read_metrics()[-1]["step"]}
    (row,) = dual_report([run])
    ratio = None if row.norm is None or not row.norm_first else row.norm / row.norm_first
    return {**{key: getattr(row, key, ratio) for key in FACTS}, "verdict": row.verdict, "exchanges": row.exchanges}


def largest_batches() -> dict[str, Any]:
    """Return the largest batches of the single net and of each half for LIMIT, by optimizer."""
    plan, found = memory.blueprint(models.create("dualnet", {}, (1, 28, 28), 10)), {}
    for name in ("sgd", "adam"):
        settings = TrainSpec(optimizer=name)
        for part in memory.PARTS:

            def peak(batch: int, part: str = part, settings: TrainSpec = settings) -> int:
                inputs = torch.empty(batch, 1, 28, 28, device="meta")
                labels = torch.empty(batch, dtype=torch.int64, device="meta")
                return memory.part_bytes(plan, part, settings, DualOptions(), inputs, labels)

            found[f"{part}, {name}"] = memory.largest_batch(LIMIT, peak)
    return {"limit_bytes": LIMIT, **found}


def goals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what was aimed at, in points of accuracy, and whether it was reached."""
    mean = {(row["method"], row["optimizer"]): 100 * row["accuracy"] for row in rows}
    single, frozen, dual = (mean[name, "adam"] for name in ("single", "frozen", "proximal"))
    few = mean["proximal, 171 exchanges of 3 steps", "adam"] - mean["single, 171 steps", "adam"]
    late = single - mean["proximal, one batch late", "adam"]
    plain = max(mean["distance", "sgd"], mean["admm, textbook, net2 at z, beta x10", "sgd"])
    one = mean["distance by both norms", "sgd"] - mean["frozen", "sgd"]
    found = {
        "single - proximal <= 2": single - dual,
        "proximal - frozen >= 10": dual - frozen,
        "one batch late: single - it <= 6": late,
        "171 exchanges - plain training with 171 steps >= 8": few,
        "plain distance and textbook, sgd < 20": plain,
        "distance by both norms - frozen, sgd <= 3": one,
    }
    reached = [single - dual <= 2, dual - frozen >= 10, late <= 6, few >= 8, plain < 20, one <= 3]
    return {name: {"points": value, "reached": ok} for (name, value), ok in zip(found.items(), reached, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="methods whose name contains this; writes nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [method for method in METHODS if not options.only or options.only in method.name]
    rows, begin = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for number, method in enumerate(chosen):
            row = Row(method)
            for seed in range(options.seeds):
                run = train(Path(folder), f"m{number}-s{seed}", method, seed)
                row.facts.append(figures(run))
                row.accuracies.append(run.read_metrics()[-1]["accuracy"])
                row.verdicts.append(row.facts[-1]["verdict"])
            rows.append(row.table())
            last = rows[-1]
            words = (f"{100 * last['accuracy']:5.1f} +- {100 * (last['deviation'] or 0):4.1f}", *last["verdicts"])
            print(f"{last['method']:36} {last['optimizer']:5}", *words, flush=True)
    if not options.only:
        write(rows, options.seeds, round(time.monotonic() - begin))


def write(rows: list[dict[str, Any]], seeds: int, seconds: int) -> None:
    """Write the results, and print what was aimed at."""
    about = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpus": os.cpu_count(),
        "seeds": list(range(seeds)),
        "batch": 50,
        "rates": {"adam": ADAM["lr"], "sgd": SGD["lr"]},
        "seconds": seconds,
        "goals": goals(rows),
        "largest_batch": largest_batches(),
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(about, indent=1) + "\n")
    with RESULTS.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            texts = {key: " ".join(map(str, value)) for key, value in row.items() if isinstance(value, list)}
            writer.writerow({**row, **texts})
    for name, goal in about["goals"].items():
        print(f"{'reached' if goal['reached'] else 'MISSED '}  {name}: {goal['points']:.1f}")
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
