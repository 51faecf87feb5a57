"""Removing runs: those that have ended, whole, and after a question."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hpcsynapse.cli.main import cli
from hpcsynapse.errors import SpecError
from hpcsynapse.files import write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.removal import remove_folder
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.queue import QueueOptions


@pytest.fixture
def runs(workdir: Path) -> Path:
    for name, code in (("one", 0), ("two", 3), ("begun", None)):
        run = RunDirectory.create(
            workdir / "runs", JobSpec(name=name, command=("true",), queue=QueueOptions(scheduler="local"))
        )
        if code is not None:
            write_json(run.exit, {"exit_code": code, "time": 1.0})
    return workdir / "runs"


def remove(*words: str, answer: str = "") -> Result:
    return CliRunner().invoke(cli, ["remove", *words], input=answer)


def names(runs: Path) -> list[str]:
    return sorted(path.name for path in runs.iterdir())


def test_after_a_question(runs: Path) -> None:
    assert remove("one", answer="n\n").exit_code == 1 and names(runs) == ["begun", "one", "two"]
    done = remove("one", answer="y\n")
    assert done.exit_code == 0 and "remove 1 run for good?" in done.output and names(runs) == ["begun", "two"]


def test_nothing_is_removed_where_one_has_not_ended(runs: Path) -> None:
    done = remove("one", "begun", "--yes")
    assert isinstance(done.exception, SpecError) and "begun is CREATED" in str(done.exception)
    assert names(runs) == ["begun", "one", "two"]
    assert isinstance(remove("one", "absent", "--yes").exception, SpecError) and names(runs) == ["begun", "one", "two"]
    assert remove("one", "two", "--yes").exit_code == 0 and names(runs) == ["begun"]


def test_what_a_killed_one_has_left_goes_too(runs: Path) -> None:
    (runs / ".removed-one.host.1").mkdir()
    assert "removed" not in CliRunner().invoke(cli, ["status"]).output
    remove_folder(runs / "one")
    assert names(runs) == ["begun", "two"]


def test_a_link_is_removed_alone(runs: Path, tmp_path: Path) -> None:
    (runs / "two").rename(tmp_path / "elsewhere")
    (runs / "two").symlink_to(tmp_path / "elsewhere")
    remove_folder(runs / "two")
    assert names(runs) == ["begun", "one"] and (tmp_path / "elsewhere" / "run.toml").is_file()
