"""No value can become a command or a second directive: run under a real bash, read as sbatch reads."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, get_origin

import pytest
from hypothesis import HealthCheck, example, given, settings
from job_scripts import NASTY, TEXTS, directives, execute

from hpcsynapse import fields
from hpcsynapse.errors import HpcSynapseError
from hpcsynapse.spec.job import SECTIONS, JobSpec
from hpcsynapse.submission.launchers import launch_words
from hpcsynapse.submission.render import render
from hpcsynapse.templating import directive_value

pytestmark = pytest.mark.slow

BASE: dict[str, Any] = {
    "name": "safe",
    "workdir": "/",
    "command": ["program", "argument"],
    "queue": {"scheduler": "slurm", "mail_user": "a@b.c"},
    "launch": {"launcher": "srun", "container": "image.sif"},
    "resources": {"gpus": 1},
}


def build(section: str, name: str, value: str, run_dir: Path) -> tuple[JobSpec, str]:
    table = {key: dict(item) if isinstance(item, dict) else item for key, item in BASE.items()}
    if not section:
        table[name] = ["program", value] if name == "command" else value
    else:
        kind = get_origin(fields.base_type(fields.hints(SECTIONS[section])[name]))
        table.setdefault(section, {})[name] = {tuple: [value], dict: {"KEY": value}}.get(kind, value)
    if name == "conda":
        table["launch"].pop("venv", None)
    spec = JobSpec.from_dict(table)
    return spec, render(spec, run_dir)


@pytest.mark.parametrize(("section", "name"), [*TEXTS, ("", "name"), ("", "command"), ("", "workdir")])
@settings(max_examples=60, deadline=None)
@given(value=NASTY)
def test_every_text_is_refused_or_stays_in_its_place(section: str, name: str, value: str) -> None:
    try:
        spec, script = build(section, name, value, Path("/runs/safe"))
    except HpcSynapseError as error:
        assert str(error)
        return
    _, plain = build("", "name", "safe", Path("/runs/safe"))
    words = directives(script)
    assert all(len(one) == 1 or (name == "extra_directives" and len(one) == 2) for one in words), words
    assert len({one[0].partition("=")[0] for one in words}) == len(words) or name == "extra_directives"
    assert len(script.splitlines()) <= len(plain.splitlines()) + 4
    assert subprocess.run(["bash", "-n"], input=script.encode(), capture_output=True).returncode == 0
    option = {"mail_user": "mail-user", "mail_type": "mail-type"}.get(name, name)
    if section == "queue" and name not in ("signal", "extra_directives"):
        assert [f"--{option}={value}"] in words
    del spec


@settings(max_examples=200, deadline=None)
@given(NASTY)
@example('a "b" \\ #c')
def test_a_directive_value_is_read_back_whole(value: str) -> None:
    try:
        text = directive_value(value)
    except HpcSynapseError:
        return
    assert directives(f"#SBATCH --comment={text}") == [[f"--comment={value}"]]


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(argument=NASTY, variable=NASTY, folder=NASTY)
def test_a_real_bash_sees_every_value_as_one_word(tmp_path: Path, argument: str, variable: str, folder: str) -> None:
    workdir = tmp_path / folder.replace("/", "_").strip(".")
    table = {**BASE, "workdir": str(workdir), "command": ["program", argument]}
    table["launch"] = {"launcher": "srun", "env": {"VARIABLE": variable}}
    try:
        spec = JobSpec.from_dict(table)
        script = render(spec, workdir / "run dir")
        (workdir / "run dir").mkdir(parents=True, exist_ok=True)
    except (HpcSynapseError, OSError, ValueError):
        return
    argv, environ = execute(script, tmp_path)
    assert argv == launch_words(spec, workdir / "run dir")
    assert environ["VARIABLE"] == variable
    assert environ["PWD"] == str(workdir)
    assert not list(tmp_path.rglob("CANARY"))
    assert (workdir / "run dir" / "exit.json").is_file()
