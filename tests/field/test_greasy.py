"""Task lists that people met, and what Greasy 2.2.3 left of them, each with its right answer (see README.md)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

CASES = sorted((Path(__file__).parent / "greasy").glob("*.toml"))
FAKES = Path(__file__).parents[1] / "fakes"
REPEATED = re.compile("«(.+?)\N{MULTIPLICATION SIGN}([0-9]+)»")
KNOWN = {
    "": {"row", "about", "command", "shell"},
    "command": {"arguments", "files", "exit_code", "says", "silent"},
    "shell": {"script", "files", "says", "silent"},
}


def said(argv: list[str], folder: Path) -> tuple[int, str]:
    """Return exit code and output of a command that finds this hpcsynapse, and fakes of Greasy and ssh."""
    path = f"{Path(sys.executable).parent}:{FAKES}:{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "GREASY": str(FAKES / "greasy")}
    with (folder / ".said").open("w+") as output:
        code = subprocess.run(
            argv,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=100,
        ).returncode
        output.seek(0)
        return code, output.read()


def check(table: dict[str, Any], folder: Path, argv: list[str]) -> None:
    for name, content in table.get("files", {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode())
    code, text = said(argv, folder)
    lines = [" ".join(line.split()) for line in text.splitlines()]  # how wide a table is does not matter here
    assert code == table.get("exit_code", code if "script" in table else 0), text
    for part in table.get("says", ()):
        assert any(part in line for line in lines), f"{part!r} is not said:\n{text}"
    for part in table.get("silent", ()):
        assert part not in text, f"{part!r} is said:\n{text}"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if "[[shell]]" in path.read_text() else [])
        for path in CASES
    ],
)
def test_case(path: Path, workdir: Path) -> None:
    case = tomllib.loads(REPEATED.sub(lambda match: match[1] * int(match[2]), path.read_text()))
    assert set(case) <= KNOWN[""] and {"row", "about"} < set(case)
    for kind in ("command", "shell"):
        for table in case.get(kind, ()):
            assert set(table) <= KNOWN[kind], f"unknown in [[{kind}]]: {set(table) - KNOWN[kind]}"
            words = table.get("arguments", ())
            check(
                table,
                workdir,
                [sys.executable, "-m", "hpcsynapse", "greasy", *words]
                if words
                else ["bash", "-c", f"set -m\n{table['script']}"],
            )
