"""CONTRIBUTING.md: its examples are carried out, word by word, on a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
COPIED = ("hpcsynapse", "templates", "tests/field", "tests/helpers", "tests/conftest.py", "pyproject.toml")
# `<!-- write FILE -->` or `<!-- insert FILE behind TEXT -->` and a block; or a block of commands.
STEP = re.compile(
    r"(?:<!-- (write|insert) (\S+?)(?: behind (.*?))? -->\n)?```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)
SECTIONS = dict(re.findall(r"^## (Add .*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))


def copy_of_the_project(folder: Path) -> Path:
    """Copy what the examples change or run."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def carry_out(section: str, project: Path) -> None:
    """Write the files of a section, insert its parts, and run its commands in the project; fails with their output."""
    for action, name, place, language, text in STEP.findall(section):
        if action == "write":
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).write_text(text)
        elif action == "insert":
            before, found, after = (project / name).read_text().partition(place)
            assert found, f"{name} has no {place!r}"
            (project / name).write_text(f"{before}{found}\n{text.rstrip()}{after}")
        elif language == "sh":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=project,
                capture_output=True,
                text=True,
                timeout=300,
                env={**os.environ, "PYTHONPATH": str(project), "HPCSYNAPSE_RUNS": str(project / "runs")},
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def test_every_kind_of_addition_has_its_example() -> None:
    kinds = ["a model", "a strategy", "a column to a report", "a queue", "a case from the field"]
    assert list(SECTIONS) == [f"Add {kind}" for kind in kinds]
    assert all(("```sh\n" in text and "<!-- write " in text) or "<!-- insert " in text for text in SECTIONS.values())


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_examples_can_be_carried_out(tmp_path: Path) -> None:
    project = copy_of_the_project(tmp_path / "project")
    for section in SECTIONS.values():
        carry_out(section, project)
