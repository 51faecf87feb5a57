"""Reading and reporting step records: seconds and peak memory of `hpcsynapse report`, in a process of its own.

Run: python benchmarks/report.py [--scratch FOLDER] [--quick]. Prints a table and writes
benchmarks/results/report.json. The comparison reads CSV files of a sample with pandas' C engine, where pandas is
installed, and scales the seconds up to the same number of records; its memory is that of the sample.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hpcsynapse.records import merge
from hpcsynapse.report.load import DTYPE
from hpcsynapse.timing import StepRecorder

RESULTS = Path(__file__).parent / "results" / "report.json"
GOALS = {"seconds": 3.0, "megabytes": 500.0}
SAMPLE_RANKS = 128

# A wrapper whose own memory is small, so that ru_maxrss of its child is the child's.
MEASURE = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)
seconds = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps({"seconds": seconds, "megabytes": peak, "code": done.returncode, "output": done.stdout[-2000:]}))
"""
REPORT = """
import sys
from hpcsynapse.cli.report import command
command(sys.argv[1:])
"""
PANDAS = """
import sys, pathlib, pandas
columns = ["step", "total", "samples", "flags"]
paths = sorted(pathlib.Path(sys.argv[1]).glob("*.csv"))
frames = [pandas.read_csv(path, usecols=columns, engine="c") for path in paths]
data = pandas.concat(frames)
steps = data[data["flags"] == 0].groupby("step").agg(slowest=("total", "max"), samples=("samples", "sum"))
print(steps["slowest"].median(), steps["samples"].median())
"""


def records(rng: np.random.Generator, steps: int, step_time: float) -> np.ndarray:
    """Return the records of one rank: step times with 3 % noise, 100 steps an epoch."""
    found = np.zeros(steps, DTYPE)
    found["step"] = np.arange(steps)
    found["epoch"] = found["step"] // 100
    found["total"] = step_time * (1 + 0.03 * rng.standard_normal(steps))
    found["start"] = 1.7e9 + np.cumsum(found["total"], dtype=np.float64)
    for phase, share in (("data", 0.05), ("forward", 0.3), ("backward", 0.5), ("communicate", 0.1), ("update", 0.05)):
        found[phase] = found["total"] * share
    found["samples"], found["loss"], found["staleness"] = 32, 1.0, -1
    found["flags"][:10] = 1
    return found


def write_run(folder: Path, ranks: int, steps: int, *, merged: bool) -> None:
    """Write the records of one run as its ranks would have, in a folder of its own."""
    os.environ["WORLD_SIZE"] = str(ranks)
    rng = np.random.default_rng(ranks)
    for rank in range(ranks):
        with StepRecorder(folder, rank=rank, strategy="allreduce", engine="ddp", model="m", data="d") as recorder:
            path = recorder.path
        with path.open("ab") as file:
            records(rng, steps, 0.1).tofile(file)
    if merged:
        merge(folder)


def write_csv(folder: Path, ranks: int, steps: int) -> None:
    """Write the same kind of records as CSV, one file per rank."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for rank in range(ranks):
        lines = [",".join(DTYPE.names or ())]
        lines += [",".join(f"{value:.9g}" for value in record) for record in records(rng, steps, 0.1).tolist()]
        (folder / f"{rank}.csv").write_text("\n".join(lines) + "\n")


def measured(code: str, *arguments: str) -> dict[str, object]:
    """Run Python code in a child and return its seconds (interpreter start included) and peak memory in MB."""
    argv = [sys.executable, "-c", MEASURE, sys.executable, "-c", code, *arguments]
    return dict(json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout))


def best(name: str, records_read: int, code: str, *arguments: str) -> dict[str, object]:
    """Return the fastest of three measurements, with warm file cache."""
    tries = [measured(code, *arguments) for _ in range(3)]
    if any(one["code"] for one in tries):
        raise SystemExit(f"{name} failed: {tries}")
    fastest = min(tries, key=lambda one: float(str(one["seconds"])))
    seconds, megabytes = float(str(fastest["seconds"])), max(float(str(one["megabytes"])) for one in tries)
    result = {"name": name, "records": records_read, "seconds": round(seconds, 3), "megabytes": round(megabytes, 1)}
    print(f"{name:<58} {records_read:>11,} {seconds:>9.2f} {megabytes:>9.0f}", flush=True)
    return result


def compared(scratch: Path, ranks: int, steps: int) -> list[dict[str, object]]:
    """Measure pandas on a sample of CSV files and scale its seconds to all records."""
    sample = min(SAMPLE_RANKS, ranks)
    write_csv(scratch / "csv", sample, steps)
    try:
        start = best("(python and pandas started, no data)", 0, "import pandas")
        part = best(f"pandas C engine on CSV, sample of {sample} ranks", sample * steps, PANDAS, str(scratch / "csv"))
    except SystemExit:
        print("pandas is not installed: comparison left out")
        return []
    work = float(str(part["seconds"])) - float(str(start["seconds"]))
    scaled = work * ranks / sample + float(str(start["seconds"]))
    print(f"{'pandas scaled up from the sample (seconds only)':<58} {ranks * steps:>11,} {scaled:>9.2f} {'-':>9}")
    return [start, part, {"name": "pandas scaled up from the sample", "records": ranks * steps, "seconds": scaled,
                          "scaled_from_records": sample * steps}]  # fmt: skip


def run(scratch: Path, *, quick: bool) -> list[dict[str, object]]:
    """Measure all cases."""
    ranks, steps, runs = (64, 1000, 10) if quick else (1024, 10_000, 200)
    print(f"{'case':<58} {'records':>11} {'seconds':>9} {'peak MB':>9}")
    results = []
    for merged in (True, False):
        folder = scratch / "one"
        write_run(folder, ranks, steps, merged=merged)
        name = f"report, 1 run x {ranks} ranks x {steps} steps, {'merged' if merged else 'a file per rank'}"
        results.append(best(name, ranks * steps, REPORT, str(folder), "--csv"))
        shutil.rmtree(folder)
    folders = [scratch / f"run-{index}" for index in range(runs)]
    write_run(folders[0], 64, 1000, merged=True)
    for folder in folders[1:]:
        shutil.copytree(folders[0], folder)
    name = f"report, {runs} runs x 64 ranks x 1000 steps, merged"
    results.append(best(name, runs * 64_000, REPORT, *map(str, folders), "--csv"))
    return results + compared(scratch, ranks, steps)


def main() -> None:
    """Measure, print a table and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scratch", help="folder for 1.4 GB of records [a temporary one]")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the records; writes no file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        results = run(Path(scratch), quick=options.quick)
    if not options.quick:
        machine = {"python": platform.python_version(), "numpy": np.__version__, "cpus": os.cpu_count()}
        RESULTS.parent.mkdir(exist_ok=True)
        document = {"benchmark": "report", "time": time.time(), "machine": machine, "goals": GOALS, "results": results}
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
        print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
