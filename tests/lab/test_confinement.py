"""Tasks that see only the cores and GPUs of their job, as most sites have it: ranks share out what is theirs."""

import pytest
from researcher import at_login

pytestmark = pytest.mark.lab

# Cores of the rank, and which of the node's GPU files it may open: a lab's device says "No such device", another job's
# "Operation not permitted".
SEEN = """
{ sed -n 's/^Cpus_allowed_list:\\t//p' /proc/self/status
  echo "$CUDA_VISIBLE_DEVICES"
  for one in "$DEVICES"/nvidia*; do head -c 1 "$one" 2>&1 | sed "s/.*: //; s/^/${one##*nvidia} /"; done
} > "seen-$LAUNCHER-$RANK.part" && mv "seen-$LAUNCHER-$RANK.part" "seen-$LAUNCHER-$RANK"
"""


@pytest.fixture
def member(confined_lab, tmp_path):
    """Somebody who uses the lab."""
    somebody = at_login(confined_lab, tmp_path / "member")
    somebody.script("seen.sh", SEEN)
    yield somebody
    somebody.leave()


@pytest.mark.parametrize("launcher", ["srun", "mpirun", "torchrun"])
def test_ranks_share_out_the_cores_and_gpus_of_their_job(member, confined_lab, launcher):
    asked = f"--name {launcher} --launcher {launcher} --nodes 2 --gpus 2 --cpus 1 --pin visible"
    told = ("--env", f"LAUNCHER={launcher}", "--env", f"DEVICES={confined_lab.conf.parent / 'dev'}")
    run = member.submit(*asked.split(), *told, "--", "bash", "seen.sh")
    member.finish(run)
    for rank in range(4):
        cores, visible, *devices = (member.folder / f"seen-{launcher}-{rank}").read_text().splitlines()
        assert cores, "which cores"
        assert visible == str(rank % 2)
        usable = [line.split()[0] for line in devices if "No such device" in line]
        if len(usable) < confined_lab.gpus:  # without cgroups all files can be opened
            assert usable == ["0", "1"], devices


def test_ranks_under_srun_have_a_core_each(member):
    asked = (
        "--name cores --nodes 2 --ranks-per-node 2 --cpus 1 --launcher srun --env LAUNCHER=cores --env DEVICES=/none"
    )
    run = member.submit(*asked.split(), "--", "bash", "seen.sh")
    member.finish(run)
    cores = [(member.folder / f"seen-cores-{rank}").read_text().splitlines()[0] for rank in range(4)]
    assert sorted(cores[:2]) == sorted(cores[2:]) and cores[0] != cores[1], cores
