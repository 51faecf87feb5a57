"""Reading and reporting step records: `hpcsynapse report` beside pandas and polars, each in a process of its own.

Run: python benchmarks/report.py [--scratch FOLDER] [--quick]. Prints a table and writes benchmarks/results/report.json.
Two data sets are generated, one after the other: 200 runs x 64 ranks x 1,000 steps (4 strategies x 10 models x 5
repeats), and 1 run x 1,024 ranks x 10,000 steps; 4 GB of disk are needed for the larger one with its CSV files. pandas
and polars read CSV files of the same records, one a run and as `hpcsynapse records RUN --csv` prints them, and compute
step times (median over steps of the maximum over ranks) and speedups (of samples by the time of all steps), without
intervals, phases, epochs and checks.
Their tables must agree with that of the report. Where they are not installed (extra `dev`) the comparison is left out.

Seconds contain the start of the interpreter and of the libraries, and are the least of three rounds, in each of which
all take their turn, with the files in memory; megabytes are the largest resident size of the three.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from hpcsynapse.cli.records import COLUMNS
from hpcsynapse.report.loading import DTYPE
from hpcsynapse.runs.records import merge
from hpcsynapse.timing import StepRecorder

RESULTS = Path(__file__).parent / "results" / "report.json"
GOALS = {"seconds": 5.0, "megabytes": 500.0}
ROUNDS = 3
BASELINE = "allreduce"
STRATEGIES = {BASELINE: 0.100, "central": 0.140, "local-sgd": 0.080, "allreduce-broadcast": 0.110}
TOLERANCE = 1e-3  # the report also cuts warm-up that it detects, if only by chance, which moves a median a little

# A wrapper whose own memory is small, so that ru_maxrss of its child is the child's.
MEASURE = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)
seconds = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps({"seconds": seconds, "megabytes": peak, "code": done.returncode, "output": done.stdout}))
"""
REPORT = """
import sys
from hpcsynapse.cli.report import command
command([*sys.argv[1:], "--baseline", "allreduce", "--scaling", "weak", "--csv"])
"""
PANDAS = """
import sys, pathlib, numpy, pandas
found = []
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.csv")):
    data = pandas.read_csv(path, usecols=["step", "total", "samples", "flags"], engine="c")
    steps = data[data["flags"] == 0].groupby("step").agg(slowest=("total", "max"), samples=("samples", "sum"))
    strategy, model, _ = path.stem.split("_")
    rate = steps["samples"].sum() / steps["slowest"].sum()
    found.append((strategy, model, steps["slowest"].median(), rate))
runs = pandas.DataFrame(found, columns=["strategy", "model", "time", "rate"])
points = numpy.exp(numpy.log(runs.set_index(["strategy", "model"])[["time", "rate"]]).groupby(level=[0, 1]).mean())
points["speedup"] = points["rate"] / points["rate"].loc["allreduce"].reindex(points.index, level=1)
print(points.rename(columns={"time": "step_time_s"}).to_csv())
"""
POLARS = """
import sys, pathlib, polars as pl
found = []
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.csv")):
    strategy, model, _ = path.stem.split("_")
    steps = pl.scan_csv(path).filter(pl.col("flags") == 0).group_by("step").agg(
        pl.col("total").max(), pl.col("samples").sum())
    found.append(steps.select(pl.lit(strategy).alias("strategy"), pl.lit(model).alias("model"),
                              pl.col("total").median().alias("time"),
                              (pl.col("samples").sum() / pl.col("total").sum()).alias("rate")))
runs = pl.concat(pl.collect_all(found))
points = runs.group_by("strategy", "model").agg(pl.col("time").log().mean().exp(), pl.col("rate").log().mean().exp())
base = points.filter(pl.col("strategy") == "allreduce").select("model", pl.col("rate").alias("base"))
points = points.join(base, on="model").with_columns((pl.col("rate") / pl.col("base")).alias("speedup"))
print(points.rename({"time": "step_time_s"}).write_csv())
"""
LIBRARIES = {"pandas": PANDAS, "polars": POLARS}


@dataclass(frozen=True, slots=True)
class Case:
    """A data set: runs of every strategy and model in some repeats, all of the same size."""

    strategies: tuple[str, ...]
    models: int
    repeats: int
    ranks: int
    steps: int

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.strategies) * self.models * self.repeats

    @property
    def records(self) -> int:
        """Number of records of all runs."""
        return self.runs * self.ranks * self.steps

    def __str__(self) -> str:
        """Return its size as it is printed."""
        return f"{self.runs} x {self.ranks} ranks x {self.steps} steps"

    def each(self) -> Iterator[tuple[str, str, int]]:
        """Yield strategy, model and repeat of every run."""
        yield from itertools.product(
            self.strategies, [f"m{model}" for model in range(self.models)], range(self.repeats)
        )


CASES = (Case(tuple(STRATEGIES), 10, 5, 64, 1000), Case((BASELINE,), 1, 1, 1024, 10_000))
QUICK = (Case(tuple(STRATEGIES), 2, 2, 8, 200), Case((BASELINE,), 1, 1, 64, 1000))


def records(rng: np.random.Generator, steps: int, step_time: float) -> Any:
    """Return the records of one rank: step times with 3 % noise, one after another, 100 steps an epoch."""
    found = np.zeros(steps, DTYPE)
    found["step"] = np.arange(steps)
    found["epoch"] = found["step"] // 100
    found["total"] = step_time * (1 + 0.03 * rng.standard_normal(steps))
    found["start"] = 1.7e9 + np.cumsum(found["total"], dtype=np.float64) - found["total"]
    for phase, share in (("data", 0.05), ("forward", 0.3), ("backward", 0.5), ("communicate", 0.1), ("update", 0.05)):
        found[phase] = found["total"] * share
    found["samples"], found["loss"], found["staleness"] = 32, 1.0, -1
    found["flags"][:10] = 1
    return found


def write_run(case: Case, which: tuple[str, str, int], folder: Path, table: Path | None) -> None:
    """Write the records of one run as its ranks would have, in a folder of its own, and as CSV if asked to."""
    strategy, model, repeat = which
    os.environ["WORLD_SIZE"] = str(case.ranks)
    rng = np.random.default_rng([sum(model.encode()), repeat, len(strategy)])
    level = STRATEGIES[strategy] * float(np.exp(rng.normal(0, 0.02)))
    own = records(rng, case.steps, level)  # of every rank: they wait for one another
    with table.open("wb") if table else io.BytesIO() as text:
        for rank in range(case.ranks):
            with StepRecorder(folder, rank=rank, strategy=strategy, engine="ddp", model=model, data="d") as recorder:
                path = recorder.path
            with path.open("ab") as file:
                own.tofile(file)
            if table:
                write_csv(text, rank, own)


def write_csv(file: Any, rank: int, own: Any) -> None:
    """Append the records of a rank to a table."""
    import polars

    who = {"rank": rank, "host": "node", "attempt": "0"}
    columns = [
        np.ascontiguousarray(own[name]) if name in own.dtype.names else polars.lit(who[name]).alias(name)
        for name in COLUMNS
    ]
    arrays = {name: column for name, column in zip(COLUMNS, columns, strict=True) if name not in who}
    polars.DataFrame(arrays).with_columns(columns[:3]).select(COLUMNS).write_csv(file, include_header=rank == 0)


def measured(name: str, code: str, *arguments: str) -> dict[str, Any]:
    """Run Python code in a child and return its seconds (interpreter start included) and peak memory in MB."""
    argv = [sys.executable, "-c", MEASURE, sys.executable, "-c", code, *arguments]
    found = dict(json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout))
    if found["code"]:
        raise SystemExit(f"{name} failed: {found}")
    return found


def table_of(output: str) -> dict[tuple[str, str], tuple[float, float]]:
    """Return step time and speedup by strategy and model, from a printed table."""
    rows = csv.DictReader(io.StringIO(output.strip()))
    return {(row["strategy"], row["model"]): (float(row["step_time_s"]), float(row["speedup"])) for row in rows}


def check(name: str, output: str, wanted: dict[tuple[str, str], tuple[float, float]]) -> None:
    """Raise SystemExit when a table is not the one that the report printed."""
    found = table_of(output)
    if found.keys() != wanted.keys() or not np.allclose(
        [found[key] for key in wanted], list(wanted.values()), rtol=TOLERANCE
    ):
        raise SystemExit(f"{name} and the report disagree:\n{found}\n{wanted}")


def rounds(case: Case, programs: dict[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    """Measure programs (name: code and arguments, the report first) in turn, print them and return the results."""
    tries: dict[str, list[dict[str, Any]]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, (code, *arguments) in programs.items():
            tries[name].append(measured(name, code, *arguments))
    wanted = table_of(next(iter(tries.values()))[0]["output"])
    results = []
    for name, found in tries.items():
        check(name, found[0]["output"], wanted)
        seconds = [round(one["seconds"], 3) for one in found]
        megabytes = round(max(one["megabytes"] for one in found), 1)
        results.append(
            {
                "name": name,
                "case": str(case),
                "records": case.records,
                "seconds": min(seconds),
                "all_seconds": seconds,
                "megabytes": megabytes,
            }
        )
        print(f"{name:<28} {case!s:<30} {case.records:>11,} {min(seconds):>9.2f} {megabytes:>9.0f}", flush=True)
    return results


def of_case(case: Case, scratch: Path, libraries: list[str]) -> list[dict[str, Any]]:
    """Generate a data set and measure everything on it."""
    tables = scratch / "csv"
    tables.mkdir()
    folders = []
    for strategy, model, repeat in case.each():
        name = f"{strategy}_{model}_{repeat}"
        folders.append(scratch / name)
        write_run(case, (strategy, model, repeat), folders[-1], tables / f"{name}.csv" if libraries else None)
    report = (REPORT, *map(str, folders))
    found = rounds(case, {"report, a file per rank": report}) if case.runs == 1 else []
    for folder in folders:
        merge(folder)
    return found + rounds(case, {"report": report} | {name: (LIBRARIES[name], str(tables)) for name in libraries})


def main() -> None:
    """Measure, print a table and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scratch", help="folder for 4 GB of records and CSV files [a temporary one]")
    parser.add_argument("--quick", action="store_true", help="small data sets; writes no file")
    options = parser.parse_args()
    libraries = list(LIBRARIES) if all(map(importlib.util.find_spec, LIBRARIES)) else []
    if not libraries:
        print(f"{' and '.join(LIBRARIES)} are not both installed: comparison left out")
    print(f"{'program':<28} {'runs':<30} {'records':>11} {'seconds':>9} {'peak MB':>9}")
    results = []
    for case in QUICK if options.quick else CASES:
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            results += of_case(case, Path(scratch), libraries)
    if not options.quick:
        machine = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "cpus": os.cpu_count(),
            **{name: version(name) for name in libraries},
        }
        RESULTS.parent.mkdir(exist_ok=True)
        document = {"benchmark": "report", "time": time.time(), "machine": machine, "goals": GOALS, "results": results}
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
        print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
