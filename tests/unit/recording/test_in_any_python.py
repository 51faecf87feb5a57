"""The folder in front of PYTHONPATH: what a Python would have done without it, it does with it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcsynapse import timing
from hpcsynapse.recording import environment
from hpcsynapse.trainer import traffic

FILES = [*Path(environment.__file__).parent.rglob("*.py"), Path(timing.__file__), Path(traffic.__file__)]
# A stand-in for torch, with no more than what is waited for first.
TORCH = {
    "torch/__init__.py": "import torch.optim.optimizer",
    "torch/optim/__init__.py": "",
    "torch/optim/optimizer.py": "class Optimizer: pass",
}


def python(folder: Path, *arguments: str, record: str = "auto", **more: str) -> subprocess.CompletedProcess[str]:
    """Run a Python as rank 0 of the run in a folder."""
    (folder / "run" / "evidence" / "0").mkdir(parents=True, exist_ok=True)
    base = {**os.environ, **more}
    environ = {**base, **environment.variables(base), "HPCSYNAPSE_RUN_DIR": str(folder / "run"), "RANK": "0"}
    environ[environment.ON] = record
    environ.pop("HPCSYNAPSE_ATTEMPT", None)
    return subprocess.run(
        [sys.executable, *arguments], env=environ, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


def remark(folder: Path) -> str:
    path = environment.remark_path(folder / "run", "0", 0)
    return path.read_text().strip() if path.exists() else ""


@pytest.fixture
def torch(tmp_path: Path) -> Path:
    for name, text in TORCH.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return tmp_path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_python_3_8_reads_what_runs_in_programs(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


def test_the_sitecustomize_that_would_have_run_runs_first(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("print('own', __name__, flush=True)\nvalue = 7\n")
    done = python(
        tmp_path,
        "-c",
        "import sys, sitecustomize; print(sitecustomize.value, [p for p in sys.path if 'recording' in p])",
        PYTHONPATH=str(tmp_path / "own"),
    )
    assert done.stdout.split("\n")[:2] == ["own sitecustomize", "7 []"]
    assert done.stderr == ""
    assert remark(tmp_path) == "no Python program of this rank has imported torch"


def test_an_error_in_it_is_told_as_ever_and_the_recording_waits_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("1 / 0\n")
    done = python(tmp_path, "-c", "print('goes on')", PYTHONPATH=str(tmp_path / "own"))
    assert done.stdout == "goes on\n"
    assert "Error in sitecustomize" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert remark(tmp_path)


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_a_python_that_reads_no_pythonpath_leaves_no_word(tmp_path: Path, option: str) -> None:
    assert python(tmp_path, option, "-c", "pass").returncode == 0
    assert remark(tmp_path) == ""


def test_off_is_off(tmp_path: Path) -> None:
    code = "import sys; print([name for name in sys.modules if name.startswith('_hpcsynapse_recording.')])"
    done = python(tmp_path, "-c", code, record="off")
    assert done.stdout == "[]\n"
    assert remark(tmp_path) == ""


def test_torch_that_makes_no_step_is_said(torch: Path) -> None:
    done = python(torch, "-c", "import torch", PYTHONPATH=str(torch))
    assert (done.returncode, done.stderr) == (0, "")
    assert remark(torch) == "torch was imported, but no step of an optimizer was seen"


def test_a_fault_is_told_once_in_the_log_and_the_program_goes_on(torch: Path) -> None:
    (torch / "torch" / "optim" / "optimizer.py").write_text("Optimizer = 5\n")  # a torch unlike any known
    done = python(
        torch, "-c", "import torch, torch.optim; print(torch.optim.optimizer.Optimizer)", PYTHONPATH=str(torch)
    )
    assert done.stdout == "5\n"
    assert done.stderr.count("hpcsynapse:") == 1
    assert "the recording of steps ended: a fault of the recording" in done.stderr
    assert "a fault of the recording" in remark(torch)


def test_modules_keep_their_loaders_and_sources(torch: Path) -> None:
    code = (
        "import torch, inspect; m = torch.optim.optimizer;"
        "print(type(m.__loader__).__name__, vars(m.__loader__).keys());"
        "print(inspect.getsource(m))"
    )
    done = python(torch, "-c", code, PYTHONPATH=str(torch))
    assert done.stdout.startswith("SourceFileLoader dict_keys(['name', 'path'])\nclass Optimizer: pass"), done.stdout
