"""A list with roles for 4,096 nodes, and a farm of 100,000 tasks: written and checked.

    python benchmarks/greasy.py

The limit for each is 2 s. The list has one parameter server and one worker a node; the farm ends with a task that waits
for all others.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hpcsynapse.greasy.build import RolesRequest, write_roles
from hpcsynapse.greasy.check import check_text
from hpcsynapse.greasy.farm import Farm, write_farm
from hpcsynapse.greasy.tasks import LIST_NAME

RESULTS = Path(__file__).parent / "results" / "greasy.json"
HOSTS = [f"node{number:04d}" for number in range(4096)]


def timed(work: Callable[[Path], None], repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            work(Path(folder) / "list")
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def roles(folder: Path) -> None:
    request = RolesRequest(command=("python", "train.py"), workdir="/work", ps_per_node=1, gpus=1, host_suffix="-ib0")
    write_roles(folder, request, HOSTS)


def farm(folder: Path) -> None:
    grid = {"lr": tuple(f"{number / 1000}" for number in range(1, 101)), "seed": tuple(map(str, range(1000)))}
    command = ("python", "train.py", "--lr={lr}", "--seed", "{seed}", "--out", "out/{task}")
    write_farm(folder, Farm(command=command, grid=grid, then=("python", "collect.py"), chain="lr"), "/work")


def checked(write: Callable[[Path], None], workers: int | None) -> Callable[[Path], None]:
    def work(folder: Path) -> None:
        write(folder)
        assert check_text((folder / LIST_NAME).read_text(), "any", workers) == []

    return work


def main() -> None:
    rows = {
        "list and node scripts of 4,096 nodes, written": timed(roles),
        "the same, written and checked": timed(checked(roles, 4096)),
        "farm of 100,000 tasks, written": timed(farm),
        "the same with its dependencies, written and checked": timed(checked(farm, None)),
    }
    for name, seconds in rows.items():
        print(f"{name:54} {seconds:8.3f} s")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"median_s": rows, "limit_s": 2.0}, indent=1) + "\n")
    assert max(rows.values()) < 2.0


if __name__ == "__main__":
    main()
