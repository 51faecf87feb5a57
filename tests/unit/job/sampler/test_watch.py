"""The sampler beside a rank: what it sees, that it ends with the rank, and that nothing about it reaches the rank."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hpcsynapse.job.search_path import tool
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.telemetry import LAST, Telemetry, telemetry
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.telemetry import TelemetryOptions


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Rank:
    """A rank whose program goes on until it is told to end."""

    def __init__(self, folder: Path, program: str, sample: float, gpus: int, **environ: str) -> None:
        (folder / "program.py").write_text(program)
        spec = JobSpec(
            name="run",
            queue=QueueOptions(scheduler="local"),
            resources=ResourceRequest(gpus=gpus, ranks_per_node=1),
            telemetry=TelemetryOptions(sample=sample),
            command=(sys.executable, str(folder / "program.py"), str(folder / "end")),
        )
        self.end, self.run = folder / "end", RunDirectory.create(folder, spec)
        named = {"HPCSYNAPSE_ATTEMPT": "0", "HPCSYNAPSE_RUN_DIR": str(self.run.path)}
        command = [sys.executable, "-m", "hpcsynapse.job", "rank", str(self.run.path), "--", *spec.command]
        self.process = subprocess.Popen(command, env={**os.environ, **named, **environ}, start_new_session=True)

    def file(self) -> Telemetry:
        until(lambda: telemetry(self.run.telemetry), "no telemetry")
        return telemetry(self.run.telemetry)[0]

    def sampler(self) -> int:
        return int(str(self.file().header["pid"]))

    def finish(self) -> int:
        self.end.touch()
        return self.process.wait(60)


LOOP = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)"


@contextmanager
def rank(folder: Path, program: str = LOOP, sample: float = 0.1, gpus: int = 0, **environ: str) -> Iterator[Rank]:
    one = Rank(folder, program, sample, gpus, **environ)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_records_and_ends_in_order_with_the_rank(tmp_path: Path) -> None:
    with rank(tmp_path) as one:
        pid = one.sampler()
        until(lambda: one.file().count >= 0 and runs(pid), "it does not run")
        assert os.getsid(pid) == pid and os.getpriority(os.PRIO_PROCESS, pid) == 19
        assert {str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in range(3)} == {os.devnull}
        assert one.finish() == 0
        assert not runs(pid)
    found = one.file()
    last = found.records()[-1]
    assert last["flags"] == LAST and found.header["run"] == "run" and found.header["node_rank"] == 0
    assert found.missing["gpu"] == "the job asked for none"


def test_without_it_nothing_is_written(tmp_path: Path) -> None:
    with rank(tmp_path, sample=0) as one:
        assert one.finish() == 0
    assert not one.run.telemetry.exists()


def test_killed_or_stopped_it_changes_nothing(tmp_path: Path) -> None:
    for number in (signal.SIGKILL, signal.SIGSTOP):
        folder = tmp_path / number.name
        folder.mkdir()
        with rank(folder) as one:
            pid = one.sampler()
            os.kill(pid, number)
            assert one.finish() == 0
            os.kill(pid, signal.SIGKILL) if runs(pid) else None
        assert not list(one.run.path.glob("evidence/*/failure-*"))


def test_it_ends_when_the_rank_is_killed(tmp_path: Path) -> None:
    with rank(tmp_path) as one:
        pid = one.sampler()
        os.kill(one.process.pid, signal.SIGKILL)
        until(lambda: not runs(pid), "the sampler outlives its rank")


def test_it_ends_when_the_rank_was_killed_before_it_began(tmp_path: Path) -> None:
    """Its start takes a while, in which somebody else may have become its parent."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    plan = {"run": "run", "run_dir": str(tmp_path), "folder": str(tmp_path), "attempt": "0", "node_rank": 0, "nodes": 1}
    told = json.dumps({**plan, "interval": 0.1, "granted": [], "jobs": [], "wrapper": gone.pid})
    assert subprocess.run(tool("sampler", told), timeout=60, check=False).returncode == 0
    assert len(telemetry(tmp_path)) == 1


@pytest.mark.slow
def test_signals_of_the_queue_do_not_end_it_before_the_rank(tmp_path: Path) -> None:
    with rank(tmp_path) as one:
        pid = one.sampler()
        until(lambda: b"program.py" in b"".join(map(_command, _children(one.process.pid))), "no program")
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT):
            os.kill(pid, number)
        count = one.file().count
        until(lambda: one.file().count > count, "it records no more")
        assert one.finish() == 0
    assert one.file().records()[-1]["flags"] == LAST


def _children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


BURN = """
import pathlib, sys, time
held = b"x" * (150 << 20)
while time.process_time() < 1.5: pass
pathlib.Path(sys.argv[1] + ".cpu").write_text(str(time.process_time()))
while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)
"""


@pytest.mark.slow
def test_cpu_and_memory_of_the_ranks_are_what_their_program_used(tmp_path: Path) -> None:
    with rank(tmp_path, BURN) as one:
        until((tmp_path / "end.cpu").exists, "it burns for ever")
        program = next(pid for pid in _children(one.process.pid) if b"program.py" in _command(pid))
        resident = int(Path(f"/proc/{program}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        known = one.file().count
        until(lambda: one.file().count > known + 60, "no records")  # past a look at the processes and a write
        found = one.file()
        table = np.frombuffer(found.read(), found.kinds)
        used, memory = np.nansum(table["ranks_cpu"]), table["ranks_memory"][~np.isnan(table["ranks_memory"])]
        assert used == pytest.approx(float((tmp_path / "end.cpu").read_text()), abs=0.15)
        assert memory[-1] == pytest.approx(resident, rel=0.01)
        assert one.finish() == 0


NVML = """
import sys, time
class NVMLError(Exception): pass
def nvmlInit(): {init}
def nvmlDeviceGetHandleByIndex(index): return index
def __getattr__(name):
    if name.startswith("NVML_"): return hash(name) % 1000
    if name.startswith("__"): raise AttributeError(name)
    return lambda *_: {ask}
def nvmlDeviceGetPowerUsage(handle): return 250000
def nvmlDeviceGetName(handle): return "a name"
def nvmlDeviceGetUUID(handle): return b"GPU-1"
def nvmlDeviceGetUtilizationRates(handle): return type("Rates", (), {{"gpu": 87}})
def nvmlDeviceGetMemoryInfo(handle): return type("Memory", (), {{"used": 2 << 30, "total": 80 << 30}})
"""
REFUSES = "(_ for _ in ()).throw(NVMLError('Not Supported'))"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("init", "why"),
    [
        ("raise NVMLError('Driver Not Loaded')", "Driver Not Loaded"),
        ("time.sleep(1e6 if 'sampler' in sys.argv else 0)", "no answer within"),
    ],
)
def test_gpus_that_cannot_be_asked_are_said_to_be_missing(tmp_path: Path, init: str, why: str) -> None:
    (tmp_path / "pynvml.py").write_text(NVML.format(init=init, ask=REFUSES))
    with rank(tmp_path, gpus=1, CUDA_VISIBLE_DEVICES="3", PYTHONPATH=str(tmp_path)) as one:
        missing = one.file().missing["gpu"]
        assert one.finish() == 0
    assert why in missing and "1 granted (3)" in missing


def test_what_a_gpu_tells_is_recorded_and_what_it_refuses_is_said(tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text(NVML.format(init="pass", ask=REFUSES))
    with rank(tmp_path, gpus=1, CUDA_VISIBLE_DEVICES="0", PYTHONPATH=str(tmp_path)) as one:
        one.file()
        assert one.finish() == 0
    found = one.file()
    record = found.records()[-1]
    assert (record["gpu.0.utilisation"], record["gpu.0.power"], record["gpu.0.memory_used"]) == (87, 250, 2 << 30)
    assert np.isnan(record["gpu.0.energy"]) and np.isnan(record["gpu.0.temperature"])
    assert found.header["gpus"] == [{"granted": "0", "name": "a name", "uuid": "GPU-1", "memory_bytes": 80 << 30}]
    assert found.missing["gpu 0 counters"] == "Not Supported"


@pytest.mark.slow
def test_a_call_that_hangs_later_delays_no_record_and_no_end(tmp_path: Path) -> None:
    hangs = NVML.format(init="pass", ask=REFUSES) + (
        "asked = []\n"
        "def nvmlDeviceGetTemperature(*_):\n"
        "    asked.append(1)\n"
        "    time.sleep(1e6 if len(asked) > 2 else 0)\n"
    )
    (tmp_path / "pynvml.py").write_text(hangs)
    with rank(tmp_path, gpus=1, CUDA_VISIBLE_DEVICES="0", PYTHONPATH=str(tmp_path)) as one:
        until(lambda: one.file().count > 60, "it records no more")
        assert one.finish() == 0
    power = [record["gpu.0.power"] for record in one.file().records()]
    assert power[0] == 250 and np.isnan(power[-1])
