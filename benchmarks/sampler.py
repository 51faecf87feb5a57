"""What the sampler costs: its own CPU time, memory and writes, and what it does to the steps beside it.

Run: python benchmarks/sampler.py. Prints a table and writes benchmarks/results/sampler.json. The steps are timed in
short windows in turn with the sampler at work and stopped (SIGSTOP), so that a busy machine hits both; the control has
no sampler at all, and says how much of the difference is chance. Intervals (95 %) are bootstrapped over pairs.
"""

from __future__ import annotations

import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hpcsynapse.runs.telemetry import Telemetry

RESULTS = Path(__file__).parent / "results" / "sampler.json"
GOALS = {"cpu_percent_of_a_core": 0.3, "memory_mb": 25.0, "writes_per_5_s": 1.0, "step_time_change_percent": 0.2}
SECONDS, PAIRS, WINDOW = 60.0, 40, 2.0


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start a sampler as a rank's wrapper does; this process is the program that it watches."""
    plan = {
        "run": "benchmark", "run_dir": str(folder), "folder": str(folder), "attempt": "0", "node_rank": 0, "nodes": 1,
        "interval": 1.0, "granted": [], "jobs": [],
    }  # fmt: skip  # a table
    command = [sys.executable, "-m", "hpcsynapse.job", "sampler", json.dumps(plan)]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    sampler = subprocess.Popen(command, start_new_session=True, **quiet)  # type: ignore[call-overload]
    while not list(folder.glob("*.telemetry")):
        time.sleep(0.01)
    return sampler  # type: ignore[no-any-return]


def facts(pid: int) -> tuple[float, float, int]:
    """Return CPU-seconds, resident megabytes and write calls of a process so far."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    io = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    cpu = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    return cpu, int(stat[21]) * os.sysconf("SC_PAGESIZE") / 1e6, int(io["syscw"])


def own_cost(folder: Path) -> dict[str, float]:
    """Return what a sampler at work uses, start-up left out, with 8 processes beside it that are the ranks'."""
    environ = {**os.environ, "HPCSYNAPSE_RUN_DIR": str(folder), "HPCSYNAPSE_ATTEMPT": "0"}
    ranks = [subprocess.Popen(["sleep", "1000"], env={**environ, "RANK": str(rank)}) for rank in range(8)]
    sampler = start(folder)
    try:
        time.sleep(6)
        before, began = facts(sampler.pid), time.monotonic()
        time.sleep(SECONDS)
        after, passed = facts(sampler.pid), time.monotonic() - began
        (path,) = folder.glob("*.telemetry")
        found = Telemetry(path)
        return {
            "cpu_percent_of_a_core": 100 * (after[0] - before[0]) / passed,
            "memory_mb": after[1],
            "writes_per_5_s": 5 * (after[2] - before[2]) / passed,
            "bytes_a_record": found.header["record_size"],
            "records": found.count,
            "processes_of_the_machine": len(list(Path("/proc").glob("[0-9]*"))),
        }
    finally:
        for one in (*ranks, sampler):
            one.kill()
            one.wait()


def median_step(seconds: float, matrix: np.ndarray) -> tuple[float, float]:
    """Return the median time of a step over a window, and the median of its CPU time, which others cannot take."""
    times, of_cpu, end = [], [], time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        begin_cpu = time.thread_time()
        matrix @ matrix
        of_cpu.append(time.thread_time() - begin_cpu)
        times.append(time.perf_counter() - begin)
    return statistics.median(times), statistics.median(of_cpu)


def change(sampler: subprocess.Popen[bytes] | None) -> dict[str, dict[str, float]]:
    """Return by how many percent steps take longer beside a sampler, and more CPU time; None stands for no sampler."""
    matrix = np.random.default_rng(0).random((400, 400))
    pairs = []
    for pair in range(PAIRS):
        found = {}
        for on in (True, False) if pair % 2 else (False, True):
            if sampler is not None:
                os.kill(sampler.pid, signal.SIGCONT if on else signal.SIGSTOP)
            found[on] = median_step(WINDOW, matrix)
        pairs.append([100 * (on / off - 1) for on, off in zip(found[True], found[False], strict=True)])
    return {
        name: interval([pair[place] for pair in pairs]) for place, name in enumerate(("percent", "percent_of_cpu_time"))
    }


def interval(ratios: list[float]) -> dict[str, float]:
    """Return the median with its interval."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=PAIRS)) for _ in range(2000))
    return {"median": statistics.median(ratios), "low": medians[50], "high": medians[1950]}


def main() -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        found: dict[str, object] = {"load_before": os.getloadavg()[0], **own_cost(Path(one))}
        sampler = start(Path(two))
        try:
            found["step_time_change"] = change(sampler)
        finally:
            os.kill(sampler.pid, signal.SIGCONT)
            sampler.kill()
            sampler.wait()
        found["control"] = change(None)
    found |= {"load_after": os.getloadavg()[0], "goals": GOALS, "machine": platform.processor(), "cpus": os.cpu_count()}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
