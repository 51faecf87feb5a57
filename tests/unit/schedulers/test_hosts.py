"""Machines reached by ssh: their list, what is refused, locks of GPUs, and words that no shell may read otherwise."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from hpcsynapse.errors import CommandError, SpecError
from hpcsynapse.job import device_locks, ssh
from hpcsynapse.job.devices import BY_NODE, granted_devices
from hpcsynapse.job.host_agent import JOB, end_all_of, first_line, processes_of
from hpcsynapse.schedulers import create
from hpcsynapse.schedulers.base import QueueState
from hpcsynapse.schedulers.hosts import read_hosts, usable
from hpcsynapse.schedulers.hosts_commands import on
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission.render import render

HERE = socket.gethostname()


def described(*hosts: str, queue: dict[str, Any] | None = None, **resources: Any) -> JobSpec:
    settings = {"scheduler": "hosts", "hosts": list(hosts), **(queue or {})}
    launch = {"launcher": "local"}
    return JobSpec.from_dict(
        {"name": "x", "command": ["true"], "queue": settings, "resources": resources, "launch": launch}
    )


def test_a_file_lists_machines_as_both_mpis_write_them(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# ours\nn1:4\n\nn2 slots=2 max_slots=8\nn3.site.org   # slow\n10.0.0.7\n")
    assert read_hosts(file) == ["n1:4", "n2:2", "n3.site.org", "10.0.0.7"]
    spec = create("hosts").complete(described("n0", queue={"hosts_file": str(file)}))
    assert usable(spec) == {"n0": None, "n1": 4, "n2": 2, "n3.site.org": None, "10.0.0.7": None}
    assert spec.queue.hosts_file is None


@pytest.mark.parametrize("text", ["n1 4", "-oProxyCommand=x", "n1;reboot", "n1:0", "$(id)", "user@n1", "n1\x00"])
def test_other_lines_are_refused_with_their_number(tmp_path: Path, text: str) -> None:
    (tmp_path / "hosts").write_text(f"n0\n{text}\n")
    with pytest.raises(SpecError, match="line 2"):
        read_hosts(tmp_path / "hosts")
    with pytest.raises(SpecError):
        described(text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nothing.*No such file"):
        read_hosts(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (described(), "no machine is listed"),
        (described("n1", "n2", nodes=3), "3 nodes are asked for, but 2"),
        (described("n1", "n2", queue={"exclude": ["n2"]}, nodes=2), "but 1 can be used: n1"),
        (described("n1:4", "n2:2", nodes=2, gpus=4), "only n1 in queue.hosts"),
        (described("n1", queue={"partition": "p"}), "queue.partition"),
        (described("n1", queue={"scheduler": "local"}), "list for --scheduler hosts"),
    ],
)
def test_what_cannot_be_had_is_refused(spec: JobSpec, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        render(spec, Path("/r"))


@given(words=st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])), min_size=1))
def test_a_remote_shell_reads_the_words_as_they_are(words: list[str]) -> None:
    *options, host, line = ssh.words("elsewhere.invalid", words)
    assert options[-1] == "--" and host == "elsewhere.invalid" and "BatchMode=yes" in options
    import shlex

    assert shlex.split(line) == words


def test_nothing_is_in_between_on_this_machine() -> None:
    assert ssh.words(HERE, ["a b"]) == ssh.words("localhost", ["a b"]) == ["a b"]


def test_a_command_that_does_not_answer_is_ended() -> None:
    with pytest.raises(CommandError, match=r"host localhost did not answer within 0.5 s"):
        ssh.call("localhost", ["sleep", "600"], limit=0.5)
    with pytest.raises(CommandError, match="host localhost: no such thing"):
        ssh.call("localhost", ["sh", "-c", "echo no such thing >&2; exit 3"])


def test_gpus_are_taken_by_one_at_a_time_and_all_or_none() -> None:
    names = [f"{os.getpid()}-{number}" for number in range(3)]
    first, claims = device_locks.take(names, 2)
    assert first == names[:2] and device_locks.free(names) == names[2:]
    assert device_locks.take(names, 2) == ([], [])
    last, more = device_locks.take(names, 1)
    assert last == names[2:]
    for claim in [*claims, *more]:
        claim.close()
    assert device_locks.free(names) == names


def test_a_lock_ends_with_its_process_even_when_that_is_killed() -> None:
    name = f"killed-{os.getpid()}"
    code = (
        "import sys, time; from hpcsynapse.job.device_locks import take; kept = take(sys.argv[1:], 1); "
        "print(kept[0], flush=True); time.sleep(3000)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdout.readline() == f"['{name}']\n"
    assert device_locks.free([name]) == []
    child.kill()
    child.communicate()
    assert device_locks.free([name]) == [name]


def test_what_is_left_of_a_job_is_ended() -> None:
    job = f"n1:{os.getpid()}:1"
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_DFL); time.sleep(3000)"
    child = subprocess.Popen([sys.executable, "-c", deaf], env={**os.environ, JOB: job}, start_new_session=True)
    wait_until(lambda: processes_of(job) == [child.pid], 60, "it is found")
    end_all_of(job)
    child.wait(60)
    assert processes_of(job) == []


@pytest.mark.parametrize(("said", "told"), [("Welcome!\n12\n{'x'}\n", {"devices": ["0"], "present": 1}), ("", None)])
def test_what_a_login_prints_before_is_passed_over(said: str, told: dict[str, Any] | None) -> None:
    text = said + (json.dumps(told) + "\n" if told else "Bye\n")
    child = subprocess.Popen(["printf", "%s", text], stdout=subprocess.PIPE)
    assert first_line(child, 60) == told
    child.communicate()


def test_every_node_has_the_gpus_that_its_locks_grant() -> None:
    environ = {BY_NODE: "2,3;0,1", "CUDA_VISIBLE_DEVICES": "7"}
    assert granted_devices(environ, 2, node=0) == ["2", "3"]
    assert granted_devices(environ, 2, node=1) == ["0", "1"]
    assert granted_devices(environ, 2) == ["7"]


def test_a_host_that_does_not_answer_leaves_its_jobs_unknown(tmp_path: Path) -> None:
    fake = tmp_path / "ssh"
    fake.write_text("#!/bin/sh\necho 'ssh: connect to host n1 port 22: No route to host' >&2\nexit 255\n")
    fake.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ids = ["n1:12:34", f"{HERE}:999999999:1"]
    done = subprocess.run(on("status", *ids), env=environ, capture_output=True, text=True, timeout=120)
    found = create("hosts").parse_status(done.stdout)
    assert list(found) == ids[:1] and found[ids[0]].state == QueueState.UNKNOWN
    assert "No route to host" in found[ids[0]].reason
    done = subprocess.run(on("cancel", ids[0]), env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "No route to host" in done.stderr


def test_an_answer_that_is_cut_off_does_not_say_that_jobs_are_gone(tmp_path: Path) -> None:
    (tmp_path / "ssh").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "ssh").chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(on("status", "n1:12:34"), env=environ, capture_output=True, text=True, timeout=120)
    assert create("hosts").parse_status(done.stdout)["n1:12:34"].state == QueueState.UNKNOWN


def test_further_words_reach_the_launchers_that_use_ssh() -> None:
    for launcher in ("mpirun", "mpiexec", "horovodrun"):
        table = {
            "name": "x",
            "command": ["true"],
            "queue": {"scheduler": "hosts", "hosts": ["n1"]},
            "launch": {"launcher": launcher, "launcher_args": ["-mca", "plm_rsh_args", "-p 17992"]},
        }
        assert "-mca plm_rsh_args '-p 17992'" in render(JobSpec.from_dict(table), Path("/r"))
