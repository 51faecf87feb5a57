"""What one process has to do for 10,000 ranks: gather, judge, merge, status, report; seconds and memory of each.

    python benchmarks/ten_thousand_ranks.py [RANKS] [FOLDER]

The run is synthetic: 8 ranks a node, evidence and 60 step records of every rank, and of all but one a failure that
follows from the first. Each task is a process of its own; its time has the start of Python in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hpcsynapse.files import write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.timing import RECORD, StepRecorder

RESULTS = Path(__file__).parent / "results" / "ten_thousand_ranks.json"
PER_NODE, STEPS, VICTIM = 8, 60, 4711
IMPORTS = """import pathlib, resource, sys
from hpcsynapse.cli.main import main
from hpcsynapse.runs.directory import RunDirectory
run = RunDirectory(pathlib.Path(sys.argv[1]))
def command(*words):
    sys.argv = ["hpcsynapse", *words, str(run.path), "--csv"]
    main()
"""
TASKS = {
    "gather and judge": "from hpcsynapse.job import rank; rank._gather(run, run.load_spec(), '1.0')",
    "first failure": "from hpcsynapse.runs.failure import first_failure as f; print(f(run, '1.0')['rank'])",
    "suspects": "from hpcsynapse.runs.suspects import suspects; print(suspects(run))",
    "merge": "from hpcsynapse.runs.records import merge; merge(run.timings)",
    "status": "from hpcsynapse.submission.status import statuses; print(statuses([run])[0].reason)",
    "report": "command('report')",
    "why": "command('report', 'why')",
    "stragglers": "command('report', 'stragglers')",
}
PEER = "RuntimeError: Connection closed by peer [10.0.0.1]\n"


def make(runs: Path, ranks: int) -> RunDirectory:
    """Write the files that a run of so many ranks leaves when one of them has failed."""
    spec = JobSpec.from_dict(
        {
            "name": "large",
            "resources": {"nodes": ranks // PER_NODE, "ranks_per_node": PER_NODE},
            "queue": {"scheduler": "slurm"},
            "train": {"strategy": "allreduce", "engine": "ddp"},
        }
    )
    run, now = RunDirectory.create(runs, spec), time.time()
    folder = run.evidence("1.0")
    folder.mkdir(parents=True)
    write_json(run.submission, {"scheduler": "slurm", "job_id": "1"})
    os.environ["HPCSYNAPSE_ATTEMPT"] = "1.0"
    for rank in range(ranks):
        host, local = f"n{rank // PER_NODE:05d}", rank % PER_NODE
        evidence = {
            "rank": rank,
            "world_size": ranks,
            "local_rank": local,
            "node_rank": rank // PER_NODE,
            "host": host,
            "pid": 1000 + rank,
            "cpus": [local * 4 + core for core in range(4)],
            "numa": [0],
            "granted": [],
            "device": None,
            "source": "srun",
            "nodes": ranks // PER_NODE,
            "local_size": PER_NODE,
        }
        write_json(folder / f"rank-{rank:05d}.json", evidence)
        peer = rank != VICTIM
        reason = "exit code 1" if peer else "killed by SIGKILL"
        write_json(
            folder / f"failure-{rank:05d}.json",
            {
                "rank": rank,
                "host": host,
                "code": 1 if peer else 137,
                "reason": reason,
                "time": now + peer,
                "told_to_end": False,
                "waits": False,
                "silent": False,
            },
        )
        run.rank_log(rank).write_text("starting\n" + (PEER if peer else ""))
        records(run, spec, rank, ranks, host, now)
    write_json(run.exit, {"exit_code": 137, "start": now - 60, "time": now, "attempt": "1.0", "signal": "", "disk": ""})
    return run


def records(run: RunDirectory, spec: JobSpec, rank: int, ranks: int, host: str, now: float) -> None:
    """Write the step records of one rank."""
    recorder = StepRecorder(
        run.timings,
        rank=rank,
        world_size=ranks,
        strategy="allreduce",
        engine="ddp",
        host=host,
        model="simple-cnn",
        data="digits",
        batch_per_rank=32,
        global_batch=32 * ranks,
    )
    recorder.close()
    path = next(run.timings.glob(f"rank-{rank:05d}.*"))
    with path.open("ab") as file:
        for step in range(STEPS):
            file.write(
                RECORD.pack(
                    step,
                    0,
                    now + step * 0.1,
                    0.01,
                    0.03,
                    0.04,
                    0.01,
                    0.005,
                    0.095 + 0.001 * (rank % 7),
                    32,
                    1.0,
                    -1,
                    step < 10,
                    0,
                    0,
                )
            )


def measure(code: str, run: RunDirectory) -> dict[str, float]:
    """Run one task in a process of its own; returns seconds, and its largest memory in MB."""
    began = time.perf_counter()
    environ = {**os.environ, "HPCSYNAPSE_RUNS": str(run.path.parent), "HPCSYNAPSE_ATTEMPT": "1.0"}
    tail = "\nprint('PEAK', (u := resource.getrusage(resource.RUSAGE_SELF)).ru_maxrss, u.ru_utime + u.ru_stime)"
    program = f"{IMPORTS}\ntry:\n    {code}\nexcept SystemExit:\n    pass{tail}"
    done = subprocess.run([sys.executable, "-c", program, str(run.path)], capture_output=True, text=True, env=environ)
    seconds = time.perf_counter() - began
    lines = [line for line in done.stdout.splitlines() if line.startswith("PEAK")]
    if done.returncode or not lines:
        sys.exit(f"{code}: {done.stderr[-2000:]}")
    _, peak, cpu = lines[0].split()
    return {"seconds": round(seconds, 2), "cpu_s": round(float(cpu), 2), "peak_mb": round(int(peak) / 1024)}


def main() -> None:
    ranks = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as name:
        began = time.perf_counter()
        run = make(Path(name) / "runs", ranks)
        print(f"made in {time.perf_counter() - began:.0f} s", flush=True)
        found = {}
        for task, code in TASKS.items():
            found[task] = measure(code, run)
            print(task, found[task], flush=True)
    told = {"ranks": ranks, "steps": STEPS, "load": os.getloadavg()[0], "tasks": found}
    RESULTS.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
