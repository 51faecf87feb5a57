"""What every test gets: an environment without traces of a job, a site or a user's settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run: a test that fails only sometimes tells nothing.
settings.register_profile("hpcsynapse", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("hpcsynapse")

# One thread a process, here and in everything that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
_PREFIXES = ("SLURM_", "SBATCH_", "SQUEUE_", "PMI", "MPI_LOCAL", "LOADL_", "OMPI_", "HPCSYNAPSE_", "HOROVOD_",
             "TORCHELASTIC_")  # fmt: skip
_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR",
          "MASTER_PORT", "CUDA_VISIBLE_DEVICES", "MP_CHILD", "MP_PROCS")  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden job files from what is rendered")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in list(os.environ):
        if name.startswith(_PREFIXES) or name in _NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory that is also the current one."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
