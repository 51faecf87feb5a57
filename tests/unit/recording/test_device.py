"""The device of a rank, and times by a device's events, with a stand-in for torch.cuda."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpcsynapse.recording import device, environment
from hpcsynapse.recording.start import Recording
from hpcsynapse.recording.steps import Steps
from hpcsynapse.recording.writer import DeviceTimes, Writer


class Cuda:
    """A device whose clock stands still until it is told to go on, and which is behind its host."""

    def __init__(self) -> None:
        self.now, self.behind, self.waited = 0.0, False, 0
        self.current, self.later = 0, list[Any]()

    def Event(self, *, enable_timing: bool) -> Any:  # noqa: N802 - torch's own name
        assert enable_timing
        event = SimpleNamespace(time=0.0)
        event.record = lambda: setattr(event, "time", self.now)
        event.elapsed_time = lambda other: (other.time - event.time) * 1e3
        event.query = lambda: not self.behind
        event.synchronize = lambda: setattr(self, "waited", self.waited + 1)
        return event

    def device_count(self) -> int:
        return 4

    def set_device(self, index: int) -> None:
        self.current = index

    def _lazy_call(self, function: Any) -> None:
        self.later.append(function)

    def get_device_properties(self, index: int) -> Any:
        return SimpleNamespace(uuid=f"GPU-{index}", name="stand-in")


class Recorder:
    def __init__(self) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self.pauses: list[tuple[Any, ...]] = []

    def write(self, *values: Any) -> None:
        self.steps.append(values)

    def write_pause(self, *values: Any) -> None:
        self.pauses.append(values)


def train(cuda: Cuda, steps: Steps, count: int) -> None:
    for _ in range(count):
        cuda.now += 2.0
        steps.backward_begins()
        cuda.now += 3.0
        steps.backward_ends()
        steps.update_begins()
        cuda.now += 1.0
        steps.update_ends(1)


def test_steps_are_written_once_the_device_has_passed_them() -> None:
    cuda, recorder = Cuda(), Recorder()
    writer = Writer(lambda: recorder)
    steps = Steps(writer.step, writer.pause)
    times = DeviceTimes(cuda)
    writer.use_device(times)
    steps.use_stamps(times.stamp)
    cuda.behind = True
    train(cuda, steps, 5)
    assert recorder.steps == []
    cuda.behind = False
    train(cuda, steps, 1)
    assert [step[0] for step in recorder.steps] == [0, 1, 2, 3, 4]
    _, _, start, data, forward, backward, _, update, total = recorder.steps[1][:9]
    assert (data, forward, backward, update, total) == (0.0, 2.0, 3.0, 1.0, 6.0)
    assert start - recorder.steps[0][2] == pytest.approx(6.0)


def test_before_a_pause_all_steps_are_written() -> None:
    cuda, recorder = Cuda(), Recorder()
    writer = Writer(lambda: recorder)
    steps = Steps(writer.step, writer.pause)
    times = DeviceTimes(cuda)
    writer.use_device(times)
    steps.use_stamps(times.stamp)
    cuda.behind = True
    train(cuda, steps, 3)
    assert steps.begin_pause("validation")
    steps.end_pause()
    assert len(recorder.steps) == 3
    assert [pause[0] for pause in recorder.pauses] == ["validation"]


def test_a_device_is_set_when_cuda_is_first_used_and_not_before() -> None:
    cuda = Cuda()
    device.set_when_used(cuda, 2)
    assert cuda.current == 0
    for function in cuda.later:
        function()
    assert cuda.current == 2


def test_a_device_that_is_not_there_is_left_alone() -> None:
    cuda = Cuda()
    device.set_when_used(cuda, 9)
    for function in cuda.later:
        function()
    assert cuda.current == 0


def test_two_ranks_on_one_device_are_named(tmp_path: Path) -> None:
    used = [device.used(Cuda(), index, {}) for index in (0, 1, 1)]
    assert device.put_on_record(tmp_path, 0, used[0]) is None
    assert device.put_on_record(tmp_path, 1, used[1]) is None
    warning = device.put_on_record(tmp_path, 2, used[2])
    assert warning is not None
    assert warning.startswith("ranks 1 and 2 on ")
    assert "GPU-1" in warning


def test_a_device_of_another_host_is_another_device(tmp_path: Path) -> None:
    used = device.used(Cuda(), 0, {})
    device.put_on_record(tmp_path, 0, {**used, "host": "elsewhere"})
    assert device.put_on_record(tmp_path, 1, used) is None


def test_without_a_uuid_the_name_among_the_visible_is_taken() -> None:
    cuda = Cuda()
    cuda.get_device_properties = lambda _index: SimpleNamespace(name="old")  # type: ignore[method-assign]
    assert device.used(cuda, 1, {"CUDA_VISIBLE_DEVICES": "GPU-a, GPU-b"})["device"] == "GPU-b"
    assert device.used(cuda, 1, {})["device"] == "1"


@pytest.mark.parametrize(("wanted", "ends", "warned"), [("warn", False, 1), ("end", True, 1), ("allow", False, 0)])
def test_what_is_seen_of_two_ranks_on_one_device_is_done_as_wanted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    wanted: str,
    ends: bool,
    warned: int,
) -> None:
    monkeypatch.setitem(sys.modules, "torch.cuda", Cuda())
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    monkeypatch.setenv(environment.SAME_DEVICE, wanted)
    (tmp_path / "evidence" / "0").mkdir(parents=True)
    Recording(tmp_path, 0, "0")._on_device(3)
    ended = False
    try:
        Recording(tmp_path, 1, "0")._on_device(3)
    except SystemExit as error:
        ended = error.code == 1
    assert ended == ends
    assert capfd.readouterr().err.count("both use device GPU-3; choose the device by LOCAL_RANK") == warned
    assert environment.shared_path(tmp_path, "0").exists() == bool(warned)
    seen = (tmp_path / "evidence" / "0" / "device-00001.json").read_text()
    assert '"device": "GPU-3"' in seen and '"device_index": 3' in seen
