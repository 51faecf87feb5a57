"""Which runs are meant."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_RUNS = "runs"


def runs_folder(explicit: str | Path | None = None) -> Path:
    """Return the folder of all runs: the one given, HPCSYNAPSE_RUNS, or ./runs."""
    return Path(explicit or os.environ.get("HPCSYNAPSE_RUNS") or DEFAULT_RUNS).expanduser().resolve()
