"""What a parameter server makes of the command line that started it."""

from __future__ import annotations

import pytest

from hpcsynapse.errors import TrainError
from hpcsynapse.spec import JobSpec, ResourceRequest
from hpcsynapse.trainer.cluster import Cluster
from hpcsynapse.trainer.parameter_server.serve import check
from hpcsynapse.training import ServerOptions, TrainSpec


@pytest.mark.parametrize(
    ("strategy", "nodes", "hosts", "workers"),
    [
        ("ps-async", 2, ("localhost", "localhost"), 4),
        ("mixed", 2, ("n1", "n2"), 2),
        ("mixed", 1, ("localhost", "localhost"), 1),
        ("mixed", 2, ("localhost", "localhost"), 2),  # emulated nodes share a host
    ],
)
def test_the_workers_of_the_servers_are_ranks_or_nodes(
    strategy: str, nodes: int, hosts: tuple[str, str], workers: int
) -> None:
    spec = JobSpec(
        train=TrainSpec(strategy=strategy), resources=ResourceRequest(nodes=nodes, ranks_per_node=4 // nodes)
    )
    addresses = tuple(f"{host}:{port}" for port, host in enumerate((hosts[0], hosts[0], hosts[1], hosts[1]), 2000))
    assert check(spec, Cluster(servers=("localhost:1999",), workers=addresses, job="ps", index=0)) == workers


def test_more_gradients_than_workers_are_refused() -> None:
    spec = JobSpec(train=TrainSpec(strategy="ps-sync"), resources=ResourceRequest(ranks_per_node=4),
                   ps=ServerOptions(needed=4))  # fmt: skip
    with pytest.raises(TrainError, match=r"ps\.needed = 4 exceeds the 1 workers"):
        check(spec, Cluster(servers=("h:1",), workers=("h:2",), job="ps", index=0))
