import pytest

from hpcsynapse.errors import SpecError
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import TrainSpec


def test_ranks_follow_gpus_then_one() -> None:
    assert ResourceRequest(nodes=4, gpus=4).world_size == 16
    assert ResourceRequest(nodes=4).world_size == 4
    assert ResourceRequest(nodes=2, gpus=4, ranks_per_node=8).world_size == 16


def test_a_description_survives_its_tables() -> None:
    spec = JobSpec(
        name="a",
        command=("python", "x y.py"),
        resources=ResourceRequest(nodes=2, time="90m"),
        queue=QueueOptions(partition="gpu"),
        launch=LaunchOptions(env={"A": "b c"}, modules=("cuda/12",)),
        train=TrainSpec(milestones=(10, 20), model_args={"width": 2}),
    )
    assert JobSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"resources": {"node": 3}}, ["resources.node", "'nodes'"]),
        ({"resource": {}}, ["unknown setting resource", "'resources'"]),
        ({"resources": {"nodes": "4"}}, ["resources.nodes", "'4'", "whole number"]),
        ({"resources": {"nodes": True}}, ["resources.nodes", "whole number"]),
        ({"resources": {"nodes": 0}}, ["resources.nodes", "0"]),
        ({"resources": 3}, ["[resources]", "table"]),
        ({"resources": {"gpus": 4, "ranks_per_node": 3}}, ["ranks_per_node = 3", "gpus = 4"]),
        ({"resources": {"gpu_type": "a100"}}, ["gpu_type", "gpus = 0"]),
        ({"train": {"strategy": "single"}, "resources": {"nodes": 2}}, ["single", "2 nodes"]),
        ({"train": {"strategy": "allreduces"}}, ["allreduces", "'allreduce'"]),
        ({"train": {"lr": float("nan")}}, ["train.lr", "nan"]),
        ({"train": {"milestones": [20, 10]}}, ["milestones", "rise"]),
        ({"train": {"nesterov": True, "optimizer": "adam"}}, ["nesterov", "sgd"]),
        ({"launch": {"venv": "a", "conda": "b"}}, ["venv", "conda"]),
        ({"launch": {"env": {"SLURM_JOB_ID": "1"}}}, ["SLURM_JOB_ID"]),
        ({"launch": {"env": {"A B": "1"}}}, ["'A B'"]),
        ({"launch": {"env": {"A": 1}}}, ["launch.env.A", "text"]),
        ({"launch": {"emulate": True}, "queue": {"scheduler": "slurm"}}, ["emulate", "slurm"]),
        ({"launch": {"launcher": "torchrun"}, "train": {"engine": "mpi"}}, ["torchrun", "mpi"]),
        ({"launch": {"container_mounts": ["/a:/b"]}}, ["container_mounts", "container"]),
        ({"queue": {"mail_type": "END"}}, ["mail_type", "mail_user"]),
        ({"queue": {"mail_user": "a b@c"}}, ["mail_user"]),
        ({"queue": {"signal": "USR1@soon"}}, ["signal", "USR1@soon"]),
        ({"queue": {"extra_directives": ["hint"]}}, ["directive", "hint"]),
        ({"queue": {"extra_directives": ["--a\n#SBATCH --b"]}}, ["control character"]),
        ({"queue": {"comment": "x" * 1001}}, ["comment", "1001"]),
        ({"name": "../evil"}, ["../evil"]),
        ({"name": "a" * 65}, ["name"]),
        ({"workdir": "relative"}, ["workdir", "absolute"]),
        ({"workdir": 5}, ["workdir = 5", "text"]),
        ({"command": [""]}, ["command"]),
        ({"command": ["a\nb"]}, ["command", "control character"]),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(table: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        JobSpec.from_dict(table)
    for word in words:
        assert word in str(caught.value)


def test_sections_are_of_their_kind() -> None:
    with pytest.raises(SpecError, match=r"resources = .* must be a ResourceRequest"):
        JobSpec(resources={"nodes": 2})  # type: ignore[arg-type]


def test_a_description_is_frozen() -> None:
    with pytest.raises(AttributeError):
        JobSpec().resources.nodes = 3  # type: ignore[misc]
