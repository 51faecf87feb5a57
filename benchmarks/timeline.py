"""How long the timeline of 64 ranks x 10,000 steps takes, its peak of memory (MB) and its size gzipped (MB)."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from hpcsynapse.report.timeline import write_timeline
from hpcsynapse.timing import StepRecorder

RANKS, STEPS = 64, 10_000


def main() -> None:
    """Write random records to a temporary folder, then their timeline, and print one line."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rank in range(RANKS):
            with StepRecorder(folder, rank=rank, node_rank=rank // 8, host=f"n{rank // 8}") as recorder:
                now = 1e9
                for step, phases in enumerate(0.02 * rng.lognormal(0, 0.1, (STEPS, 5))):
                    recorder.write(step, 0, now, *phases, total := phases.sum(), 32, float(rng.random()))
                    now += total
        began = time.perf_counter()
        target = folder / "t.pftrace.gz"
        count = write_timeline(folder, target)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{count} events: {seconds:.1f} s, {peak:.0f} MB, gzipped {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
