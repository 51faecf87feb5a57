"""docs/analysis.md: its studies can be made, and its blocks, one after another, print what stands below them.

The records are written as the studies' ranks would; figures with a decimal point are compared by form alone.
"""

import contextlib
import io
import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from hpcsynapse.cli.main import cli
from hpcsynapse.files import write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.study.folder import StudyDirectory
from hpcsynapse.study.lists import StudySpec

PAGE = (Path(__file__).parents[3] / "docs" / "analysis.md").read_text()
STUDIES = [line for line in PAGE.splitlines() if line.startswith("hpcsynapse study ")]
BLOCKS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
EPOCHS, STEPS = 3, 44  # of one rank; 1437 digits in batches of 32


def plan(command):
    """Return what a command of the page would run, by the command itself."""
    done = CliRunner().invoke(cli, [*shlex.split(command)[1:], "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def write_run(run, planned, step_time, write):
    """Write what a run of the page's studies leaves behind."""
    ranks, steps = planned["ranks"], EPOCHS * (STEPS // planned["ranks"])
    about = {"strategy": "allreduce", "engine": "ddp"} if ranks > 1 else {"strategy": "single", "engine": "none"}
    run.append_history("TRAINING")
    write(
        run.timings,
        ranks,
        step_time,
        steps=steps,
        noise=0.01,
        seed=planned["repeat"],
        warmup=10,
        epoch_steps=steps // EPOCHS,
        **about,
    )
    for epoch in range(1, EPOCHS + 1):
        step = epoch * steps // EPOCHS
        run.append_metrics(step, epoch, step * ranks * 32, {"accuracy": 0.8 + epoch / 20})
    write_json(run.exit, {"exit_code": 0})


@pytest.fixture
def studies(workdir, run_writer):
    """Make the folders of both studies, with runs that have finished."""
    for command, slowdown in zip(STUDIES, (1.0, 1.2), strict=True):
        points = plan(command)
        name = shlex.split(command)[-1]
        lists = StudySpec(ranks_per_node=(1, 2), repeats=3)
        study = StudyDirectory.create(workdir / "runs", lists, JobSpec(name=name))
        for point in points:
            run = RunDirectory.create(study.runs_path, JobSpec(name=point["run"]))
            write_run(run, point, slowdown * (0.04 if point["ranks"] == 1 else 0.05), run_writer)


def form(text):
    """Return a text by lines and words, without figures that are another run's own."""
    text = re.sub(r"-?\d+\.\d+(e-?\d+)?|NaN", "#", text)
    return [re.sub(r"\b(slower|faster|same|unclear)\b", "VERDICT", line).split() for line in text.splitlines()]


@pytest.mark.usefixtures("studies")
def test_the_blocks_print_what_the_page_says():
    assert len(BLOCKS) == PAGE.count("```python") >= 4
    names: dict = {}
    for code, printed in BLOCKS:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, "docs/analysis.md", "exec"), names)
        assert form(out.getvalue()) == form(printed), code
    assert (names["changes"].time_ratio.round(1) == 1.2).all()
    assert set(names["changes"].verdict) == {"slower"}


@pytest.mark.usefixtures("studies")
def test_the_commands_of_the_gate_end_as_they_should():
    block = next(block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "compare" in block)
    codes = [CliRunner().invoke(cli, shlex.split(line, comments=True)[1:]).exit_code for line in block.splitlines()]
    assert codes == [0, 1, 1]


def test_the_verdicts_are_those_there_are():
    from hpcsynapse.report.regression import VERDICTS

    gate = PAGE.partition("## Has it become slower?")[2]
    assert tuple(re.findall(r"^\| `(\w+)` \|", gate, re.MULTILINE)) == VERDICTS


def test_the_remarks_are_those_there_are():
    from hpcsynapse.report.points import FLAGS

    told = re.findall(r"^\| `([\w-]+(?:=N%)?)` (?:\(`compare`\) )?\|", PAGE.partition("## Steps")[0], re.MULTILINE)
    assert set(told) <= {*FLAGS, "other-day"} and len(told) == 10
