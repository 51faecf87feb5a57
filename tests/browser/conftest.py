"""A real Chromium at a real server: a test fails on anything in the console, and on any request to elsewhere."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Opener
from playwright.sync_api import Browser, expect, sync_playwright
from web import Server
from web_runs import make_run, measured_run, sampled_nodes

expect.set_options(timeout=30_000)  # this machine may be busy with something else
CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = "<script>document.title='taken'</script><img src=x onerror=alert(1)>"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in Path(item.path).parts:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


def make_runs(folder: Path) -> Path:
    """Runs of every kind: a study, slow ranks, a failure, one that waits and one that goes on, and hostile texts."""
    now = time.time()
    for ranks in (1, 2, 4):
        measured_run(folder / "scaling" / "points", f"of-{ranks}", ranks=ranks, created=now - 9000 + ranks)
    (folder / "scaling" / "study.toml").write_text(
        'format = 1\nname = "scaling"\n[queue]\nscheduler = "local"\n[study]\n'
    )
    eight = measured_run(folder, "eight", ranks=8, slow={(5, "forward"): 0.02}, per_node=4, created=now - 4000)
    sampled_nodes(eight, ["node0", "node1"])
    measured_run(folder, "eight-again", ranks=8, per_node=4, created=now - 3000, batch=64)
    log = "Traceback (most recent call last):\n  File 'train.py', line 1\nValueError: the data are not there\n"
    failure = {"rank": 3, "host": "node17", "reason": "exit code 1", "code": 1, "time": now - 1950}
    make_run(
        folder,
        "broken",
        "FAILED",
        created=now - 2000,
        files={
            "logs/rank-00003.log": log,
            "logs/rank-00000.log": "connection closed by peer\n",
            "logs/job.log": "begin\n",
            "evidence/1/failure-00003.json": json.dumps(failure),
        },
    )
    make_run(
        folder,
        "hostile",
        created=now - 1500,
        model=HOSTILE,
        metrics={HOSTILE: 1.0},
        remark=HOSTILE,
        files={"logs/rank-00000.log": f"{HOSTILE}\n\x1b[31mred\x1b[0m \u202etxt.exe\n"},
    )
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_runs(tmp_path_factory.mktemp("shown") / "runs")


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[Server]:
    found = Server(runs, "--port", "0")
    yield found
    found.close()


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Opener]:
    found = Opener(browser, server)
    yield found
    found.close()
