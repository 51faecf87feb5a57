"""docs/report.md: its tables are what the dataclasses declare, and every report has its section."""

import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from hpcsynapse.cli.report import REPORTS

ROOT = next(folder for folder in Path(__file__).parents if (folder / "scripts" / "column-tables").is_file())
PAGE = ROOT / "docs" / "report.md"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """`scripts/column-tables` as a module."""
    path = str(ROOT / "scripts" / "column-tables")
    loader = importlib.machinery.SourceFileLoader("column_tables", path)
    spec = importlib.util.spec_from_loader("column_tables", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_the_tables_are_those_of_the_dataclasses(script: ModuleType, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert script.filled(text) == text, "run scripts/column-tables"


def test_a_column_that_is_missing_is_written(script: ModuleType, tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    stale = tmp_path / "page.md"
    stale.write_text(text.replace("| `speedup` |", "| `speedups` |"), encoding="utf-8")
    assert script.main([str(stale)]) == 1 and stale.read_text(encoding="utf-8") == text
    assert script.main([str(stale)]) == 0


def test_every_report_is_described() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`hpcsynapse report {name}" in text for name in REPORTS)
