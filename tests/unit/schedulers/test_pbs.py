"""PBS's and Torque's answers as they print them, and what is asked of them; jobs run in tests/multiprocess."""

from __future__ import annotations

import random
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mutations import mutations

from hpcsynapse.errors import CommandError, PlacementError, SchedulerOutputError, SpecError
from hpcsynapse.schedulers import create
from hpcsynapse.schedulers.base import QueueState
from hpcsynapse.schedulers.pbs_answers import END, parse
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission import queries
from hpcsynapse.submission.render import render

RUNNING = (
    "Job Id: 0.polaris-pbs-01.hsn.cm.polaris.alcf.anl.gov\n    Job_Name = a name = with signs\n"
    "    Job_Owner = tester@lab1\n    resources_used.walltime = 00:00:15\n    job_state = R\n    queue = workq\n"
    "    exec_host = lab1/0*4+lab2/0*4\n    comment = Job run at Sat Nov 28 at 15:42 on (lab1:ncpus=4:ngpus=2:mem=10\n"
    "\t48576kb)+(lab2:ncpus=4)\n    substate = 42\n    Variable_List = PBS_O_HOME=/home/tester,PBS_O_WORKDIR=/h\n"
    "\tter/job_state = X\n\n"
)
FINISHED = (
    "Job Id: {id}.lab1\n    Job_Name = x\n    job_state = {state}\n    substate = {substate}\n{more}"
    "    comment = Job run at Sat Nov 28 at 15:42 {comment}\n\n"
)


def answer(**values: Any) -> str:
    values = {"id": "7", "state": "F", "substate": 92, "comment": "and finished", "more": "", **values}
    if "code" in values:
        values["more"] = f"    Exit_status = {values['code']}\n"
    return FINISHED.format(**values) + END + "\n"


@pytest.mark.parametrize(
    ("values", "state", "native", "code"),
    [
        ({"code": 0}, "COMPLETED", "F", 0),
        ({"code": 3, "substate": 93, "comment": "and failed"}, "FAILED", "FAILED", 3),
        ({"code": 271, "substate": 91, "comment": "and terminated by me"}, "CANCELLED", "CANCELLED", None),
        ({"code": 271, "substate": 93, "comment": "and exceeded resource walltime"}, "FAILED", "TIMEOUT", 143),
        ({"code": -29, "substate": 93}, "FAILED", "TIMEOUT", -29),
        ({"code": -27, "substate": 93}, "FAILED", "OUT_OF_MEMORY", -27),
        ({"code": 265, "substate": 93}, "FAILED", "FAILED", 137),
        ({"substate": 91}, "CANCELLED", "CANCELLED", None),  # deleted while it waited
        ({"substate": 92}, "CANCELLED", "CANCELLED", None),  # its dependency failed
        ({"code": 0, "state": "X"}, "COMPLETED", "X", 0),
        ({"state": "M"}, "UNKNOWN", "M", None),
        ({"state": "H"}, "QUEUED", "H", None),
        ({"state": "B"}, "RUNNING", "B", None),
        ({"state": "C", "more": "    exit_status = 271\n"}, "FAILED", "FAILED", 143),  # Torque
        ({"state": "C", "more": "    exit_status = 0\n"}, "COMPLETED", "C", 0),
        ({"state": "C"}, "UNKNOWN", "C", None),
        ({"state": "läuft"}, "UNKNOWN", "läuft", None),
        ({"code": "zwölf"}, "CANCELLED", "CANCELLED", None),
    ],
)
def test_states(values: dict[str, Any], state: str, native: str, code: int | None) -> None:
    found = parse(answer(**values))["7"]
    assert (found.state, found.native_state, found.exit_code) == (state, native, code)


def test_long_values_are_folded_anywhere() -> None:
    found = parse(RUNNING + answer(id="17[3]"))
    assert {key: one.state for key, one in found.items()} == {"0": "RUNNING", "17[3]": "CANCELLED"}
    assert found["0"].nodes == "lab1+lab2" and found["0"].reason.endswith("1048576kb)+(lab2:ncpus=4)")


@pytest.mark.slow
def test_twenty_thousand_broken_answers_are_survived() -> None:
    texts = (RUNNING + answer(code=0), answer(code=271, substate=91))
    for text in mutations(texts, 20_000, random.Random(19)):
        try:
            found = parse(text)
        except SchedulerOutputError:
            continue
        assert all(one.state in QueueState for one in found.values())


QSTAT = """#!/bin/bash
case "$*" in
  *" 99"*) echo 'qstat: Unknown Job Id 99.lab1' >&2; code=153 ;;
  *down*) echo 'Connection refused' >&2; exit 255 ;;
  *-x*7*)
    if [ -n "$NO_HISTORY" ]; then echo 'qstat: PBS is not configured to maintain job history 7.lab1' >&2; exit 0; fi ;;
esac
case "$*" in *7*) printf 'Job Id: 7.lab1\\n    job_state = R\\n\\n' ;; esac
exit "${code:-0}"
"""


@pytest.fixture
def qstat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "qstat"
    program.write_text(QSTAT)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.usefixtures("qstat")
@pytest.mark.parametrize("history", ["", "none"])
@pytest.mark.parametrize("name", ["pbs", "torque"])
def test_unknown_jobs_do_not_hide_the_others(history: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_HISTORY", history)
    found = queries.ask_queue(name, ["7", "99"])
    assert isinstance(found, dict) and list(found) == ["7"]
    assert queries.ask_queue(name, ["99"]) == {}
    down = queries.ask_queue(name, ["down"])
    assert isinstance(down, CommandError) and "Connection refused" in str(down)


def test_ids() -> None:
    queue = create("pbs")
    assert queue.owner_id("42[1].lab1.example.org") == "42[1]"
    assert queue.array_task_id("42[]", 0) == "42[1]" and queue.array_task_id("42", 0) == "42"
    assert queue.array_of("42[7]") == "42[]" and queue.array_of("42") is None
    assert queue.is_job_id("42[7]") and not queue.is_job_id("42;rm")


def spec(name: str = "pbs", **sections: Any) -> JobSpec:
    table: dict[str, Any] = {"name": "x", "command": ["true"], "queue": {"scheduler": name}}
    for key, values in sections.items():
        table[key] = {**table.get(key, {}), **values}
    return JobSpec.from_dict({**table, "launch": {"launcher": "mpirun"}})


BIG = {"resources": {"nodes": 2, "gpus": 4, "cpus": 4, "mem": "64G", "gpu_type": "a100", "time": "1-00:00:00"}}


@pytest.mark.parametrize(
    ("name", "sections", "lines"),
    [
        (
            "pbs",
            BIG,
            [
                "-l select=2:ncpus=16:mpiprocs=4:ngpus=4:mem=65536mb:gpu_type=a100",
                "-l place=scatter",
                "-l walltime=86400",
            ],
        ),
        ("pbs", {**BIG, "site": {"counted_per": "job"}}, ["-l ncpus=32", "-l ngpus=8", "-l mem=131072mb"]),
        ("pbs", {"resources": {"exclusive": True}}, ["-l place=scatter:exclhost"]),
        ("pbs", {"queue": {"constraint": "filesystems=home"}}, ["-l select=1:ncpus=1:mpiprocs=1:filesystems=home"]),
        ("pbs", {"queue": {"account": "p"}, "site": {"account_option": "P"}}, ["-P p"]),
        ("pbs", {"queue": {"dependency": "afterok:12"}}, ["-W depend=afterok:12"]),
        ("torque", BIG, ["-l nodes=2:ppn=16:gpus=4:a100", "-l mem=131072mb", "-l walltime=86400"]),
    ],
)
def test_what_is_asked_for(name: str, sections: dict[str, Any], lines: list[str]) -> None:
    text = render(spec(name, **sections), Path("/runs/x")).splitlines()
    assert [line for line in lines if f"#PBS {line}" not in text] == []


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"queue": {"qos": "high"}}, "queue.qos has no counterpart under pbs"),
        ({"queue": {"exclude": ["n1"]}}, "queue.exclude"),
        ({"queue": {"reservation": "R12"}}, "--partition"),
        ({"resources": {"mem": "0"}}, "--exclusive"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        render(spec(**sections), Path("/runs/x"))


def test_hosts(tmp_path: Path) -> None:
    file = tmp_path / "nodes"
    file.write_text("lab2\nlab2\nlab1\nlab1\n")
    assert create("pbs").hosts({"PBS_NODEFILE": str(file)}) == ["lab2", "lab1"]
    with pytest.raises(PlacementError, match="PBS_NODEFILE"):
        create("pbs").hosts({"PBS_NODEFILE": "/nowhere"})


def test_the_site_that_pbsnodes_describes() -> None:
    node = '{"resources_available": {"ncpus": 64, "ngpus": 4, "mem": "512gb"}, "state": "free"}'
    tables, said = create("pbs").describe_site(lambda argv: f'{{"nodes": {{"n1": {node}, "n2": {node}}}}}')
    assert tables["site"] == {"name": "PBS", "max_nodes": 2, "cpus_per_node": 64, "gpus_per_node": 4} and not said
    for text in ("", "[]", '{"nodes": {"n1": {}}}', '{"nodes": 3}'):
        with pytest.raises(CommandError, match="pbsnodes"):
            create("pbs").describe_site(lambda argv, text=text: text)  # type: ignore[misc]


def test_the_agent_starts_words_on_the_node_of_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = render(spec(resources={"nodes": 2}), tmp_path)
    agent = tmp_path / "agent.sh"
    agent.write_text(text.partition("<<'AGENT'\n")[2].partition("AGENT\n")[0])
    (tmp_path / "pbsdsh").write_text('#!/bin/bash\nprintf "%s|" "$@"\n')
    for file in (agent, tmp_path / "pbsdsh"):
        file.chmod(0o755)
    (tmp_path / "nodes").write_text("lab1\nlab1\nlab2.site\nlab2.site\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("PBS_NODEFILE", str(tmp_path / "nodes"))
    said = subprocess.run([agent, "-x", "lab2.other", "orted", "-mca", "env x"], capture_output=True, text=True)
    assert said.stdout == "-n|2|--|/bin/bash|-c|orted -mca env x|"
