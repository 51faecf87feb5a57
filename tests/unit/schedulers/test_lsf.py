"""LSF's answers as its manual prints them, and what is asked of it; jobs run in tests/multiprocess."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from mutations import mutations

from hpcsynapse.errors import CommandError, PlacementError, SchedulerOutputError, SpecError
from hpcsynapse.schedulers import create
from hpcsynapse.schedulers.base import QueueState
from hpcsynapse.schedulers.lsf_answers import parse
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission.render import render


def answer(*records: dict[str, Any]) -> str:
    return json.dumps({"COMMAND": "bjobs", "JOBS": len(records), "RECORDS": list(records)}, indent=2)


def record(**values: str) -> dict[str, str]:
    empty = {
        "JOBID": "7",
        "JOBINDEX": "0",
        "STAT": "",
        "EXIT_CODE": "",
        "EXIT_REASON": "",
        "PEND_REASON": "",
        "EXEC_HOST": "",
    }
    return {**empty, **values}


@pytest.mark.parametrize(
    ("values", "state", "native", "reason"),
    [
        (
            {"STAT": "PEND", "PEND_REASON": "New job is waiting for scheduling;"},
            "QUEUED",
            "PEND",
            "New job is waiting for scheduling",
        ),
        ({"STAT": "PSUSP"}, "QUEUED", "PSUSP", "held"),
        ({"STAT": "RUN", "EXEC_HOST": "n01:n01:n02"}, "RUNNING", "RUN", ""),
        ({"STAT": "UNKWN"}, "RUNNING", "UNKWN", "LSF has lost the job's host"),
        ({"STAT": "DONE"}, "COMPLETED", "DONE", ""),
        (
            {"STAT": "EXIT", "EXIT_CODE": "130", "EXIT_REASON": "TERM_OWNER: job killed by owner", "EXEC_HOST": "n03"},
            "CANCELLED",
            "CANCELLED",
            "TERM_OWNER: job killed by owner",
        ),
        ({"STAT": "EXIT"}, "CANCELLED", "CANCELLED", ""),  # killed while it waited
        (
            {"STAT": "EXIT", "EXIT_CODE": "140", "EXIT_REASON": "TERM_RUNLIMIT: x", "EXEC_HOST": "n1"},
            "FAILED",
            "TIMEOUT",
            "TERM_RUNLIMIT: x",
        ),
        ({"STAT": "EXIT", "EXIT_CODE": "1", "EXEC_HOST": "n1"}, "FAILED", "FAILED", ""),
        ({"STAT": "läuft"}, "UNKNOWN", "läuft", ""),
    ],
)
def test_states(values: dict[str, str], state: str, native: str, reason: str) -> None:
    found = parse("*** a banner ***\n" + answer(record(**values)))["7"]
    assert (found.state, found.native_state, found.reason) == (state, native, reason)


def test_an_answer_as_it_is_printed() -> None:
    text = """{
      "COMMAND":"bjobs",
      "JOBS":2,
      "RECORDS":[
        {"JOBID":"806290","STAT":"RUN","EXIT_CODE":"","EXIT_REASON":"","PEND_REASON":"","EXEC_HOST":"n01:n01:n02:n02"},
        {"JOBID":"806291","STAT":"EXIT","EXIT_CODE":"130","EXIT_REASON":"TERM_OWNER: job killed by owner",
         "PEND_REASON":"","EXEC_HOST":"n03"}
      ]
    }"""
    found = {key: (one.state, one.nodes, one.exit_code) for key, one in parse(text).items()}
    assert found == {"806290": ("RUNNING", "n01+n02", None), "806291": ("CANCELLED", "n03", 130)}


def test_ids_and_jobs_that_are_not_known() -> None:
    unknown = {"JOBID": "99", "ERROR": "Job <99> is not found"}
    found = parse(answer(record(JOBINDEX="4", STAT="RUN"), record(JOBID="8[2]", STAT="RUN"), unknown))
    assert list(found) == ["7[4]", "8[2]"]
    queue = create("lsf")
    assert queue.unknown_jobs(255, "Job <99> is not found\nJob <98> is not found\n")
    assert not queue.unknown_jobs(255, "LSF is down. Please wait ...\nJob <99> is not found\n")
    assert not queue.unknown_jobs(255, "")
    assert queue.is_job_id("7[4]") and not any(map(queue.is_job_id, ("0", "", "7;x")))
    assert queue.parse_job_id("Job <1> \n*** INFO ***\nJob <1234> is submitted to queue <normal>.\n") == "1234"


HISTORY = """
Job <101>, Job Name <a>, User <me>, Project <default>, Command <#!/bin/bash;sleep 1>
Mon Nov 28 10:00:00: Submitted from host <login>, to Queue <normal>;
Mon Nov 28 10:01:00: Done successfully. The CPU time used is 0.1 seconds;
------------------------------------------------------------------------------
Job <102[3]>, User <me>
Mon Nov 28 10:01:00: Exited with exit code 3. The CPU time used is 0.1 seconds;
------------------------------------------------------------------------------
Job <103>, User <me>
Mon Nov 28 10:01:00: Exited by signal 9. The CPU time
                     used is 0.1 seconds;
Mon Nov 28 10:01:00: Completed <exit>; TERM_RUNLIMIT: job killed after reaching LSF run
                     time limit;
------------------------------------------------------------------------------
Job <104>, User <me>
Mon Nov 28 10:01:00: Exited; TERM_OWNER: job killed by owner;
------------------------------------------------------------------------------
Job <105>, User <me>
Mon Nov 28 10:01:00: Started on <n1>;
"""


def test_what_bhist_tells() -> None:
    found = {key: (one.state, one.native_state, one.exit_code) for key, one in parse(HISTORY).items()}
    assert found == {
        "101": ("COMPLETED", "DONE", 0),
        "102[3]": ("FAILED", "FAILED", 3),
        "103": ("FAILED", "TIMEOUT", 137),
        "104": ("CANCELLED", "CANCELLED", None),
    }


@pytest.mark.slow
def test_twenty_thousand_broken_answers_are_survived() -> None:
    whole = answer(record(STAT="RUN", EXEC_HOST="4*n01:n02"), record(JOBID="8", STAT="EXIT", EXIT_CODE="1"))
    for text in mutations((whole, HISTORY), 20_000, random.Random(19)):
        try:
            found = parse(text)
        except SchedulerOutputError:
            continue
        assert all(one.state in QueueState for one in found.values())


def spec(**sections: Any) -> JobSpec:
    table: dict[str, Any] = {"name": "x", "command": ["true"], "queue": {"scheduler": "lsf"}}
    for key, values in sections.items():
        table[key] = {**table.get(key, {}), **values}
    return JobSpec.from_dict({**table, "launch": {"launcher": "mpirun"}})


@pytest.mark.parametrize(
    ("sections", "lines"),
    [
        (
            {"resources": {"nodes": 2, "gpus": 4, "cpus": 4, "gpu_type": "H100"}},
            ["-n 32", '-R "span[ptile=16]"', '-gpu "num=4:mode=shared:j_exclusive=yes:gmodel=H100"'],
        ),
        ({"resources": {"mem": "64G", "ranks_per_node": 4}}, ['-R "rusage[mem=65536MB]"']),
        (
            {"resources": {"mem": "64G", "ranks_per_node": 4}, "site": {"memory_per": "slot"}},
            ['-R "rusage[mem=16384MB]"'],
        ),
        ({"resources": {"time": "00:00:30"}}, ["-W 0:01"]),
        ({"resources": {"time": "2-00:30:00", "exclusive": True}}, ["-W 48:30", "-x"]),
        ({"queue": {"dependency": "afterok:12:13"}}, ['-w "done(12)&&done(13)"']),
        (
            {"queue": {"exclude": ["n[1-2]"], "constraint": "a100"}},
            ['-R "select[hname!=n1&&hname!=n2]"', '-R "select[a100]"'],
        ),
        ({"queue": {"account": "g"}, "site": {"account_option": "G"}}, ['-G "g"']),
        ({"queue": {"mail_user": "a@b.c", "mail_type": "ALL"}}, ["-u a@b.c", "-B", "-N"]),
    ],
)
def test_what_is_asked_for(sections: dict[str, Any], lines: list[str]) -> None:
    text = render(spec(**sections), Path("/runs/x")).splitlines()
    assert [line for line in lines if f"#BSUB {line}" not in text] == []


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"queue": {"comment": "x"}}, "queue.comment has no counterpart under lsf"),
        ({"queue": {"dependency": "singleton"}}, "write one of afterok"),
        ({"queue": {"signal": "USR2@60"}}, "tells jobs to end"),
        ({"resources": {"mem": "0"}}, "--exclusive"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        render(spec(**sections), Path("/runs/x"))


def test_hosts(tmp_path: Path) -> None:
    queue, file = create("lsf"), tmp_path / "hosts"
    file.write_text("n2\nn2\nn1\n")
    assert queue.hosts({"LSB_DJOB_HOSTFILE": str(file), "LSB_HOSTS": "x"}) == ["n2", "n1"]
    assert queue.hosts({"LSB_DJOB_HOSTFILE": "/nowhere", "LSB_MCPU_HOSTS": "n2 2 n1 4"}) == ["n2", "n1"]
    assert queue.hosts({"LSB_HOSTS": "n1 n1 n3"}) == ["n1", "n3"]
    with pytest.raises(PlacementError, match="LSB_DJOB_HOSTFILE"):
        queue.hosts({})


def test_the_site_that_bhosts_describes() -> None:
    hosts = '{"RECORDS": [{"HOST_NAME": "n1", "MAX": "64"}, {"HOST_NAME": "n2", "MAX": "64"}, {"MAX": "-"}]}'
    tables, said = create("lsf").describe_site(lambda argv: hosts)
    assert tables["site"] == {"name": "LSF", "max_nodes": 2, "cpus_per_node": 64} and "bhosts -gpu" in said[0]
    with pytest.raises(CommandError, match="bhosts"):
        create("lsf").describe_site(lambda argv: "LSF is down")
