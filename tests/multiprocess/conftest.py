"""Every test here starts several processes, and ends them whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import Starter


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.multiprocess)


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    made = Starter(tmp_path)
    yield made
    for job in made.jobs:
        job.end()


@pytest.fixture(scope="session")
def references(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """A starter whose runs are shared by the tests of a session."""
    made = Starter(tmp_path_factory.mktemp("references"))
    yield made
    for job in made.jobs:
        job.end()
