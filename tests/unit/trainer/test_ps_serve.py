"""What a parameter server makes of the command line that started it."""

from __future__ import annotations

import time

import pytest

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import ServerOptions, TrainSpec
from hpcsynapse.trainer.cluster import Cluster
from hpcsynapse.trainer.parameter_server.serve import check
from hpcsynapse.trainer.parameter_server.server import RareWarnings


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
    spec = JobSpec(
        train=TrainSpec(strategy="ps-sync"), resources=ResourceRequest(ranks_per_node=4), ps=ServerOptions(needed=4)
    )
    with pytest.raises(TrainError, match=r"ps\.needed = 4 exceeds the 1 workers"):
        check(spec, Cluster(servers=("h:1",), workers=("h:2",), job="ps", index=0))


def test_warnings_that_strangers_cause_are_counted_instead_of_written(caplog: pytest.LogCaptureFixture) -> None:
    warnings = RareWarnings(most=3, seconds=0.2)
    for number in range(500):
        warnings.say("connection from %s closed", number)
    assert len(caplog.messages) == 3
    limit = time.monotonic() + 10
    while len(caplog.messages) == 3:
        assert time.monotonic() < limit
        warnings.say("connection from %s closed", "last")
    count = int(caplog.messages[-1].split("and ")[1].split(" more")[0])
    assert count >= 497
