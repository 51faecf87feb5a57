"""Checkpoints: whole or not there, whatever is killed or damaged."""

import logging
import os
import pickle
import resource
import signal
import subprocess
import sys
import zipfile

import pytest
import torch
from jobs import missing

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
from hpcsynapse.trainer.checkpoint_files import damage


def trained(steps: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Linear(50, 50)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 50)).sum().backward()
        optimizer.step()
    return model, optimizer


def test_state_comes_back(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path / "made", keep=2)
    assert checkpoints.newest() is None
    model, optimizer = trained(3)
    checkpoints.save(model, optimizer, Progress(step=3, epoch=1, samples=7), {"seed": 0})
    fresh, other = trained(0)
    assert checkpoints.load(3, fresh, other) == Progress(step=3, epoch=1, samples=7)
    assert torch.equal(fresh.weight, model.weight)
    momenta = [next(iter(o.state_dict()["state"][0].values())) for o in (optimizer, other)]
    assert torch.equal(*momenta)


def test_newest_are_kept(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 15):
        checkpoints.save(*trained(1), Progress(step=step), {})
    assert checkpoints.steps() == [15, 10]
    assert checkpoints.newest() == 15


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "text"])
def test_damaged_newest_is_passed_over(tmp_path, caplog, how) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 2):
        path = checkpoints.save(*trained(1), Progress(step=step), {})
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes({"cut": whole[:-100], "flipped": flipped, "empty": b"", "text": b"hello"}[how])
    with caplog.at_level(logging.WARNING):
        assert checkpoints.newest() == 1
    assert path.name in caplog.text
    assert damage(checkpoints.path(1)) is None


class Harmful:
    """What a checkpoint that somebody else wrote could hold."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("harmed",)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", pickle.dumps({"format": 1, "model": Harmful()}, 2), pickle.dumps([1], 2)]
)
def test_a_whole_archive_that_is_no_checkpoint_is_passed_over(tmp_path, monkeypatch, caplog, content: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints(tmp_path / "kept", keep=3)
    for step in (1, 2):
        path = checkpoints.save(*trained(1), Progress(step=step), {})
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, content if name.endswith("/data.pkl") else data)
    with caplog.at_level(logging.WARNING):
        assert checkpoints.newest() == 1
    assert path.name in caplog.text
    assert not (tmp_path / "harmed").exists()


@pytest.mark.slow
def test_killed_between_write_and_rename(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    checkpoints.save(*trained(1), Progress(step=1), {})
    code = f"""
import os, pathlib, signal, torch
from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
model = torch.nn.Linear(50, 50)
Checkpoints(pathlib.Path({str(tmp_path)!r}), 3).save(model, torch.optim.SGD(model.parameters()), Progress(step=2), {{}})
"""
    ended = subprocess.run([sys.executable, "-c", code], timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2  # what was being written is still there
    assert checkpoints.newest() == 1
    checkpoints.save(*trained(1), Progress(step=3), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000001.pt", "step-000000003.pt"]


def test_a_checkpoint_that_does_not_fit_on_the_disk_leaves_the_one_before(tmp_path) -> None:
    """Asked for before anything is written: a file that does not fit would fill the disk for everybody else."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        missing(f"no file system can be mounted: {mounted.stderr.decode()}")
    try:
        checkpoints = Checkpoints(tmp_path, keep=1)
        model = torch.nn.Linear(400, 400)
        optimizer = torch.optim.SGD(model.parameters())
        checkpoints.save(model, optimizer, Progress(step=1), {})
        before = checkpoints.path(1).read_bytes()
        with pytest.raises(
            TrainError, match=r"step-000000002\.pt cannot be written: it takes 626\.6 KiB, but \d+\.\d KiB are free"
        ):
            checkpoints.save(model, optimizer, Progress(step=2), {})
        assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.pt"]
        assert checkpoints.path(1).read_bytes() == before
        smaller = torch.nn.Linear(200, 200)
        checkpoints.save(smaller, torch.optim.SGD(smaller.parameters()), Progress(step=3), {})
        assert checkpoints.steps() == [3]
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_other_model(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(*trained(1), Progress(step=1), {})
    other = torch.nn.Linear(3, 3)
    with pytest.raises(TrainError, match="does not fit"):
        checkpoints.load(1, other, torch.optim.SGD(other.parameters()))


def test_full_disk(tmp_path) -> None:
    """The limit on a file's size fails a real write, as a full disk does; torch makes a RuntimeError of it."""
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, kept[1]))
    try:
        with pytest.raises(TrainError, match=r"step-000000001\.pt cannot be written: .*File too large"):
            Checkpoints(tmp_path, keep=1).save(*trained(1), Progress(step=1), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    assert not list(tmp_path.iterdir())


def test_a_model_that_has_diverged_never_becomes_the_newest(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path, keep=1)
    model, optimizer = trained(1)
    assert checkpoints.save(model, optimizer, Progress(step=1), {}) is not None
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))  # which is how masks are made
    assert checkpoints.save(model, optimizer, Progress(step=2), {}) is not None
    name = next(name for name, _ in model.named_parameters())
    for bad in (torch.nan, torch.inf):
        with torch.no_grad():
            model.get_parameter(name).view(-1)[0] = bad
        assert checkpoints.save(model, optimizer, Progress(step=3), {}) is None
        assert f"no checkpoint of step 3: {name} holds numbers that are not finite" in caplog.text
        caplog.clear()
    assert checkpoints.steps() == [2] and checkpoints.newest() == 2
