"""Steps as records: times of the host's clock are written at once, those of a device when it has passed them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .steps import Step

_PENDING = 64  # steps that a device may be behind before the host waits for the oldest
_AT_ONCE = 32  # steps that are written together: that costs less than one by one
_SECONDS = 0.5  # that a step may wait to be written
if TYPE_CHECKING:
    Passed = Callable[[Any, Any], float]


def phases_of(begin: Any, marks: Iterable[tuple[str, Any]], passed: Passed | None = None) -> dict[str, float]:
    """Return seconds by phase; `passed` tells those between two stamps of a device. The phase "" is of no phase."""
    phases = {"data": 0.0, "forward": 0.0, "backward": 0.0, "communicate": 0.0, "update": 0.0, "": 0.0}
    last = begin
    for phase, stamp in marks:
        phases[phase] += stamp - last if passed is None else passed(last, stamp)
        last = stamp
    return phases


class Writer:
    """Writes steps and pauses by the recorder that `open_recorder` returns at the first step."""

    def __init__(self, open_recorder: Callable[[], Any], samples_per_step: int | None = None) -> None:
        self._open_recorder, self._samples = open_recorder, samples_per_step
        self._recorder: Any = None
        self._count = 0
        self.first_samples = 0  # of the first step
        self._wall = self._written = 0.0
        self._waiting: list[Step] = []
        self._traffic: Any = None
        self._device: DeviceTimes | None = None

    @property
    def made_steps(self) -> bool:
        """Whether a step was written."""
        return self._recorder is not None

    def measure_traffic(self, traffic: Any) -> None:
        """Write with the steps what `traffic.take()` returns: bytes sent and received."""
        self._traffic = traffic

    def use_device(self, times: DeviceTimes) -> None:
        """From now on stamps are events of a device."""
        self._device = times

    def step(self, step: Step) -> None:
        """Take a step that has ended."""
        if self._recorder is None:
            self.first_samples = step.samples
            self._recorder = self._open_recorder()
            self._wall = time.time() - time.perf_counter()
        if self._device is None:
            self._waiting.append(step)
            if len(self._waiting) >= _AT_ONCE or step.end - self._written >= _SECONDS:
                self._written = step.end
                self._drain()
                self._recorder.flush()
            return
        for begin, done in self._device.passed_by(step):
            self._write(done, begin, self._device.passed)

    def _write(self, step: Step, start: float, passed: Passed | None) -> None:
        phases = phases_of(step.begin, step.marks, passed)
        sent, received = (0, 0) if self._traffic is None else self._traffic.take()
        self._recorder.write(
            self._count,
            step.epoch,
            start,
            phases["data"],
            phases["forward"],
            phases["backward"],
            phases["communicate"],
            phases["update"],
            step.end - step.begin if passed is None else passed(step.begin, step.end),
            step.samples if self._samples is None else self._samples,
            step.loss,
            -1,
            sent,
            received,
        )
        self._count += 1

    def pause(self, cause: str, begin: float, seconds: float) -> None:
        """Write a pause; steps that a device has not passed yet were before it."""
        if self._recorder is not None:
            self._drain()
            self._recorder.write_pause(cause, begin + self._wall, seconds)

    def _drain(self) -> None:
        waiting, self._waiting = self._waiting, []
        for step in waiting:
            self._write(step, step.begin + self._wall, None)
        if self._device is not None:
            for begin, done in self._device.all():
                self._write(done, begin, self._device.passed)

    def close(self) -> None:
        """Write what is left; a second call does nothing."""
        if self._recorder is not None:
            self._drain()
            self._recorder.close()

    def give_up(self) -> None:
        """Write nothing more: the file belongs to another recorder, or to the parent of this process."""
        recorder, self._recorder, self._device = self._recorder, None, None
        self._waiting.clear()
        if recorder is not None:
            recorder.forget()


class DeviceTimes:
    """Seconds between events on the current stream of a CUDA device; nothing waits for it in an ordinary step.

    An event has no time of its own: wall times follow from one event at which the host waited, once. Not run yet on a
    device: the tests have a stand-in for `torch.cuda`.
    """

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._pending: deque[Step] = deque()
        self._anchor = self.stamp()
        self._anchor.synchronize()
        self._anchor_wall = time.time()

    def stamp(self) -> Any:
        """Return an event recorded here on the current stream."""
        event = self._cuda.Event(enable_timing=True)
        event.record()
        return event

    def passed(self, first: Any, second: Any) -> float:
        """Return the seconds between two events that are over."""
        return float(first.elapsed_time(second)) / 1e3

    def passed_by(self, step: Step) -> Iterable[tuple[float, Step]]:
        """Take a step; return the steps that the device has passed, each with its begin by Unix time."""
        self._pending.append(step)
        while self._pending and (len(self._pending) > _PENDING or self._pending[0].end.query()):
            yield self._resolve(self._pending.popleft())

    def all(self) -> Iterable[tuple[float, Step]]:
        """Wait for all steps taken and return them."""
        while self._pending:
            yield self._resolve(self._pending.popleft())

    def _resolve(self, step: Step) -> tuple[float, Step]:
        step.end.synchronize()
        # From one begin to the next: a single precision count of milliseconds would not last for hours.
        self._anchor_wall += self.passed(self._anchor, step.begin)
        self._anchor = step.begin
        return self._anchor_wall, step
