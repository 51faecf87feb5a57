"""Flux's answers as flux-core 0.88 prints them, and what is asked of it; jobs run in tests/multiprocess."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from mutations import mutations

from hpcsynapse.errors import PlacementError, SchedulerOutputError, SpecError
from hpcsynapse.schedulers import create
from hpcsynapse.schedulers.base import QueueState
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission.render import render


def job(**values: Any) -> dict[str, Any]:
    return {"jobid": "\u01923NxJAv3", "id": 90546634752, "status": "RUN", "urgency": 16, "state": "RUN", **values}


def read(text: str) -> dict[str, Any]:
    return create("flux").parse_status(text)


@pytest.mark.parametrize(
    ("values", "state", "native", "reason"),
    [
        ({"status": "DEPEND"}, "QUEUED", "DEPEND", ""),
        ({"status": "SCHED", "urgency": 0}, "QUEUED", "SCHED", "held"),
        ({"nodelist": "n[0-1]"}, "RUNNING", "RUN", ""),
        ({"status": "CLEANUP"}, "RUNNING", "CLEANUP", ""),
        ({"status": "COMPLETED", "returncode": 0, "exception": {"occurred": False}}, "COMPLETED", "COMPLETED", ""),
        ({"status": "FAILED", "returncode": 3}, "FAILED", "FAILED", ""),
        (
            {"status": "TIMEOUT", "exception": {"occurred": True, "note": "resource allocation expired"}},
            "FAILED",
            "TIMEOUT",
            "resource allocation expired",
        ),
        ({"status": "CANCELED", "returncode": -128}, "CANCELLED", "CANCELLED", ""),
        (
            {
                "status": "FAILED",
                "exception": {"occurred": True, "type": "dependency", "note": "can never be satisfied"},
            },
            "CANCELLED",
            "FAILED",
            "can never be satisfied",
        ),
        ({"status": "NEW"}, "UNKNOWN", "NEW", ""),
    ],
)
def test_states(values: dict[str, Any], state: str, native: str, reason: str) -> None:
    found = read(json.dumps(job(**values)))["f3NxJAv3"]
    assert (found.state, found.native_state, found.reason) == (state, native, reason)


def test_an_answer_as_it_is_printed() -> None:
    text = (
        '{"t_submit":1795882386.78,"t_run":1795882386.83,"t_inactive":1795882414.54,"duration":600.0,"name":"myjob",'
        '"cwd":"/home/tester/w","queue":"batch","ntasks":2,"ncores":8,"nnodes":2,"priority":16,"urgency":16,'
        '"ranks":"[0-1]","nodelist":"n[0-1]","id":90546634752,"jobid":"\\u01923NxJAv3","username":"tester",'
        '"state":"INACTIVE","status":"TIMEOUT","result":"TIMEOUT","success":false,"returncode":137,"waitstatus":35072,'
        '"exception":{"occurred":true,"severity":0,"type":"timeout","note":"resource allocation expired"},'
        '"dependencies":[],"annotations":{"sched":{"resource_summary":"rank[0-1]/core[0-3],gpu[0-1]"}},'
        '"uri":"ssh://lab1/tmp/flux-5BUckq/local-0"}'
    )
    ((job_id, found),) = read(text).items()
    assert (job_id, found.state, found.native_state, found.exit_code) == ("f3NxJAv3", "FAILED", "TIMEOUT", 137)
    assert (found.nodes, found.reason) == ("n[0-1]", "resource allocation expired")


def test_one_job_is_an_object_and_several_are_a_list() -> None:
    assert list(read(json.dumps({"jobs": [job(), job(jobid="f2x")]}))) == ["f3NxJAv3", "f2x"]
    assert read('{"jobs": []}') == {}
    queue = create("flux")
    assert queue.unknown_jobs(1, "flux-jobs: ERROR: JobID f123 unknown\n")
    assert not queue.unknown_jobs(1, "flux-jobs: ERROR: Unable to connect to Flux: broker socket was not found\n")


@pytest.mark.parametrize("text", ["\u019255VWSHM\n", "f55VWSHM\n", "\ufffd\ufffd55VWSHM\n", "hello\nf55VWSHM\n"])
def test_ids_in_every_locale(text: str) -> None:
    assert create("flux").parse_job_id(text) == "f55VWSHM"


@pytest.mark.slow
def test_twenty_thousand_broken_answers_are_survived() -> None:
    whole = json.dumps({"jobs": [job(), job(jobid="f2x", status="FAILED", returncode=1)]}, indent=1)
    for text in mutations((whole, json.dumps(job())), 20_000, random.Random(19)):
        try:
            found = read(text)
        except SchedulerOutputError:
            continue
        assert all(one.state in QueueState for one in found.values())


def spec(**sections: Any) -> JobSpec:
    table: dict[str, Any] = {"name": "x", "command": ["true"], "queue": {"scheduler": "flux"}}
    for key, values in sections.items():
        table[key] = {**table.get(key, {}), **values}
    return JobSpec.from_dict({**table, "launch": {"launcher": "mpirun"}})


@pytest.mark.parametrize(
    ("sections", "lines"),
    [
        (
            {"resources": {"nodes": 2, "gpus": 4, "cpus": 4, "time": "01:30:00"}},
            ["-N 2", "-n 2", "-c 16", "-g 4", "-t 5400s"],
        ),
        ({"resources": {"exclusive": True}}, ["-x"]),
        ({"queue": {"exclude": ["n[1-2]"], "constraint": "big"}}, ['--requires="big and -host:n1 and -host:n2"']),
        ({"queue": {"dependency": "afterok:f12:f13"}}, ["--dependency=afterok:f12", "--dependency=afterok:f13"]),
        ({"queue": {"account": "bank", "partition": "batch"}}, ["-B bank", "-q batch"]),
    ],
)
def test_what_is_asked_for(sections: dict[str, Any], lines: list[str]) -> None:
    text = render(spec(**sections), Path("/runs/x")).splitlines()
    assert [line for line in lines if f"#flux: {line}" not in text] == []
    numbers = [number for number, line in enumerate(text) if line.startswith("#flux:")]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))  # one block


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"resources": {"mem": "64G"}}, "resources.mem has no counterpart under flux"),
        ({"queue": {"requeue": False}}, "queue.requeue"),
        ({"queue": {"mail_user": "a@b.c"}}, "queue.mail_user"),
        ({"queue": {"reservation": "r"}}, "queue.reservation"),
        ({"queue": {"dependency": "singleton"}}, "afternotok"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        render(spec(**sections), Path("/runs/x"))


def test_hosts_and_site() -> None:
    queue = create("flux")
    assert queue.hosts({"HPCSYNAPSE_JOB_HOSTS": "n0\nn1"}) == ["n0", "n1"]
    with pytest.raises(PlacementError):
        queue.hosts({})
    tables, _ = queue.describe_site(lambda argv: "4 32 16\n")
    assert tables["site"] == {"name": "Flux", "max_nodes": 4, "cpus_per_node": 8, "gpus_per_node": 4}
    assert queue.describe_site(lambda argv: "")[0]["site"] == {"name": "Flux"}
