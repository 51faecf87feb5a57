"""Invented centres of tests/field/sites: site files with what is expected of them in a table [expect]."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "field" / "sites"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What `check` answers and says, and what the job file has and lacks; whether the lab's Slurm takes the file."""

    exit_code: int = 0
    says: tuple[str, ...] = ()
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    lab: bool = True


def invented_sites() -> dict[str, Expected]:
    """Return what is expected of every site file, by its name."""
    found = {path.stem: tomllib.loads(path.read_text())["expect"] for path in sorted(FOLDER.glob("*.toml"))}
    return {
        name: Expected(**{key: tuple(value) if isinstance(value, list) else value for key, value in table.items()})
        for name, table in found.items()
    }


def write_site(name: str, folder: Path) -> str:
    """Write one of them without its expectations, and the image that it may name; return the file's path."""
    (folder / "rocm.sif").touch()
    path = folder / f"{name}.toml"
    path.write_text((FOLDER / path.name).read_text().partition("[expect]")[0])
    return str(path)
