"""Parameter servers against all-reduce as the number of nodes grows, over slow links: throughput and bytes per node.

    python benchmarks/servers_and_allreduce.py [--rate 100mbit --rate 1gbit] [--nodes 1,2,4] [--steps 15]

Needs root: brings up a Slurm lab for every rate, whose links are limited in both directions, submits one job a strategy
and number of nodes through `hpcsynapse submit`, one after the other, and reads throughput and bytes from the runs' own
step records. The parameter server has a node of its own beside those of the workers, so that all of them are equally
far from it; the busiest node is then the server's. Ranks share the processors of this machine, so throughput at
1 Gbit/s is bounded by those; bytes are not. Writes benchmarks/results/servers_and_allreduce.csv and .json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
UP = Path(__file__).parents[1] / "scripts" / "slurm-lab"
STRATEGIES = ("allreduce", "ps-async", "ps-sync")
LAB = "pslab"


def lab(rate: str) -> dict[str, str]:
    """Bring a lab up and return the environment of its users."""
    environment = {**os.environ, "LAB": LAB, "TMPDIR": "/tmp", "NODES": "5", "GPUS": "0", "RATE": rate}
    done = subprocess.run([UP / "up"], env=environment, capture_output=True, text=True, check=True, timeout=180)
    assert done.stdout
    conf = Path("/tmp") / f"slurm-lab-{LAB}" / "slurm.conf"
    return {**environment, "SLURM_CONF": str(conf), "OMP_NUM_THREADS": "1"}


def command(environment: dict[str, str], folder: Path, *words: str) -> str:
    argv = [sys.executable, "-m", "hpcsynapse", *words]
    done = subprocess.run(argv, env=environment, cwd=folder, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def measure(environment: dict[str, str], folder: Path, strategy: str, nodes: int, arguments: Any) -> dict[str, Any]:
    """Run one point and return throughput, and bytes of the busiest node."""
    name = f"{strategy}-{nodes}"
    servers = ["--server-nodes", "1"] if strategy.startswith("ps") else []
    command(
        environment, folder, "submit", "--follow", "--nodes", str(nodes), "--strategy", strategy, "--engine", "ddp",
        "--model", arguments.model, "--data", "synthetic", "--set", "train.data_args={shape=[1,28,28],samples=8192}",
        "--batch", "32", "--steps", str(arguments.steps), "--epochs", "999", "--threads", "1", "--name", name,
        "--validate-every", "0", "--checkpoint-every", "0", "--record-warmup", "3", "--time", "20m", *servers,
    )  # fmt: skip  # a command line
    (point,) = json.loads(command(environment, folder, "report", name, "--json"))
    hosts = json.loads(command(environment, folder, "report", "traffic", name, "--json"))
    samples = nodes * 32
    return {
        "strategy": strategy,
        "nodes": nodes,
        "samples_per_s": point["throughput"],
        "step_time_s": point["step_time_s"],
        **{
            f"busiest_node_{way}_mb_per_step": max(one[f"{way}_bytes_per_sample"] for one in hosts) * samples / 1e6
            for way in ("sent", "received")
        },
        **{f"busiest_node_{way}_mb_s": max(one[f"{way}_mb_s"] for one in hosts) for way in ("sent", "received")},
        "all_nodes_sent_mb_per_step": sum(one["sent_bytes_per_sample"] for one in hosts) * samples / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", action="append")
    parser.add_argument("--nodes", default="1,2,4")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--model", default="simple-cnn")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    load = os.getloadavg()[0]
    for rate in arguments.rate or ["100mbit", "1gbit"]:
        environment = lab(rate)
        folder = Path(tempfile.mkdtemp(prefix="servers-and-allreduce-", dir="/tmp"))
        try:
            for nodes in map(int, arguments.nodes.split(",")):
                for strategy in STRATEGIES:
                    row = {"rate": rate, **measure(environment, folder, strategy, nodes, arguments)}
                    rows.append(row)
                    print(json.dumps(row), flush=True)
        finally:
            subprocess.run([UP / "down"], env=environment, check=True, capture_output=True, timeout=120)
            shutil.rmtree(folder, ignore_errors=True)
    with (RESULTS / "servers_and_allreduce.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    about = {
        "command": "python benchmarks/servers_and_allreduce.py",
        "model": arguments.model,
        "batch_per_rank": 32,
        "steps": arguments.steps,
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load_before": load,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rows": rows,
    }
    (RESULTS / "servers_and_allreduce.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
