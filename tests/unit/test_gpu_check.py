"""scripts/gpu-check says what it tried and what not; on this machine it is tried without GPUs, and emulated."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner

from hpcsynapse.cli.main import cli

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu-check"


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("gpu_check", str(SCRIPT))
    spec = importlib.util.spec_from_loader("gpu_check", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)  # dataclasses look there
    loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: run scripts/gpu-check itself")
def test_without_gpus_nothing_is_claimed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--log", log], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert "finds no GPU" in lines[0] and all(line.startswith("not tried  ") for line in lines[1:-1])
    assert lines[-1].startswith(f"0 ok, 0 FAILED, {len(lines) - 2} not tried")
    assert log.read_text().splitlines()[0] == lines[0]


def test_every_command_is_a_valid_description(gpu_check: ModuleType, workdir: Path) -> None:
    for check in gpu_check.checks():
        if not check.program:
            words = ["render", "--scheduler", "slurm", "--gpus", str(check.gpus), *check.command]
            words = [word for word in words if word not in ("--launcher", "local")]
            done = CliRunner().invoke(cli, [*words, "--data-path", str(workdir)])
            assert done.exit_code == 0, (check.name, done.output, done.exception)


def test_what_two_gpus_need_is_not_tried_on_one(gpu_check: ModuleType) -> None:
    by_gpus = {check.gpus: check for check in gpu_check.checks()}
    assert gpu_check.missing(by_gpus[1], 1, "") == ""
    assert gpu_check.missing(by_gpus[2], 1, "") == "needs 2 GPUs, there is 1"


@pytest.mark.slow
def test_a_check_that_goes_well_and_one_that_fails(gpu_check: ModuleType, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        for words, expected in ((("--emulate",), ""), (("--emulate", "--model", "absent"), "exit code 2")):
            check = gpu_check.train(f"emulated {len(words)}", 1, "--strategy", "single", *words)
            assert gpu_check.run(check, tmp_path, 300.0, log) == expected, (tmp_path / "log").read_text()
        check = gpu_check.train(
            "emulated", 1, "--strategy", "single", "--emulate", verify=lambda run: f"{run.name} seen"
        )
        assert gpu_check.run(check, tmp_path, 300.0, log) == "emulated seen"
        assert gpu_check.run(gpu_check.Check("endless", 0, program="while True: pass"), tmp_path, 1.0, log) == (
            "did not end within 1 s"
        )
    assert "==== emulated" in (tmp_path / "log").read_text()
