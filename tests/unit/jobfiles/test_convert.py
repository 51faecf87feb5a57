"""Conversion keeps the body, maps names and variables, and lists what is lost; the command's exit codes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hpcsynapse.cli.main import cli
from hpcsynapse.jobfiles.convert import convert
from hpcsynapse.jobfiles.reader import DIALECTS, read

DATA = Path(__file__).parents[2] / "data" / "jobfiles"
GOLDEN = Path(__file__).parents[2] / "golden" / "convert"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["convert", *map(str, arguments)])


def converted(name: str, target: str) -> list[str]:
    return [one.text for one in convert(read((DATA / name).read_bytes()), target)]


def test_the_thesis_as_sbatch() -> None:
    assert converted("thesis.cmd", "slurm") == [
        "#!/bin/bash\n#SBATCH --job-name=tf\n#SBATCH --nodes=3\n#SBATCH --ntasks=3\n#SBATCH --cpus-per-task=16\n"
        "#SBATCH --gres=gpu:4\n#SBATCH --time=00:15:00\n#SBATCH --constraint=k80\n#SBATCH --output=tf_%j.out\n"
        "#SBATCH --error=tf_%j.err\n\n"
        "module load K80 cuda/7.5 mkl/2017.0.098 CUDNN/5.1.3 python/3.5.2\nsrun hostname\n"
        "python build_tasks.py $SLURM_JOB_NODELIST\n"
    ]


def test_the_thesis_as_itself() -> None:
    original = (DATA / "thesis.cmd").read_text()
    assert converted("thesis.cmd", "minotauro") == [original]


def test_loadleveler_as_sbatch_maps_patterns_and_variables() -> None:
    (text,) = converted("parallel.ll", "slurm")
    head, _, body = text.partition("\n\n")
    assert "#SBATCH --output=%x.%j.out\n" in head and "#SBATCH --mem=14400M\n" in head
    assert "export OMP_NUM_THREADS=1\n" in head
    assert "export LOADL_PROCESSOR_LIST=" in head and 'export LOADL_STEP_INITDIR="$PWD"' in head
    assert 'echo "job $SLURM_JOB_ID has $SLURM_NTASKS tasks on: ${LOADL_PROCESSOR_LIST}"' in body


def test_sbatch_as_loadleveler_maps_them_back() -> None:
    (text,) = converted("train.sh", "loadleveler")
    assert "# @ output = logs/$(job_name)-$(jobid).out\n" in text
    assert "# @ node = 4\n# @ tasks_per_node = 4\n" in text
    assert 'export SLURM_JOB_NODELIST="$(sort -u "$LOADL_HOSTFILE" | paste -sd ,)"\n' in text
    assert "export SLURM_CPUS_PER_TASK=4\n" in text
    assert text.index("# @ queue") < text.index("set -e")


def test_steps_become_files_and_stay_steps() -> None:
    first, second = converted("steps.ll", "slurm")
    assert "#SBATCH --output=logs/%x.prep.%j\n" in first and "export LOADL_STEP_NAME=prep\n" in first
    assert "#SBATCH --job-name=climate.run\n" in second and "export LOADL_STEP_NAME=run\n" in second
    (both,) = converted("steps.ll", "loadleveler")
    assert both.count("# @ queue\n") == 3  # the third is switched off: ## @ queue
    assert "# @ dependency = (prep == 0)\n" in both


@pytest.mark.parametrize("target", sorted(DIALECTS))
@pytest.mark.parametrize("path", sorted(DATA.iterdir()), ids=lambda path: path.name)
def test_every_result_is_good_bash_and_has_no_complaints_of_its_own(path: Path, target: str) -> None:
    for result in convert(read(path.read_bytes()), target):
        assert subprocess.run(["bash", "-n"], input=result.text, text=True, capture_output=True).stderr == ""
        again = read(result.text.encode(), target)
        assert not again.errors, result.text


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("chunks.pbs", "slurm"),
        ("chunks.pbs", "pbs"),
        ("chunks.pbs", "lsf"),
        ("chunks.pbs", "loadleveler"),
        ("old.torque.sh", "pbs"),
        ("old.torque.sh", "gridengine"),
        ("job-wide.pbs", "slurm"),
        ("slots.lsf", "slurm"),
        ("slots.lsf", "lsf"),
        ("slots.lsf", "pbs"),
        ("whole-nodes.lsf", "slurm"),
        ("slots.sge.sh", "slurm"),
        ("slots.sge.sh", "gridengine"),
        ("slots.sge.sh", "pbs"),
        ("units.sge.sh", "lsf"),
        ("train.sh", "pbs"),
        ("train.sh", "lsf"),
        ("train.sh", "gridengine"),
        ("parallel.ll", "pbs"),
        ("thesis.cmd", "gridengine"),
    ],
)
def test_whole_files_and_what_is_said_of_them(name: str, target: str, request: pytest.FixtureRequest) -> None:
    """The result of a conversion, and behind it what is said on stderr, compared whole."""
    done = run(DATA / name, "--to", target)
    said = done.stderr.replace(f"{DATA}/{name}: ", "")
    golden = GOLDEN / f"{name}-to-{target}.txt"
    if request.config.getoption("--update-golden"):
        golden.write_text(f"{done.stdout}\n{said}")
    assert done.exit_code == 0
    assert f"{done.stdout}\n{said}" == golden.read_text()


def test_keywords_in_a_body_do_not_come_to_life() -> None:
    source = b"#!/bin/bash\n#SBATCH --nodes=1\n#SBATCH --ntasks-per-node=1\n# @ class = evil\n#@ queue\ntrue\n"
    (result,) = convert(read(source, "slurm"), "loadleveler")
    assert "\n## @ class = evil\n##@ queue\n" in result.text
    back = read(result.text.encode(), "loadleveler")
    assert (len(back.steps), back.steps[0].request.partition) == (1, None)


def test_another_program_than_the_file() -> None:
    source = b"# @ executable = ./solve\n# @ arguments = -n 3\n# @ queue\nnever\n"
    assert convert(read(source), "slurm")[0].text.endswith("\nexec ./solve -n 3\n")


def test_the_command_prints_the_file_and_says_on_stderr_what_is_lost() -> None:
    done = run(DATA / "train.sh", "--to", "loadleveler")
    assert done.exit_code == 0
    assert done.stdout.startswith("#!/bin/bash\n# @ job_name = resnet\n")
    said = done.stderr.replace(f"{DATA}/train.sh: ", "").splitlines()
    assert "line 14: lost: hint: 'nomultithread' has no counterpart in loadleveler" in said
    assert "line 22: lost: srun: is not a command of loadleveler; the line is kept" in said
    assert "line 16: warning: sbatch ignores it: only #SBATCH, in capitals and at the very start, counts" in said


def test_errors_keep_a_file_from_being_converted_unless_forced(tmp_path: Path) -> None:
    out = tmp_path / "job.sh"
    done = run(DATA / "odd.cmd", "--out", out)
    assert done.exit_code != 0 and not out.exists()
    assert "line 10: error: wall_clock_limit: '09:60:00'" in done.stderr
    assert run(DATA / "odd.cmd", "--out", out, "--force").exit_code == 0
    assert "--reservation=course" in out.read_text()


def test_check_only_lints() -> None:
    assert (run(DATA / "thesis.cmd", "--check").exit_code, run(DATA / "odd.cmd", "--check").exit_code) == (0, 2)
    assert "minotauro, nothing to complain about" in run(DATA / "thesis.cmd", "--check").stdout


def test_steps_need_a_place_for_their_files(tmp_path: Path) -> None:
    assert "2 steps" in str(run(DATA / "steps.ll").exception)
    done = run(DATA / "steps.ll", "--out", tmp_path / "job.sh")
    assert done.stdout.split() == [str(tmp_path / "job.sh.prep"), str(tmp_path / "job.sh.run")]
    assert "--dependency=afterok:ID for (prep == 0)" in done.stderr
