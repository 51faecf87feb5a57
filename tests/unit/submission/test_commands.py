import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcsynapse.errors import CommandError, PlacementError
from hpcsynapse.job.ports import free_port
from hpcsynapse.submission import commands


def test_what_an_outer_job_left_behind_is_removed_and_reported() -> None:
    environ = {
        "SLURM_JOB_ID": "1",
        "SLURM_CPU_BIND": "x",
        "SBATCH_PARTITION": "p",
        "SQUEUE_USERS": "nobody",
        "SCANCEL_STATE": "PENDING",
        "SINFO_PARTITION": "p",
        "SACCT_FORMAT": "JobID",
        "PMI_RANK": "0",
        "PMIX_ID": "1",
        "OMPI_COMM_WORLD_RANK": "0",
        "RANK": "3",
        "MASTER_PORT": "1",
        "SLURM_CONF": "/c",
        "PATH": "/bin",
        "HOME": "/h",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "HPCSYNAPSE_RUNS": "/r",
        "PMIXTURE": "kept",
        "OMPI_MCA_ess_base_jobid": "3",
    }
    clean, removed = commands.clean_environment(environ)
    assert set(clean) == {"SLURM_CONF", "PATH", "HOME", "OMPI_ALLOW_RUN_AS_ROOT", "HPCSYNAPSE_RUNS", "PMIXTURE"}
    assert {**clean, **removed} == environ


def test_what_modules_of_a_login_shell_set_stays() -> None:
    settings = {"OMPI_MCA_btl": "^openib", "PMIX_MCA_psec": "native", "SLURM_MPI_TYPE": "pmix", "SLURM_CLUSTERS": "b"}
    assert commands.clean_environment({**settings, "SLURM_JOB_ID": "1"}) == (settings, {"SLURM_JOB_ID": "1"})


def test_commands_run_without_a_shell_in_that_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    done = commands.run(["printenv", "SLURM_JOB_ID"])
    assert (done.code, done.stdout) == (1, "")
    assert commands.run(["echo", "$HOME; `id`"]).stdout == "$HOME; `id`\n"


def test_failure_carries_what_the_command_said() -> None:
    with pytest.raises(CommandError, match="exit code 3: no") as caught:
        commands.run_checked(["bash", "-c", "echo out; echo no >&2; exit 3"])
    assert (caught.value.stdout, caught.value.stderr) == ("out\n", "no\n")
    with pytest.raises(CommandError, match="cannot run no-such-command"):
        commands.run(["no-such-command"])


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(CommandError, match=r"did not answer within 0\.5 s"):
        commands.run(["bash", "-c", f"sleep 600 & echo $! > {pid_file}; wait"], timeout=0.5)
    pid = int(pid_file.read_text())
    limit = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < limit:
        time.sleep(0.02)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_ports_are_derived_and_step_aside_when_taken() -> None:
    import socket

    first = free_port("job-1", 30000, 1000)
    assert free_port("job-1", 30000, 1000) == first
    assert free_port("job-2", 30000, 1000) != first
    with socket.socket() as taken:
        taken.bind(("", first))
        taken.listen()
        assert free_port("job-1", 30000, 1000) == 30000 + (first - 30000 + 1) % 1000


def test_no_free_port_is_an_error() -> None:
    import socket

    base = free_port("job", 31000, 500)
    with socket.socket() as taken, pytest.raises(PlacementError, match="no free port"):
        taken.bind(("", base))
        taken.listen()
        free_port("job", base, 1)


def test_a_port_is_held_until_the_job_script_has_ended() -> None:
    """Two jobs of one node that are about to listen at the same port must not both be given it."""
    script = subprocess.Popen(["sleep", "600"])
    words = [sys.executable, "-m", "hpcsynapse.job", "ports", str(script.pid), "job-1", "32000", "1000"]
    try:
        first = subprocess.run(words, capture_output=True, text=True, timeout=60).stdout
        assert free_port("job-1", 32000, 1000) != int(first)
    finally:
        script.kill()
        script.wait()
    limit = time.monotonic() + 30
    while free_port("job-1", 32000, 1000) != int(first):
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_jobs_that_ask_at_once_get_ports_of_their_own() -> None:
    script = subprocess.Popen(["sleep", "600"])
    words = [sys.executable, "-m", "hpcsynapse.job", "ports", str(script.pid), "same", "33000", "1000"]
    try:
        asked = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(8)]
        ports = [process.communicate(timeout=120)[0] for process in asked]
    finally:
        script.kill()
        script.wait()
    assert len(set(ports)) == 8
