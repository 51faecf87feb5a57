"""The command line as its users type it: exit codes, where text goes, and what is left behind."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from command_line import hpcsynapse


def test_the_run_of_a_users_program_from_submit_to_the_end(workdir: Path) -> None:
    done = hpcsynapse("submit", "--scheduler", "local", "--name", "mine", "--ranks-per-node", "2", "--follow", "--",
                      "bash", "-c", 'echo "rank $RANK: $1"', "x", "a  b")  # fmt: skip  # a command line
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("run mine  job ")
    assert lines[-1].startswith("FINISHED")
    assert "\x1b" not in done.stdout
    assert hpcsynapse("logs", "mine", "--rank", "1").stdout == "rank 1: a  b\n"
    assert "rank 0: a  b" in hpcsynapse("logs", "mine", "-f").stdout
    heading, line = hpcsynapse("status").stdout.splitlines()
    assert heading.split() == ["RUN", "JOB", "NODES", "STATE", "SINCE"]
    assert line.split()[0] == "mine" and line.split()[2:4] == ["1x2", "FINISHED"]
    status = json.loads(hpcsynapse("status", "mine", "--json").stdout)[0]
    assert (status["state"], status["exit_code"]) == ("FINISHED", 0)
    rows = list(csv.DictReader(io.StringIO(hpcsynapse("status", "--csv").stdout)))
    assert [row["state"] for row in rows] == ["FINISHED"]
    assert "has ended already" in hpcsynapse("stop", "mine").stdout
    assert "has ended already" in hpcsynapse("cancel", "mine").stdout


@pytest.mark.slow
def test_a_failed_run_shows_rank_and_log_and_exits_1(workdir: Path) -> None:
    done = hpcsynapse("submit", "--scheduler", "local", "-f", "--", "bash", "-c", "echo the reason; exit 4")
    assert done.returncode == 1
    assert "FAILED" in done.stdout and "rank 0" in done.stdout and "exit code 4" in done.stdout
    assert "the reason" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sumbit"], ["did you mean 'submit'"]),
        (["submit", "--nods", "4"], ["--nods"]),
        (["submit", "--nodes", "none"], ["--nodes", "none"]),
        (["submit", "--nodes", "0"], ["resources.nodes = 0"]),
        (["submit", "--scheduler", "local", "--nodes", "4", "--gpus", "4"], ["4 nodes x 4 GPUs", "--emulate"]),
        (["submit", "--scheduler", "local", "--", "no-such-program"], ["no-such-program"]),
        (["submit", "--scheduler", "local", "--", "python", "no-such-script.py"], ["no-such-script.py"]),
        (["submit", "--scheduler", "local", "--data", "cifar10"], ["cifar10", "--data-path"]),
        (["submit", "--data", "mnist", "--data-path", "nowhere"], ["nowhere", "does not exist"]),
        (["submit", "--scheduler", "local", "--model", "simple-cn"], ["simple-cn", "simple-cnn"]),
        (["submit", "--scheduler", "local", "--model", "nomodule:Net"], ["nomodule"]),
        (["submit", "--engine", "mpi", "--ranks-per-node", "2", "--launcher", "local"], ["mpirun"]),
        (["submit", "--scheduler", "local", "--launcher", "srun"], ["srun", "local"]),
        (["submit", "absent.toml"], ["absent.toml"]),
        (["submit", "--set", "train.lrr=1"], ["train.lrr", "'lr'"]),
        (["submit", "--env", "NOVALUE"], ["NOVALUE", "KEY=VALUE"]),
        (["submit", "--name", "a b"], ["'a b'"]),
        (["submit", "--scheduler", "local", "--site", "absent"], ["absent", "hpcsynapse init"]),
        (["submit", "--scheduler", "local", "--runs", "/proc/nothing"], ["/proc"]),
        (["submit", "--scheduler", "local", "--template-dir", "absent"], ["absent", "does not exist"]),
        (["submit", "--scheduler", "local", "--venv", "absent", "--", "true"], ["absent", "bin/activate"]),
        (["submit", "--scheduler", "local", "--container", "absent.sif", "--", "true"], ["absent.sif", "docker://"]),
        (["submit", "--scheduler", "local", "--container", "ubuntu", "--", "true"], ["no image", "docker://"]),
        (["submit", "--set", "train.batch=many"], ["train.batch", "whole number"]),
        (["submit", "--set", "train.batch.size=1"], ["train.batch", "not a table"]),
        (["submit", "--resume-run", "r", "--epochs", "3"], ["--resume-run", "'epochs'"]),
        (["submit", "--resume-run", "r", "run.toml"], ["--resume-run", "'words'"]),
        (["status", "absent"], ["no run 'absent'"]),
        (["status", "long" * 1000], ["no run 'long"]),
        (["logs", "absent"], ["no run 'absent'"]),
        (["cancel", "absent"], ["no run 'absent'"]),
        (["report", "absent"], ["absent"]),
    ],
)
def test_wrong_usage_exits_2_says_why_and_writes_nothing(workdir: Path, arguments: list[str], words: list[str]) -> None:
    done = hpcsynapse(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert list(workdir.iterdir()) == []


def test_check_lists_findings_and_exits_2_for_errors(workdir: Path) -> None:
    good = hpcsynapse("check", "--scheduler", "local")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "ok" in good.stdout and "ERROR" not in good.stdout and "auto would take" in good.stdout
    bad = hpcsynapse("check", "--scheduler", "local", "--nodes", "2", "--json")
    assert bad.returncode == 2
    assert any(item["level"] == "error" and item["where"] == "resources" for item in json.loads(bad.stdout))
    assert list(workdir.iterdir()) == []


def test_check_compiles_a_script_without_running_it(workdir: Path) -> None:
    (workdir / "broken.py").write_text("def f(:\n")
    (workdir / "local.py").write_text("open('RAN', 'w')\ntorch.cuda.set_device(int(os.environ['LOCAL_RANK']))\n")
    done = hpcsynapse("check", "--scheduler", "local", "--", "python", "broken.py")
    assert done.returncode == 2 and "broken.py" in done.stdout
    options = ("check", "--scheduler", "slurm", "--gpus", "2")
    assert "--pin local-rank" in hpcsynapse(*options, "--pin", "visible", "--", "python", "local.py").stdout
    assert "--pin" not in hpcsynapse(*options, "--", "python", "local.py").stdout
    assert not (workdir / "RAN").exists()


@pytest.mark.parametrize(
    "line",
    [
        "torch.cuda.set_device(hvd.local_rank())",
        "config.gpu_options.visible_device_list = gpus[hvd.local_rank()]",
        "torch.cuda.set_device(idr_torch.local_rank)",
        "torch.cuda.set_device(int(os.environ['SLURM_LOCALID']))",
        "model = DistributedDataParallel(model, device_ids=[local_rank])",
        "device = f'cuda:{local_rank}'",
        "local_rank = int(os.environ['LOCAL_RANK'])\ntorch.cuda.set_device(local_rank)",
    ],
)
def test_check_sees_how_scripts_choose_their_device(workdir: Path, line: str) -> None:
    (workdir / "train.py").write_text(line + "\n")
    words = ("check", "--scheduler", "slurm", "--gpus", "2", "--pin", "visible", "--", "python", "train.py")
    assert "--pin local-rank" in hpcsynapse(*words).stdout


def test_render_prints_only_the_job_file_or_writes_a_new_folder(workdir: Path) -> None:
    done = hpcsynapse("render", "--scheduler", "slurm", "--nodes", "2", "--gpus", "4", "--name", "r", "--", "true")
    assert done.returncode == 0 and done.stdout.startswith("#!/bin/bash\n#SBATCH --job-name=r\n")
    assert list(workdir.iterdir()) == []
    done = hpcsynapse("render", "--scheduler", "slurm", "--out", "folder", "--", "true")
    assert done.stdout == f"{workdir}/folder/job.sh\n"
    assert tomllib.loads((workdir / "folder" / "run.toml").read_text())["name"] == "folder"
    assert hpcsynapse("render", "--scheduler", "slurm", "--out", "folder", "--", "true").returncode == 2


def test_run_toml_and_options_together(workdir: Path) -> None:
    (workdir / "run.toml").write_text('name = "fromfile"\n[resources]\nnodes = 2\n[queue]\nscheduler = "slurm"\n')
    done = hpcsynapse("render", "run.toml", "--nodes", "3", "--set", "queue.qos=high", "--", "true", "--help")
    assert "--nodes=3" in done.stdout and "--qos=high" in done.stdout and "job-name=fromfile" in done.stdout
    assert "true --help" in done.stdout


def test_init_writes_a_site_file_that_is_then_used(workdir: Path, tmp_path: Path) -> None:
    config = str(tmp_path / "config")
    done = hpcsynapse("init", "--yes", XDG_CONFIG_HOME=config)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "config" / "hpcsynapse" / "site.toml"
    site = tomllib.loads(path.read_text())
    assert site["queue"]["scheduler"] == "local" and site["site"]["cpus_per_node"] == os.cpu_count()
    assert hpcsynapse("init", "--yes", XDG_CONFIG_HOME=config).returncode == 2
    too_many = str(os.cpu_count() + 1)  # type: ignore[operator]
    done = hpcsynapse("check", "--cpus", too_many, "--", "true", XDG_CONFIG_HOME=config)
    assert done.returncode == 2 and "CPU cores" in done.stdout


def test_emulate_leaves_the_sites_queue_aside_but_not_a_typed_one(workdir: Path) -> None:
    (workdir / "site.toml").write_text('[queue]\nscheduler = "slurm"\n[launch]\nlauncher = "srun"\n')
    arguments = ["--site", "site.toml", "--emulate", "--nodes", "2", "--", "true"]
    assert hpcsynapse("check", *arguments).returncode == 0
    done = hpcsynapse("check", "--scheduler", "slurm", *arguments)
    assert done.returncode == 2 and "launch.emulate" in done.stderr and "'slurm'" in done.stderr


def test_completion_is_offered_for_the_usual_shells() -> None:
    for shell in ("bash", "zsh", "fish"):
        done = hpcsynapse("--version", _HPCSYNAPSE_COMPLETE=f"{shell}_source")
        assert "hpcsynapse" in done.stdout and done.returncode == 0


def test_a_closed_pipe_is_no_traceback(workdir: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m hpcsynapse render --scheduler slurm -- true | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "#!/bin/bash\n" and "Traceback" not in done.stderr


def test_what_the_operating_system_refuses_is_no_traceback(workdir: Path) -> None:
    for arguments in (["init", "--yes", "--out", "/proc/x/y"], ["check", "--runs", "long" * 1000]):
        done = hpcsynapse(*arguments)
        assert done.returncode == 1 and done.stderr.startswith("hpcsynapse: ") and done.stdout == ""
        assert "Traceback" not in done.stderr


def test_follow_leaves_stdout_to_the_json(workdir: Path) -> None:
    done = hpcsynapse("submit", "--scheduler", "local", "--name", "j", "--json", "--follow", "--", "true")
    assert json.loads(done.stdout)["run"] == "j"
    assert done.stderr.splitlines()[-2].startswith("FINISHED")


@pytest.mark.slow
def test_logs_are_printed_as_they_were_written(workdir: Path) -> None:
    program = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 1000)"
    hpcsynapse("submit", "--scheduler", "local", "--name", "b", "--follow", "--", sys.executable, "-c", program)
    for arguments in (["--rank", "0"], ["--rank", "0", "-f"]):
        done = subprocess.run(
            [sys.executable, "-m", "hpcsynapse", "logs", "b", *arguments], capture_output=True, timeout=60
        )
        assert done.stdout == bytes(range(256)) * 1000


@pytest.mark.slow
def test_status_prints_json_whatever_a_training_wrote(workdir: Path) -> None:
    hpcsynapse("submit", "--scheduler", "local", "--name", "n", "--follow", "--", "true")
    for text in ('{"state": "FINISHED", "loss": NaN, "epochs": "x"}', '{"state": [1], "epochs": 2, "epoch": {}}'):
        (workdir / "runs" / "n" / "status.json").write_text(text)
        done = hpcsynapse("status", "--json")
        assert json.loads(done.stdout, parse_constant=pytest.fail)[0]["state"] == "FINISHED"
        assert hpcsynapse("status").returncode == 0


@pytest.mark.slow
def test_stop_is_honest_about_a_program_of_the_users_own(workdir: Path) -> None:
    hpcsynapse("submit", "--scheduler", "local", "--name", "s", "--", "sleep", "600")
    done = hpcsynapse("stop", "s")
    assert str(workdir / "runs" / "s" / "stop") in done.stdout and "if it looks for it" in done.stdout
    assert (workdir / "runs" / "s" / "stop").is_file()
    assert hpcsynapse("cancel", "s").returncode == 0


@pytest.mark.slow
def test_a_run_is_one_line_whatever_its_queue_says(workdir: Path, tmp_path: Path) -> None:
    hpcsynapse("submit", "--scheduler", "local", "--name", "q", "--follow", "--", "true")
    run = workdir / "runs" / "q"
    (run / "exit.json").unlink()
    (run / "submission.json").write_text('{"scheduler": "slurm", "job_id": "7"}')
    (tmp_path / "squeue").write_text("#!/bin/bash\nprintf 'error: one\\nfatal: two\\n' >&2; exit 1\n")
    (tmp_path / "squeue").chmod(0o755)
    done = hpcsynapse("status", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2
    assert "error: one fatal: two" in done.stdout


@pytest.mark.slow
def test_closed_and_full_streams_are_no_traceback(workdir: Path) -> None:
    for redirection, code in ((">&- ", 0), ("<&- >&-", 0), (">/dev/full", 1)):
        done = subprocess.run(
            f"{sys.executable} -m hpcsynapse render --scheduler slurm -- true {redirection}",
            shell=True,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
        assert done.returncode == code and "Traceback" not in done.stderr


def test_render_says_what_checks_find_and_prints_the_job_file_all_the_same(workdir: Path) -> None:
    (workdir / "site.toml").write_text('[site]\nrequired = ["account"]\n[queue]\nscheduler = "slurm"\n')
    done = hpcsynapse("render", "--site", "site.toml", "--launcher", "srun", "--", "true")
    assert done.returncode == 0 and done.stdout.startswith("#!/bin/bash\n#SBATCH")
    assert "site: the site requires --account" in done.stderr and "requires" not in done.stdout
    assert not (workdir / "runs").exists()
