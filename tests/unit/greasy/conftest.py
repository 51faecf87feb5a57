"""A call of `hpcsynapse greasy` in an empty folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from command_line import hpcsynapse
from greasy_cases import Greasy


@pytest.fixture
def greasy(workdir: Path) -> Greasy:
    def call(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return hpcsynapse("greasy", *argv, **environ)

    return call
