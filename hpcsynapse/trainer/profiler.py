"""Traces chosen steps with torch.profiler, for `hpcsynapse timeline --profiles`."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer.clock import StepClock

_log = logging.getLogger(__name__)


def profiler_of(
    run: RunDirectory, train: TrainSpec, rank: int, device: torch.device, clock: StepClock
) -> StepProfiler | None:
    """Return what traces the steps of a rank that are asked for, None where none are."""
    steps, name = train.profiled(rank), f"rank-{rank:05d}.{os.environ.get('HPCSYNAPSE_ATTEMPT', '0')}.json.gz"
    return StepProfiler(run.profiles / name, steps, device, clock) if steps else None


class StepProfiler:
    """Traces the steps of a range, once, into a file; to begin and to write are pauses of a run, and never its end."""

    def __init__(self, target: Path, steps: range, device: torch.device, clock: StepClock) -> None:
        self._target, self._steps, self._clock = target, steps, clock
        self._activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
        self._profile: profile | None = None
        self._over = not steps

    def before(self, step: int) -> None:
        """Begin or end where it is time to; `step` comes next."""
        if self._over:
            return
        if self._profile is None and step in self._steps:
            with self._clock.pause("other"):
                self._begin()
        elif self._profile is not None and step not in self._steps:
            self.close()

    def close(self) -> None:
        """Write what was traced, where the range or the run is over."""
        if self._profile is not None:
            with self._clock.pause("other"):
                self._write(self._profile)
            self._profile, self._over = None, True

    def _begin(self) -> None:
        try:
            found = profile(activities=self._activities)
            found.start()
            self._profile = found
        except (RuntimeError, OSError) as error:  # another profiler is at work, or none can be
            self._over = True
            _log.warning("nothing is traced: %s", error)

    def _write(self, found: profile) -> None:
        temporary = self._target.with_name(f".{os.getpid()}.{self._target.name}")
        try:
            found.stop()
            self._target.parent.mkdir(exist_ok=True)
            found.export_chrome_trace(str(temporary))
            temporary.replace(self._target)
        except (RuntimeError, OSError) as error:
            _log.warning("the trace of steps %s cannot be written: %s", self._steps, error)
        finally:
            temporary.unlink(missing_ok=True)
