"""No value can become a command, a second directive or part of the next one in LoadLeveler's and BSC's files."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, get_origin

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from job_scripts import NASTY, TEXTS, execute

from hpcsynapse import fields
from hpcsynapse.errors import HpcSynapseError, RenderError
from hpcsynapse.jobfiles.reader import read
from hpcsynapse.spec.job import SECTIONS, JobSpec
from hpcsynapse.submission.launchers import launch_words
from hpcsynapse.submission.render import render
from hpcsynapse.templating import extra_keyword, keyword_value

pytestmark = pytest.mark.slow  # many texts for every setting and queue

QUEUES = ["loadleveler", "minotauro"]
KEYWORDS = {  # setting -> the keyword it becomes, for each queue
    "partition": {"loadleveler": "class", "minotauro": "class"},
    "account": {"loadleveler": "account_no", "minotauro": "account"},
    "constraint": {"loadleveler": "requirements", "minotauro": "features"},
    "reservation": {"minotauro": "reservation"},
    "comment": {"loadleveler": "comment"},
    "mail_user": {"loadleveler": "notify_user"},
    "network": {"loadleveler": "network.mpi"},
    "gpu_feature": {"loadleveler": "requirements"},
}
WORDY = st.one_of(
    NASTY,
    st.sampled_from(
        [
            "$(jobid)",
            "# @ queue",
            "a # @ queue",
            "\\\n# @ class = x",
            "queue",
            "=",
            '"q"',
            "'q'",
            "a b",
            "(Feature)",
            '") || (Machine == "x',
        ]
    ),
)


def table_for(queue: str) -> dict[str, Any]:
    return {
        "name": "safe",
        "workdir": "/",
        "command": ["program", "argument"],
        "queue": {"scheduler": queue},
        "launch": {"launcher": "mpiexec"},
    }


def build(queue: str, section: str, name: str, value: str) -> str:
    table = table_for(queue)
    if not section:
        table[name] = ["program", value] if name == "command" else value
    else:
        kind = get_origin(fields.base_type(fields.hints(SECTIONS[section])[name]))
        table.setdefault(section, {})[name] = {tuple: [value], dict: {"KEY": value}}.get(kind, value)
    if name in ("gpu_type", "gpu_feature"):
        table.setdefault("resources", {})["gpus"] = 1
    if name == "container_mounts":
        table["launch"]["container"] = "image.sif"
    return render(JobSpec.from_dict(table), Path("/runs/safe"))


def statements(script: str, queue: str) -> dict[str, str]:
    file = read(script.encode(), queue)
    assert len(file.steps) == 1 and not file.errors, script
    return {key: directive.value for key, directive in file.steps[0].lines.items()}


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize(
    ("section", "name"), [*TEXTS, ("", "name"), ("", "command"), ("", "workdir"), ("launch", "prelude")]
)
@settings(max_examples=40, deadline=None)
@given(value=WORDY)
def test_every_text_is_refused_or_stays_in_its_place(queue: str, section: str, name: str, value: str) -> None:
    try:
        script = build(queue, section, name, value)
    except HpcSynapseError as error:
        assert str(error)
        return
    found, plain = statements(script, queue), statements(build(queue, "", "name", "safe"), queue)
    keyword = KEYWORDS.get(name, {}).get(queue)
    added = {keyword} if keyword else set()
    if name in ("gpu_type", "gpu_feature"):
        added |= {"requirements"} if queue == "loadleveler" else {"features", "gpus_per_node"}
    if name != "extra_directives":
        assert set(found) - set(plain) <= added, script
    changed = {key for key in plain if found.get(key) != plain[key]}
    allowed = {"job_name", "output", "error", "initialdir", "notification", "node_usage"}
    assert changed <= allowed or name == "extra_directives", script
    if keyword and name not in ("constraint", "gpu_feature"):
        assert found[keyword] == value
    if prelude := name == "prelude":  # is shell, and may be wrong shell
        assert prelude
        return
    assert subprocess.run(["bash", "-n"], input=script.encode(), capture_output=True).returncode == 0, script


@settings(max_examples=300, deadline=None)
@given(WORDY)
@example("ends with \\")
@example('"quoted"')
@example("\u00a0x")
def test_a_value_is_refused_or_read_back_as_one_statement(value: str) -> None:
    try:
        text = keyword_value(value)
    except RenderError:
        return
    file = read(f"# @ comment = {text}\n# @ queue\n".encode(), "loadleveler")
    assert {key: one.value for key, one in file.steps[0].lines.items()} == {"comment": value}
    assert file.steps[0].request.comment == value


@given(WORDY)
def test_a_whole_directive_is_one_directive(value: str) -> None:
    try:
        text = extra_keyword(value)
    except RenderError:
        return
    file = read(f"# @ {text}\n# @ queue\n".encode(), "loadleveler")
    assert len(file.steps) == 1 and len(file.steps[0].lines) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("queue", QUEUES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(argument=NASTY, variable=NASTY)
def test_a_real_bash_sees_every_value_as_one_word(tmp_path: Path, queue: str, argument: str, variable: str) -> None:
    table = {**table_for(queue), "workdir": str(tmp_path), "command": ["program", argument]}
    table["launch"] = {"launcher": "mpiexec", "env": {"VARIABLE": variable}}
    run_dir = tmp_path / "run dir"
    try:
        spec = JobSpec.from_dict(table)
        script = render(spec, run_dir)
    except HpcSynapseError:
        return
    (run_dir / "logs").mkdir(parents=True, exist_ok=True)
    script = script.replace('"$SLURM_JOB_NODELIST"', "node1").replace(
        "\nexport HPCSYNAPSE_RUN_DIR", "\nhpcs_hosts=node1\nexport HPCSYNAPSE_RUN_DIR", 1
    )
    argv, environ = execute(script, tmp_path, "mpiexec.hydra")
    assert argv[-len(launch_words(spec, run_dir)) + 3 :] == launch_words(spec, run_dir)[3:]
    assert environ["VARIABLE"] == variable
    assert not list(tmp_path.rglob("CANARY"))
    assert (run_dir / "exit.json").is_file()


@pytest.mark.parametrize("line", ["# @ class = x", "  #@queue", "#SBATCH --nodes=9"])
def test_a_prelude_is_no_directive(line: str) -> None:
    with pytest.raises(RenderError, match="read as a directive"):
        build("loadleveler", "launch", "prelude", line)
