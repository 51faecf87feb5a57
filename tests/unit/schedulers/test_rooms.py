"""A queue's name stands in its own rooms only: what else differs between queues is asked of their adapters."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import hpcsynapse
from hpcsynapse.spec.names import LAUNCHERS

PACKAGE = Path(hpcsynapse.__file__).parent
TEMPLATES = PACKAGE.parent / "templates"
ROOMS = ("schedulers/", "jobfiles/", "sites/", "spec/names.py")
# MinoTauro, so written, is the machine, which publications name.
QUEUE = re.compile(r"(?i:slurm|sbatch|loadl|grid ?engine|sge|pbs|torque|\blsf|flux)|minotauro|MINOTAURO")
# The queue of this machine has the name of a launcher, and of a way to run lists: only beside these words it is meant.
LOCAL = re.compile(r"scheduler|queue")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Every text of a module that is no docstring, with its line."""
    tree = ast.parse(path.read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


def named(path: Path) -> list[int]:
    """The lines of a module that name a queue."""
    lines = path.read_text().splitlines()
    return sorted(
        {
            number
            for number, text in texts(path)
            if QUEUE.search(text) or (text == "local" and LOCAL.search(lines[number - 1]))
        }
    )


def outside() -> dict[str, list[int]]:
    """The modules outside a queue's rooms that name one, with the lines."""
    found = {str(path.relative_to(PACKAGE)): named(path) for path in sorted(PACKAGE.rglob("*.py"))}
    return {name: lines for name, lines in found.items() if lines and not name.startswith(ROOMS)}


def test_no_queue_is_named_outside_its_rooms() -> None:
    assert not outside()


def test_a_queue_is_told_from_a_machine_and_from_a_launcher(tmp_path: Path) -> None:
    lines = ['A = "SLURM_JOB_ID"', 'queue = "local"', 'B = "2016 (MinoTauro)"', 'launcher = "local"', '"""slurm"""']
    (tmp_path / "one.py").write_text("\n".join(lines))
    assert named(tmp_path / "one.py") == [1, 2, 5]


def test_shared_templates_name_neither_queue_nor_launcher() -> None:
    words = re.compile(rf"{QUEUE.pattern}|\b({'|'.join({*LAUNCHERS} - {'auto', 'local'})})\b|\"local\"", re.IGNORECASE)
    for path in (TEMPLATES / "shared").iterdir():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not words.search(line), f"{path.name}, line {number}: {line}"


def test_launchers_templates_name_no_queue() -> None:
    for path in (TEMPLATES / "launchers").iterdir():
        assert not QUEUE.search(path.read_text()), path.name


if __name__ == "__main__":
    for name, lines in outside().items():
        print(name, lines)
    print(sum(map(len, outside().values())))
