"""Starts the sampler of a node beside the first rank or server there, and lets it write its last record."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.job.search_path import tool
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.names import job_ids

_PATIENCE = 1.5  # seconds that the end of a rank may take longer for a sampler that does not answer


class Beside:
    """The sampler beside a rank's program, from `with` to its end; none where the run wants none.

    It shares nothing with the rank: a session of its own, no open file, no output. Whatever happens to it, the rank
    goes on, and ends.
    """

    def __init__(
        self,
        run: RunDirectory,
        spec: JobSpec,
        attempt: str,
        identity: RankIdentity | None = None,
        granted: Sequence[str] = (),
    ) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        first = identity is None or not (identity.rank if spec.launch.emulate else identity.local_rank)
        if not spec.telemetry.sample or not first:
            return
        plan = {
            "run": run.name,
            "run_dir": os.environ.get("HPCSYNAPSE_RUN_DIR", str(run.path)),
            "folder": str(run.telemetry.absolute()),
            "attempt": attempt,
            "node_rank": identity and identity.node_rank,
            "nodes": spec.allocated_nodes,
            "interval": spec.telemetry.sample,
            "granted": list(granted),
            "wrapper": os.getpid(),
            "jobs": sorted({os.environ[name] for name in job_ids() if os.environ.get(name)}),
        }
        with suppress(OSError):  # a full disk or process table: there is no telemetry, then
            run.telemetry.mkdir(exist_ok=True)
            self._child = subprocess.Popen(
                tool("sampler", json.dumps(plan)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        """Say that the program has ended; the sampler goes on only while others of its node do."""
        if self._child is not None:
            self._child.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=_PATIENCE)
