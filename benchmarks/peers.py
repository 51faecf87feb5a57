"""What a user would pick instead, on the same work in one run: ratios, with the versions that were compared.

    eval "$(scripts/slurm-lab/up)"; python benchmarks/peers.py [--rounds 15] [--venv .venv/peers]

submitit, TorchX and dask-jobqueue are installed at fixed versions into an environment of their own; Accelerate and
Lightning are those of this project's. All take turns in random order; whole commands are compared by
processor time (user and system, children included), loops of one model, data set and optimizer in blocks within one
process by the processor time of a step. A ratio is peer / hpcsynapse: above 1 hpcsynapse takes less. Printed are
medians over the rounds with 95 % intervals. Jobs are held and cancelled in the end. Writes
benchmarks/results/peers.json.

Not compared: JUBE is not in the registry, itwinai brings 209 packages.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import paired
import trainer
from command_line import HPCSYNAPSE, PYTHON, queue_answers

RESULTS = Path(__file__).parent / "results" / "peers.json"
PINNED = {"submitit": "1.5.4", "torchx": "0.7.0", "dask-jobqueue": "0.9.0"}
ARRAY = 1000
SBATCH = "#!/bin/bash\n#SBATCH --time=5\ntrue\n"
ONE = """
import submitit
executor = submitit.AutoExecutor(folder="submitit", cluster="slurm")
executor.update_parameters(timeout_min=5, slurm_additional_parameters={"hold": True})
executor.submit(abs, 1)
"""
MAP_ARRAY = f"""
import submitit
executor = submitit.AutoExecutor(folder="submitit", cluster="slurm")
executor.update_parameters(timeout_min=5, slurm_array_parallelism={ARRAY}, slurm_additional_parameters={{"hold": True}})
executor.map_array(abs, range({ARRAY}))
"""
DASK = """
from dask_jobqueue import SLURMCluster
cluster = SLURMCluster(cores=4, memory="16GB", walltime="01:00:00", scheduler_options={"dashboard_address": None})
print(cluster.job_script())
cluster.close()
"""
OURS = "hpcsynapse"
SUBMIT, RENDER, MANY, STEP = "submit one job", "write a job file", f"submit an array of {ARRAY}", "one training step"
Programs = dict[str, Callable[[], paired.Usage]]


def environment(folder: Path) -> Path:
    """Return the Python of the peers' environment, made and filled where it is not there yet."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    wanted = [f"{name}=={number}" for name, number in PINNED.items()]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    return python.absolute()


def commands(folder: Path, peers: Path) -> dict[str, Programs]:
    """Return what is compared as whole commands, by task and program."""
    for name, text in {"one.py": ONE, "many.py": MAP_ARRAY, "cluster.py": DASK, "job.sh": SBATCH}.items():
        (folder / name).write_text(text)
    seeds = ",".join(map(str, range(1, ARRAY + 1)))
    slurm = ["--scheduler", "slurm", "--time", "5m", "--directive=--hold"]
    vary = ["--jobs", "array", "--no-chain", "--nodes", "1", "--vary", f"train.seed={seeds}"]
    torchx = [str(peers.with_name("torchx")), "run", "-s", "slurm", "--dryrun", "dist.ddp", "-j", "4x4"]
    tasks = {
        RENDER: {
            OURS: [HPCSYNAPSE, "render", "--scheduler", "slurm", "--nodes", "4", "--gpus", "4", "--", "python", "t.py"],
            "TorchX (dry run)": [*torchx, "--script", "t.py"],
            "dask-jobqueue (job_script)": [str(peers), "cluster.py"],
        }
    }
    if queue_answers():
        tasks[SUBMIT] = {
            OURS: [HPCSYNAPSE, "submit", *slurm, "--", "true"],
            "sbatch": ["sbatch", "--hold", "job.sh"],
            "submitit": [str(peers), "one.py"],
        }
        tasks[MANY] = {
            OURS: [HPCSYNAPSE, "study", *vary, *slurm, "--", "echo", "{seed}"],
            "submitit (map_array)": [str(peers), "many.py"],
        }
    return {
        task: {name: partial(paired.process, command, folder) for name, command in programs.items()}
        for task, programs in tasks.items()
    }


def accelerated(width: int, samples) -> Callable[[int], None]:
    """Return a function that makes n steps with Accelerate."""
    import itertools

    import torch
    from accelerate import Accelerator
    from torch.utils.data import DataLoader

    accelerator = Accelerator(cpu=True)
    model = trainer.make_model(width)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    loader = DataLoader(samples, batch_size=trainer.BATCH, shuffle=True, drop_last=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    batches = itertools.chain.from_iterable(itertools.repeat(loader))

    def steps(count: int) -> None:
        model.train()
        for inputs, targets in itertools.islice(batches, count):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(inputs), targets)
            accelerator.backward(loss)
            optimizer.step()
            loss.item()

    return steps


def lightning(width: int, samples) -> Callable[[int], None]:
    """Return a function that lets Lightning's Trainer, in a thread of its own, make n steps."""
    import warnings

    import torch
    from lightning.pytorch import Callback, LightningModule, Trainer
    from torch.utils.data import DataLoader

    warnings.simplefilter("ignore")
    go, done = threading.Semaphore(0), threading.Semaphore(0)
    left = 0

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = trainer.make_model(width)

        def training_step(self, batch, _):
            inputs, targets = batch
            loss = torch.nn.functional.cross_entropy(self.model(inputs), targets)
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.9)

    class Gate(Callback):
        def on_train_batch_end(self, *_) -> None:
            nonlocal left
            left -= 1
            if not left:
                done.release()
                go.acquire()

    loader = DataLoader(samples, batch_size=trainer.BATCH, shuffle=True, drop_last=True)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)

    def forever() -> None:
        go.acquire()
        fitting = Trainer(max_epochs=-1, accelerator="cpu", devices=1, callbacks=[Gate()], **quiet)
        fitting.fit(Module(), loader)

    threading.Thread(target=forever, daemon=True).start()

    def steps(count: int) -> None:
        nonlocal left
        left = count
        go.release()
        done.acquire()

    return steps


def loops(rounds: int, width: int, seconds: float, folder: Path) -> None:
    """Measure loops of one rank in turns; writes processor and wall time of a step of all blocks."""
    import torch

    from hpcsynapse.job.discovery import RankIdentity
    from hpcsynapse.trainer import engines

    torch.set_num_threads(1)
    engine = engines.create("none", RankIdentity(), torch.device("cpu"), 120, 120)
    engine.start()
    samples = trainer.make_samples()
    programs = {
        OURS: trainer.built_in(engine, width, samples, folder / "run"),
        "hand-written": trainer.hand_written(engine, width, samples),
        "Accelerate": accelerated(width, samples),
        "Lightning": lightning(width, samples),
    }
    begin = time.perf_counter()
    for steps in programs.values():
        steps(trainer.WARMUP)
    count = max(5, int(seconds * len(programs) * trainer.WARMUP / (time.perf_counter() - begin)))

    def block(steps: Callable[[int], None]) -> tuple[float, float]:
        cpu, wall = time.process_time(), time.perf_counter()
        steps(count)
        return (time.process_time() - cpu) / count, (time.perf_counter() - wall) / count

    turns = {name: partial(block, steps) for name, steps in programs.items()}
    (folder / "loops.json").write_text(json.dumps(paired.in_turns(turns, rounds)))
    os._exit(0)  # threads hold their loops


def trained(rounds: int, width: int, folder: Path) -> dict[str, list[paired.Usage]]:
    """Return what a step took in every block of every loop."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    words = ["--loops", folder, "--rounds", rounds, "--width", width]
    subprocess.run([PYTHON, __file__, *map(str, words)], env=environ, check=True, timeout=1800)
    found = json.loads((folder / "loops.json").read_text())
    return {name: [paired.Usage(*block) for block in blocks] for name, blocks in found.items()}


def rows_of(task: str, found: dict[str, list[paired.Usage]]) -> list[dict[str, object]]:
    """Return a row for every program of a task; `ratio` is its processor time over hpcsynapse's."""
    mine = [one.cpu for one in found[OURS]]
    return [
        {
            "task": task,
            "program": name,
            "cpu_s": paired.median_interval([one.cpu for one in usages]),
            "wall_s": paired.median_interval([one.wall for one in usages]),
            "ratio": None if name == OURS else paired.ratio([one.cpu for one in usages], mine),
        }
        for name, usages in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--venv", type=Path, default=Path(".venv/peers"))
    parser.add_argument("--loops", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loops:
        loops(options.rounds, options.width, 0.2, options.loops)
    peers, rows = environment(options.venv), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for task, programs in commands(folder, peers).items():
            rounds = min(3, options.rounds) if task == MANY else options.rounds  # Slurm counts every task for minutes
            rows += rows_of(task, paired.in_turns(programs, rounds))
        if queue_answers():
            subprocess.run(["scancel", "-u", str(os.getuid())], check=True)
        rows += rows_of(STEP, trained(options.rounds, options.width, folder))
    for row in rows:
        ratio = paired.shown(row["ratio"]) if row["ratio"] else ""
        print(f"{row['task']:24} {row['program']:28} {paired.shown(row['cpu_s'], 1e3):>24} ms   {ratio}")
    versions = {**PINNED, **{name: version(name) for name in ("accelerate", "lightning", "torch", "click", "jinja2")}}
    about = {**paired.about(), "rounds": options.rounds, "width": options.width, "versions": versions}
    RESULTS.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
