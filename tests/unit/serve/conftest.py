"""One server for the tests of a file, with runs of several states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from web import Server
from web_runs import make_run, measured_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "runs"
    measured_run(folder, "measured", slow={(2, "forward"): 0.05})
    make_run(folder, "failed", "FAILED", files={"logs/rank-00000.log": "x\n" * 100})
    return folder


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[Server]:
    found = Server(runs)
    yield found
    found.close()
