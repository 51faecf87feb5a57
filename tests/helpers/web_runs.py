"""Runs as they lie in a folder, made without training: of any state, with records, logs and places of their ranks."""

import json
import time
from pathlib import Path

from phased_runs import Phased

from hpcsynapse.files import write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.telemetry import Column, TelemetryWriter, file_name
from hpcsynapse.spec.job import JobSpec

JOB = "vm:1:1"


def make_run(runs, name, state="FINISHED", *, ranks=4, batch=32, created=None, exit_code=None, files=None, **status):
    """Make a run of the queue `local` that is in a state; `status` is the training's own report."""
    tables = {
        "name": name,
        "queue": {"scheduler": "local"},
        "resources": {"ranks_per_node": ranks},
        "train": {"batch": batch},
    }
    run = RunDirectory.create(Path(runs), JobSpec.from_dict(tables), {"job.sh": "#!/bin/bash\ntrue\n"})
    now = created or time.time() - 1000
    submission = {"scheduler": "local", "job_id": JOB, "script": str(run.path / "job.sh"), "time": now}
    run.submission.write_text(json.dumps(submission))
    run.append_history("QUEUED")
    told = {"state": state, "strategy": "allreduce", "model": "simple-cnn", "attempt": "1", "time": now, **status}
    run.status.write_text(json.dumps(told))
    code = exit_code if exit_code is not None else {"FINISHED": 0, "FAILED": 1}.get(state)
    if code is not None:
        run.exit.write_text(json.dumps({"exit_code": code, "time": now + 60, "attempt": "1"}))
    for file, text in (files or {}).items():
        path = run.path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return run


def measured_run(runs, name, *, ranks=4, steps=200, slow=None, per_node=2, batch=32, **more):
    """Make a finished run with step records, a learning curve and the places of its ranks."""
    run = make_run(
        runs, name, ranks=ranks, batch=batch, step=steps, steps=steps, epoch=2, epochs=2, samples_per_s=900.0, **more
    )
    Phased(ranks=ranks, steps=steps, slow=slow or {}, per_node=per_node, batch=batch).write(run.timings)
    for epoch in (1, 2):
        run.append_metrics(
            steps * epoch // 2, epoch, steps * 16 * ranks * epoch, {"accuracy": 0.4 * epoch, "loss": 1 / epoch}
        )
    places = [
        {
            "rank": rank,
            "node_rank": rank // per_node,
            "local_rank": rank % per_node,
            "host": f"node{rank // per_node}",
            "pid": 100 + rank,
            "cpus": [rank],
            "numa_nodes": [rank % 2],
            "device": str(rank % per_node),
            "device_name": "Tesla K80",
            "device_uuid": f"GPU-{rank:04d}",
        }
        for rank in range(ranks)
    ]
    run.placement.write_text(json.dumps({"verified": True, "problem": "", "ranks": places}))
    for rank in range(ranks):
        run.rank_log(rank).write_text("".join(f"rank {rank} line {line}\n" for line in range(50)))
    (run.checkpoints / f"step-{steps:09d}.pt").write_bytes(b"weights" * 100)
    return run


def sampled_nodes(run, hosts, records=120):
    """Write what samplers of nodes would: a load that rises, the second node half of it."""
    run.telemetry.mkdir(exist_ok=True)
    columns = [Column(name, "<f4", "", "") for name in ("cpu_user", "cpu_system", "memory_used")]
    for at, host in enumerate(hosts, 1):
        header = {"host": host, "attempt": "1", "interval": 1.0, "started": 1.8e9, "cpus": 4, "memory_bytes": 8e9}
        writer = TelemetryWriter(
            run.telemetry / file_name(host, "1"), columns, {**header, "interfaces": {}, "gpus": []}
        )
        for number in range(records):
            writer.add(1.8e9 + number, 1.0, [4 * number / records / at, 0.0, 4e9], last=number == records - 1)
        writer.flush()


class LiveRun:
    """A run that goes on, on another machine that shares the folder, until it is told to have ended."""

    def __init__(self, runs, name, **status):
        self.run = make_run(runs, name, "TRAINING", **status)
        told = json.loads(self.run.submission.read_text())
        write_json(self.run.submission, {**told, "job_id": "elsewhere:1:1"})
        self._status = {**json.loads(self.run.status.read_text())}

    def tell(self, **status):
        """Write what its training would."""
        self._status.update(status)
        write_json(self.run.status, self._status)

    def end(self):
        """Let it have finished."""
        self.tell(state="FINISHED")
        write_json(self.run.exit, {"exit_code": 0, "time": time.time(), "attempt": "1"})
