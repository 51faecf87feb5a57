"""What README and docs say of tables, settings and commands is what there is.

Commands of `console` blocks run in tests/lab/test_readme_tour.py.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hpcsynapse.spec.names import ENGINES, LAUNCHERS, SCHEDULERS, STRATEGIES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DESCRIBING = (ROOT / "docs" / "describing.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def rows(text: str) -> dict[str, str]:
    """The two-column table of a page: `name` | text."""
    return dict(re.findall(r"^\| `?([^`|]+?)`? \| (.+?) \|$", text, re.MULTILINE))


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_choices() -> None:
    from hpcsynapse.trainer.catalog import DATA, MODELS

    tables = {
        "scheduler": SCHEDULERS,
        "launcher": LAUNCHERS,
        "strategy": STRATEGIES,
        "engine": ENGINES,
        "model": MODELS,
        "data": DATA,
    }
    for name, values in tables.items():
        listed = set(re.findall(r"`([a-z0-9-]+)`", rows(DESCRIBING)[name]))
        assert listed == set(values) - {"auto"}, name


def test_the_run_toml_is_a_valid_description(workdir: Path) -> None:
    from hpcsynapse.spec import settings
    from hpcsynapse.submission.schedule_checks import check_schedule

    text = re.search(r"```toml\n(.*?)```", DESCRIBING, re.DOTALL)
    assert text is not None
    (workdir / "run.toml").write_text(text[1])
    spec = settings.load(workdir / "run.toml")
    assert spec.resources.world_size == 16 and spec.train.milestones == ("80e", "120e")
    assert not list(check_schedule(spec)), "the learning rate falls where it is said to"


@pytest.mark.slow
def test_the_python_examples_run(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submit, recorder, longer = (
        re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
        for text in (DESCRIBING, README, (ROOT / "docs" / "own-script.md").read_text())
    )
    submit = submit.replace("nodes=2", "nodes=1")  # the machine of the test is one node
    recorder = "loader = [([1, 2, 3], 4)] * 5\n" + recorder + longer.partition("\n\n")[2]
    monkeypatch.setenv("HPCSYNAPSE_RUNS", str(workdir / "runs"))
    for code in (submit, recorder):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert len(list((workdir / "runs").iterdir())) == 1
    assert list((workdir / "timings").glob("*.steps"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(((?!http)[^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def commands(page: Path) -> list[str]:
    """The hpcsynapse commands of the shell blocks of a page, without comments; several in a line are several."""
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in re.split(r"; (?=hpcsynapse)", line)]
    return [part for part in parts if part.startswith("hpcsynapse ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one_and_has_these_options(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hpcsynapse.cli.main import cli

    monkeypatch.setattr(click.Command, "invoke", lambda self, context: None)  # read what is typed, and do nothing
    for line in commands(page):
        words = shlex.split(re.sub(r" > \S+$", "", line), comments=True)[1:]
        cli.main(words, standalone_mode=False)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    listed = set(re.findall(r": ([a-z-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}
    assert 'id="hpcsynapse-submit"' in (tmp_path / "site" / "commands" / "index.html").read_text()
