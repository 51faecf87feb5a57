"""How the two halves exchange tensors: through the engine, or as files in a folder that both see."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.engines.base import Engine

_KINDS = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8)
_DIMENSIONS = 8
_SHORTEST, _LONGEST = 1e-4, 0.02  # seconds between looks for a file


class Exchange(ABC):
    """Messages between this rank and its one peer, received in the order in which they were sent.

    Every message has a name, under which its bytes are counted; names must agree at both ends.
    """

    def __init__(self, peer: int, limit: float) -> None:
        self.peer, self.limit = peer, limit
        self.sent: Counter[str] = Counter()
        self.received: Counter[str] = Counter()

    def send(self, name: str, tensor: Tensor) -> None:
        """Begin to send a tensor; waits for the message before it, so that at most one is on its way."""
        host = tensor.detach().cpu().contiguous()
        self.sent[name] += host.nbytes
        self._send(name, host)

    def receive(self, name: str) -> Tensor:
        """Return the next message, in host memory; raises TrainError naming the peer when it does not come."""
        tensor = self._receive(name)
        self.received[name] += tensor.nbytes
        return tensor

    @abstractmethod
    def _send(self, name: str, host: Tensor) -> None: ...

    @abstractmethod
    def _receive(self, name: str) -> Tensor: ...

    @abstractmethod
    def flush(self) -> None:
        """Return when the peer has all that was sent."""


class EngineExchange(Exchange):
    """Messages through the engine; a CUDA device's tensors travel through host memory.

    A message is preceded by its type and shape, 80 bytes.
    """

    def __init__(self, engine: Engine, peer: int, limit: float) -> None:
        super().__init__(peer, limit)
        self._engine = engine
        self._under_way: list[tuple[Callable[[], object], Tensor]] = []  # tensors must live until they have gone

    def _send(self, name: str, host: Tensor) -> None:
        self.flush()
        head = [_KINDS.index(host.dtype), host.dim(), *host.shape]
        header = torch.tensor(head + [0] * (_DIMENSIONS + 2 - len(head)), dtype=torch.int64)
        for part in (header, host):
            data = part.reshape(-1).view(torch.uint8)
            self._under_way.append((self._engine.send(data, self.peer), data))

    def _receive(self, name: str) -> Tensor:
        header = torch.empty(_DIMENSIONS + 2, dtype=torch.int64)
        self._engine.receive(header.view(torch.uint8), self.peer, self.limit)
        kind, dimensions, *shape = header.tolist()
        tensor = torch.empty(shape[:dimensions], dtype=_KINDS[kind])
        self._engine.receive(tensor.reshape(-1).view(torch.uint8), self.peer, self.limit)
        return tensor

    def flush(self) -> None:
        """Wait until all has gone."""
        for wait, _ in self._under_way:
            wait()
        self._under_way.clear()


class FileExchange(Exchange):
    """Messages as `.npy` files on the shared file system, the source's way.

    A file is written under another name and renamed, so that it is whole once it is there; who has read it removes
    it. Names hold the start of the job, the sender, and the number of the message.
    """

    def __init__(self, folder: Path, rank: int, peer: int, attempt: str, limit: float) -> None:
        super().__init__(peer, limit)
        self._folder, self._rank, self._attempt = folder, rank, attempt
        self._numbers = {rank: 0, peer: 0}
        self._untaken: Path | None = None

    def prepare(self) -> None:
        """Make the folder and remove what an earlier start left there; one rank calls it, before any message."""
        try:
            self._folder.mkdir(exist_ok=True)
            for left in (*self._folder.glob("*.npy"), *self._folder.glob(".*.npy.part")):
                left.unlink(missing_ok=True)
        except OSError as error:
            raise TrainError(f"{self._folder}: {error.strerror}") from error

    def _path(self, sender: int, name: str) -> Path:
        number = self._numbers[sender]
        self._numbers[sender] = number + 1
        return self._folder / f"{self._attempt}.rank-{sender}.{number:09d}.{name}.npy"

    def _send(self, name: str, host: Tensor) -> None:
        self.flush()
        path = self._path(self._rank, name)
        temporary = path.with_name(f".{path.name}.part")
        try:
            with temporary.open("wb") as file:
                np.save(file, host.numpy(), allow_pickle=False)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise TrainError(f"{path} cannot be written: {error.strerror}") from error
        self._untaken = path

    def _receive(self, name: str) -> Tensor:
        path = self._path(self.peer, name)
        self._wait(path.exists, f"has not written {path}")
        try:
            array = np.load(path, allow_pickle=False)
            path.unlink()
        except (OSError, ValueError) as error:
            raise TrainError(f"{path} cannot be read: {error}") from error
        self._untaken = None  # who is answered does not run away from the peer
        return torch.from_numpy(array)

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        end, pause = time.monotonic() + self.limit, _SHORTEST
        while not done():
            if time.monotonic() > end:
                raise TrainError(f"peer lost: rank {self.peer} {what} within {self.limit:g} s")
            time.sleep(pause)
            pause = min(1.3 * pause, _LONGEST)
            # NFS keeps what it knows of a folder for up to a minute; opening it makes it ask (nfs(5), acdirmax).
            os.close(os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY))

    def flush(self) -> None:
        """Wait until the last file was read."""
        if (path := self._untaken) is not None:
            self._wait(lambda: not path.exists(), f"has not read {path}")
            self._untaken = None
