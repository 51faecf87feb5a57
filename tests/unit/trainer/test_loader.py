"""Batches prepared ahead by processes: the same to the last bit, and no process outlives its use."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer.data.base import Dataset, MapDataset
from hpcsynapse.trainer.data.loader import BatchLoader, lost_process
from hpcsynapse.trainer.data.sharding import Shards

CPU = torch.device("cpu")


class Drawing:
    """Samples in which every library that user code may draw from has drawn; cannot be pickled."""

    def __init__(self) -> None:
        self.open = lambda index: torch.full((3, 8, 8), float(index))

    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, object]]:
        noise = torch.rand(3, 8, 8) + np.random.rand()
        return self.open(index) + noise, {"label": index % 10, "name": f"picture {index}"}


class Process(Drawing):
    """Tells which process has made a batch."""

    def __getitem__(self, index: int) -> tuple[int, int]:
        return os.getpid(), index


@contextmanager
def loader(samples: Dataset, workers: int, **settings: object) -> Iterator[BatchLoader]:
    made = BatchLoader(samples, TrainSpec(data_workers=workers, batch=4, seed=5, **settings), 1, CPU)
    yield made
    made.close()


def shards() -> Shards:
    return Shards(48, 4, rank=1, ranks=2, seed=5)


def flat(batch: object) -> list[object]:
    inputs, targets = batch
    return [*inputs.flatten().tolist(), *targets["label"].tolist(), *targets["name"]]


def test_batches_are_the_same_whoever_prepares_them() -> None:
    """Random draws and augmentation included; from the middle of an epoch too, over its end, and a second time."""
    found = {}
    samples = MapDataset(Drawing())
    for workers in (0, 1, 3):
        with loader(samples, workers, augment=True) as made:
            made.begin(shards().tasks(0, 0, 0, 15))  # an epoch has six steps
            found[workers] = [flat(made.take()) for _ in range(15)]
            with pytest.raises(StopIteration):
                made.take()
            made.begin(shards().tasks(1, 2, 8, 15))
            assert [flat(made.take()) for _ in range(4)] == found[workers][8:12]
            made.begin(shards().tasks(0, 6, 6, 15))  # an epoch that is only to be closed; some batches were not taken
            assert [flat(made.take()) for _ in range(9)] == found[workers][6:]
    assert found[0] == found[1] == found[3]
    assert len({str(batch) for batch in found[0]}) == 15


def test_parts_of_a_step_are_what_the_whole_would_be() -> None:
    for workers in (0, 1):
        with (
            loader(MapDataset(Process()), workers) as one,
            loader(MapDataset(Process()), workers, accumulate=3) as parts,
        ):
            whole = Shards(48, 12, rank=1, ranks=2, seed=5)
            one.begin(whole.tasks(0, 0, 0, 2))
            parts.begin(whole.tasks(0, 0, 0, 2))
            for _ in range(2):
                _, targets = parts.take()
                assert [len(part) for part in targets] == [4, 4, 4]
                assert torch.equal(torch.cat(targets), one.take()[1])


def test_processes_take_turns_and_end() -> None:
    with loader(MapDataset(Process()), 2) as made:
        made.begin(shards().tasks(0, 0, 0, 6))
        makers = [set(made.take()[0].tolist()) for _ in range(6)]
    assert all(len(maker) == 1 for maker in makers)
    pids = [maker.pop() for maker in makers]
    assert len(set(pids)) == 2 and os.getpid() not in pids
    assert pids[::2] == pids[:1] * 3 and pids[1::2] == pids[1:2] * 3
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_signals_to_a_whole_job_leave_the_processes_at_work() -> None:
    with loader(MapDataset(Process()), 1) as made:
        made.begin(shards().tasks(0, 0, 0, 6))
        pid = int(made.take()[0][0])
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            os.kill(pid, number)
        assert all(int(made.take()[0][0]) == pid for _ in range(5))


@pytest.mark.parametrize("error", [ValueError, SystemExit, StopIteration])
def test_an_error_of_the_users_names_its_place(error: type[BaseException]) -> None:
    third = set(list(shards().tasks(0, 0, 0, 3))[2].indices)

    class Failing(Drawing):
        def __getitem__(self, index: int) -> object:
            if index in third:
                raise error("this picture is torn")
            return float(index), index

    with loader(MapDataset(Failing()), 2) as made:
        made.begin(shards().tasks(0, 0, 0, 6))
        made.take(), made.take()  # those before come first
        with pytest.raises(TrainError) as caught:
            made.take()
    line = Failing.__getitem__.__code__.co_firstlineno + 2
    assert f"{__file__}:{line}: {error.__name__}: this picture is torn" in str(caught.value)
    assert "Traceback" in caught.value.__notes__[0] and 'raise error("this' in caught.value.__notes__[0]


class Hanging(Drawing):
    def __getitem__(self, index: int) -> tuple[int, int]:
        Path(os.environ["FEED_TEST_PID"]).write_text(str(os.getpid()))
        time.sleep(60)
        return 0, 0


def test_a_killed_process_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEED_TEST_PID", str(tmp_path / "pid"))
    started = time.monotonic()
    with loader(MapDataset(Hanging()), 1) as made:
        made.begin(shards().tasks(0, 0, 0, 6))
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < started + 30
            time.sleep(0.01)
        pid = int((tmp_path / "pid").read_text())
        with pytest.raises((TrainError, RuntimeError), match=rf"\(pid.* {pid}\)"):
            os.kill(pid, signal.SIGKILL)
            made.take()
    assert time.monotonic() - started < 50  # far less than the batch takes


def test_a_process_killed_while_it_hands_over_a_batch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is closed before it is gone."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    try:
        assert lost_process(ValueError("torn"), [child]) == lost_process(OSError("torn"), [child]) == ""
        with monkeypatch.context() as hurried:
            hurried.setattr("hpcsynapse.trainer.data.loader._ENDING", 0.0)
            assert lost_process(ConnectionResetError(), [child]) == ""  # it lives: that was something else
    finally:
        child.kill()
    assert (
        lost_process(EOFError(), [child])
        == f"DataLoader worker (pid(s) {child.pid}) ended while it handed over a batch"
    )
    child.join()


def test_the_process_of_a_killed_rank_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL leaves the rank no time to say anything."""
    monkeypatch.setenv("FEED_TEST_PID", str(tmp_path / "pid"))
    rank = os.fork()
    if not rank:
        made = BatchLoader(MapDataset(Hanging()), TrainSpec(data_workers=1, batch=4), 0, CPU)
        made.begin(shards().tasks(0, 0, 0, 6))
        time.sleep(60)
        os._exit(0)
    started = time.monotonic()
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < started + 30
        time.sleep(0.01)
    process = Path(f"/proc/{(tmp_path / 'pid').read_text()}")
    assert process.exists()
    os.kill(rank, signal.SIGKILL)
    os.waitpid(rank, 0)
    while process.exists() and " Z " not in (process / "stat").read_text():
        assert time.monotonic() < started + 40, "the process is left"
        time.sleep(0.01)


def test_processes_without_cores_of_their_own_are_warned_of(tmp_path: Path) -> None:
    from hpcsynapse.spec.job import JobSpec
    from hpcsynapse.spec.launch import LaunchOptions
    from hpcsynapse.spec.queue import QueueOptions
    from hpcsynapse.spec.resources import ResourceRequest
    from hpcsynapse.submission.checks import run_checks

    def warned(workers: int) -> bool:
        spec = JobSpec(
            train=TrainSpec(data_workers=workers, engine="ddp"),
            resources=ResourceRequest(cpus=3),
            queue=QueueOptions(scheduler="local"),
            launch=LaunchOptions(launcher="local"),
        )
        return any("on --cpus 3" in finding.message for finding in run_checks(spec, tmp_path / "runs"))

    assert warned(3) and not warned(2)
