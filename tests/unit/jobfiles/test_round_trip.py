"""What is rendered or converted reads back as the same description."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hpcsynapse.errors import HpcSynapseError
from hpcsynapse.jobfiles.convert import convert
from hpcsynapse.jobfiles.reader import DIALECTS, read
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission.render import render
from hpcsynapse.units import parse_walltime

WORD = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,12}", fullmatch=True)
TIME = st.integers(60, 10**6).map(lambda seconds: f"{seconds}s")
SIZES = st.sampled_from([(0, 1), (0, 3), (1, 1), (2, 2), (4, 4), (2, 4), (4, 2)])
DATA = Path(__file__).parents[2] / "data" / "jobfiles"


@given(
    st.sampled_from(["slurm", "loadleveler", "minotauro"]),
    st.integers(1, 5000),
    SIZES,
    st.integers(1, 16),
    TIME,
    WORD,
    WORD,
    st.none() | WORD,
    st.none() | WORD,
    st.none() | st.integers(1, 64),
)
def test_a_rendered_job_reads_back_as_its_description(
    scheduler: str,
    nodes: int,
    size: tuple[int, int],
    cpus: int,
    time: str,
    name: str,
    partition: str,
    account: str | None,
    constraint: str | None,
    mem: int | None,
) -> None:
    gpus, ranks = size
    queue = {"scheduler": scheduler, "partition": partition, "account": account, "constraint": constraint}
    table: dict[str, Any] = {
        "name": name,
        "command": ["true"],
        "workdir": "/w",
        "queue": queue,
        "resources": {
            "nodes": nodes,
            "gpus": gpus,
            "ranks_per_node": ranks,
            "cpus": cpus,
            "time": time,
            "mem": mem and f"{mem}G",
        },
        "launch": {"launcher": "mpiexec" if scheduler == "loadleveler" else "srun"},
        "site": {"accept_mem": scheduler != "minotauro"},
    }
    file = read(render(JobSpec.from_dict(table), Path("/runs/x")).encode())
    request = file.steps[0].request
    assert file.complaints == []
    assert (file.dialect, request.name, request.nodes) == (scheduler, name, nodes)
    assert request.seconds == parse_walltime(time).total_seconds()
    assert (request.partition, request.account, request.features) == (
        partition,
        account,
        (constraint,) if constraint else (),
    )
    if scheduler == "minotauro":  # one task a node, with all its processors
        assert (request.tasks, request.cpus, request.gpus or 0) == (nodes, cpus * ranks, gpus)
    else:
        assert (request.tasks_per_node, request.cpus) == (ranks, cpus)
    if scheduler == "slurm":
        assert (request.gpus or 0, request.memory) == (gpus, mem and mem * 1024)
    if scheduler == "loadleveler":
        assert (request.exclusive, request.task_memory) == (gpus > 0, mem and mem * 1024 // ranks)


REQUESTS = st.fixed_dictionaries({
    "nodes": st.integers(1, 99), "tasks_per_node": st.integers(1, 99), "cpus": st.integers(1, 99),
    "seconds": st.integers(60, 10**6), "name": WORD,
}, optional={
    "gpus": st.integers(1, 8), "mail": st.just(("END",)), "partition": WORD,
    "account": WORD, "features": st.lists(WORD, min_size=1, max_size=2),
    "requeue": st.booleans(), "exclusive": st.just(True), "output": st.sampled_from(["a_%j.out", "/x/%x/%j", "50%%"]),
    "comment": st.text(min_size=1, max_size=20), "workdir": st.sampled_from(["/x", "/my dir"]),
    "reservation": WORD, "array": st.just("0-3"), "environment": st.dictionaries(st.sampled_from("AB"), WORD),
})  # fmt: skip  # a table


# Keys under which a loss is said where a value does not fit into its directive.
STATEMENTS = {"comment": {"-ac", "-Jd"}}
# What a target writes elsewhere than in a directive, or in other units: `_equal` compares it.
ELSEWHERE = {
    "pbs": {"workdir", "environment"},
    "lsf": {"environment"},
    "gridengine": {"environment", "tasks_per_node", "cpus"},
    "slurm": {"environment"},
    "loadleveler": {"gpus"},  # asked for by feature
    "minotauro": {"environment"},
}


def as_written(name: str, value: Any, fields: dict[str, Any], target: str) -> Any:
    """The value of a field as the target says it."""
    if name == "features":
        return "&".join(value)
    if name == "output" and target in ("minotauro", "pbs", "lsf"):
        value = value.replace("%x", fields["name"])
    if name == "output" and target in ("pbs", "lsf") and "workdir" in fields and not value.startswith("/"):
        return f"{fields['workdir']}/{value}"
    return value


@given(REQUESTS, st.sampled_from(sorted(DIALECTS)), st.sampled_from(sorted(DIALECTS)))
def test_what_is_converted_reads_back_except_for_what_was_said_to_be_lost(
    fields: dict[str, Any], source: str, target: str
) -> None:
    start = read(b"#!/bin/bash\n# @ job_name = x\n# @ queue\n", source)
    for name, value in fields.items():
        setattr(start.steps[0].request, name, tuple(value) if name == "features" else value)
    done = convert(start, target)[0]
    back = read(done.text.encode(), target)
    request = back.steps[0].request
    lost = {one.where for one in done.complaints} - {"nodes"}
    for name, value in fields.items():
        if lost & {name, *STATEMENTS.get(name, ())} or name in ELSEWHERE[target]:
            continue
        found = getattr(request, name)
        if name == "features":
            found = "&".join(found)
        if name == "exclusive" and target == "loadleveler":
            found = found or None
        if name == "cpus" and target == "lsf":
            found = found or 1
        assert found == as_written(name, value, fields, target), (name, done.text)
    if target == "gridengine":  # slots alone
        assert (request.tasks_per_node or 0) * (request.cpus or 1) == fields["tasks_per_node"] * fields["cpus"]
    if target == "pbs" and "workdir" in fields and source != "pbs":
        assert f"cd {shlex.quote(fields['workdir'])} || exit 1" in done.text
    assert not [one for one in back.complaints if one.level == "error"], done.text


HOSTILE = st.text(
    st.sampled_from(list("ab7 \t\"'`$(){}[]<>|&;#!%\\:,=+*~^@/.\u00e9\u0192\u202e\x07\n\r")), min_size=1, max_size=12
)
TEXTS = (
    "name",
    "partition",
    "account",
    "qos",
    "reservation",
    "mail_user",
    "comment",
    "output",
    "error",
    "input",
    "workdir",
    "gpu_type",
    "shell",
    "dependency",
    "array",
    "export",
)
FIELDS = {**dict.fromkeys(TEXTS, HOSTILE), "features": st.tuples(HOSTILE), "environment": st.just({})}


@given(
    st.fixed_dictionaries({}, optional=FIELDS),
    st.dictionaries(st.sampled_from("AB"), HOSTILE),
    st.sampled_from(["pbs", "lsf", "gridengine"]),
)
def test_no_value_becomes_anything_but_itself(fields: dict[str, Any], values: dict[str, str], target: str) -> None:
    start = read(b"#!/bin/bash\n#SBATCH --nodes=2 --ntasks-per-node=4 --gres=gpu:2\necho end\n")
    for name, value in {**fields, "environment": values}.items():
        setattr(start.steps[0].request, name, value)
    done = convert(start, target)[0]
    back = read(done.text.encode(), target)
    request = back.steps[0].request
    lost = {one.where for one in done.complaints}
    assert not [one for one in back.complaints if one.level in ("error", "refused")], done.text
    assert request.nodes == 2 and request.gpus == 2 and done.text.endswith("\necho end\n")
    for name in ("partition", "account", "qos", "reservation", "mail_user", "comment"):
        found = getattr(request, name)
        assert found is None or found == fields[name], (name, done.text)
        assert found is not None or name not in fields or any(one for one in lost), (name, done.text)
    for number, line in back.body:
        assert line.startswith(("#!", "cd ", "export ", "echo end")) or not line, (number, done.text)


@pytest.mark.parametrize("target", ["pbs", "lsf", "gridengine"])
def test_a_shell_reads_what_is_converted_as_it_was_meant(target: str, tmp_path: Path) -> None:
    nasty = "a'b\"c`touch x`$(touch x)\\;#&|"
    start = read(b"#!/bin/bash\n#SBATCH --nodes=1\nprintf '%s' \"$A\"\n")
    start.steps[0].request.environment = {"A": nasty}
    start.steps[0].request.workdir = str(tmp_path)
    text = convert(start, target)[0].text
    done = subprocess.run(["bash", "-c", text], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (nasty, "") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", sorted(DATA.iterdir()), ids=lambda path: path.name)
@pytest.mark.parametrize("target", sorted(DIALECTS))
def test_converting_a_second_time_changes_nothing(path: Path, target: str) -> None:
    for first in convert(read(path.read_bytes()), target):
        again = convert(read(first.text.encode(), target), target)
        assert [one.text for one in again] == [first.text]


@given(st.text(max_size=30))
def test_a_comment_is_refused_or_read_back(text: str) -> None:
    table = {
        "name": "x",
        "command": ["true"],
        "queue": {"scheduler": "loadleveler", "comment": text},
        "launch": {"launcher": "mpiexec"},
    }
    try:
        script = render(JobSpec.from_dict(table), Path("/r"))
    except HpcSynapseError:
        return
    assume(text)
    assert read(script.encode()).steps[0].request.comment == text
