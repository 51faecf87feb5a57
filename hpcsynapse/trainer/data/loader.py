"""What brings batches to the training loop: this rank itself, or processes that prepare them ahead of it.

The processes are those of torch.utils.data.DataLoader, started by `fork`: they share the data set with the rank, memory
included, whatever it is made of. A fork is only sure to go well before CUDA, MPI and Horovod have begun, so a loader is
made before the engine. All that is random depends on (seed, rank, step), so that a batch is the same to the last
bit whoever prepares it, and a run that is resumed in the middle of an epoch goes on with the batch it would have had.

A file that a data set opens when it is made has one position for all processes; it is to be opened at the first sample.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader

from hpcsynapse.errors import TrainError
from hpcsynapse.job.supervise import end_with_parent
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer import tracebacks
from hpcsynapse.trainer.data.augment import crop_and_flip
from hpcsynapse.trainer.data.base import Dataset, Indices
from hpcsynapse.trainer.data.sharding import Task
from hpcsynapse.trainer.randomness import StepSeeds

_log = logging.getLogger(__name__)
_AHEAD = 2  # batches that every process may have ready
_FILES = 65536
_ENDING = 5.0  # seconds for a process to be gone whose connection is
# Seconds after which a thread lets another run. Tensors are handed over by a thread of their own, which with Python's
# 5 ms waits while the next batch is made: 31,000 images/s from one process became 74,000 (batches of 128, 2 cores).
_TURN = 0.0005
# What a queue or a user sends to all processes of a job; the rank finishes its step, for which it needs its batches.
_NOT_OURS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class BatchLoader:
    """Gives the batches of a sequence of tasks in its order, prepared by `train.data_workers` processes or by itself.

    With processes and a CUDA device, batches lie in pinned memory, from which a copy to the device does not wait.
    """

    def __init__(self, samples: Dataset, train: TrainSpec, rank: int, device: torch.device) -> None:
        self._batches, self._processes = _Batches(samples, train, rank), train.data_workers
        self._source: Iterator[Any] = iter(())
        self._loader = _WorkerLoader(self._batches, self._processes, device) if self._processes else None

    def begin(self, tasks: Iterator[Task]) -> None:
        """Take up a sequence of tasks; batches of an earlier one that were not taken are dropped."""
        self._source = map(self._batches.make, tasks) if self._loader is None else self._loader.iterate(tasks)

    def take(self) -> tuple[Any, Any]:
        """Return inputs and targets of the next task, on the CPU; with `train.accumulate` a list of parts of each.

        Raises what the data set raises; from a process, that is a TrainError which names the place in the user's
        code, as is one for a process that has died.
        """
        try:
            batch = next(self._source)
        except (RuntimeError, EOFError, OSError) as error:
            lost = lost_process(error, self._loader.processes) if self._loader is not None else ""
            if not lost:
                raise
            text = f"a process that prepares batches (train.data_workers = {self._processes}) was lost: {lost}"
            raise TrainError(text) from None
        if isinstance(batch, _Failure):
            raise batch.as_error()
        inputs, targets = batch
        return inputs, targets

    def close(self) -> None:
        """End the processes; those of a rank that ends, in whatever way, end with it."""
        self._source, self._loader = iter(()), None


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a process tells instead of a batch: the error in one line, and its traceback."""

    reason: str
    trace: str

    def as_error(self) -> TrainError:
        error = TrainError(f"a process that prepares batches: {self.reason}")
        error.add_note(self.trace)
        return error


class _Batches(torch.utils.data.Dataset[Any]):
    """Makes the batch of a task; as a data set of DataLoader's, its keys are tasks."""

    def __init__(self, samples: Dataset, train: TrainSpec, rank: int) -> None:
        self._samples, self._augment, self._seed, self._rank = samples, train.augment, train.seed, rank
        self._parts = train.accumulate
        self._seeds = StepSeeds(train.seed, rank, torch.device("cpu"), data=True)

    def make(self, task: Task) -> tuple[Any, Any]:
        """Return inputs and targets, augmented where that is asked for; with accumulation a list of parts of each."""
        self._seeds.apply(task.step)
        if self._parts == 1:
            return self._part(task.indices, (self._seed, self._rank, task.step))
        size = len(task.indices) // self._parts
        parts = [
            self._part(task.indices[part * size : (part + 1) * size], (self._seed, self._rank, task.step, part))
            for part in range(self._parts)
        ]
        return [inputs for inputs, _ in parts], [targets for _, targets in parts]

    def _part(self, indices: Indices, seeds: tuple[int, ...]) -> tuple[Any, Any]:
        inputs, targets = self._samples.batch(indices)
        return (crop_and_flip(inputs, seeds) if self._augment else inputs), targets

    def __getitem__(self, task: Task) -> tuple[Any, Any] | _Failure:
        try:
            return self.make(task)
        except BaseException as error:  # noqa: BLE001 - DataLoader itself would lose the place in the user's code
            return _Failure(tracebacks.describe(error), tracebacks.render(error))


class _Sequence:
    """The sampler of a DataLoader that goes through one sequence of tasks after another."""

    def __init__(self) -> None:
        self.tasks: Iterator[Task] = iter(())

    def __iter__(self) -> Iterator[Task]:
        return self.tasks


class _WorkerLoader:
    """A DataLoader whose processes start at once and stay. No cycle refers to it: they end with the last reference."""

    def __init__(self, batches: _Batches, processes: int, device: torch.device) -> None:
        self._sequence = _Sequence()
        _allow_many_files()
        if processes > (cores := len(os.sched_getaffinity(0))):
            _log.warning("train.data_workers = %d, but this rank has %d cores for all it does", processes, cores)
        with warnings.catch_warnings():
            # DataLoader says the above less clearly, and Python >= 3.12 that there are threads: our own, watchdog and
            # reporter, which hold nothing that a process needs.
            warnings.simplefilter("ignore")
            self._loader: DataLoader[Any] = DataLoader(
                batches,
                batch_size=None,
                sampler=self._sequence,
                collate_fn=_as_it_is,
                num_workers=processes,
                prefetch_factor=_AHEAD,
                persistent_workers=True,
                pin_memory=device.type == "cuda",
                multiprocessing_context="fork",
                worker_init_fn=_Companion(os.getpid()),
                generator=torch.Generator(),
            )
            before = {process.pid for process in multiprocessing.active_children()}
            iter(self._loader)  # of no tasks: starts the processes
            self.processes = [one for one in multiprocessing.active_children() if one.pid not in before]

    def iterate(self, tasks: Iterator[Task]) -> Iterator[Any]:
        """Return the batches of tasks, which the processes begin to prepare now."""
        self._sequence.tasks = tasks
        return iter(self._loader)


def lost_process(error: Exception, processes: Sequence[BaseProcess]) -> str:
    """Say which process of a loader was lost, if that is what an error comes from; empty otherwise.

    One that is killed in the middle of handing over a batch leaves a closed connection, and is not gone yet when
    DataLoader looks for it.
    """
    if "DataLoader worker" in str(error):
        return str(error)
    if not isinstance(error, (EOFError, ConnectionError, FileNotFoundError)):
        return ""
    try:
        ended = wait([process.sentinel for process in processes], _ENDING)  # comes before `is_alive` knows of it
    except RuntimeError as told:  # DataLoader's handler of SIGCHLD has come to it
        return str(told)
    pids = ", ".join(str(process.pid) for process in processes if process.sentinel in ended)
    return f"DataLoader worker (pid(s) {pids}) ended while it handed over a batch" if pids else ""


@dataclass(frozen=True, slots=True)
class _Companion:
    """Makes a process end with its rank, and leave to the rank what a signal to the whole job means."""

    rank: int

    def __call__(self, _: int) -> None:
        end_with_parent()  # not Linux: DataLoader looks for the rank every five seconds
        if os.getppid() != self.rank:  # it died before it could be asked for
            os._exit(1)
        for number in _NOT_OURS:
            signal.signal(number, signal.SIG_IGN)
        sys.setswitchinterval(_TURN)


def _as_it_is(batch: Any) -> Any:
    return batch


def _allow_many_files() -> None:
    """Raise the soft limit of open files: every tensor that comes from a process holds one as long as it lives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
