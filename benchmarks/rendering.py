"""Rendering of 1,000 jobs, and of one job of 4,096 nodes x 8 GPUs, against plain string formatting of as much text.

    python benchmarks/rendering.py

The string is what a hand-written script generator would do; it validates and quotes nothing.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from hpcsynapse.job.placement import lay_out
from hpcsynapse.spec.job import JobSpec, TrainSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.submission.render import render

RESULTS = Path(__file__).parent / "results" / "rendering.json"


def description(number: int, nodes: int, gpus: int) -> JobSpec:
    return JobSpec(
        name=f"job-{number}",
        workdir="/work",
        resources=ResourceRequest(nodes=nodes, gpus=gpus, cpus=8),
        queue=QueueOptions(scheduler="slurm", partition="gpu", comment=f'point "{number}"'),
        launch=LaunchOptions(launcher="srun", env={"A": "b c"}, modules=("cuda",)),
        train=TrainSpec(strategy="allreduce", engine="ddp", seed=number),
    )


def timed(work: Callable[[], object], repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    run_dir = Path("/runs/x")
    text = render(description(0, 4, 4), run_dir).replace("{", "{{").replace("}", "}}").replace("job-0", "{name}")
    rows = {
        "describe and render 1,000 jobs": timed(lambda: [render(description(i, 4, 4), run_dir) for i in range(1000)]),
        "str.format of 1,000 such texts": timed(lambda: [text.format(name=f"job-{i}") for i in range(1000)]),
        "one job of 4,096 nodes x 8 GPUs": timed(lambda: render(description(0, 4096, 8), run_dir)),
        "placement of its 32,768 ranks": timed(lambda: lay_out(ResourceRequest(nodes=4096, gpus=8))),
    }
    for name, seconds in rows.items():
        print(f"{name:34} {seconds * 1e3:10.2f} ms")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"median_s": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
