"""The input pipeline: images/s against torch's DataLoader, bytes read of mapped volumes, share of a step spent waiting.

    python benchmarks/input_pipeline.py [--rounds 5] [--images 10000] [--skip-training]

Loaders give augmented, normalised batches of the same files (CIFAR-10's binary version, generated) one after another;
they take turns, so that other work on the machine meets all alike. The DataLoader is used as its documentation and
most training scripts do: a data set with __getitem__, whose transforms take single images. Ratio = images/s of
hpcsynapse / images/s of the DataLoader in the same round with as many processes; printed are median, smallest and
largest over rounds. Then runs of the trainer with 1 and 2 ranks tell from their records which share of a step they
waited for data. Writes benchmarks/results/input_pipeline.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from hpcsynapse import timing
from hpcsynapse.runs import records
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer import data
from hpcsynapse.trainer.data import cifar10, generate
from hpcsynapse.trainer.data.loader import BatchLoader
from hpcsynapse.trainer.data.npy import MappedFile
from hpcsynapse.trainer.data.sharding import Shards

RESULTS = Path(__file__).parent / "results" / "input_pipeline.json"
BATCH, PROCESSES, STEPS = 128, (0, 1, 2), 60
MODELS = {"simple-cnn": (32, 60), "resnet56": (16, 12)}  # batch per rank, steps
WARMUP = 3
CPU = torch.device("cpu")


class Pictures(Dataset):
    """The same files as a careful user of torch alone would give them, one picture at a time."""

    def __init__(self, folder: Path) -> None:
        parts = [cifar10.read_binary(folder / f"data_batch_{number}.bin") for number in range(1, 6)]
        self.images = torch.from_numpy(np.concatenate([images for images, _ in parts]))
        self.labels = np.concatenate([labels for _, labels in parts]).tolist()
        whole = self.images.float()
        self.mean = whole.mean(dim=(0, 2, 3)).reshape(3, 1, 1)
        self.deviation = whole.std(dim=(0, 2, 3)).reshape(3, 1, 1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = functional.pad((self.images[index].float() - self.mean) / self.deviation, (4, 4, 4, 4))
        top, left, mirrored = (int(torch.randint(0, most, ())) for most in (9, 9, 2))
        image = image[:, top : top + 32, left : left + 32]
        return (image.flip(2) if mirrored else image), self.labels[index]


def of_torch(folder: Path, processes: int) -> Callable[[int], float]:
    """Return a function that takes n batches and returns images/s; processes are started before."""
    more = {"persistent_workers": True, "multiprocessing_context": "fork"} if processes else {}
    loader = DataLoader(Pictures(folder), BATCH, shuffle=True, drop_last=True, num_workers=processes, **more)

    def endless() -> Iterator[object]:
        while True:
            yield from loader

    return _timed(endless())


def of_hpcsynapse(folder: Path, processes: int) -> Callable[[int], float]:
    """Return the same of the trainer's own loader."""
    train = TrainSpec(batch=BATCH, augment=True, data_workers=processes)
    found = data.load("cifar10", str(folder), {})
    loader = BatchLoader(found.train, train, 0, CPU)
    loader.begin(Shards(len(found.train), BATCH, rank=0, ranks=1, seed=0).tasks(0, 0, 0, 10**9))

    def endless() -> Iterator[object]:
        while True:
            yield loader.take()

    return _timed(endless())


def _timed(batches: Iterator[object]) -> Callable[[int], float]:
    def take(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            next(batches)
        return count * BATCH / (time.perf_counter() - started)

    return take


def loaders(folder: Path, rounds: int) -> list[dict[str, object]]:
    """Return images/s of both loaders and their ratios, by number of processes."""
    rows = []
    for processes in PROCESSES:
        programs = {"hpcsynapse": of_hpcsynapse(folder, processes), "torch": of_torch(folder, processes)}
        rates: dict[str, list[float]] = {name: [] for name in programs}
        for program in programs.values():
            program(2 * max(1, processes) + 2)
        for number in range(rounds):
            for name in sorted(programs, reverse=bool(number % 2)):
                # What processes have prepared meanwhile, two batches each, is taken first.
                programs[name](2 * processes)
                rates[name].append(programs[name](STEPS // 4 if name == "torch" else STEPS))
        ratios = sorted(own / other for own, other in zip(rates["hpcsynapse"], rates["torch"], strict=True))
        rows.append(
            {
                "processes": processes,
                "batch": BATCH,
                "rounds": rounds,
                "ratio": statistics.median(ratios),
                "ratios": ratios,
                "images_per_s": {name: statistics.median(found) for name, found in rates.items()},
            }
        )
        del programs
    return rows


def volumes(folder: Path, rounds: int) -> dict[str, object]:
    """Return MB/s and bytes read from a cold file of 1 MiB samples, of which a quarter is taken: ours, np.load's."""
    file, samples, width = folder / "volumes.npy", 96, 1 << 17
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.float64, shape=(samples, width))
    array[:] = 1.0
    array.flush()
    del array
    order = np.random.default_rng(0).permutation(samples // 4) + samples // 4
    rates: dict[str, list[float]] = {"hpcsynapse": [], "np.load": []}
    amounts: dict[str, list[float]] = {"hpcsynapse": [], "np.load": []}
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        for number in range(rounds):
            for name in sorted(rates, reverse=bool(number % 2)):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                before, started = _read_bytes(), time.perf_counter()
                take = MappedFile(file).take if name == "hpcsynapse" else np.load(file, mmap_mode="r").__getitem__
                for first in range(0, len(order), 8):
                    take(order[first : first + 8])
                rates[name].append(len(order) * width * 8 / (time.perf_counter() - started) / 1e6)
                amounts[name].append((_read_bytes() - before) / (len(order) * width * 8))
                del take
    return {
        "file_MiB": samples,
        "taken_MiB": len(order),
        "rounds": rounds,
        "MB_per_s": {name: statistics.median(found) for name, found in rates.items()},
        "read_per_wanted_byte": {name: statistics.median(found) for name, found in amounts.items()},
    }


def _read_bytes() -> int:
    """Return what this process has had fetched from disks (proc(5), io); faults of mapped files are in it."""
    line = next(line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("read_bytes"))
    return int(line.split()[1])


def waiting(cifar: Path, folder: Path, model: str, ranks: int, processes: int) -> dict[str, object]:
    """Run the trainer and return which share of the time of its steps it waited for data, of the slowest rank."""
    batch, steps = MODELS[model]
    spec = JobSpec(
        name=f"{model}-{ranks}-{processes}",
        train=TrainSpec(
            strategy="single" if ranks == 1 else "allreduce",
            engine="ddp",
            model=model,
            data="cifar10",
            augment=True,
            data_path=str(cifar),
            batch=batch,
            steps=steps,
            data_workers=processes,
            validate_every=0,
            checkpoint_every=0,
            record_warmup=WARMUP,
        ),
        resources=ResourceRequest(ranks_per_node=ranks),
        queue=QueueOptions(scheduler="local"),
        launch=LaunchOptions(),
    )
    run = RunDirectory.create(folder, spec)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    command = [sys.executable, "-m", "hpcsynapse.job", "train", str(run.path)]
    started = [
        subprocess.Popen(command, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(ranks)
    ]
    if any(process.wait(900) for process in started):
        sys.exit("a rank failed")
    shares, times = [], []
    for part in records.parts(run.timings):
        found = np.frombuffer(part.read(), dtype=[(name, kind) for name, kind, _ in timing.FIELDS])
        found = found[(found["flags"] & timing.PAUSE) == 0][WARMUP:]
        shares.append(float(found["data"].sum() / found["total"].sum()))
        times.append(float(np.median(found["total"])))
    return {
        "model": model,
        "ranks": ranks,
        "processes": processes,
        "batch": batch,
        "steps": steps - WARMUP,
        "step_s": max(times),
        "waiting": max(shares),
    }


def main() -> None:
    """Measure, print tables and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--skip-training", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "cifar").mkdir()
        generate.cifar10(folder / "cifar", options.images, 0)
        rows = loaders(folder / "cifar", options.rounds)
        print(f"{'processes':>9} {'hpcsynapse':>11} {'torch':>8}   images/s, ratio (rounds)")
        for row in rows:
            rate, ratios = row["images_per_s"], row["ratios"]
            span = f"{row['ratio']:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
            print(f"{row['processes']:9} {rate['hpcsynapse']:11.0f} {rate['torch']:8.0f}   {span}")
        mapped = volumes(folder, options.rounds)
        for name, rate in mapped["MB_per_s"].items():
            print(f"volumes, {name}: {rate:.0f} MB/s, {mapped['read_per_wanted_byte'][name]:.2f} bytes read a byte")
        runs = []
        if not options.skip_training:
            print(f"{'model':11} {'ranks':>5} {'processes':>9} {'step [ms]':>9}  waiting for data")
            for model in MODELS:
                for ranks in (1, 2):
                    for processes in (0, 1):
                        found = waiting(folder / "cifar", folder / "runs", model, ranks, processes)
                        runs.append(found)
                        print(
                            f"{model:11} {ranks:5} {processes:9} {found['step_s'] * 1e3:9.1f}  {found['waiting']:.2%}"
                        )
    about = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpus": os.cpu_count(),
        "load_before": load,
        "images": options.images,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**about, "loaders": rows, "volumes": mapped, "steps": runs}, indent=1) + "\n")
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
