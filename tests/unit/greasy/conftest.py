"""A call of `hpcsynapse greasy` in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from greasy_cases import Greasy


@pytest.fixture
def greasy(workdir: Path) -> Greasy:
    def call(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "hpcsynapse", "greasy", *argv], env={**os.environ, **environ},
                              capture_output=True, text=True, timeout=120)  # fmt: skip

    return call
