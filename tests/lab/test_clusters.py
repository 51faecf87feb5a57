"""Two clusters, each with a controller of its own: a run stays with the cluster that its job was sent to."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.lab

FAKE = Path(__file__).parents[1] / "fakes" / "clusters" / "slurm"


@pytest.fixture
def commands(user, other_cluster) -> dict[str, str]:
    """The environment of a login node that reaches both clusters."""
    folder = user.folder / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scancel", "sinfo", "srun"):
        (folder / name).symlink_to(FAKE)
    return {
        "PATH": f"{folder}:{user.env['PATH']}",
        "OTHER_CLUSTER": other_cluster.name,
        "OTHER_CONF": str(other_cluster.conf),
    }


@pytest.fixture
def traveller(user, commands, other_cluster):
    """Somebody there; leaves nothing in either queue."""
    user.env.update(commands)
    yield user
    other_cluster.run("scancel", "--user=root")


def test_a_run_is_followed_and_ended_on_the_cluster_it_was_sent_to(traveller, slurm_lab, other_cluster):
    site = traveller.folder / "site.toml"
    site.write_text(f'[site]\nname = "two"\nclusters = "{other_cluster.name}"\n[queue]\nscheduler = "slurm"\n')
    traveller.script("where.sh", 'hostname > "where-$RANK"')
    there = traveller.submit("--site", str(site), "--name", "there", "--nodes", "1", "--", "bash", "where.sh")
    assert there.job_id.endswith(f";{other_cluster.name}")
    assert traveller.finish(there)["job_id"] == there.job_id
    assert (traveller.folder / "where-0").read_text().strip() == other_cluster.node_name(1)
    home = slurm_lab.run("squeue", "--noheader", "--states=all", "--format=%j").split()
    assert "there" not in home


def test_the_login_environments_choice_is_used_and_does_not_follow_into_the_job(traveller, other_cluster):
    chosen = {"SLURM_CLUSTERS": other_cluster.name}
    waits = traveller.submit("--name", "long", "--nodes", "1", "--", "sleep", "600", env=chosen)
    assert waits.job_id.endswith(f";{other_cluster.name}")
    traveller.wait(waits, "TRAINING")  # its srun found the way
    traveller.hpcsynapse("cancel", "long")  # without the variable: the run knows where its job is
    assert traveller.wait(waits, "STOPPED")["reason"] == "cancelled"
    other_cluster.wait_idle()


def test_a_cluster_that_nobody_knows_leaves_the_run_alone(traveller, other_cluster):
    chosen = {"SLURM_CLUSTERS": other_cluster.name}
    run = traveller.submit("--name", "alone", "--nodes", "1", "--", "sleep", "600", env=chosen)
    traveller.wait(run, "TRAINING")
    traveller.env["OTHER_CLUSTER"] = "elsewhere"
    try:
        assert traveller.status(run)["state"] not in ("LOST", "FAILED")
        assert traveller.attempt("submit", "--resume-run", "alone").returncode != 0
    finally:
        traveller.env["OTHER_CLUSTER"] = other_cluster.name
    assert traveller.status(run)["state"] == "TRAINING"
