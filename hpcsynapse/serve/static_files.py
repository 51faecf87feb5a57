"""The files of the page, as they come with the package."""

from __future__ import annotations

from importlib.resources import files

_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def static_files() -> dict[str, tuple[str, bytes]]:
    """Return the files of the page by name: their type and content."""
    found = {}
    for file in files("hpcsynapse.serve").joinpath("static").iterdir():
        ending = file.name.rpartition(".")[2]
        if ending in _KINDS:
            found[file.name] = f"{_KINDS[ending]}; charset=utf-8", file.read_bytes()
    return found
