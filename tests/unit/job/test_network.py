"""Interfaces and names by which ranks of other hosts are reached."""

from __future__ import annotations

import socket

import pytest

from hpcsynapse.errors import PlacementError
from hpcsynapse.job import network


def test_an_interface_that_is_named_is_given_to_every_library() -> None:
    found = network.bind({}, "lo")
    assert found == {
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "=lo",
        "OMPI_MCA_btl_tcp_if_include": "lo",
        "HOROVOD_GLOO_IFACE": "lo",
    }


def test_what_the_user_has_set_stays() -> None:
    assert "NCCL_SOCKET_IFNAME" not in network.bind({"NCCL_SOCKET_IFNAME": "ib1"}, "lo")


def test_an_interface_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(PlacementError, match=r"'ib7' has no address .* it has .*lo"):
        network.bind({}, "ib7")


def test_nothing_is_guessed_for_this_host_alone() -> None:
    assert network.bind({"MASTER_ADDR": socket.gethostname()}, None) == {}
    assert network.interface_towards("127.0.0.1") is None
    assert network.interface_towards("no.such.host.invalid") is None


def test_another_host_that_maps_to_loopback_is_an_error() -> None:
    with pytest.raises(PlacementError, match=r"host localhost of this job maps to loopback \(127.0.0.1"):
        network.bind({"MASTER_ADDR": "localhost"}, None)


def test_an_unknown_host_is_an_error() -> None:
    with pytest.raises(PlacementError, match=r"host no\.such\.host\.invalid of this job is not known"):
        network.bind({"HPCSYNAPSE_PEER": "no.such.host.invalid"}, None)


def test_what_excludes_an_interface_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open MPI refuses an include beside an exclude."""
    monkeypatch.setattr(network, "address_of", lambda _: "10.0.0.1")
    told = {"OMPI_MCA_btl_tcp_if_exclude": "lo,docker0"}
    found = network.bind(told, "ib0")
    assert "OMPI_MCA_btl_tcp_if_include" not in found and "GLOO_SOCKET_IFNAME" in found
    assert "OMPI_MCA_btl_tcp_if_include" in network.bind({}, "ib0")
