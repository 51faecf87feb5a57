"""Names are the field's: no private word in module or public names, and what is public is declared and stable."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

import hpcsynapse
from hpcsynapse.cli.main import VERBS
from hpcsynapse.runs.directory import RunDirectory

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "hpcsynapse"
# Words that say nothing to a stranger, as the name of a module or of anything public in one.
PRIVATE = {
    "together",
    "handover",
    "entries",
    "sides",
    "ledger",
    "visit",
    "visits",
    "sums",
    "rows",
    "points",
    "feed",
    "facts",
}
# What still has one, and why; this list may only get shorter.
LEFT = {
    "predict.rows",  # the rows of a table, which is what they are
    "predict.rows:rows",
    "report.entries",  # what a comparison compares: one Entry each
    "report.points",  # the points of a scaling curve
    "report.sums",  # over the ranks of a run, step by step
    "report.sums:Sums",
}


def public_names(path: Path) -> set[str]:
    """The module's own name and the classes and functions that it defines for others, with their methods."""
    module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    found = {module}
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        found.add(f"{module}:{node.name}")
        if isinstance(node, ast.ClassDef):
            found |= {f"{module}:{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return found


def last_word(name: str) -> str:
    return re.split("[.:]", name)[-1].lower()


def test_no_private_word_is_a_public_name() -> None:
    named = {name for path in PACKAGE.rglob("*.py") for name in public_names(path)}
    assert {name for name in named if last_word(name) in PRIVATE} <= LEFT


@pytest.mark.parametrize("package", ["hpcsynapse", "hpcsynapse.report"])
def test_what_a_package_offers_is_declared_and_there(package: str) -> None:
    module = import_module(package)
    assert sorted(module.__all__) == list(module.__all__)
    if package == "hpcsynapse":  # the report's functions need pandas, which they import when they are asked for
        assert all(getattr(module, name) is not None for name in module.__all__)


def re_exported(path: Path) -> set[str]:
    """Names that a package's own module imports under their name for others: `from x import y as y`."""
    return {
        name.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if name.asname == name.name
    }


def test_a_package_that_re_exports_says_so_in_all() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        if names := re_exported(path):
            module = import_module(".".join(("hpcsynapse", *path.parent.relative_to(PACKAGE).parts)))
            assert names <= set(module.__all__), path


def table(page: str) -> list[str]:
    """The first column of a page's tables, without the rows of the heads."""
    text = (ROOT / "docs" / page).read_text()
    return [cell.strip() for cell in re.findall(r"^\| (.+?) \|", text, re.MULTILINE)]


def test_each_word_of_the_glossary_stands_once_and_in_order() -> None:
    words = table("glossary.md")[1:]
    assert words == sorted(set(words), key=str.lower)


def test_what_is_kept_stable_is_there() -> None:
    page = (ROOT / "docs" / "stability.md").read_text()
    assert {name for name in hpcsynapse.__all__ if name != "__version__"} <= set(re.findall(r"`(\w+)`", page))
    run = RunDirectory(Path("/r"))
    owned = {getattr(run, name) for name in dir(RunDirectory) if isinstance(getattr(RunDirectory, name), property)}
    names = {path.name for path in owned if isinstance(path, Path)}
    files = re.findall(r"`([\w.]+)/?`", " ".join(table("stability.md")))
    assert {name for name in files if not name.startswith("job.")} <= names
    assert VERBS and "hpcsynapse --help" in page
