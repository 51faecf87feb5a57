"""What people type for a program that no rank can start is answered with what they meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcsynapse.errors import SpecError
from hpcsynapse.spec import settings
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission.program_checks import check_program

JOB = "#!/bin/bash\n#SBATCH --nodes=2\n#SBATCH -t 10\nsrun --mpi=pmix python train.py --lr 1\n"


def found(workdir: Path, *command: str) -> list[tuple[str, str]]:
    spec = JobSpec(command=command, workdir=str(workdir))
    return [(finding.level, finding.message) for finding in check_program(spec) if finding.level != "ok"]


@pytest.mark.parametrize(
    ("command", "text", "executable", "words"),
    [
        (["train.py"], "print()\n", False, "-- python train.py"),
        (["train.py", "--lr", "0.1"], "print()\n", False, "-- python train.py --lr 0.1"),
        (["./train.py"], "print()\n", False, "-- python ./train.py"),
        (["./train.py"], "print()\n", True, "has no #! line; write: hpcsynapse submit -- python ./train.py"),
        (["a/train.py"], "print()\n", False, "-- python a/train.py"),
        (["run me.sh"], "echo\n", False, "-- bash 'run me.sh'"),
        (["tool"], "#!/usr/bin/env -S ruby\n", False, "-- ruby tool"),
        (["tool"], "#!/bin/sh\n", True, "not on the PATH; write: hpcsynapse submit -- ./tool"),
        (["job.sh"], JOB, False, "--nodes 2 -- python train.py --lr 1"),
        (["./job.sh"], JOB, True, "queue it with sbatch"),
        (["job.ll"], "# @ node = 2\n# @ queue\n(a; b)\n", False, "-- COMMAND"),
    ],
)
def test_what_to_type_instead_is_said(
    workdir: Path, command: list[str], text: str, executable: bool, words: str
) -> None:
    path = workdir / command[0]
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755 if executable else 0o644)
    ((level, message),) = found(workdir, *command)
    assert level == "error" and words in message and repr(command[0]) in message


def test_what_can_be_started_is_left_alone(workdir: Path) -> None:
    (workdir / "tool").write_text("#!/bin/sh\necho\n")
    (workdir / "tool").chmod(0o755)
    (workdir / "bash").write_text("none of ours: the PATH has the name\n")
    assert found(workdir, "./tool") == [] and found(workdir, "bash", "-c", "true") == []


def test_a_job_file_as_a_script_is_only_warned_of(workdir: Path) -> None:
    (workdir / "job.sh").write_text(JOB)
    ((level, message),) = found(workdir, "bash", "job.sh")
    assert level == "warning" and "ignored" in message


def test_all_that_is_wrong_with_a_file_is_said_at_once(workdir: Path) -> None:
    (workdir / "run.toml").write_text('nam = "x"\n[resources]\nnods = 2\ngpus = "two"\n[tran]\n[train]\nlr = "high"\n')
    with pytest.raises(SpecError) as error:
        settings.load(workdir / "run.toml")
    lines = str(error.value).splitlines()
    assert len(lines) == 5 and all(line.startswith(str(workdir)) for line in lines)
    for word in ("did you mean 'name'", "'nodes'", "'train'", "resources.gpus = 'two'", "train.lr = 'high'"):
        assert word in str(error.value)


def test_a_text_without_its_end_is_named_by_its_line(workdir: Path) -> None:
    (workdir / "run.toml").write_text('[resources]\ntime = "2h\nnodes = 2\n')
    with pytest.raises(SpecError, match="line 2: is a quote missing"):
        settings.load(workdir / "run.toml")
