from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsynapse.errors import PlacementError
from hpcsynapse.job.devices import granted_devices, own_devices
from hpcsynapse.job.discovery import RankIdentity, discover
from hpcsynapse.job.evidence import _nvml_facts, unlike_devices, verify
from hpcsynapse.job.placement import lay_out
from hpcsynapse.spec.resources import ResourceRequest


def test_layout_fills_nodes_in_blocks() -> None:
    placement = lay_out(ResourceRequest(nodes=2, gpus=2), ["a", "b"])
    assert [(r.rank, r.node_rank, r.local_rank, r.device, r.host) for r in placement.ranks] == [
        (0, 0, 0, 0, "a"),
        (1, 0, 1, 1, "a"),
        (2, 1, 0, 0, "b"),
        (3, 1, 1, 1, "b"),
    ]
    assert [rank.rank for rank in placement.on_node(1)] == [2, 3]


def test_more_ranks_than_devices_share_neighbours() -> None:
    assert [r.device for r in lay_out(ResourceRequest(gpus=2, ranks_per_node=4)).ranks] == [0, 0, 1, 1]
    assert [r.device for r in lay_out(ResourceRequest(gpus=4, ranks_per_node=2)).ranks] == [0, 2]
    assert [r.device for r in lay_out(ResourceRequest(ranks_per_node=2)).ranks] == [None, None]


SYSTEMS = {
    "slurm": {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"},
    "openmpi": {"OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
                "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
    "torchrun": {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "GROUP_RANK": "1",
                 "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"},
    "hydra": {"PMI_RANK": "5", "PMI_SIZE": "8", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "4",
              "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"},
    "poe": {"MP_CHILD": "5", "MP_PROCS": "8"},
    "horovodrun": {"HOROVOD_RANK": "5", "HOROVOD_SIZE": "8", "HOROVOD_LOCAL_RANK": "1", "HOROVOD_CROSS_RANK": "1"},
    "local": {"HPCSYNAPSE_LAUNCH_RANK": "1", "HPCSYNAPSE_LAUNCH_SIZE": "8"},
}  # fmt: skip  # a table


@pytest.mark.parametrize("system", [name for name in SYSTEMS if name != "local"])
def test_identity_is_found_whatever_started_the_rank(system: str) -> None:
    found = discover(SYSTEMS[system], ResourceRequest(nodes=2, ranks_per_node=4))
    assert (found.rank, found.world_size, found.local_rank, found.node_rank, found.source) == (5, 8, 1, 1, system)


def test_emulated_nodes_are_counted_off() -> None:
    environ = {"HPCSYNAPSE_LAUNCH_RANK": "6", "HPCSYNAPSE_LAUNCH_SIZE": "8"}
    found = discover(environ, ResourceRequest(nodes=2, gpus=4), emulate=True)
    assert (found.rank, found.local_rank, found.node_rank) == (6, 2, 1)


def test_a_world_of_one_where_more_was_asked_is_an_error() -> None:
    with pytest.raises(PlacementError, match="8 ranks were asked for, but openmpi started a world of 1"):
        discover(
            {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0"},
            ResourceRequest(nodes=2, ranks_per_node=4),
        )
    with pytest.raises(PlacementError, match="none started a world of 1"):
        discover({}, ResourceRequest(nodes=2))


def test_incomplete_variables_name_the_missing_one() -> None:
    with pytest.raises(PlacementError, match="SLURM_PROCID"):
        discover({"SLURM_STEP_NUM_TASKS": "2"}, ResourceRequest(nodes=2))


@pytest.mark.parametrize(
    ("environ", "devices"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, ["2", "3"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8a1b, GPU-77cc"}, ["GPU-8a1b", "GPU-77cc"]),
        ({"CUDA_VISIBLE_DEVICES": "MIG-1/2/0"}, ["MIG-1/2/0"]),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, []),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"SLURM_STEP_GPUS": "1,3", "SLURM_JOB_GPUS": "0"}, ["1", "3"]),
        ({"SLURM_JOB_GPUS": "0,2"}, ["0", "2"]),
        ({}, ["0", "1"]),
    ],
)
def test_granted_devices(environ: dict[str, str], devices: list[str]) -> None:
    assert granted_devices(environ, 2) == devices


def identity(local_rank: int, local_size: int) -> RankIdentity:
    return RankIdentity(
        rank=local_rank,
        world_size=local_size,
        local_rank=local_rank,
        local_size=local_size,
        node_rank=0,
        source="slurm",
    )


@given(
    st.integers(1, 8).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.integers(0, 63), min_size=n, max_size=n, unique=True))
    )
)
def test_a_rank_takes_its_number_of_what_was_granted_never_of_the_machine(case: tuple[int, list[int]]) -> None:
    count, devices = case
    names = [str(device) for device in devices]
    assert [own_devices(names, identity(rank, count), count) for rank in range(count)] == [[name] for name in names]


def test_too_few_devices_is_an_error_that_names_rank_and_grant() -> None:
    with pytest.raises(PlacementError, match=r"rank 2 .*granted only 4,5"):
        own_devices(["4", "5"], identity(2, 4), 4)
    assert own_devices([], identity(0, 1), 0) == []


@pytest.mark.parametrize(
    ("ranks", "shares"), [(1, [["a", "b", "c", "d"]]), (2, [["a", "b"], ["c", "d"]]), (4, [["a"], ["b"], ["c"], ["d"]])]
)
def test_fewer_ranks_than_devices_have_several_each(ranks: int, shares: list[list[str]]) -> None:
    """One task a node that starts its own torchrun needs all of the node's devices."""
    assert [own_devices(["a", "b", "c", "d"], identity(rank, ranks), 4) for rank in range(ranks)] == shares


def test_devices_of_amd_are_counted_within_those_that_are_shown() -> None:
    assert granted_devices({"ROCR_VISIBLE_DEVICES": "2,3"}, 2) == ["0", "1"]
    both = {"ROCR_VISIBLE_DEVICES": "2,3", "CUDA_VISIBLE_DEVICES": "2,3"}  # as Slurm leaves it on nodes of NVIDIA
    assert granted_devices(both, 2) == (["0", "1"] if Path("/dev/kfd").exists() else ["2", "3"])


def evidence(rank: int, **more: object) -> dict[str, object]:
    return {"rank": rank, "host": "n1", "cpus": [0, 1], "granted": ["0", "1"], "device": str(rank), **more}


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([evidence(0)], "1 of 2 ranks reported; missing: 1"),
        ([evidence(0), evidence(0, host="n2")], "rank 0 exists twice: on n1 and on n2"),
        ([evidence(0), evidence(1, device="0")], "ranks 0 and 1 on n1 share device 0"),
        ([evidence(0, device_uuid="U"), evidence(1, device_uuid="U")], "ranks 0 and 1 on n1 share device U"),
        ([evidence(0), evidence(1, device="7")], "rank 1 on n1 uses device 7, granted were 0,1"),
        ([evidence(0, cpus=[3]), evidence(1, cpus=[3])], "ranks 0 and 1 on n1 share core 3"),
    ],
)
def test_evidence_that_is_wrong_names_ranks_and_hosts(items: list[dict[str, object]], message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        verify(items, world_size=2, share_devices=False)


def test_evidence_that_is_right_or_allowed_passes() -> None:
    verify([evidence(0), evidence(1)], world_size=2, share_devices=False)
    verify([evidence(0), evidence(1, device="0")], world_size=2, share_devices=True)
    verify([evidence(0), evidence(0) | {"rank": 1, "host": "n2"}], world_size=2, share_devices=False)


def test_ranks_on_unlike_devices_are_told_of_with_their_numbers() -> None:
    kinds = ["Kind B", "Kind A", "Kind B"]
    warning = unlike_devices(evidence(rank, device_name=kind) for rank, kind in enumerate(kinds))
    assert "(1 on Kind A, 2 on Kind B)" in warning
    assert unlike_devices(evidence(rank, device_name="Kind A") for rank in range(3)) == ""
    assert unlike_devices([evidence(0, device_name="Kind A"), evidence(1)]) == ""


def test_a_device_that_does_not_exist_has_no_facts_and_is_no_error() -> None:
    assert _nvml_facts("63") == {}
    assert _nvml_facts("GPU-00000000-0000-0000-0000-000000000000") == {}
    assert _nvml_facts(None) == {}
