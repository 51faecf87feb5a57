"""Begins the recording of one Python process, if it is one of a rank's."""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from . import device
from .batches import steps_per_epoch
from .environment import DEVICE, NO_PYTHON, SAME_DEVICE, SAMPLES, STEPS, remark_path, shared_path
from .exchange import Exchange
from .guard import Guard, tell
from .hooks import Hooks
from .imports import Waiting
from .steps import Steps
from .writer import DeviceTimes, Writer

_WAITING = "no Python program of this rank has imported torch"
_IMPORTED = "torch was imported, but no step of an optimizer was seen"
_TRAFFIC_SECONDS = 1.0  # between looks at the connections; each costs about 0.1 ms


def start() -> None:
    """Wait for torch, in a process of a rank."""
    run, rank = os.environ.get("HPCSYNAPSE_RUN_DIR"), os.environ.get("RANK", "")
    if run and rank.isdigit():
        Recording(Path(run), int(rank), os.environ.get("HPCSYNAPSE_ATTEMPT", "0")).begin()


class Recording:
    """The recording of this process: what is watched, and where it is written."""

    def __init__(self, run: Path, rank: int, attempt: str) -> None:
        self._run, self._rank = run, rank
        self._remark, self._shared = remark_path(run, attempt, rank), shared_path(run, attempt)
        samples, self._same_device = os.environ.get(SAMPLES, ""), os.environ.get(SAME_DEVICE, "warn")
        self._guard = Guard(self._ended)
        self._writer = Writer(self._open_recorder, int(samples) if samples.isdigit() else None)
        self._steps = Steps(self._writer.step, self._writer.pause)
        self._exchange = Exchange(self._steps, self._guard)
        self._hooks = Hooks(self._steps, self._guard, self._before_update)
        self._optimizer: Any = None

    def begin(self) -> None:
        """Wait for the modules of torch."""
        if self._said() in ("", NO_PYTHON):
            self._say(_WAITING)
        own = {"hpcsynapse.timing": self._own_recorder, "torch.cuda": self._cuda, "torch.optim": self._imported}
        Waiting({**self._hooks.callbacks(), **self._exchange.callbacks(), **own}).install()
        os.register_at_fork(after_in_child=self._forked)
        atexit.register(self._finish)

    def _say(self, text: str) -> None:
        """Leave word for `status`, which looks at rank 0 alone."""
        if self._rank == 0:
            try:
                self._remark.write_text(text + "\n")
            except OSError:
                pass

    def _said(self) -> str:
        try:
            return self._remark.read_text().strip()
        except OSError:
            return ""

    def _imported(self, _module: Any) -> None:
        if not self._writer.made_steps:
            self._say(_IMPORTED)

    def _ended(self, reason: str) -> None:
        if reason:
            tell(f"the recording of steps ended: {reason}")
            self._say(reason)
        try:
            self._writer.close()
        except Exception:  # what made it end may still hold
            self._writer.give_up()

    def _forked(self) -> None:
        self._guard.forked()
        self._writer.give_up()

    def _finish(self) -> None:
        if self._guard.on:
            self._guard.call(self._steps.finish)
            self._guard.call(self._writer.close)

    # The program

    def _cuda(self, module: Any) -> None:
        index = os.environ.get(DEVICE, "")
        if index.isdigit():
            self._guard.call(device.set_when_used, module, int(index))

    def _own_recorder(self, module: Any) -> None:
        """A program that records its steps itself is not recorded twice."""
        guard, writer, make = self._guard, self._writer, module.StepRecorder.__init__

        def watched(*arguments: Any, **named: Any) -> None:
            if guard.on:
                writer.give_up()
                guard.end("")
            make(*arguments, **named)

        module.StepRecorder.__init__ = watched

    def _before_update(self, optimizer: Any) -> None:
        if self._optimizer is not None:
            return
        self._optimizer = optimizer
        processes: Any = sys.modules.get("multiprocessing.process")
        if processes is not None and processes.parent_process() is not None:
            self._guard.end("steps were made in a process that multiprocessing started, which is no rank of its own")
            return
        parameter = device.first_parameter(optimizer)
        if parameter is not None and parameter.device.type == "cuda":
            self._on_device(parameter.device.index or 0)

    def _on_device(self, index: int) -> None:
        cuda: Any = sys.modules["torch.cuda"]
        times = DeviceTimes(cuda)
        self._writer.use_device(times)
        self._steps.use_stamps(times.stamp)
        warning = device.put_on_record(self._remark.parent, self._rank, device.used(cuda, index, os.environ))
        if warning and self._same_device != "allow":
            self._shared.write_text(warning + "\n")
            tell(f"{warning}; choose the device by LOCAL_RANK, or leave that to --set-device")
            if self._same_device == "end":
                raise SystemExit(1)

    # The file

    def _open_recorder(self) -> Any:
        timing = _load("timing", Path(__file__).parents[1] / "timing.py")
        facts = self._facts()
        folder = self._run / "timings"
        if _at_work(folder, f"rank-{self._rank:05d}.{os.environ.get('HPCSYNAPSE_ATTEMPT', '0')}"):
            raise RuntimeError(f"another process records the steps of rank {self._rank}")
        recorder = timing.StepRecorder(folder, rank=self._rank, keep=True, **facts)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            traffic = _load("traffic", Path(__file__).parents[1] / "trainer" / "traffic.py")
            several = int(os.environ.get("HPCSYNAPSE_NODES", "1")) > 1
            self._writer.measure_traffic(traffic.Traffic(between_hosts=several, interval=_TRAFFIC_SECONDS))
        return recorder

    def _facts(self) -> dict[str, object]:
        torch: Any = sys.modules["torch"]
        trained = [p for group in self._optimizer.param_groups for p in group["params"] if p.requires_grad]
        world, engine = int(os.environ.get("WORLD_SIZE", "1")), self._exchange.engine
        several = os.environ.get("HPCSYNAPSE_NODES", "1") != "1"
        steps, main = os.environ.get(STEPS, ""), self._steps.main
        return {
            **({"steps_wanted": int(steps)} if steps.isdigit() else {}),
            "recorded": "auto",
            "strategy": "allreduce" if engine and world > 1 else "single" if world == 1 else "",
            "engine": engine if world > 1 else "none",
            "optimizer": type(self._optimizer).__name__.lower(),
            "gradient_bytes": self._exchange.bytes or sum(p.numel() * p.element_size() for p in trained),
            "batches_per_epoch": main.length if main is not None else 0,
            "steps_per_epoch": steps_per_epoch(main, self._writer.first_samples) if main is not None else 0,
            "communicate": "beyond the last gradient" if engine == "ddp" else "measured",
            "traffic": "tcp, to and from other hosts" if several else "tcp",
            "torch": str(torch.__version__),
            "cuda": str(getattr(torch.version, "cuda", None) or ""),
            "pid": os.getpid(),
        }


def _load(name: str, path: Path) -> Any:
    """Return a module of hpcsynapse that needs the standard library alone, loaded from its file."""
    full = f"{__package__}.{name}"
    if full not in sys.modules:
        spec: Any = importlib.util.spec_from_file_location(full, path)
        sys.modules[full] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[full]


def _at_work(folder: Path, stem: str) -> bool:
    """Tell whether the process that records these steps in the newest file is still there: a program within another."""
    files = sorted(folder.glob(f"{stem}*.steps"), key=lambda path: path.stat().st_mtime)
    if not files:
        return False
    with files[-1].open("rb") as file:
        try:
            told = json.loads(file.readline())
        except ValueError:
            return False
    pid = _pid(told)
    return pid is not None and pid != os.getpid() and told.get("host") == socket.gethostname() and _alive(pid)


def _pid(told: dict[str, Any]) -> int | None:
    pid = told.get("pid")
    return pid if isinstance(pid, int) else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
