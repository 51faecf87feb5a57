import time
from pathlib import Path

import pytest

from hpcsynapse import process
from hpcsynapse.errors import CommandError, PlacementError
from hpcsynapse.ports import free_port


def test_what_an_outer_job_left_behind_is_removed_and_reported() -> None:
    environ = {
        "SLURM_JOB_ID": "1", "SLURM_CPU_BIND": "x", "SBATCH_PARTITION": "p", "PMI_RANK": "0", "PMIX_ID": "1",
        "OMPI_COMM_WORLD_RANK": "0", "RANK": "3", "MASTER_PORT": "1", "SLURM_CONF": "/c", "PATH": "/bin", "HOME": "/h",
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "HPCSYNAPSE_RUNS": "/r", "PMIXTURE": "kept",
    }  # fmt: skip
    clean, removed = process.clean_environment(environ)
    assert set(clean) == {"SLURM_CONF", "PATH", "HOME", "OMPI_ALLOW_RUN_AS_ROOT", "HPCSYNAPSE_RUNS", "PMIXTURE"}
    assert {**clean, **removed} == environ


def test_commands_run_without_a_shell_in_that_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    done = process.run(["printenv", "SLURM_JOB_ID"])
    assert (done.code, done.stdout) == (1, "")
    assert process.run(["echo", "$HOME; `id`"]).stdout == "$HOME; `id`\n"


def test_failure_carries_what_the_command_said() -> None:
    with pytest.raises(CommandError, match="exit code 3: no") as caught:
        process.run_checked(["bash", "-c", "echo out; echo no >&2; exit 3"])
    assert (caught.value.stdout, caught.value.stderr) == ("out\n", "no\n")
    with pytest.raises(CommandError, match="cannot run no-such-command"):
        process.run(["no-such-command"])


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(CommandError, match=r"did not answer within 0\.5 s"):
        process.run(["bash", "-c", f"sleep 600 & echo $! > {pid_file}; wait"], timeout=0.5)
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
