"""Activations and answers as files: whole or not there, in order, removed, and waited for within a limit."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from hpcsynapse.errors import TrainError
from hpcsynapse.runs.failure import _LOST_PEER
from hpcsynapse.trainer.dual import state
from hpcsynapse.trainer.dual.exchange import FileExchange


def pair(folder: Path, limit: float = 20.0, attempt: str = "0") -> tuple[FileExchange, FileExchange]:
    first, second = (FileExchange(folder, rank, 1 - rank, attempt, limit) for rank in (0, 1))
    first.prepare()
    return first, second


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(3, 4, 5),
        torch.arange(6, dtype=torch.int8),
        torch.tensor([[True]]),
        torch.randn(4, 6)[:, ::2],
        state.pack({"model": {"w": torch.ones(2)}}),
    ],
)
def test_tensors_come_as_they_were(tmp_path: Path, tensor: torch.Tensor) -> None:
    first, second = pair(tmp_path)
    first.send("activation", tensor)
    assert torch.equal(second.receive("activation"), tensor)
    assert first.sent["activation"] == second.received["activation"] == tensor.numel() * tensor.element_size()
    assert list(tmp_path.iterdir()) == []


def test_states_survive_the_way() -> None:
    content = {"model": {"w": torch.randn(3, 2)}, "optimizer": {"state": {0: {"step": torch.tensor(2.0)}}}, "loss": 0.1}
    found = state.unpack(state.pack(content))
    assert found["loss"] == 0.1 and torch.equal(found["model"]["w"], content["model"]["w"])


def test_many_messages_both_ways_keep_their_order(tmp_path: Path) -> None:
    first, second = pair(tmp_path)

    def answer() -> None:
        for _ in range(50):
            second.send("answer", second.receive("activation") + 1)

    thread = threading.Thread(target=answer)
    thread.start()
    for number in range(50):
        first.send("activation", torch.tensor([number]))
        assert first.receive("answer").tolist() == [number + 1]
    thread.join(20)
    assert list(tmp_path.iterdir()) == []


def test_who_sends_without_answers_is_no_more_than_one_message_ahead(tmp_path: Path) -> None:
    first, second = pair(tmp_path)
    sent = []

    def send() -> None:
        for number in range(5):
            first.send("activation", torch.tensor([number]))
            sent.append(number)

    thread = threading.Thread(target=send)
    thread.start()
    for number in range(5):
        assert second.receive("activation").tolist() == [number]
        assert len(sent) <= number + 2
    thread.join(20)
    first.flush()


def test_a_message_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """Whoever looks meanwhile sees no `.npy` that numpy cannot read."""
    first, second = pair(tmp_path)
    big, done, seen = torch.randn(1 << 20), threading.Event(), []

    def look() -> None:
        while not done.is_set():
            for path in tmp_path.glob("*.npy"):
                try:
                    seen.append(len(np.load(path)))
                except FileNotFoundError:  # read and removed by the peer
                    continue

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(20):
        first.send("activation", big)
        second.receive("activation")
    done.set()
    thread.join(20)
    assert set(seen) <= {1 << 20}


def test_what_an_earlier_start_left_is_removed(tmp_path: Path) -> None:
    old, _ = pair(tmp_path / "dual", attempt="0")
    old.send("activation", torch.ones(3))
    (tmp_path / "dual" / ".0.rank-1.000000000.answer.npy.part").write_bytes(b"torn")
    (tmp_path / "dual" / "rank-0.json").write_text("{}")
    first, second = pair(tmp_path / "dual", attempt="1")
    assert [path.name for path in (tmp_path / "dual").iterdir()] == ["rank-0.json"]
    first.send("activation", torch.zeros(3))
    assert [path.name for path in (tmp_path / "dual").glob("*.npy")] == ["1.rank-0.000000000.activation.npy"]
    assert not second.receive("activation").any()


def test_a_peer_that_writes_nothing_is_named_within_the_limit(tmp_path: Path) -> None:
    first, _ = pair(tmp_path, limit=0.3)
    begin = time.monotonic()
    expected = r"rank 1 has not written .*rank-1\.000000000\.answer\.npy within 0.3 s"
    with pytest.raises(TrainError, match=expected) as error:
        first.receive("answer")
    assert 0.3 <= time.monotonic() - begin < 30
    assert _LOST_PEER.search(str(error.value))  # it is the other rank that is to blame


def test_a_peer_that_reads_nothing_is_named_within_the_limit(tmp_path: Path) -> None:
    first, _ = pair(tmp_path, limit=0.3)
    first.send("activation", torch.ones(2))
    with pytest.raises(TrainError, match="rank 1 has not read"):
        first.send("activation", torch.ones(2))
    with pytest.raises(TrainError, match="rank 1 has not read"):
        first.flush()


def test_a_damaged_file_and_a_folder_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    first, _ = pair(tmp_path)
    (tmp_path / "0.rank-1.000000000.answer.npy").write_bytes(b"no array")
    with pytest.raises(TrainError, match=r"answer\.npy cannot be read"):
        first.receive("answer")
    lost = FileExchange(tmp_path / "gone", 0, 1, "0", 1.0)
    with pytest.raises(TrainError, match=r"activation\.npy cannot be written"):
        lost.send("activation", torch.ones(1))
    (tmp_path / "file").touch()
    with pytest.raises(TrainError, match="file"):
        FileExchange(tmp_path / "file" / "dual", 0, 1, "0", 1.0).prepare()
