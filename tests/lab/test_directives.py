"""The real sbatch reads every accepted value as it was meant; a refused one leaves nothing behind."""

import re

import pytest
from researcher import at_login

pytestmark = pytest.mark.lab

NASTY = {
    "blanks": "two  words", "blanks at the ends": "  both ", "double quote": 'a"b', "single quote": "a'b",
    "all quotes": "\"'`", "backslash": "back\\slash", "two backslashes": "dbl\\\\x", "backslash at the end": "end\\",
    "escaped quote": '\\"', "escaped blank": "a\\ b", "hash": "a # b", "hash first": "#SBATCH --nodes=9",
    "substitution": "$(touch bad)$HOME", "backticks": "`touch bad`", "unicode": "é 漢字 ☃", "semicolon": "a;touch bad",
    "commas and equals": "a,b=c", "dash": "-dash", "option": "--wrap=x", "patterns": "%j %x %5j", "percent": "100%%",
    "patterns and backslash": 'mix%j\\%%"x', "globs": "*?[x]{a,b}", "tilde": "~", "redirection": "a&b|c>d<e !",
}  # fmt: skip  # a table


@pytest.fixture(scope="module")
def nasty(slurm_lab, tmp_path_factory):
    """A run for every value, in the queue all at once."""
    user = at_login(slurm_lab, tmp_path_factory.mktemp("nasty"))
    runs = {}
    for value in NASTY.values():
        work, folder = user.folder / "w" / value, user.folder / "r" / value
        work.mkdir(parents=True)
        runs[value] = user.submit(
            "--runs", str(folder), "--comment", value, "--env", f"VALUE={value}", "--name", "nasty",
            "--", "bash", "-c", 'printf "%s" "$1$VALUE" > here', "bash", value, cwd=work,
        )  # fmt: skip  # a command line
    yield user, runs
    user.leave()


@pytest.mark.parametrize("value", NASTY.values(), ids=NASTY.keys())
def test_comment_folders_and_environment(slurm_lab, nasty, value):
    user, runs = nasty
    run, work = runs[value], user.folder / "w" / value
    assert run.path == user.folder / "r" / value / "nasty"
    text = slurm_lab.run("scontrol", "show", "job", run.job_id)
    assert re.search(r"^   Comment=(.*) $", text, re.MULTILINE)[1] == value
    assert re.search(r"^   WorkDir=(.*)$", text, re.MULTILINE)[1] == str(work)
    user.wait_for(run.path / "exit.json")
    assert run.file("exit.json")["exit_code"] == 0, run.text("logs/job.log")
    assert (work / "here").read_text() == value + value
    assert (run.path / "logs" / "job.log").is_file()
    assert not list(user.folder.rglob("bad"))


@pytest.mark.parametrize("name", ["two words", "a'b", "a/b", "-dash", "#x", "$(touch bad)", "é", ".hidden", "x" * 65])
def test_unsafe_names_are_refused_and_nothing_is_written(user, name):
    done = user.attempt("submit", f"--name={name}", "--set", f"queue.comment={name}", "--", "true")
    assert done.returncode == 2
    assert repr(name)[1:-1] in done.stderr
    assert [path.name for path in user.folder.iterdir()] == ["hpcsynapse.toml"]


@pytest.mark.parametrize(
    "options",
    [
        ["--comment", "a\nb"],
        ["--comment", "a\tb"],
        ["--comment", "a\x1bb"],
        ["--env", "X=a\nb"],
        ["--env", "X Y=1"],
        ["--env", "RANK=3"],
        ["--partition", "two words"],
        ["--partition", "-x"],
        ["--account", "a'b"],
        ["--directive", "two words"],
        ["--directive", "--comment=x\n#SBATCH --nodes=9"],
        ["--directive", "touch bad"],
        ["--directive", "--comment=a # b"],
        ["--prelude", "a\nb"],
        ["--module", "$(touch bad)"],
        ["--runs", "r\nx"],
    ],
    ids=repr,
)
def test_what_no_job_file_can_hold_is_refused(user, options):
    done = user.attempt("submit", *options, "--", "true")
    assert done.returncode == 2, done.stdout + done.stderr
    assert [path.name for path in user.folder.iterdir()] == ["hpcsynapse.toml"]
