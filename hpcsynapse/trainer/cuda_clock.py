"""The phases of a step on a CUDA device, from events: nothing waits for the device in an ordinary step."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch

from hpcsynapse.timing import PHASES, StepRecorder
from hpcsynapse.trainer.clock import StepClock, StepResult
from hpcsynapse.trainer.traffic import Traffic

# Steps that may be under way before the host waits for the oldest; bounds memory, and lets the watchdog see a hang.
_PENDING = 64


@dataclass(slots=True)
class _Pending:
    begin: Any
    marks: list[tuple[str, Any]] = field(default_factory=list)
    step: int = 0
    epoch: int = 0
    result: StepResult | None = None


class CudaClock(StepClock):
    """Times steps by events on the current stream and writes their records once the device has passed them.

    A stamp is a recorded event. Losses are copied to pinned memory in stream order and read when the event behind
    them has completed.
    """

    def __init__(self, recorder: StepRecorder, device: torch.device, traffic: Traffic | None = None) -> None:
        super().__init__(recorder, traffic)
        self._device = device
        self._queue: deque[_Pending] = deque()
        torch.cuda.synchronize(device)
        self._anchor = self.stamp()
        self._anchor.synchronize()
        self._anchor_wall = time.time()
        self._current = _Pending(self._anchor)

    def begin(self, agreed: float = 0.0) -> None:
        """Start a step: its data phase begins when the device has finished what came before, `agreed` or not."""
        self._current = _Pending(self.stamp())

    def stamp(self) -> Any:
        """Return an event recorded here on the current stream."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def mark(self, phase: str, stamp: Any = None) -> None:
        """Give the device's time from the last mark to the stamp (or here) to a phase."""
        self._current.marks.append((phase, self.stamp() if stamp is None else stamp))

    def end(self, step: int, epoch: int, result: StepResult) -> None:
        """Queue the record of the step, and write those of the steps that the device has finished."""
        host = torch.empty(1, dtype=torch.float32, pin_memory=True)
        host.copy_(result.loss.detach().reshape(1), non_blocking=True)
        result.loss = host
        done = self._current
        done.step, done.epoch, done.result = step, epoch, result
        done.marks.append(("", self.stamp()))
        self._queue.append(done)
        while self._queue and (len(self._queue) > _PENDING or self._queue[0].marks[-1][1].query()):
            self._resolve(self._queue.popleft())

    def drain(self) -> None:
        """Wait for all steps begun and write their records."""
        while self._queue:
            self._resolve(self._queue.popleft())
        self._recorder.flush()

    def _resolve(self, step: _Pending) -> None:
        end = step.marks[-1][1]
        end.synchronize()
        phases = dict.fromkeys(PHASES, 0.0)
        last = step.begin
        for phase, event in step.marks[:-1]:
            phases[phase] += last.elapsed_time(event) / 1e3
            last = event
        # From one step's begin to the next's: a single precision count of milliseconds would not last for hours.
        self._anchor_wall += self._anchor.elapsed_time(step.begin) / 1e3
        self._anchor = step.begin
        result = step.result
        if result is None:
            return
        self.loss = float(result.loss[0])
        self._recorder.write(
            step.step,
            step.epoch,
            self._anchor_wall,
            phases["data"],
            phases["forward"],
            phases["backward"],
            phases["communicate"],
            phases["update"],
            step.begin.elapsed_time(end) / 1e3,
            result.samples,
            self.loss,
            result.staleness,
            *self.take_traffic(),
        )
