"""`report` as a group: its default, runs that are called like a report, the forms, and a real terminal."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner

from hpcsynapse.cli.report import REPORTS, command
from hpcsynapse.errors import RunNotFoundError, SpecError
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.study.folder import StudyDirectory
from hpcsynapse.study.lists import StudySpec


@pytest.fixture
def call(tmp_path, make_directory):
    for name, ranks in (("one", 1), ("two", 2), ("why", 4)):
        make_directory(name, ranks, 0.1 / 0.9 ** (ranks > 1), noise=0.01, start=5000.0)

    def invoke(*words):
        return CliRunner().invoke(command, [str(word) for word in words], env={"HPCSYNAPSE_RUNS": f"{tmp_path}/runs"})

    return invoke


def ranks(done) -> list[int]:
    return [row["ranks"] for row in json.loads(done.stdout)]


def test_scaling_is_the_default(call):
    assert ranks(call("one", "two", "--json")) == [1, 2] == ranks(call("scaling", "one", "two", "--json"))
    assert ranks(call("--json", "one", "two")) == [1, 2]


def test_a_run_that_is_called_like_a_report(call, tmp_path):
    assert json.loads(call("why", "one", "two", "--json").stdout)[-1]["part"] == "total"
    assert ranks(call("scaling", "why", "--json")) == [4]
    assert ranks(call("one", "why", "--json")) == [1, 4]
    assert ranks(call(tmp_path / "runs" / "why", "--json")) == [4]
    assert {row["part"] for row in json.loads(call("why", "one", "why", "--json").stdout)} >= {"total"}


def test_a_report_behind_its_runs_is_told_where_it_belongs(call):
    assert str(call("one", "traffic").exception).endswith("for that report write: hpcsynapse report traffic one")
    assert isinstance(call("one", "traffic").exception, SpecError)
    assert isinstance(call("one", "nothing").exception, RunNotFoundError)


def test_a_run_that_is_called_like_a_report_and_stands_alone_is_told_how_to_be_named(call):
    assert "write: hpcsynapse report scaling why" in call("why", "--csv").stderr
    assert "write: hpcsynapse" not in call("traffic").stderr


def test_the_nearest_study_is_suggested(call, tmp_path):
    StudyDirectory.create(tmp_path / "runs", StudySpec(ranks_per_node=(1, 2)), JobSpec(name="scal"))
    assert str(call("scall").exception).endswith("; did you mean 'scal'?")
    assert str(call("twoo").exception).endswith("; did you mean 'two'?")


def test_the_help_fits_a_screen_and_names_every_report():
    text = CliRunner().invoke(command, ["--help"], terminal_width=80).stdout
    assert len(text.splitlines()) <= 40 and max(map(len, text.splitlines())) <= 80
    assert all(f"  {name} " in text for name in REPORTS)
    assert {path.stem for path in Path(sys.modules[command.__module__].__file__).parent.glob("*.py")} == {
        *REPORTS,
        "runs",
        "__init__",
    }


@pytest.mark.parametrize("report", REPORTS)
def test_every_report_has_the_options_of_a_table(report):
    text = CliRunner().invoke(command, [report, "--help"]).stdout
    assert all(f"--{name}" in text for name in ("csv", "json", "markdown", "latex", "columns", "out", "runs"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--csv", "--json"], "--csv and --json are two forms of the same; give one of them"),
        (["--out", "x.pdf"], "--out x.pdf: the ending chooses the form: .csv, .json, .md or .tex"),
        (["--out", "x"], "--out x: the ending chooses the form"),
        (["--csv", "--out", "x.json"], "--csv and --out x.json are two forms"),
        (["--columns", "ranks,speedupp"], "column 'speedupp' is not known; did you mean 'speedup'?"),
        (["--columns", ""], "column '' is not known"),
    ],
)
def test_what_contradicts_itself_is_refused_and_nothing_is_written(call, workdir, words, message):
    done = call("one", *words)
    assert message in str(done.exception) and isinstance(done.exception, SpecError)
    assert not list(workdir.glob("x*")) and not done.stdout


def test_columns_that_are_asked_for(call, tmp_path):
    assert call("one", "two", "--columns", "ranks,speedup", "--csv").stdout.startswith("ranks,speedup\n1,1.0\n2,1.")
    text = call("one", "two", "--columns", "speedup,model").stdout.splitlines()
    assert text[0].split() == ["speedup", "model"] and len(text) == 3
    call("one", "two", "--columns", "ranks,step_time_s", "--out", tmp_path / "t.tex")
    assert r"\begin{tabular}{rr}" in (tmp_path / "t.tex").read_text()
    assert call("one", "--csv", "--out", tmp_path / "t.dat").exit_code == 0
    assert (tmp_path / "t.dat").read_text().startswith("strategy,")


def on_a_terminal(width: int, *words: str) -> list[str]:
    """What a terminal of so many columns shows of a command."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    program = subprocess.Popen([sys.executable, "-m", "hpcsynapse", *words], stdout=theirs, env=environ)
    os.close(theirs)
    found = b""
    try:
        while part := os.read(ours, 65536):
            found += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert program.wait() == 0
    return found.decode().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("report", ["scaling", "stragglers", "traffic"])
def test_it_fits_a_real_terminal(call, tmp_path, width, report):
    names = [str(tmp_path / "runs" / name) for name in ("one", "two", "why")]
    lines = on_a_terminal(width, "report", report, *names)
    assert max(map(len, lines)) <= width
    if report == "scaling":
        assert any(line.split()[:1] == ["nodes"] or line.split()[:1] == ["ranks"] for line in lines), lines
        assert any("speedup" in line and "efficiency" in line for line in lines)
