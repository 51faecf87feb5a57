"""Single calls of the system fail, as on a shared file system: what is not vital goes on, what is vital says so."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jobs import missing

from hpcsynapse.trainer.checkpoint import Checkpoints, Progress

pytestmark = pytest.mark.slow

TRAINED = """
import logging, pathlib, sys, torch
from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
logging.basicConfig(level=logging.WARNING)
torch.manual_seed(0)
model = torch.nn.Linear(50, 50)
optimizer = torch.optim.SGD(model.parameters())
checkpoints = Checkpoints(pathlib.Path(sys.argv[1]), 1)
"""
SAVE = (
    TRAINED
    + """
print(checkpoints.save(model, optimizer, Progress(step=int(sys.argv[2])), {}).name)
"""
)
NEWEST = (
    TRAINED
    + """
print(checkpoints.newest())
"""
)
LISTEN = """
import logging, pathlib, sys, time
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.trainer.reporter import Reporter
logging.basicConfig(level=logging.WARNING)
reporter = Reporter(RunDirectory(pathlib.Path(sys.argv[1])), True)
reporter.start()
end = time.monotonic() + 60
while not reporter.stop_requested and time.monotonic() < end:
    time.sleep(0.1)
print("stop" if reporter.stop_requested else "deaf")
reporter.step = 7
reporter.close()
"""


@pytest.fixture(autouse=True)
def strace() -> None:
    if shutil.which("strace") is None:
        missing("strace is not installed")


def run(program: str, *arguments: str, path: Path | None = None, inject: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program; of its calls that name `path`, those that `inject` says fail (strace(1))."""
    traced = []
    if path is not None:
        calls = inject.partition(":")[0]
        traced = [
            "strace",
            "-f",
            "-qq",
            "-o",
            os.devnull,
            "-P",
            str(path),
            "-e",
            f"trace={calls}",
            "-e",
            f"inject={inject}",
        ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*traced, sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )


@pytest.mark.parametrize("error", ["ESTALE:when=1..25", "EIO:when=1..3", "EACCES:when=1..2"])
def test_a_stop_file_that_cannot_be_looked_at_for_a_while(tmp_path: Path, error: str) -> None:
    (tmp_path / "stop").write_text("stopped by user")
    done = run(LISTEN, str(tmp_path), path=tmp_path / "stop", inject=f"/stat:error={error}")
    assert (done.returncode, done.stdout) == (0, "stop\n"), done.stderr


def saved(folder: Path, *steps: int) -> Checkpoints:
    """Return checkpoints of a small model, saved without any error."""
    checkpoints = Checkpoints(folder, keep=5)
    model = torch.nn.Linear(50, 50)
    for step in steps:
        checkpoints.save(model, torch.optim.SGD(model.parameters()), Progress(step=step), {})
    return checkpoints


def test_an_old_checkpoint_that_cannot_be_removed(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1)
    done = run(SAVE, str(tmp_path), "2", path=checkpoints.path(1), inject="unlink,unlinkat:error=ESTALE")
    assert (done.returncode, done.stdout) == (0, "step-000000002.pt\n"), done.stderr
    assert "step-000000001.pt" in done.stderr and "cannot be removed" in done.stderr
    assert checkpoints.steps() == [2, 1] and checkpoints.newest() == 2


@pytest.mark.parametrize("call", ["fsync:error=EDQUOT:when=1", "rename:error=EIO"])
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, call: str) -> None:
    checkpoints = saved(tmp_path, 1)
    before = checkpoints.path(1).read_bytes()
    # The temporary file's name has the host and the process's number in it.
    program = "import os; os.getpid = lambda: 77" + SAVE
    written = tmp_path / f".step-000000002.pt.{socket.gethostname()}.77"
    done = run(program, str(tmp_path), "2", path=written, inject=call)
    assert done.returncode == 1
    assert "TrainError: checkpoint" in done.stderr and "cannot be written" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.pt"]
    assert checkpoints.path(1).read_bytes() == before


def test_a_folder_that_cannot_be_synchronised_is_no_failure(tmp_path: Path) -> None:
    done = run(SAVE, str(tmp_path), "1", path=tmp_path, inject="fsync:error=EIO")
    assert (done.returncode, done.stdout) == (0, "step-000000001.pt\n"), done.stderr


def test_checkpoints_that_cannot_be_read_are_not_begun_anew(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    done = run(NEWEST, str(tmp_path), path=checkpoints.path(2), inject="open,openat:error=EIO")
    assert done.stdout == "1\n" and "cannot be read: Input/output error" in done.stderr
    checkpoints.path(1).unlink()
    done = run(NEWEST, str(tmp_path), path=checkpoints.path(2), inject="open,openat:error=EIO")
    assert done.returncode == 1 and "TrainError: no checkpoint in" in done.stderr
