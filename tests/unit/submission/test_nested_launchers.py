"""A launcher typed as the ranks' command: every rank would start all ranks over again."""

import pytest

from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.settings import load
from hpcsynapse.submission.nested_launchers import nested_launcher


def spec(command: str, nodes: int = 2, ranks: int = 2) -> JobSpec:
    return load(None, {"command": command.split(), "resources": {"nodes": nodes, "ranks_per_node": ranks}})


@pytest.mark.parametrize(
    ("command", "name", "instead"),
    [
        ("torchrun train.py", "torchrun", "python train.py"),
        ("/opt/venv/bin/torchrun --nproc_per_node 2 -m pkg.train --lr 1", "torchrun", "python -m pkg.train --lr 1"),
        ("python3.11 -m torch.distributed.launch --nproc_per_node=2 a.py", "torch.distributed.launch", "python a.py"),
        ("python -u -m torch.distributed.run a.py -x", "torch.distributed.run", "python a.py -x"),
        ("accelerate launch --mixed_precision fp16 train.py", "accelerate launch", "python train.py"),
        ("deepspeed --num_gpus 2 train.py --deepspeed", "deepspeed", "python train.py --deepspeed"),
        ("srun python train.py", "srun", "python train.py"),
        ("mpirun -n 4 python3 train.py", "mpirun", "python3 train.py"),
        ("mpiexec.hydra -n 4 bash run.sh 1", "mpiexec.hydra", "bash run.sh 1"),
        ("horovodrun -np 4 venv/bin/python train.py", "horovodrun", "venv/bin/python train.py"),
        ("env OMP_NUM_THREADS=2 nice -n 5 srun -n 4 ./a.out", "srun", "PROGRAM"),
        ("timeout 5m torchrun --nnodes 2 train.py", "torchrun", "python train.py"),
    ],
)
def test_it_is_refused_with_what_to_write(command: str, name: str, instead: str) -> None:
    (found,) = nested_launcher(spec(command))
    assert (found.level, found.where) == ("error", "command")
    assert found.message.startswith(f"{name} starts ")
    assert found.message.endswith(f"write: hpcsynapse submit ... -- {instead}")


@pytest.mark.parametrize(
    "command",
    [
        "python train.py --launcher torchrun",
        "python -m pkg -m torch.distributed.run",
        "python -m torch.distributed.runner_of_mine",
        "accelerate config",
        "bash torchrun",
        "./srunner",
        "env",
    ],
)
def test_what_only_looks_like_one_is_left_alone(command: str) -> None:
    assert list(nested_launcher(spec(command))) == []


def test_one_launcher_a_node_is_what_such_programs_are_for() -> None:
    command = "torchrun --nproc_per_node 4 train.py"
    assert list(nested_launcher(spec(command, nodes=1, ranks=1))) == []
    assert list(nested_launcher(spec("mpirun -n 4 ./a.out", nodes=1, ranks=1))) == []
    (found,) = nested_launcher(spec(command, ranks=1))
    assert "without --nnodes" in found.message and "2 nodes would train apart" in found.message
    assert list(nested_launcher(spec("torchrun --nnodes 2 --rdzv_endpoint $HOST train.py", ranks=1))) == []
