"""The lab is what it claims to be: separate nodes, GPUs that Slurm hands out, and losses it notices."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.lab

# Show this job to the other one, then wait for it, so that both certainly run at the same time.
MEET = """#!/bin/sh
echo "$CUDA_VISIBLE_DEVICES" > "$1/$2.tmp"
mv "$1/$2.tmp" "$1/$2"
for i in $(seq 200); do [ -e "$1/$3" ] && exit 0; sleep 0.1; done
exit 1
"""


def test_four_nodes_are_idle(slurm_lab):
    slurm_lab.wait_idle()
    assert slurm_lab.node_states() == {slurm_lab.node_name(i): "idle" for i in (1, 2, 3, 4)}


def test_every_node_has_its_own_host_name_and_address(slurm_lab):
    printed = slurm_lab.run("srun", "-N", "4", "sh", "-c", "echo $(hostname) $(hostname -I)")
    names, addresses = zip(*(line.split() for line in printed.splitlines()), strict=True)
    assert sorted(names) == [slurm_lab.node_name(i) for i in (1, 2, 3, 4)]
    assert len(set(addresses)) == 4


def test_tasks_see_the_gpus_of_their_job(slurm_lab):
    show = "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"
    # Without --ntasks-per-node Slurm packs 8 tasks on 4 nodes as 5, 1, 1, 1.
    printed = slurm_lab.run("srun", "-N", "4", "--ntasks-per-node=2", "--gpus-per-node=4", "sh", "-c", show)
    assert sorted(printed.splitlines()) == [f"{slurm_lab.node_name(i)} 0,1,2,3" for i in (1, 2, 3, 4) for _ in range(2)]


def test_a_job_without_gpus_sees_none(slurm_lab):
    assert slurm_lab.run("srun", "-n", "1", "sh", "-c", "echo ${CUDA_VISIBLE_DEVICES-unset}") == "unset\n"


def test_two_jobs_share_a_node_but_no_gpu(slurm_lab, tmp_path: Path):
    script = tmp_path / "meet.sh"
    script.write_text(MEET)
    place = ["-w", slurm_lab.node_name(2), "--gpus-per-node=2", "-o", "/dev/null", str(script), str(tmp_path)]
    jobs = [slurm_lab.submit(*place, "a", "b"), slurm_lab.submit(*place, "b", "a")]
    for job in jobs:
        assert slurm_lab.wait_state(job, "COMPLETED", "FAILED")["JobState"] == "COMPLETED"
    assert {(tmp_path / name).read_text() for name in "ab"} == {"0,1\n", "2,3\n"}


def test_scratch_space_is_the_nodes_own_in_script_and_tasks(slurm_lab, tmp_path: Path):
    out = tmp_path / "out"
    slurm_lab.run("sbatch", "-W", "-N", "2", "-o", str(out), "--wrap", "echo $TMPDIR; srun sh -c 'echo $TMPDIR'")
    batch, *tasks = out.read_text().splitlines()
    assert len(set(tasks)) == 2
    assert batch in tasks


def test_an_impossible_request_is_refused_at_submission(slurm_lab):
    with pytest.raises(pytest.fail.Exception, match="Node count specification invalid"):
        slurm_lab.submit("-N", "5", "--wrap", "true")


@pytest.mark.slow
def test_a_crashed_node_fails_its_jobs_and_comes_back(slurm_lab):
    place = ["-w", slurm_lab.node_name(4), "-o", "/dev/null", "--wrap", "sleep 60"]
    lost, again = slurm_lab.submit("--no-requeue", *place), slurm_lab.submit("--requeue", *place)
    for job in (lost, again):
        slurm_lab.wait_state(job, "RUNNING")
    slurm_lab.node("crash", 4)
    slurm_lab.wait_state(lost, "NODE_FAIL")
    assert slurm_lab.wait_state(again, "PENDING")["Restarts"] == "1"
    slurm_lab.node("start", 4)
    # Slurm holds a job that lost its node back for two minutes; we do not wait for them.
    slurm_lab.wait_until(lambda: restarted(slurm_lab, again), 30, f"job {again} running once more")
    slurm_lab.run("scancel", again)
    slurm_lab.wait_idle()


def restarted(slurm_lab, job: str) -> bool:
    if slurm_lab.job(job)["JobState"] == "RUNNING":
        return True
    # Refused while the job's first life is still being cleared away, and once it runs.
    slurm_lab.attempt("scontrol", "update", f"JobId={job}", "StartTime=now")
    return False
