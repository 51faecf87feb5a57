"""The states of 1,000 runs: how long they take, and how many questions the queue is asked.

    python benchmarks/status.py

The queue is a stand-in for squeue that answers at once, so that only this side is measured; a third of the runs wait,
a third train and a third have ended.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from hpcsynapse.files import write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.submission.status import statuses

RESULTS = Path(__file__).parent / "results" / "status.json"
RUNS = 1000
SQUEUE = """#!/bin/sh
echo asked >> {folder}/asked
exec cat {folder}/answer
"""


def runs_and_queue(folder: Path, count: int = RUNS) -> list[RunDirectory]:
    """Make the runs, and a squeue that knows those that have not ended."""
    lines, runs = ["\x1f".join(("JOBID", "STATE", "REASON", "NODELIST"))], []
    for number in range(count):
        spec = JobSpec(name=f"run-{number}", queue=QueueOptions(scheduler="slurm"))
        run = RunDirectory.create(folder / "runs", spec)
        write_json(run.submission, {"scheduler": "slurm", "job_id": str(number + 1)})
        run.append_history("QUEUED", job_id=str(number + 1))
        if number % 3:
            run.append_history("TRAINING")
            write_json(run.status, {"state": "TRAINING", "step": number, "steps": 2000, "loss": 0.5})
        if number % 3 == 2:
            write_json(run.exit, {"exit_code": 0, "time": time.time() - 4000, "signal": ""})
        else:
            state = ("PENDING\x1fPriority\x1f", f"RUNNING\x1fNone\x1fn{number}")[number % 3]
            lines.append(f"{number + 1}\x1f{state}")
        runs.append(run)
    (folder / "answer").write_text("\n".join(lines) + "\n")
    squeue = folder / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(SQUEUE.format(folder=folder))
    squeue.chmod(0o755)
    os.environ["PATH"] = f"{squeue.parent}:{os.environ['PATH']}"
    return runs


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs, times, cpu = runs_and_queue(folder), [], []
        for _ in range(9):
            start, used = time.perf_counter(), time.process_time()
            found = statuses(runs)
            times.append(time.perf_counter() - start)
            cpu.append(time.process_time() - used)
        asked = len((folder / "asked").read_text().split()) / len(times)
    states = {state: sum(one.state == state for one in found) for state in ("QUEUED", "TRAINING", "FINISHED")}
    rows = {
        "runs": RUNS,
        "median_s": statistics.median(times),
        "best_s": min(times),
        "cpu_s": statistics.median(cpu),
        "questions": asked,
        "states": states,
        "load": os.getloadavg()[0],
    }
    json.dump(rows, sys.stdout, indent=1)
    print()
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
