"""The rows of README.md that are tests of their own name tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"\| (tests/[\w/]+\.py)::(\w+) \|", (ROOT / "tests" / "field" / "README.md").read_text())


def test_there_are_rows() -> None:
    assert len(NAMED) > 20


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_test_exists(file: str, name: str) -> None:
    assert f"def {name}(" in (ROOT / file).read_text()
