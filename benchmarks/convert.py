"""Reading and conversion of 1,000 job files of three dialects, and the same with the results written to disk.

    python benchmarks/convert.py

The files are those of tests/data/jobfiles, each with a name of its own. The goal is under 2 s for 1,000.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hpcsynapse.jobfiles.convert import convert
from hpcsynapse.jobfiles.reader import read

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "convert.json"
FILES = 1000


def make_files(folder: Path) -> list[Path]:
    """Write FILES job files, the samples in turn."""
    samples = [path.read_text() for path in sorted((HERE.parent / "tests" / "data" / "jobfiles").iterdir())]
    paths = [folder / f"job-{number}" for number in range(FILES)]
    for number, path in enumerate(paths):
        path.write_text(samples[number % len(samples)] + f"echo {number}\n")
    return paths


def write_all(paths: list[Path], target: str) -> None:
    """Convert every file and write what comes out into a new folder."""
    folder = Path(tempfile.mkdtemp(dir=paths[0].parent))
    for path in paths:
        for result in convert(read(path.read_bytes()), target):
            (folder / f"{path.name}{result.step}").write_text(result.text)


def timed(work: Callable[[], object], repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = make_files(Path(folder))
        contents = [path.read_bytes() for path in paths]
        rows = {f"read {FILES:,} files": timed(lambda: [read(data) for data in contents])}
        for target in ("slurm", "minotauro", "loadleveler"):
            rows[f"read and convert to {target}"] = timed(
                lambda to=target: [convert(read(one), to) for one in contents]
            )
        rows["read, convert to slurm, write to disk"] = timed(lambda: write_all(paths, "slurm"))
        lines = sum(len(path.read_text().splitlines()) for path in paths)
    for name, seconds in rows.items():
        print(f"{name:38} {seconds * 1e3:10.1f} ms")
    print(f"{'lines read':38} {lines:10,}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"files": FILES, "lines": lines, "median_s": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
