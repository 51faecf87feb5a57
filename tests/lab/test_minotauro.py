"""BSC's dialect on a real Slurm: mnsubmit, mnq and mncancel are fakes that convert to sbatch; the training is real."""

import os
import shutil
from pathlib import Path

import pytest
from researcher import at_login

pytestmark = pytest.mark.lab
TESTS = Path(__file__).parents[1]
# The lab's nodes are K80 nodes, but there are no modules, and one network.
SITE = ["--site", "minotauro-k80", "--set", "launch.modules=[]", "--set", "site.host_suffix="]


@pytest.fixture
def bsc_user(slurm_lab, tmp_path):
    _features(slurm_lab, "k80,gpu,ib")
    user = at_login(slurm_lab, tmp_path / "user")
    user.env.update(PATH=f"{TESTS / 'fakes'}:{user.env['PATH']}", FAKE_BSC_STATE=str(tmp_path / "bsc"))
    yield user
    user.leave()
    _features(slurm_lab, "")  # as the lab's other tests know it


def _features(lab, names):
    every_node = f"NodeName={lab.name}[1-{lab.nodes}]"
    lab.run("scontrol", "update", every_node, f"AvailableFeatures={names}", f"ActiveFeatures={names}")


def test_digits_are_trained_on_two_nodes(slurm_lab, bsc_user):
    run = bsc_user.submit(*SITE, "--nodes", "2", "--gpus", "1", "--engine", "ddp", "--epochs", "1", "--batch", "128",
                          "--time", "00:15:00", "--name", "digits")  # fmt: skip  # a command line
    assert slurm_lab.job(run.job_id)["Features"] == "k80"
    status = bsc_user.finish(run)
    assert (status["exit_code"], status["progress"]["epoch"]) == (0, 1)
    ranks = run.file("placement.json")["ranks"]
    assert [(one["source"], one["host"]) for one in ranks] == [
        ("slurm", slurm_lab.node_name(1)),
        ("slurm", slurm_lab.node_name(2)),
    ]
    assert len({one["device"] for one in ranks}) == 1 and ranks[0]["device"] is not None
    job = slurm_lab.job(run.job_id)
    assert (job["NumNodes"], job["TimeLimit"]) == ("2", "00:15:00")
    assert run.text(f"digits_{run.job_id}.out") == run.text(f"digits_{run.job_id}.err") == ""


def test_whole_nodes_as_the_thesis_asked_for_them(slurm_lab, bsc_user):
    bsc_user.script("where.sh", 'echo "$RANK $CUDA_VISIBLE_DEVICES $(nproc)"\n')
    run = bsc_user.submit(*SITE, "--nodes", "3", "--gpus", "4", "--time", "00:15:00", "--name", "tf", "--pin",
                          "visible", "--", "bash", "where.sh")  # fmt: skip  # a command line
    bsc_user.finish(run)
    said = [run.text(f"logs/rank-{rank:05d}.log").split()[:2] for rank in range(12)]
    assert said == [[str(rank), str(rank % 4)] for rank in range(12)]
    job = slurm_lab.job(run.job_id)
    assert (job["NumNodes"], job["NumTasks"], job["CPUs/Task"]) == ("3", "3", "16")


def test_cancel_and_dependency(slurm_lab, bsc_user):
    first = bsc_user.submit(*SITE, "--nodes", "1", "--gpus", "1", "--name", "first", "--", "sleep", "100")
    second = bsc_user.submit(
        *SITE,
        "--nodes",
        "1",
        "--gpus",
        "1",
        "--dependency",
        f"afterok:{first.job_id}",
        "--name",
        "second",
        "--",
        "true",
    )
    bsc_user.wait(first, "TRAINING")
    assert bsc_user.status(second)["state"] == "QUEUED"
    assert f"afterok:{first.job_id}" in slurm_lab.job(second.job_id)["Dependency"]
    bsc_user.hpcsynapse("cancel", str(first.path))
    assert bsc_user.wait(first, "STOPPED")["reason"] == "cancelled"
    bsc_user.hpcsynapse("cancel", str(second.path))


def test_what_the_queue_refuses_is_told(bsc_user):
    done = bsc_user.attempt("submit", *SITE, "--nodes", "9", "--gpus", "1", "--name", "many", "--", "true")
    assert done.returncode == 1 and "mnsubmit failed" in done.stderr
    done = bsc_user.attempt("submit", *SITE, "--qos", "high", "--name", "qos", "--", "true")
    assert done.returncode == 2 and "queue.qos has no counterpart under minotauro" in done.stderr


@pytest.fixture
def partitions(slurm_lab):
    """The partitions that the files name, without limits of their own."""
    names = ("parallel", "serial", "large", "gpu")
    for name in names:
        slurm_lab.run("scontrol", "create", f"PartitionName={name}", "Nodes=ALL", "MaxTime=INFINITE", "State=UP")
    yield
    for name in names:
        slurm_lab.run("scontrol", "delete", f"PartitionName={name}")


@pytest.mark.parametrize("name", ["parallel.ll", "thesis.cmd", "train.sh", "steps.ll", "odd.cmd"])
def test_converted_files_are_accepted_by_sbatch(bsc_user, partitions, tmp_path, name):
    source, out = TESTS / "data" / "jobfiles" / name, tmp_path / "job.sh"
    made = bsc_user.hpcsynapse("convert", str(source), "--to", "slurm", "--out", str(out), "--force").split()
    assert made
    for path in map(Path, made):
        path.write_text(path.read_text().replace("#SBATCH --reservation=course\n", ""))  # there is none here
        done = bsc_user.call("sbatch", "--test-only", str(path))
        assert done.returncode == 0, done.stderr + path.read_text()


def test_hydra_reaches_nodes_through_srun(slurm_lab, bsc_user):
    if not shutil.which("mpiexec.hydra"):
        if os.environ.get("CI"):
            pytest.fail("mpiexec.hydra is not installed (package mpich)")
        pytest.skip("mpiexec.hydra is not installed (package mpich)")
    bsc_user.script("who.sh", "echo $RANK $LOCAL_RANK $NODE_RANK\n")
    run, done = bsc_user.follow("--scheduler", "slurm", "--nodes", "2", "--ranks-per-node", "2", "--launcher",
                                "mpiexec", "--name", "hydra", "--", "bash", "who.sh")  # fmt: skip  # a command line
    assert done.returncode == 0, done.stdout + done.stderr + run.text("logs/job.log")
    said = [run.text(f"logs/rank-{rank:05d}.log").split() for rank in range(4)]
    assert said == [["0", "0", "0"], ["1", "1", "0"], ["2", "0", "1"], ["3", "1", "1"]]
    assert {one["source"] for one in run.file("placement.json")["ranks"]} == {"hydra"}
