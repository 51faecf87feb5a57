"""What every test gets: an environment without traces of a job, a site or a user's settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run: a test that fails only sometimes tells nothing.
settings.register_profile("hpcsynapse", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("hpcsynapse")

# One thread a process, here and in everything that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
_PREFIXES = (
    "SLURM_",
    "SBATCH_",
    "SQUEUE_",
    "PMI",
    "MPI_LOCAL",
    "LOADL_",
    "OMPI_",
    "HPCSYNAPSE_",
    "HOROVOD_",
    "TORCHELASTIC_",
)
_NAMES = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "NODE_RANK",
    "GROUP_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "CUDA_VISIBLE_DEVICES",
    "MP_CHILD",
    "MP_PROCS",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden job files from what is rendered")


# What a machine of continuous integration need not have.
_MAY_BE_SKIPPED_ON_CI = ("no LaTeX here", "this file system keeps its files in memory")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs Horovod: scripts/test runs the others while Horovod is being built."""
    for item in items:
        parameters = str(getattr(getattr(item, "callspec", None), "params", ""))
        if "'horovod" in parameters and item.get_closest_marker("multiprocess"):
            item.add_marker(pytest.mark.horovod)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    _fail_if_skipped_on_ci((yield).get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    _fail_if_skipped_on_ci((yield).get_result())


def _fail_if_skipped_on_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With CI set everything is there that tests need: one that is skipped all the same fails."""
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    allowed = hasattr(report, "wasxfail") or any(text in reason for text in _MAY_BE_SKIPPED_ON_CI)
    if report.skipped and os.environ.get("CI") and not allowed:
        report.outcome, report.longrepr = "failed", f"with CI set nothing may be skipped: {reason}"


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
