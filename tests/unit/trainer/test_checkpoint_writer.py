"""Checkpoints written beside the steps: of a copy, one at a time, and what goes wrong is told."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from jobs import missing

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer import checkpoint
from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
from hpcsynapse.trainer.checkpoint_writer import Snapshot
from hpcsynapse.trainer.save_interval import SaveInterval

LIMIT = 60.0


class Gate:
    """Real writes that begin when they are let through; counts those that are at work at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.begun, self.at_once, self.most = threading.Event(), threading.Semaphore(0), 0, 0
        self._lock, self._write = threading.Lock(), checkpoint.write
        monkeypatch.setattr(checkpoint, "write", self)

    def __call__(self, path: Path, content: dict[str, Any]) -> None:
        with self._lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        self.begun.release()
        assert self.open.wait(LIMIT)
        self._write(path, content)
        with self._lock:
            self.at_once -= 1


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 20), torch.nn.BatchNorm1d(20))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.randn(8, 20)).sum().backward()
    optimizer.step()
    return model, optimizer


def in_background(folder: Path, keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep)
    checkpoints.background = True
    return checkpoints


def test_what_is_written_is_the_state_of_the_moment(tmp_path: Path, gate: Gate) -> None:
    """Parameters, buffers, optimizer and progress are all changed before the first byte is written."""
    model, optimizer = trained()
    expected = Snapshot().take({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    checkpoints, progress = in_background(tmp_path), Progress(step=3, epoch=1, samples=7)
    checkpoints.save(model, optimizer, progress, {"seed": 0}, {"extra": {"mean": (sums := torch.ones(3))}})
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers(), sums):
            tensor.fill_(77)
        for state in optimizer.state.values():
            for tensor in state.values():
                tensor.fill_(77)
    progress.step = 99
    gate.open.set()
    checkpoints.wait()
    found = torch.load(checkpoints.path(3), weights_only=True)
    for name, value in expected["model"].items():
        assert torch.equal(found["model"][name], value), name
    for index, state in expected["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(found["optimizer"]["state"][index][name], value), name
    assert torch.equal(found["extra"]["mean"], torch.ones(3))
    assert Progress(**found["progress"]) == Progress(step=3, epoch=1, samples=7)
    fresh, other = trained()
    assert checkpoints.load(3, fresh, other) == Progress(step=3, epoch=1, samples=7)


def test_two_are_never_written_at_once(tmp_path: Path, gate: Gate) -> None:
    checkpoints = in_background(tmp_path)
    checkpoints.save(*trained(), Progress(step=1), {})
    assert gate.begun.acquire(timeout=LIMIT)
    others = [threading.Thread(target=lambda: (checkpoints.save(*trained(), Progress(step=2), {}), checkpoints.wait()))]
    others[0].start()
    assert not gate.begun.acquire(timeout=0.2), "a second write began beside the first"
    gate.open.set()
    others[0].join(LIMIT)
    assert gate.most == 1 and checkpoints.steps() == [2, 1]


def test_one_that_is_to_be_on_disk_at_once_comes_after_the_one_under_way(tmp_path: Path, gate: Gate) -> None:
    checkpoints = in_background(tmp_path)
    checkpoints.save(*trained(), Progress(step=1), {})
    checkpoints.background = False
    gate.open.set()
    checkpoints.save(*trained(), Progress(step=2), {})
    assert checkpoints.steps() == [2, 1] and gate.most == 1


def test_the_old_one_goes_when_the_new_one_is_there(tmp_path: Path, gate: Gate) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    gate.open.set()
    checkpoints.save(*trained(), Progress(step=1), {})
    gate.open.clear()
    checkpoints.background = True
    checkpoints.save(*trained(), Progress(step=2), {})
    assert checkpoints.steps() == [1]
    gate.open.set()
    checkpoints.wait()
    assert checkpoints.steps() == [2]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        missing(f"no file system can be mounted: {mounted.stderr.decode()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.mark.parametrize("ask", ["check", "wait", "save"])
def test_what_goes_wrong_is_told_once_and_the_one_before_stays(small_disk: Path, ask: str) -> None:
    checkpoints = in_background(small_disk, keep=1)
    model = torch.nn.Linear(400, 400)
    optimizer = torch.optim.SGD(model.parameters())
    checkpoints.save(model, optimizer, Progress(step=1), {})
    checkpoints.wait()
    checkpoints.save(model, optimizer, Progress(step=2), {})
    checkpoints._writer._thread.join(LIMIT)
    with pytest.raises(TrainError, match=r"step-000000002\.pt cannot be written: it takes 626\.6 KiB, but .* are free"):
        checkpoints.save(model, optimizer, Progress(step=3), {}) if ask == "save" else getattr(checkpoints, ask)()
    checkpoints.check()
    checkpoints.wait()
    assert [path.name for path in small_disk.iterdir()] == ["step-000000001.pt"]


def test_tied_weights_stay_tied() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model[1].weight = model[0].weight
    found = Snapshot().take(model.state_dict())
    assert found["0.weight"].data_ptr() == found["1.weight"].data_ptr() != model[0].weight.data_ptr()
    assert found["0.bias"].data_ptr() != found["1.bias"].data_ptr()
    assert torch.equal(found["0.weight"], model[0].weight)


def test_views_of_one_buffer_and_empty_tensors_are_copied_each() -> None:
    flat = torch.arange(6.0)
    found = Snapshot().take({"a": flat[:3], "b": flat[3:], "c": torch.empty(0), "d": [(flat[:3].view(3, 1), 1, "x")]})
    flat.zero_()
    assert found["a"].tolist() == [0, 1, 2] and found["b"].tolist() == [3, 4, 5]
    assert found["d"][0][0].shape == (3, 1) and found["d"][0][1:] == (1, "x")


def test_memory_is_taken_again_where_it_fits() -> None:
    snapshot, state = Snapshot(), {"a": torch.ones(3, 4), "b": [torch.ones(5, dtype=torch.float64)]}
    first = snapshot.take(state)
    state["a"].fill_(2)
    again = snapshot.take(state)
    assert again["a"].data_ptr() == first["a"].data_ptr() and again["a"].eq(2).all()
    other = snapshot.take({"a": torch.full((4, 3), 3.0).t(), "b": [torch.ones(6)], "c": torch.ones(1)})
    assert other["a"].shape == (3, 4) and other["a"].eq(3).all() and other["b"][0].shape == (6,)


def test_the_interval_follows_from_what_saves_take() -> None:
    """Young's sqrt(2 d M) - d for short saves: 16 nodes at 2 failures in 1,000 node-days fail every 2.7e6 s."""
    interval = SaveInterval(TrainSpec(checkpoint_auto=True), 10_000, 6.5)
    for _ in range(30):
        interval.learn(2.0, 10.0)
    assert interval.seconds == pytest.approx(71.6, abs=0.1)
    interval.learn(500.0, 10.0)  # one that was slow changes nothing
    assert interval.seconds == pytest.approx(71.6, abs=0.1)
    interval.learn(2.0, 300.0)
    assert interval.seconds == 300.0  # writes do not wait for one another
    assert SaveInterval(TrainSpec(checkpoint_auto=True), 1, 2.0).seconds == 3600.0
    fixed = SaveInterval(TrainSpec(checkpoint_seconds=12.0), 16, 2.0)
    fixed.learn(2.0, 10.0)
    assert fixed.seconds == 12.0
    assert SaveInterval(TrainSpec(), 16, 2.0).seconds == 0.0
