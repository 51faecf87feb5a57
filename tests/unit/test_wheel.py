"""The package as a user installs it: a wheel in a clean environment, without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_carries_every_template_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for template in (ROOT / "templates").rglob("*.j2"):
        assert f"hpcsynapse/{template.relative_to(ROOT)}" in names
    for page in (ROOT / "hpcsynapse" / "serve" / "static").iterdir():
        assert f"hpcsynapse/serve/static/{page.name}" in names
    for site in (ROOT / "hpcsynapse" / "sites").glob("*.toml"):
        assert f"hpcsynapse/sites/{site.name}" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"hpcsynapse"}


@pytest.mark.slow
def test_a_clean_environment_renders_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", str(wheel)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
    )
    packages = {line.partition("==")[0].lower() for line in listed.stdout.split()}
    assert packages - {"pip", "setuptools"} == {"hpcsynapse", "click", "jinja2", "markupsafe", "tomli_w"}
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = tmp_path / "venv" / "bin" / "hpcsynapse"
    done = subprocess.run(
        [command, "render", "--scheduler", "slurm", "--nodes", "4", "--gpus", "4", "--", "true"],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --nodes=4\n" in done.stdout
    done = subprocess.run(
        [command, "check", "--scheduler", "local"], cwd=tmp_path, env=clean, capture_output=True, text=True
    )
    assert done.returncode == 2 and "hpcsynapse[train]" in done.stdout
