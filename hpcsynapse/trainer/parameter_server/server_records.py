"""What a server writes down: a step record for every update, and a file of counts by worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcsynapse.files import write_json
from hpcsynapse.timing import StepRecorder
from hpcsynapse.trainer.traffic import Traffic

COUNTS = ("applied", "dropped", "interrupted")


class ServerRecords:
    """Counts gradients of every worker and bytes of parameters and gradients; used by all threads of a server.

    A gradient is `interrupted` when its worker was lost in the middle of sending it.
    """

    def __init__(self, recorder: StepRecorder, traffic: Traffic, workers: int) -> None:
        self._recorder, self._traffic = recorder, traffic
        self._lock = threading.Lock()
        self._counts = {name: [0] * workers for name in COUNTS}
        self.received = self.sent = 0
        self._unrecorded = (0, 0)
        self._last, self._wall = time.perf_counter(), time.time() - time.perf_counter()

    def restore(self, counts: Mapping[str, list[int]]) -> None:
        """Go on from saved counts."""
        for name in COUNTS:
            self._counts[name] = list(counts[name])
        self.received, self.sent = counts.get("moved", (0, 0))

    def save(self) -> dict[str, list[int]]:
        """Return the counts as they are saved, and the bytes `moved`: (received, sent)."""
        with self._lock:
            counts = {name: list(values) for name, values in self._counts.items()}
            return {**counts, "moved": [self.received, self.sent]}

    def count(self, name: str, worker: int) -> None:
        """Count a gradient of a worker: one of COUNTS."""
        with self._lock:
            self._counts[name][worker] += 1

    def moved(self, received: int, sent: int) -> None:
        """Add bytes of parameters and gradients."""
        with self._lock:
            self.received, self.sent = self.received + received, self.sent + sent

    def update(self, version: int, samples: int, staleness: int) -> None:
        """Record an update: its version, the samples behind it, the time since the one before it."""
        with self._lock:
            now = time.perf_counter()
            sent, received = map(sum, zip(self._unrecorded, self._traffic.take(), strict=True))
            self._unrecorded = (0, 0)
            self._recorder.write(
                version,
                0,
                self._last + self._wall,
                0.0,
                0.0,
                0.0,
                0.0,
                0.0,
                now - self._last,
                samples,
                float("nan"),
                staleness,
                sent,
                received,
            )
            self._last = now

    def look(self) -> None:
        """Take the kernel's counts of bytes before a connection is closed, with which they go."""
        with self._lock:
            sent, received = self._traffic.look()
            self._unrecorded = (self._unrecorded[0] + sent, self._unrecorded[1] + received)

    def flush(self) -> None:
        """Hand the records so far to the operating system."""
        with self._lock:
            self._recorder.flush()

    def write(self, path: Path, about: Mapping[str, Any], steps: list[int]) -> None:
        """Replace the file of counts."""
        counts = self.save()
        workers = [
            {"worker": worker, "steps": step, **{name: counts[name][worker] for name in COUNTS}}
            for worker, step in enumerate(steps)
        ]
        received, sent = counts["moved"]
        write_json(path, {**about, "received": received, "sent": sent, "workers": workers})
