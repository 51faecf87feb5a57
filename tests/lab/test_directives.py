"""The real sbatch reads every accepted value as it was meant; a refused one leaves nothing behind."""

import re

import pytest

pytestmark = pytest.mark.lab

NASTY = {
    "blanks": "two  words", "blanks at the ends": "  both ", "double quote": 'a"b', "single quote": "a'b",
    "all quotes": "\"'`", "backslash": "back\\slash", "two backslashes": "dbl\\\\x", "backslash at the end": "end\\",
    "escaped quote": '\\"', "escaped blank": "a\\ b", "hash": "a # b", "hash first": "#SBATCH --nodes=9",
    "substitution": "$(touch bad)$HOME", "backticks": "`touch bad`", "unicode": "é 漢字 ☃", "semicolon": "a;touch bad",
    "commas and equals": "a,b=c", "dash": "-dash", "option": "--wrap=x", "patterns": "%j %x %5j", "percent": "100%%",
    "patterns and backslash": 'mix%j\\%%"x', "globs": "*?[x]{a,b}", "tilde": "~", "redirection": "a&b|c>d<e !",
}  # fmt: skip


@pytest.mark.parametrize("value", NASTY.values(), ids=NASTY.keys())
def test_comment_folders_and_environment(slurm_lab, user, value):
    work, runs = user.folder / "w" / value, user.folder / "r" / value
    work.mkdir(parents=True)
    run = user.submit(
        "--runs", str(runs), "--comment", value, "--env", f"VALUE={value}", "--name", "nasty",
        "--", "bash", "-c", 'printf "%s" "$1$VALUE" > here', "bash", value, cwd=work,
    )  # fmt: skip
    text = slurm_lab.run("scontrol", "show", "job", run.job_id)
    assert re.search(r"^   Comment=(.*) $", text, re.MULTILINE)[1] == value
    assert re.search(r"^   WorkDir=(.*)$", text, re.MULTILINE)[1] == str(work)
    slurm_lab.wait_until(lambda: (run.path / "exit.json").exists(), 60, "the run's end")
    assert user.status(run)["state"] == "FINISHED"
    assert run.path == runs / "nasty"
    assert (work / "here").read_text() == value + value
    assert (run.path / "logs" / "job.log").is_file()
    assert not list(user.folder.rglob("bad"))


@pytest.mark.parametrize(
    "name", ["two words", "a'b", "a/b", "-dash", "#x", "$(touch bad)", "é", ".hidden", "x" * 65, ""]
)
def test_unsafe_names_are_refused_and_nothing_is_written(user, name):
    done = user.attempt("submit", f"--name={name}", "--set", f"queue.comment={name}", "--", "true")
    assert done.returncode == 2
    assert repr(name)[1:-1] in done.stderr
    assert list(user.folder.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        ["--comment", "a\nb"], ["--comment", "a\tb"], ["--comment", "a\x1bb"], ["--env", "X=a\nb"], ["--env", "X Y=1"],
        ["--env", "RANK=3"], ["--partition", "two words"], ["--partition", "-x"], ["--account", "a'b"],
        ["--directive", "two words"], ["--directive", "--comment=x\n#SBATCH --nodes=9"], ["--directive", "touch bad"],
        ["--directive", "--comment=a # b"], ["--prelude", "a\nb"], ["--module", "$(touch bad)"], ["--runs", "r\nx"],
    ],
    ids=repr,
)  # fmt: skip
def test_what_no_job_file_can_hold_is_refused(user, options):
    done = user.attempt("submit", *options, "--", "true")
    assert done.returncode == 2, done.stdout + done.stderr
    assert list(user.folder.iterdir()) == []
