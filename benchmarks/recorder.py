"""Cost of recording one step: StepRecorder against csv.writer and JSON lines with the same clock reads.

Run: python benchmarks/recorder.py. Prints a table and writes benchmarks/results/recorder.json. The variants take
turns, so that a busy moment of the machine hits all of them; the median over rounds is reported.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hpcsynapse.timing import PHASES, StepRecorder

RESULTS = Path(__file__).parent / "results" / "recorder.json"
GOAL_MICROSECONDS = 2.0
STEPS, ROUNDS, FLUSH_EVERY = 20_000, 15, 512
Variant = Callable[[Path], float]


def step_recorder(folder: Path) -> float:
    """begin, five marks and end."""
    with StepRecorder(folder, rank=0) as recorder:
        begin, mark, end = recorder.begin, recorder.mark, recorder.end
        started = time.perf_counter()
        for _ in range(STEPS):
            begin()
            mark("data")
            mark("forward")
            mark("backward")
            mark("communicate")
            mark("update")
            end(samples=64, loss=0.5)
        return time.perf_counter() - started


def context_manager(folder: Path) -> float:
    """The three-line form: `with recorder.step(...)`, no marks."""
    with StepRecorder(folder, rank=0) as recorder:
        started = time.perf_counter()
        for _ in range(STEPS):
            with recorder.step(samples=64, loss=0.5):
                pass
        return time.perf_counter() - started


def _by_hand(write: Callable[[list[float]], object], flush: Callable[[], object]) -> float:
    clock = time.perf_counter
    offset = time.time() - clock()
    started = clock()
    for step in range(STEPS):
        begin = last = clock()
        phases = []
        for _ in PHASES:
            now = clock()
            phases.append(now - last)
            last = now
        write([step, 0, begin + offset, *phases, clock() - begin, 64, 0.5, -1, 0])
        if step % FLUSH_EVERY == 0:
            flush()
    return clock() - started


def csv_writer(folder: Path) -> float:
    """The same figures through csv.writer, flushed as often."""
    with (folder / "steps.csv").open("w", newline="") as file:
        return _by_hand(csv.writer(file).writerow, file.flush)


def json_lines(folder: Path) -> float:
    """The same figures as one JSON list a line, flushed as often."""
    with (folder / "steps.jsonl").open("w") as file:
        return _by_hand(lambda row: file.write(json.dumps(row) + "\n"), file.flush)


VARIANTS: dict[str, Variant] = {
    "StepRecorder: begin, 5 marks, end": step_recorder,
    "StepRecorder: with step()": context_manager,
    "csv.writer": csv_writer,
    "JSON lines": json_lines,
}


def measure() -> list[dict[str, object]]:
    """Return microseconds per step and bytes per step of every variant."""
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    sizes: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, variant in VARIANTS.items():
            with tempfile.TemporaryDirectory() as folder:
                seconds[name].append(variant(Path(folder)))
                sizes[name] = sum(path.stat().st_size for path in Path(folder).iterdir()) / STEPS
    return [
        {
            "name": name,
            "microseconds": round(statistics.median(times) / STEPS * 1e6, 3),
            "fastest": round(min(times) / STEPS * 1e6, 3),
            "slowest": round(max(times) / STEPS * 1e6, 3),
            "bytes": round(sizes[name], 1),
        }
        for name, times in seconds.items()
    ]


def main() -> None:
    """Measure, print a table and write the JSON file."""
    results = measure()
    print(f"{'per step':<36} {'us':>7} {'fastest':>8} {'slowest':>8} {'bytes':>6}")
    for row in results:
        print(f"{row['name']:<36} {row['microseconds']:>7} {row['fastest']:>8} {row['slowest']:>8} {row['bytes']:>6}")
    RESULTS.parent.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "cpus": os.cpu_count()}
    document = {
        "benchmark": "recorder",
        "time": time.time(),
        "machine": machine,
        "steps": STEPS,
        "rounds": ROUNDS,
        "goal_microseconds": GOAL_MICROSECONDS,
        "results": results,
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(f"goal: at most {GOAL_MICROSECONDS} us; written: {RESULTS}")


if __name__ == "__main__":
    main()
