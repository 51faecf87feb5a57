"""Grid Engine's answers, as release 8.1.9 prints them; the real thing runs in tests/lab/test_gridengine.py."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from mutations import mutations

from hpcsynapse.errors import CommandError, PlacementError, SchedulerOutputError, SpecError
from hpcsynapse.schedulers import create
from hpcsynapse.schedulers.base import QueueState
from hpcsynapse.schedulers.gridengine_answers import parse, state_of
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission.render import render

HEAD = "<?xml version='1.0'?>\n<job_info  xmlns:xsd=\"http://arc.liv.ac.uk/qstat.xsd\">\n  <queue_info>\n"
RUNNING = (
    '    <job_list state="running"><JB_job_number>16</JB_job_number><JAT_prio>0.75</JAT_prio><JB_name>a&amp;b</JB_name>'
    "<JB_owner>tester</JB_owner><state>r</state><JAT_start_time>2026-11-28T15:33:14</JAT_start_time>"
    "<queue_name>all.q@lab1</queue_name><slots>8</slots></job_list>\n"
)
PENDING = (
    '    <job_list state="pending"><JB_job_number>{id}</JB_job_number><JB_name>x</JB_name><JB_owner>tester</JB_owner>'
    "<state>{state}</state><queue_name></queue_name><slots>1</slots>{tasks}</job_list>\n"
)
MIDDLE, END = "  </queue_info>\n  <job_info>\n", "  </job_info>\n</job_info>\n"
ANSWER = (
    f"{HEAD}{RUNNING}{MIDDLE}"
    + PENDING.format(id=12, state="Eqw", tasks="")
    + PENDING.format(id=18, state="qw", tasks="<tasks>1-5:2</tasks>")
    + PENDING.format(id=19, state="hqw", tasks="<tasks>3,7</tasks>")
    + END
)
RECORD = (
    "==============================================================\n"
    "qname        all.q               \nhostname     lab1                \njobname      tst                 \n"
    "jobnumber    {id}                   \ntaskid       {task}\nslots        4                   \n"
    "failed       {failed}\nexit_status  {code}                  {more}\nru_wallclock 3s\n"
)


def record(number: int = 7, failed: str = "0    ", code: object = 0, task: str = "undefined", more: str = "") -> str:
    return RECORD.format(id=number, failed=failed, code=code, task=task, more=more)


def test_what_qstat_lists() -> None:
    found = {key: (one.state, one.native_state) for key, one in parse(ANSWER).items()}
    assert found == {
        "16": ("RUNNING", "r"),
        "12": ("FAILED", "Eqw"),
        "18.1": ("QUEUED", "qw"),
        "18.3": ("QUEUED", "qw"),
        "18.5": ("QUEUED", "qw"),
        "19.3": ("QUEUED", "hqw"),
        "19.7": ("QUEUED", "hqw"),
    }
    assert "qstat -j" in parse(ANSWER)["12"].reason and parse(ANSWER)["16"].nodes == "lab1"
    assert parse(HEAD + MIDDLE + END) == {}


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("qw hqw Rq hRwq Rqw", QueueState.QUEUED),
        ("r t Rr Rt hr hRr dr dt dRr", QueueState.RUNNING),
        ("s S T N", QueueState.SUSPENDED),
        ("Eqw Ehqw", QueueState.FAILED),
        ("z ü r! rrrrrrrrrr", QueueState.UNKNOWN),
    ],
)
def test_words_of_letters(words: str, state: QueueState) -> None:
    assert {state_of(word) for word in words.split()} == {state}
    assert state_of("") == QueueState.UNKNOWN


@pytest.mark.parametrize(
    ("text", "state", "native"),
    [
        (record(), "COMPLETED", "ended"),
        (record(code=3), "FAILED", "FAILED"),
        (record(failed="100 : assumedly after job", code=137), "FAILED", "FAILED"),
        (record(failed="100 : assumedly after job", code=137, more="\ndeleted_by   me@lab1"), "CANCELLED", "CANCELLED"),
        (record(failed="37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", code=137), "FAILED", "TIMEOUT"),
        (record(failed="25  : rescheduling", code=99), "UNKNOWN", "ended"),
        (record(failed="25  : rescheduling", code=99) + record(), "COMPLETED", "ended"),
        (record(failed="30  : application error returned", code=100), "FAILED", "FAILED"),
        (record(failed="", code=""), "UNKNOWN", "ended"),
    ],
)
def test_how_jobs_ended(text: str, state: str, native: str) -> None:
    found = parse(text)["7"]
    assert (found.state, found.native_state) == (state, native)


def test_a_record_that_is_not_written_yet_is_no_answer() -> None:
    assert parse("error: job id 7 not found\n") == {}
    assert list(parse("error: job id 7 not found\n" + record(8))) == ["8"]


def test_tasks_have_records_of_their_own() -> None:
    found = parse(record(task="1") + record(task="2", code=1))
    assert {key: one.state for key, one in found.items()} == {"7.1": "COMPLETED", "7.2": "FAILED"}
    command = create("gridengine").history_command(["7", "8.2"])
    assert command and command[-2:] == ["7", "8.2"]


@pytest.mark.slow
def test_twenty_thousand_broken_answers_are_survived() -> None:
    for text in mutations((ANSWER, record() + record(9, code=2)), 20_000, random.Random(19)):
        try:
            found = parse(text)
        except SchedulerOutputError:
            continue
        assert all(one.state in QueueState for one in found.values())


def test_a_document_that_defines_things_is_not_read() -> None:
    bomb = "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'x'>]><job_info>&b;</job_info>"
    with pytest.raises(SchedulerOutputError):
        parse(bomb)


def spec(**sections: Any) -> JobSpec:
    table: dict[str, Any] = {"name": "x", "command": ["true"], "queue": {"scheduler": "gridengine"}}
    for name, values in sections.items():
        table[name] = {**table.get(name, {}), **values}
    return JobSpec.from_dict({**table, "launch": {"launcher": "mpirun"}})


def lines(**sections: Any) -> list[str]:
    return [line for line in render(spec(**sections), Path("/runs/x")).splitlines() if line.startswith("#$")]


PE = {"parallel_environment": "mpi-{slots}"}


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"resources": {"nodes": 2, "ranks_per_node": 2}, "site": PE}, "#$ -pe mpi-2 4"),
        ({"resources": {"nodes": 2, "ranks_per_node": 2, "cpus": 4}, "site": PE}, "#$ -pe mpi-8 16"),
        ({"resources": {"nodes": 4, "gpus": 4}, "site": {"node_unit": "rt_F"}}, "#$ -l rt_F=4"),
        ({"resources": {"gpus": 4}, "site": {**PE, "gpu_per": "slot"}}, "#$ -l gpu=1"),
        ({"resources": {"gpus": 4}, "site": {**PE, "gpu_resource": "GPU"}}, "#$ -l GPU=4"),
        ({"resources": {"mem": "64G", "ranks_per_node": 4}, "site": PE}, "#$ -l mem_free=16384M"),
        ({"queue": {"exclude": ["n[1-2]"]}}, "#$ -l h=!(n1|n2)"),
        ({"queue": {"account": "proj"}, "site": {"account_option": "P"}}, "#$ -P proj"),
        ({"queue": {"dependency": "afterany:7:8"}}, "#$ -hold_jid 7,8"),
        ({"queue": {"mail_user": "a@b.c", "mail_type": "BEGIN,FAIL"}}, "#$ -m ba"),
        ({"queue": {"extra_directives": ["-p -10"]}}, "#$ -p -10"),
        ({"queue": {"extra_directives": ["-dept x"]}}, "#$ -dept x"),
    ],
)
def test_what_is_asked_for(sections: dict[str, Any], line: str) -> None:
    assert line in lines(**sections)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"resources": {"nodes": 2}}, "site.parallel_environment"),
        ({"resources": {"gpus": 2, "ranks_per_node": 4}, "site": {**PE, "gpu_per": "slot"}}, "no whole number"),
        ({"resources": {"mem": "0"}}, "no counterpart under gridengine"),
        ({"queue": {"qos": "high"}}, "queue.qos has no counterpart"),
        ({"queue": {"dependency": "afterok:7"}}, "afterany:ID"),
        ({"queue": {"signal": "USR2@60"}}, "tells jobs to end"),
        ({"queue": {"mail_user": "a@b.c", "mail_type": "STAGE_OUT"}}, "STAGE_OUT has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        lines(**sections)


def test_the_signal_before_the_limit_is_sent_by_the_script() -> None:
    text = render(spec(queue={"signal": "USR1@120"}, resources={"time": "00:10:00"}), Path("/runs/x"))
    assert "sleep 480 & wait $! && kill -USR1 $$" in text


def test_hosts(tmp_path: Path) -> None:
    queue, file = create("gridengine"), tmp_path / "hosts"
    file.write_text("lab2 2 all.q@lab2 UNDEFINED\nlab1 4 all.q@lab1 UNDEFINED\nlab2 2 short.q@lab2 UNDEFINED\n")
    assert queue.hosts({"PE_HOSTFILE": str(file)}) == ["lab2", "lab1"]
    assert queue.hosts({"HOSTNAME": "lab3"}) == ["lab3"]
    with pytest.raises(PlacementError, match="PE_HOSTFILE"):
        queue.hosts({"PE_HOSTFILE": "/nowhere"})


def test_a_site_without_telling_environments_is_told_so() -> None:
    told = {
        ("qconf", "-sql"): "all.q\n",
        ("qconf", "-sc"): "#name shortcut\nngpus g INT <= YES NO 0 0\n",
        ("qconf", "-sq"): "pe_list make \\\n   mpi,smp\n",
        ("qconf", "-spl"): "make\nmpi\n",
        ("qconf", "-sp"): "allocation_rule $fill_up\n",
        ("qhost", "-xml"): "<host name='n1'><hostvalue name='num_proc'>16</hostvalue>"
        "<resourcevalue name='ngpus' dominance='hc'>4.000000</resourcevalue></host>",
    }
    tables, said = create("gridengine").describe_site(lambda argv: told[argv[0], argv[1]])
    assert tables["site"] == {
        "name": "Grid Engine",
        "max_nodes": 1,
        "cpus_per_node": 16,
        "gpus_per_node": 4,
        "gpu_resource": "ngpus",
    }
    assert "mpi ($fill_up)" in said[0]
    with pytest.raises(CommandError):
        create("gridengine").describe_site(_silent)


def _silent(argv: Any) -> str:
    raise CommandError("qmaster is down", command=list(argv))
