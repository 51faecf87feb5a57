"""Command-line start-up against what its users would not wait for either: importing click, or click and jinja2.

    python benchmarks/startup.py [--rounds 25]

The commands take turns (A B C A B C ...), so that drift of the machine falls on all alike; ratios are taken round
by round. Goals: `--help` at most 1.5 times `python -c "import click"`, `render` at most 0.2 s.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "startup.json"
COMMANDS = {
    "import click": [sys.executable, "-c", "import click"],
    "import click, jinja2": [sys.executable, "-c", "import click, jinja2"],
    "hpcsynapse --help": [sys.executable, "-m", "hpcsynapse", "--help"],
    "hpcsynapse render": [
        sys.executable,
        "-m",
        "hpcsynapse",
        "render",
        "--scheduler",
        "slurm",
        "--nodes",
        "4",
        "--gpus",
        "4",
    ],
    "hpcsynapse status": [sys.executable, "-m", "hpcsynapse", "status"],
}


def once(command: list[str], folder: str) -> float:
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, cwd=folder, env=environ)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds + 1):
            for name, command in COMMANDS.items():
                times[name].append(once(command, folder))
    rows = []
    for name, values in times.items():
        ratios = [value / base for value, base in zip(values[1:], times["import click"][1:], strict=True)]
        rows.append(
            {
                "command": name,
                "median_s": statistics.median(values[1:]),
                "min_s": min(values[1:]),
                "ratio_to_import_click": statistics.median(ratios),
            }
        )
    print(f"{'command':24} {'median ms':>10} {'min ms':>8} {'ratio':>6}")
    for row in rows:
        print(
            f"{row['command']:24} {row['median_s'] * 1e3:10.1f} {row['min_s'] * 1e3:8.1f} "
            f"{row['ratio_to_import_click']:6.2f}"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"rounds": rounds, "python": sys.version.split()[0], "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
