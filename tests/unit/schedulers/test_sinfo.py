"""sinfo's table of nodes, with whatever a site prints around it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsynapse.schedulers import sinfo

WORD = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
LIMITS = {"infinite": None, "n/a": None, "2:00": 120, "90:00": 5400, "1:30:00": 5400, "7-00:00:00": 604800}
ROWS = st.tuples(
    WORD,
    st.booleans(),
    st.booleans(),
    st.integers(1, 999999),
    st.integers(0, 99),
    st.sampled_from(sorted(LIMITS)),
    WORD,
)
NOISE = st.sampled_from(
    [
        "",
        "*** maintenance | tomorrow ***",
        "slurm_load_node: warning",
        "a|b|c|d|e|f",
        "|||||",
        "PARTITION|AVAIL|CPUS|GRES|TIMELIMIT|NODELIST",
        "p*|up|8|gpu:",
        "\x1b[1mHi",
    ]
)


@given(st.lists(st.tuples(NOISE, ROWS), max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_every_node_is_found_between_banners(
    lines: list[tuple[str, tuple[str, bool, bool, int, int, str, str]]], end: str
) -> None:
    printed, wanted = [], []
    for noise, (partition, default, up, cpus, gpus, limit, node) in lines:
        resources = f"gpu:2080ti:{gpus}(S:0-1)" if gpus else "(null)"
        state = "up" if up else "down"
        printed += [noise, f"{partition}{'*' * default}|{state}|{cpus}{'+' * (cpus % 2)}|{resources}|{limit}|{node}"]
        seconds = LIMITS[limit]
        wanted.append(
            sinfo.NodeRow(
                partition=partition,
                default=default,
                up=up,
                node=node,
                cpus=cpus,
                gpus=gpus,
                limit=None if seconds is None else timedelta(seconds=seconds),
            )
        )
    assert sinfo.parse(end.join(printed)) == wanted


@given(st.text(alphabet=st.sampled_from(list("p*|updown0123:gpu-+()S,\n\u2028")), max_size=80))
def test_any_text_is_survived(text: str) -> None:
    sinfo.parse(text)


def test_numbers_without_end_are_no_rows() -> None:
    assert sinfo.parse(f"p|up|{'9' * 5000}|(null)|infinite|n1") == []
    (row,) = sinfo.parse(f"p|up|8|gpu:{'9' * 5000}|{'9' * 5000}:00|n1")
    assert (row.gpus, row.limit) == (1, None)  # a kind of that name, as Slurm reads it; no limit that could be kept


@pytest.mark.parametrize(
    ("partitions", "preferred"),
    [(["a|down", "b|up", "c*|down"], "c"), (["a|down", "b|up"], "b"), (["a|down", "b|down"], "a")],
)
def test_the_partition_to_use(partitions: list[str], preferred: str) -> None:
    rows = sinfo.parse("\n".join(f"{one}|8|(null)|infinite|n1" for one in partitions))
    assert sinfo.partitions(rows)[0] == preferred
