"""The life cycle of runs on the local scheduler: real scripts, real processes, real signals, no training framework."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from jobs import missing

import hpcsynapse
from hpcsynapse.errors import CheckError, SpecError, SubmitError
from hpcsynapse.files import read_json, write_json, write_problem
from hpcsynapse.job import supervise
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.submission.status import RunStatus, statuses
from hpcsynapse.submission.submit import Submission

pytestmark = pytest.mark.slow  # runs of this machine, with their processes

LOCAL = QueueOptions(scheduler="local")


@pytest.fixture
def runs(workdir: Path) -> Path:
    return workdir / "runs"


def start(runs: Path, *command: str, ranks: int = 1, **more: Any) -> Submission:
    resources = ResourceRequest(ranks_per_node=ranks, time=more.pop("time", "5m"))
    return hpcsynapse.submit(JobSpec(command=command, resources=resources, queue=LOCAL, **more), runs)


def wait_for(run: RunDirectory, wanted: Callable[[RunStatus], bool], seconds: float = 60) -> RunStatus:
    limit = time.monotonic() + seconds
    while True:
        status = statuses([run])[0]
        if wanted(status):
            return status
        assert time.monotonic() < limit, status
        time.sleep(0.05)


def ended(status: RunStatus) -> bool:
    return status.state in ("FINISHED", "STOPPED", "FAILED", "LOST")


def test_a_run_finishes_and_says_what_every_rank_saw(runs: Path) -> None:
    show = "echo $RANK/$WORLD_SIZE/$LOCAL_RANK/$NODE_RANK/$MASTER_ADDR/[$CUDA_VISIBLE_DEVICES]/$OMP_NUM_THREADS"
    done = start(runs, "bash", "-c", show, ranks=2, launch=LaunchOptions(env={"A": "1"}))
    status = wait_for(done.run, ended)
    assert (status.state, status.exit_code, status.failure) == ("FINISHED", 0, {})
    assert [done.run.rank_log(rank).read_text() for rank in (0, 1)] == [
        "0/2/0/0/127.0.0.1/[]/1\n",
        "1/2/1/0/127.0.0.1/[]/1\n",
    ]
    placement = read_json(done.run.placement)
    assert placement is not None and placement["verified"]
    assert [rank["rank"] for rank in placement["ranks"]] == [0, 1]
    assert done.run.load_spec() == done.spec


def test_run_toml_repeats_the_run(runs: Path) -> None:
    from hpcsynapse.spec import settings

    first = start(runs, "bash", "-c", "echo hello", name="once")
    wait_for(first.run, ended)
    again = hpcsynapse.submit(settings.load(first.run.run_toml), runs)
    assert again.run.name == "once-2"
    wait_for(again.run, ended)
    assert again.run.rank_log(0).read_text() == "hello\n"
    old, new = first.run.load_spec().to_dict(), again.run.load_spec().to_dict()
    assert old | {"name": ""} == new | {"name": ""}


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("echo before the end; exit 3", 3, "exit code 3"),
        ("echo before the end; kill -9 $$", 137, "killed by SIGKILL"),
        ("echo before the end; kill -SEGV $$", 139, "killed by SIGSEGV"),
    ],
)
def test_the_first_rank_that_fails_ends_the_run_and_is_named(runs: Path, command: str, code: int, reason: str) -> None:
    script = f"if [ $RANK = 1 ]; then {command}; else sleep 600; fi"
    done = start(runs, "bash", "-c", script, ranks=3)
    status = wait_for(done.run, ended)
    assert (status.state, status.exit_code) == ("FAILED", code)
    assert status.failure["rank"] == 1
    assert f"rank 1 on {status.failure['host']}: {reason}" in status.reason
    assert status.failure["log"] == ["before the end"]


def test_a_program_that_is_missing_at_run_time_is_named(runs: Path, workdir: Path) -> None:
    script = workdir / "program"
    script.write_text('#!/bin/bash\nrm "$0"\nexit 5\n')
    script.chmod(0o755)
    first = start(runs, "./program")
    assert wait_for(first.run, ended).exit_code == 5
    with pytest.raises(CheckError, match="not found or not executable"):
        start(runs, "./program")
    assert [run.name for run in RunDirectory.all(runs)] == [first.run.name]


def test_cancel_ends_every_process_of_the_run(runs: Path, workdir: Path) -> None:
    from hpcsynapse.submission.cancel import request_cancel

    script = "trap '' TERM; sleep 600 & echo $! >> pids; echo $$ >> pids; wait; wait"
    done = start(runs, "bash", "-c", script, ranks=2)
    pids = workdir / "pids"
    limit = time.monotonic() + 30
    while not (pids.exists() and len(pids.read_text().split()) == 4):
        assert time.monotonic() < limit
        time.sleep(0.05)
    request_cancel(done.run)
    status = wait_for(done.run, ended)
    assert (status.state, status.reason) == ("STOPPED", "cancelled")
    for pid in pids.read_text().split():
        stat = Path(f"/proc/{pid}/stat")
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_the_time_limit_ends_a_run(runs: Path) -> None:
    done = start(runs, "sleep", "600", time="2s")
    status = wait_for(done.run, ended)
    assert status.state == "FAILED"
    assert "time limit reached" in status.reason


def test_the_time_limit_is_told_from_what_ranks_say_when_they_are_ended(runs: Path) -> None:
    done = start(runs, "bash", "-c", "trap 'kill $!; exit 7' TERM; sleep 600 & wait", time="2s")
    status = wait_for(done.run, ended)
    assert (status.state, status.exit_code, status.reason) == ("FAILED", 124, "time limit reached")
    done = start(runs, "bash", "-c", "exit 124")
    status = wait_for(done.run, ended)
    assert status.exit_code == 124 and "time limit" not in status.reason and "exit code 124" in status.reason


def test_what_slurm_says_of_a_job_without_an_exit_file(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = start(runs, "true")
    wait_for(done.run, ended)
    done.run.exit.unlink()
    write_json(done.run.submission, {"scheduler": "slurm", "job_id": "7"})
    (tmp_path / "squeue").write_text(
        '#!/bin/bash\nprintf "JOBID\\x1fSTATE\\x1fREASON\\x1fNODES\\n7\\x1f$STATE\\x1f$WHY\\x1fn1\\n"\n'
    )
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for state, why, reason in (
        ("TIMEOUT", "TimeLimit", "time limit reached"),
        ("OUT_OF_MEMORY", "OutOfMemory", "out of memory; OutOfMemory"),
        ("CANCELLED", "Resources", "cancelled"),
        ("NODE_FAIL", "None", "a node failed"),
    ):
        monkeypatch.setenv("STATE", state)
        monkeypatch.setenv("WHY", why)
        assert statuses([done.run])[0].reason == reason


def test_a_job_script_killed_outright_leaves_a_lost_run(runs: Path) -> None:
    done = start(runs, "sleep", "600")
    wait_for(done.run, lambda status: status.state == "TRAINING")
    pid = int(done.job_id.split(":")[1])
    from hpcsynapse.job.supervise import descendants

    everything = descendants(pid)
    for one in everything:
        os.kill(one, signal.SIGKILL)
    status = wait_for(done.run, ended)
    assert status.state == "LOST"


def test_states_without_a_queue_are_judged_by_what_lies_there(runs: Path) -> None:
    done = start(runs, "true")
    wait_for(done.run, ended)
    submission = read_json(done.run.submission)
    assert submission is not None
    done.run.exit.unlink()
    assert statuses([done.run])[0].state == "LOST"
    write_json(done.run.submission, {**submission, "job_id": "elsewhere:1:2"})
    assert "ask there" in statuses([done.run])[0].reason
    done.run.submission.unlink()
    assert statuses([done.run])[0].state == "CREATED"
    done.run.owner.unlink()  # what a job has begun was submitted
    write_json(done.run.submission, {**submission, "job_id": None, "error": "no"})
    assert statuses([done.run])[0].reason == "not submitted: no"


@pytest.mark.parametrize("damage", [b"", b"{", b'{"exit_code": "x"}', b"[]"])
def test_damaged_files_never_break_status(runs: Path, damage: bytes) -> None:
    done = start(runs, "true")
    wait_for(done.run, ended)
    for path in (done.run.exit, done.run.status, done.run.placement, done.run.submission, done.run.history):
        content = path.read_bytes()
        path.write_bytes(damage)
        assert statuses([done.run])[0].state in ("FINISHED", "LOST", "FAILED", "CREATED")
        path.write_bytes(content)


def test_more_than_this_machine_is_refused_with_what_to_type(runs: Path) -> None:
    with pytest.raises(CheckError, match=r"--emulate") as caught:
        hpcsynapse.submit(JobSpec(command=("true",), resources=ResourceRequest(nodes=4, gpus=4), queue=LOCAL), runs)
    assert "--nodes 1" in str(caught.value)
    assert not runs.exists()


def test_emulate_runs_every_rank_of_a_larger_request_here(runs: Path) -> None:
    spec = JobSpec(
        command=("bash", "-c", "echo $RANK.$NODE_RANK.$LOCAL_RANK"),
        launch=LaunchOptions(emulate=True),
        resources=ResourceRequest(nodes=2, gpus=2),
    )
    done = hpcsynapse.submit(spec, runs)
    assert wait_for(done.run, ended).state == "FINISHED"
    assert [done.run.rank_log(rank).read_text().strip() for rank in range(4)] == ["0.0.0", "1.0.1", "2.1.0", "3.1.1"]


def test_a_queue_that_refuses_leaves_a_failed_run(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    for name, text in (("sbatch", "echo 'sbatch: error: Invalid account' >&2; exit 1"), ("srun", "true")):
        (fake / name).write_text(f"#!/bin/bash\n{text}\n")
        (fake / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    with pytest.raises(SubmitError, match="Invalid account"):
        hpcsynapse.submit(JobSpec(name="x", command=("true",), queue=QueueOptions(scheduler="slurm")), runs)
    status = statuses(list(RunDirectory.all(runs)))[0]
    assert (status.name, status.state) == ("x", "FAILED")
    assert "Invalid account" in status.reason


def test_submit_killed_at_any_instant_leaves_a_folder_that_status_reads(runs: Path, workdir: Path) -> None:
    environ = {**os.environ, "HPCSYNAPSE_RUNS": str(runs)}
    for delay in (0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2):
        child = subprocess.Popen(
            [sys.executable, "-m", "hpcsynapse", "submit", "--scheduler", "local", "--", "true"],
            env=environ,
            stdout=subprocess.DEVNULL,
        )
        time.sleep(delay)
        child.kill()
        child.wait()
        listing = subprocess.run(
            [sys.executable, "-m", "hpcsynapse", "status", "--json"],
            env=environ,
            timeout=60,
            capture_output=True,
            text=True,
        )
        assert listing.returncode == 0, listing.stderr
        assert isinstance(json.loads(listing.stdout), list)
    for run in RunDirectory.all(runs):
        wait_for(run, lambda status: ended(status) or status.state == "CREATED")


def test_resubmission_needs_an_existing_job_file(runs: Path) -> None:
    from hpcsynapse.submission.submit import resubmit

    done = start(runs, "bash", "-c", "echo again")
    wait_for(done.run, ended)
    second = resubmit(done.run)
    assert wait_for(second.run, ended).state == "FINISHED"
    log = second.run.rank_log(0).read_text()
    assert re.fullmatch(r"again\n--- start 2, job \S+, [-0-9: ]+\nagain\n", log), log
    (done.run.path / "job.sh").unlink()
    with pytest.raises(SpecError, match="no job file"):
        resubmit(done.run)


def test_submits_at_the_same_moment_get_names_of_their_own(runs: Path) -> None:
    from hpcsynapse.submission.prepare import prepare
    from hpcsynapse.submission.submit import submit_prepared

    same = [prepare(JobSpec(name="x", command=("true",), queue=LOCAL), runs) for _ in range(3)]
    assert {prepared.spec.name for prepared in same} == {"x"}
    done = [submit_prepared(prepared) for prepared in same]
    assert len({submission.run.path for submission in done}) == 3
    for submission in done:
        assert wait_for(submission.run, ended).state == "FINISHED"
        assert submission.run.load_spec() == submission.spec


def test_a_submit_that_is_ended_leaves_a_run_of_unknown_fate(runs: Path, workdir: Path, tmp_path: Path) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    for name, text in (("sbatch", f"touch {workdir}/asked; sleep 600"), ("srun", "true")):
        (fake / name).write_text(f"#!/bin/bash\n{text}\n")
        (fake / name).chmod(0o755)
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 1)):
        child = subprocess.Popen(
            [sys.executable, "-m", "hpcsynapse", "submit", "--scheduler", "slurm", "--name", number.name, "--", "true"],
            env={**os.environ, "PATH": f"{fake}:{os.environ['PATH']}"},
            stderr=subprocess.PIPE,
            text=True,
            # A shell's background job, as these tests may be, ignores SIGINT, and so would what it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        limit = time.monotonic() + 60
        while not (workdir / "asked").exists():
            assert time.monotonic() < limit
            time.sleep(0.02)
        child.send_signal(number)
        assert child.communicate(timeout=60)[1].strip() in ("", "aborted") and child.returncode == code
        (workdir / "asked").unlink()
        status = statuses([RunDirectory(runs / number.name)])[0]
        assert (status.state, status.reason) == ("UNKNOWN", "may have been submitted: submitting was interrupted")
    assert sorted(path.name for path in runs.iterdir()) == ["SIGINT", "SIGTERM"]


@pytest.mark.parametrize("ends", ["kill -9 $$", "exit 143", "exit 1"])
def test_a_submission_that_named_no_failure_is_of_unknown_fate(
    runs: Path, workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    for name, text in (("sbatch", ends), ("srun", "true"), ("squeue", r"printf 'JOBID\037COMMAND\037NAME\n'")):
        (fake / name).write_text(f"#!/bin/bash\n{text}\n")
        (fake / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    with pytest.raises(SubmitError, match="UNKNOWN: the queue may have taken the job"):
        hpcsynapse.submit(JobSpec(name="a", command=("true",), queue=QueueOptions(scheduler="slurm")), runs)
    assert "unknown" in RunDirectory(runs / "a").read_submission()


@pytest.mark.parametrize(("listed", "job_id"), [("4711", "4711"), ("4712", None)])
def test_an_id_printed_before_a_wrapper_failed_counts_where_the_queue_lists_it(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, job_id: str | None
) -> None:
    """The wrapper hands over a copy of the job file, so that the file's path tells nothing."""
    fake = tmp_path / "bin"
    fake.mkdir()
    listing = rf"printf 'JOBID\037COMMAND\037NAME\n{listed}\037/tmp/copy\037a\n'"
    for name, text in (
        ("sbatch", "echo 4711; echo 'hook: disk full' >&2; exit 1"),
        ("srun", "true"),
        ("squeue", listing),
    ):
        (fake / name).write_text(f"#!/bin/bash\n{text}\n")
        (fake / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    spec = JobSpec(name="a", command=("true",), queue=QueueOptions(scheduler="slurm"))
    if job_id:
        assert hpcsynapse.submit(spec, runs).job_id == job_id
        assert "hook: disk full" in RunDirectory(runs / "a").read_submission()["said"]
    else:
        with pytest.raises(SubmitError, match="UNKNOWN: the queue may have taken the job"):
            hpcsynapse.submit(spec, runs)


@pytest.mark.parametrize("copy", ["/tmp/copy", "runs/a/copy.sh"])
@pytest.mark.parametrize(("name", "state"), [("a", "UNKNOWN"), ("b", "FAILED")])
def test_a_job_of_the_same_name_may_be_that_of_a_wrapper_that_printed_nothing(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, state: str, copy: str
) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    script = runs.parent / copy
    listing = rf"printf 'JOBID\037COMMAND\037NAME\n7\037{script}\037{name}\n'"
    for command, text in (("sbatch", "echo 'hook: disk full' >&2; exit 1"), ("srun", "true"), ("squeue", listing)):
        (fake / command).write_text(f"#!/bin/bash\n{text}\n")
        (fake / command).chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    with pytest.raises(SubmitError, match=state) as refused:
        hpcsynapse.submit(JobSpec(name="a", command=("true",), queue=QueueOptions(scheduler="slurm")), runs)
    run = RunDirectory(runs / "a")
    assert (f"job 7 of the same name, from the file {script}" in str(refused.value)) == (state == "UNKNOWN")
    assert statuses([run])[0].state == state
    submission = run.read_submission()
    write_json(run.submission, {**submission, "time": submission["time"] - 3600})
    assert statuses([run])[0].state == state  # however long the job waits


def test_nothing_is_left_of_a_run_whose_files_cannot_be_written(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str, **_: Any) -> int:
        if path.name == "job.sh":
            raise OSError(28, "No space left on device")
        return original(path, text, encoding="utf-8")

    original = Path.write_text
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(SpecError, match="No space left on device"):
        start(runs, "true")
    assert list(runs.iterdir()) == []


@pytest.mark.parametrize("code", [0, 3])
def test_a_run_that_has_ended_leaves_no_process(runs: Path, workdir: Path, code: int) -> None:
    done = start(runs, "bash", "-c", f"trap '' TERM; sleep 600 & echo $! > pid; exit {code}")
    assert wait_for(done.run, ended).exit_code == code
    stat = Path(f"/proc/{(workdir / 'pid').read_text().strip()}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_a_run_is_queued_again_although_its_logs_were_removed(runs: Path) -> None:
    import shutil

    from hpcsynapse.submission.submit import resubmit

    done = start(runs, "true")
    wait_for(done.run, ended)
    shutil.rmtree(done.run.logs)
    assert wait_for(resubmit(done.run).run, ended).state == "FINISHED"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        missing(f"no file system can be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_named(workdir: Path, small_disk: Path) -> None:
    fill = f"cat /dev/zero > {small_disk}/rest; exit 3"
    done = start(small_disk / "runs", "bash", "-c", fill)
    status = wait_for(done.run, ended)
    assert (status.state, status.exit_code) == ("FAILED", 3), status
    assert status.reason.endswith("its folder could not be written: No space left on device"), status.reason
    assert write_problem(small_disk) == "No space left on device"


def test_a_read_only_disk_is_named(workdir: Path, small_disk: Path) -> None:
    done = start(small_disk / "runs", "true")
    wait_for(done.run, ended)
    done.run.exit.unlink()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    status = wait_for(done.run, ended)
    assert status.state == "LOST" and status.reason.endswith("its folder cannot be written: Read-only file system")


def test_a_job_that_ended_a_moment_ago_is_asked_for(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`scontrol requeue` in the second in which a job ends: Slurm starts it again, though its exit file says 0."""
    run = RunDirectory.create(workdir / "runs", JobSpec(name="again", queue=QueueOptions(scheduler="slurm")))
    write_json(run.submission, {"scheduler": "slurm", "job_id": "7"})
    squeue = workdir / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(
        "#!/bin/sh\nprintf 'JOBID\\037STATE\\037REASON\\037NODELIST\\n7\\037PENDING\\037BeginTime\\037\\n'\n"
    )
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{squeue.parent}:{os.environ['PATH']}")
    write_json(run.exit, {"exit_code": 0, "time": time.time(), "signal": ""})
    assert (statuses([run])[0].state, statuses([run])[0].reason) == ("QUEUED", "BeginTime")
    write_json(run.exit, {"exit_code": 0, "time": time.time() - 4000, "signal": ""})
    assert statuses([run])[0].state == "FINISHED"


def processes_of(run: RunDirectory) -> dict[str, int]:
    """Return the job script, `timeout`, the launcher, the wrapper and the program of a run of one rank."""
    script = int(str(run.read_submission()["job_id"]).split(":")[1])
    found: dict[str, int] = {}
    names = {"timeout": "timeout", "local-launch": "launcher", "rank": "wrapper", "sleep": "program"}
    for pid in supervise.descendants(script):
        with suppress(OSError):  # it has ended meanwhile
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            found |= {names[word]: pid for word in (words[0], *words[4:5]) if word in names}
    return {"script": script, **found}


@pytest.fixture
def with_all_processes(runs: Path) -> Iterator[Callable[[str], tuple[RunDirectory, dict[str, int]]]]:
    """Start a run of `sleep`, and return it with its processes once all are there; none outlives the test."""
    pids: list[int] = []

    def begin(seconds: str) -> tuple[RunDirectory, dict[str, int]]:
        run = start(runs, "sleep", seconds, launch=LaunchOptions(wait_limit=2)).run
        limit = time.monotonic() + 90
        while len(found := processes_of(run)) < 5:
            assert time.monotonic() < limit, found
            time.sleep(0.05)
        pids.extend(found.values())
        return run, found

    yield begin
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("victim", ["script", "timeout", "launcher"])
def test_nothing_outlives_a_killed_parent(with_all_processes, victim: str) -> None:
    run, pids = with_all_processes("600")
    os.kill(pids[victim], signal.SIGKILL)
    status = wait_for(run, lambda one: one.state != "TRAINING", 120)
    left = [name for name, pid in pids.items() if supervise.start_ticks(pid) is not None and name != "script"]
    assert not left and status.state in ("FAILED", "LOST", "FINISHING"), (status, left)
    assert wait_for(run, ended).state in ("FAILED", "LOST")


@pytest.mark.parametrize("victim", ["script", "timeout", "launcher"])
def test_who_is_stopped_above_a_run_is_told_to_go_on(with_all_processes, victim: str) -> None:
    run, pids = with_all_processes("12")
    os.kill(pids[victim], signal.SIGSTOP)
    assert wait_for(run, ended, 120).state == "FINISHED"
    assert f"process {pids[victim]} was stopped for 2 s: it goes on" in (run.logs / "job.log").read_text()


def test_a_run_that_is_suspended_as_a_whole_says_so(with_all_processes) -> None:
    run, pids = with_all_processes("600")
    for pid in pids.values():
        os.kill(pid, signal.SIGSTOP)
    assert wait_for(run, lambda one: one.state == "SUSPENDED").native_state == "SUSPENDED"
    for pid in reversed(pids.values()):
        os.kill(pid, signal.SIGCONT)
    assert wait_for(run, lambda one: one.state != "SUSPENDED").state == "TRAINING"
