"""`submit --nodes 4 --gpus 4 -- PROGRAM`: ranks, devices, rendezvous and environment, as ranks themselves see them."""

import os

import pytest
from researcher import TELL

pytestmark = pytest.mark.lab

# Tell, then stay until a file appears, so that two jobs certainly run at the same time.
TELL_AND_STAY = (
    TELL
    + """
import time
for _ in range(600):
    if os.path.exists(os.environ["LEAVE"]):
        break
    time.sleep(0.1)
else:
    raise SystemExit("nobody let us go")
"""
)
HOSTILE = "a\"b'c\\d $(touch bad) `touch bad` ;|&<> ,=#% é漢☃ *?[x] ~ !"


@pytest.mark.parametrize("pin", ["visible", "local-rank", "none"])
def test_sixteen_ranks_have_their_places_and_devices(slurm_lab, user, pin):
    user.script("tell.py", TELL)
    run, done = user.follow(
        "--nodes", "4", "--gpus", "4", "--pin", pin, "--name", f"pin-{pin}", "--", "python", "tell.py"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = run.by_rank(16)
    for rank, one in enumerate(told):
        env = one["env"]
        node, local = divmod(rank, 4)
        assert one["host"] == slurm_lab.node_name(node + 1)
        wanted = {
            "RANK": rank,
            "WORLD_SIZE": 16,
            "LOCAL_RANK": local,
            "LOCAL_WORLD_SIZE": 4,
            "NODE_RANK": node,
            "MASTER_ADDR": slurm_lab.node_name(1),
            "OMP_NUM_THREADS": 1,
            "CUDA_VISIBLE_DEVICES": local if pin == "visible" else "0,1,2,3",
        }
        assert {name: env.get(name) for name in wanted} == {name: str(value) for name, value in wanted.items()}
        assert env.get("HPCSYNAPSE_DEVICE_INDEX") == (str(local) if pin == "local-rank" else None)
        assert one["cwd"] == str(user.folder)
    assert told[0]["port_binds"]
    assert len({one["env"]["MASTER_PORT"] for one in told}) == len({one["master"] for one in told}) == 1
    check_evidence(slurm_lab, run.file("placement.json"), pin)


def check_evidence(slurm_lab, placement, pin):
    assert placement["verified"] is True
    assert placement["problem"] == ""
    for rank, one in enumerate(placement["ranks"]):
        node, local = divmod(rank, 4)
        assert (one["rank"], one["node_rank"], one["local_rank"], one["world_size"]) == (rank, node, local, 16)
        assert one["host"] == slurm_lab.node_name(node + 1)
        assert one["granted"] == ["0", "1", "2", "3"]
        assert one["device"] == (None if pin == "none" else str(local))
        assert one["pid"] > 0
        assert one["cpus"]
        assert one["source"] == "slurm"


def test_two_runs_share_a_node_but_neither_devices_nor_port(slurm_lab, user, tmp_path):
    user.script("tell.py", TELL_AND_STAY)
    leave = tmp_path / "leave"
    node = f"--directive=--nodelist={slurm_lab.node_name(3)}"
    options = ["--gpus", "2", "--pin", "visible", node, "--env", f"LEAVE={leave}"]
    first = user.submit(*options, "--name", "first", "--", "python", "tell.py")
    user.wait_for(first.path / "told-1.json")
    second = user.submit(*options, "--name", "second", "--launcher", "mpirun", "--", "python", "tell.py")
    user.wait_for(second.path / "told-1.json")
    leave.touch()
    for run, devices in ((first, ["0", "1"]), (second, ["2", "3"])):
        user.finish(run)
        assert [one["env"]["CUDA_VISIBLE_DEVICES"] for one in run.by_rank(2)] == devices
        assert [one["device"] for one in run.file("placement.json")["ranks"]] == devices
        assert {one["host"] for one in run.by_rank(2)} == {slurm_lab.node_name(3)}
    assert first.by_rank(1)[0]["env"]["MASTER_PORT"] != second.by_rank(1)[0]["env"]["MASTER_PORT"]


@pytest.mark.parametrize("launcher", ["srun", "mpirun", "torchrun"])
def test_environment_and_cpus_reach_every_rank(user, launcher):
    user.script("tell.py", TELL)
    run, done = user.follow(
        "--nodes", "2", "--ranks-per-node", "2", "--cpus", "3", "--launcher", launcher, "--name", launcher,
        "--env", f"HOSTILE={HOSTILE}", "--env", "BLANKS=  x ", "--env", "EMPTY=", "--", "python", "tell.py",
    )  # fmt: skip  # a command line
    assert done.returncode == 0, done.stdout + done.stderr
    for rank, one in enumerate(run.by_rank(4)):
        env = one["env"]
        assert (env["HOSTILE"], env["BLANKS"], env["EMPTY"]) == (HOSTILE, "  x ", "")
        assert (env["RANK"], env["NODE_RANK"], env["WORLD_SIZE"]) == (str(rank), str(rank // 2), "4")
        # torchrun has one task a node, with the processors of both its ranks.
        # mpirun's daemon on another node is one task too; on its own node ranks are children of the job script.
        cpus = "6" if launcher == "torchrun" or (launcher == "mpirun" and rank > 1) else "3"
        assert env["SLURM_CPUS_PER_TASK"] == cpus
        assert env["OMP_NUM_THREADS"] == "3"
        if launcher == "srun":
            assert env["SLURM_CPUS_ON_NODE"] == "6"
    assert not list(user.folder.rglob("bad"))


def test_a_submission_from_inside_a_job_is_a_job_of_its_own(slurm_lab, user, tmp_path):
    user.script("tell.py", TELL)
    script = tmp_path / "outer.sh"
    script.write_text(
        "#!/bin/bash\nset -e\n"
        "export PMI_RANK=5 OMPI_COMM_WORLD_SIZE=7 SBATCH_TIMELIMIT=1 SLURM_CPU_BIND=map_cpu:0 RANK=9\n"
        "python -m hpcsynapse submit --nodes 2 --gpus 3 --pin visible --name inner -- python tell.py\n"
    )
    done = user.call("sbatch", "--wait", "--gpus-per-node=1", "-o", str(tmp_path / "outer.log"), str(script))
    assert done.returncode == 0, (tmp_path / "outer.log").read_text()
    run = user.find("inner")
    user.finish(run)
    told = run.by_rank(6)
    devices = [one["env"]["CUDA_VISIBLE_DEVICES"] for one in told]
    assert len(set(devices[:3])) == len(set(devices[3:])) == 3  # the outer job may still hold one of its node
    assert {one["env"]["SLURM_JOB_ID"] for one in told} == {run.job_id}
    assert {one["env"]["SLURM_JOB_PARTITION"] for one in told} == {"debug"}
    assert all("PMI_RANK" not in one["env"] and "OMPI_COMM_WORLD_SIZE" not in one["env"] for one in told)
    removed = run.file("submission.json")["removed_environment"]
    for name, value in {"PMI_RANK": "5", "OMPI_COMM_WORLD_SIZE": "7", "SBATCH_TIMELIMIT": "1", "RANK": "9"}.items():
        assert removed[name] == value
    assert "SLURM_JOB_ID" in removed
    assert "SLURM_CONF" not in removed
    assert told[0]["env"]["SLURM_CONF"] == os.fspath(slurm_lab.conf)


def test_init_finds_the_cluster(slurm_lab, user):
    user.hpcsynapse("init", "--yes")
    site = (user.folder.parent / "home" / "hpcsynapse" / "site.toml").read_text()
    for line in (
        "max_nodes = 4",
        "gpus_per_node = 4",
        'partition = "debug"',
        'scheduler = "slurm"',
        "cpus_per_node = 16",
        f'name = "{slurm_lab.name}"',
    ):
        assert line in site.splitlines()
    done = user.attempt("submit", "--nodes", "5", "--", "true")
    assert done.returncode == 2
    assert "5 nodes asked for" in done.stderr


@pytest.mark.slow
def test_the_sentence_that_users_type(user):
    """`submit --nodes 4 --gpus 4`: sixteen ranks of the built-in trainer, followed to the end, then reported."""
    run, done = user.follow("--nodes", "4", "--gpus", "4", "--epochs", "1", "--name", "sentence", timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("FINISHED")
    ranks = run.file("placement.json")["ranks"]
    assert [(one["node_rank"], one["device"]) for one in ranks] == [(rank // 4, str(rank % 4)) for rank in range(16)]
    header, row = user.hpcsynapse("report", "sentence", "--csv").splitlines()
    point = dict(zip(header.split(","), row.split(","), strict=True))
    assert (point["nodes"], point["ranks"], point["global_batch"]) == ("4", "16", "512")
