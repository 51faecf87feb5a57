"""A snapshot that is renewed: a script file beside the page sets a text, which the page loads again and reads as JSON.

Browsers let a page from file:// ask for nothing, but load scripts that its policy allows: here none but what its own
script adds, by a secret that is new for each page.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from hpcsynapse.errors import RunNotFoundError
from hpcsynapse.files import write_atomic
from hpcsynapse.runs.states import FINAL_STATES
from hpcsynapse.serve import catalog
from hpcsynapse.serve.index import RunIndex
from hpcsynapse.serve.snapshot import Beside, Snapshot, to_html, to_json

LONGEST = 7 * 86400.0  # seconds after which a page is renewed no more, whatever its run does
_SHARE = 20.0  # a pause is at least so many times what the renewal before took


def beside(target: Path) -> Path:
    """Return the data file that belongs to a page."""
    return target.with_suffix(".data.js")


def follow(target: Path, index: RunIndex, name: str, take: Callable[[], Snapshot], every: float) -> None:
    """Write the page of a run or a study, and renew its data every so many seconds until all its runs have ended.

    However it ends, the page is left whole, with the newest data inside. Raises RunNotFoundError when the runs are
    removed meanwhile, OSError when a file cannot be written.
    """
    data, end = beside(target), time.monotonic() + LONGEST
    found: Snapshot | None = None
    try:
        while True:
            begun = time.monotonic()
            index.refresh(whole=True)
            left = _left(index, name)
            newer = take()
            write_atomic(data, _script(newer))
            if found is None:
                write_atomic(target, to_html(newer, Beside(data.name, secrets.token_urlsafe(16), every)))
            found = newer
            now = time.monotonic()
            if not left or now > end:
                return
            time.sleep(max(every, _SHARE * (now - begun)))
    finally:
        if found is not None:
            found.ended = True
            write_atomic(data, _script(found))
            write_atomic(target, to_html(found))


def _left(index: RunIndex, name: str) -> int:
    """Return how many runs have still to end, those of a study that have not been made among them."""
    rows = [row for row in index.listed() if name in (row.name, row.study)]
    sizes = [one.size for one in catalog.studies(index) if one.name == name]
    if not rows and not sizes:
        raise RunNotFoundError(f"{name} was removed; the page shows it as it was")
    return max(len(rows), *sizes, 0) - sum(row.state in FINAL_STATES for row in rows)


def _script(found: Snapshot) -> str:
    """Return the data as a text that a script sets, so that it can be nothing but data."""
    text = to_json(found).replace("\\", "\\\\").replace("'", "\\'")
    return f"globalThis.hpcsynapseSnapshot = '{text}';\n"
