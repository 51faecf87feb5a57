""".pre-commit-config.yaml: its hooks are there, say no to what is wrong, and are those of scripts/test."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
yaml = pytest.importorskip("yaml")  # comes with Horovod
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
HOOKS: dict[str, dict[str, Any]] = {hook["id"]: hook for repo in CONFIG["repos"] for hook in repo["hooks"]}


def call(hook: str, *files: Path) -> subprocess.CompletedProcess[str]:
    """Run a hook as pre-commit does: from the project's root, with the files behind its words."""
    return subprocess.run(
        [*shlex.split(HOOKS[hook]["entry"]), *map(str, files)], cwd=ROOT, capture_output=True, text=True
    )


def test_nothing_is_fetched_and_all_linters_run() -> None:
    assert [repo["repo"] for repo in CONFIG["repos"]] == ["local"]
    assert all(hook["language"] == "system" for hook in HOOKS.values())
    entries = [hook["entry"].removeprefix(".venv/bin/") for hook in HOOKS.values()]
    lint = (ROOT / "scripts" / "test").read_text()
    for entry, command in zip(
        entries, ["ruff check .", "ruff format --check .", "mypy --strict hpcsynapse"], strict=True
    ):
        assert command in lint and entry.replace(" --force-exclude", " .") == command


@pytest.mark.parametrize(("hook", "wrong"), [("ruff-check", "import os\n"), ("ruff-format", "x = {'a' :1}\n")])
def test_a_hook_says_no_to_what_is_wrong(hook: str, wrong: str, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text('"""Good."""\n')
    bad.write_text(f'"""Bad."""\n\n{wrong}')
    assert call(hook, good).returncode == 0
    assert call(hook, good, bad).returncode == 1


@pytest.mark.slow
def test_types_are_checked() -> None:
    assert call("mypy").returncode == 0
