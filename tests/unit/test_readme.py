"""What the README says of tables and settings is what there is; its commands run in tests/lab/test_readme_tour.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()


def rows(heading: str) -> dict[str, str]:
    """The two-column table under a heading: `name` | text."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `?([^`|]+?)`? \| (.+?) \|$", section, re.MULTILINE))


def test_columns_and_flags_of_the_report() -> None:
    from hpcsynapse.report.points import COLUMNS, FLAGS

    for name, meaning in {**COLUMNS, **FLAGS}.items():
        assert rows("The report")[name] == meaning


def test_choices() -> None:
    from hpcsynapse import spec, training
    from hpcsynapse.trainer.catalog import DATA, MODELS

    tables = {"scheduler": spec.SCHEDULERS, "launcher": spec.LAUNCHERS, "strategy": training.STRATEGIES,
              "engine": training.ENGINES, "model": MODELS, "data": DATA}  # fmt: skip
    for name, values in tables.items():
        listed = set(re.findall(r"`([a-z0-9-]+)`", rows("Describing a run")[name]))
        assert listed == set(values) - {"auto"}, name


def test_the_run_toml_is_a_valid_description(workdir: Path) -> None:
    from hpcsynapse import settings

    text = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert text is not None
    (workdir / "run.toml").write_text(text[1])
    spec = settings.load(workdir / "run.toml")
    assert spec.resources.world_size == 16 and spec.train.milestones == (32000, 48000)


@pytest.mark.slow
def test_the_python_examples_run(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    submit = blocks[0].replace("nodes=2", "nodes=1")  # the machine of the test is one node
    recorder = "loader = [([1, 2, 3], 4)] * 5\n" + blocks[1]
    monkeypatch.setenv("HPCSYNAPSE_RUNS", str(workdir / "runs"))
    for code in (submit, recorder):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert len(list((workdir / "runs").iterdir())) == 1
    assert list((workdir / "timings").glob("*.steps"))


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (Path(__file__).parents[2] / target).exists(), target
