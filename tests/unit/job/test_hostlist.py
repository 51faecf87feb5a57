import contextlib
import tracemalloc
from itertools import chain, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsynapse.errors import SpecError
from hpcsynapse.job.hostlist import expand


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("n1", ["n1"]),
        ("n[1-3,7],m[03-05]x", ["n1", "n2", "n3", "n7", "m03x", "m04x", "m05x"]),
        ("n[1]-m[3-5]", ["n1-m3", "n1-m4", "n1-m5"]),
        ("r[0-1]n[08-10]", ["r0n08", "r0n09", "r0n10", "r1n08", "r1n09", "r1n10"]),
        ("a,b", ["a", "b"]),
        ("", []),
    ],
)
def test_known_lists(text: str, hosts: list[str]) -> None:
    assert expand(text) == hosts


@pytest.mark.parametrize(
    "text", ["n[1-", "n1]", "n[[1]]", "n[3-1]", "n[a-b]", "n[]", "n[0-99999999]", "a[0-999]b[0-999]"]
)
def test_malformed_or_enormous_lists_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match="node list"):
        expand(text)


@pytest.mark.parametrize(
    "text",
    [
        "12_[0-99999999999]",
        "a[0-99999]b[0-99999]",
        ",".join(["n[0-9999]"] * 50),
        "x" * 1500 + "[0-99999]",
        "n[" + "9" * 5000 + "]",
        ",".join("n" for _ in range(600_000)),
    ],
    ids=["range", "product", "sum", "name", "number", "text"],
)
def test_a_list_without_end_is_refused_before_it_fills_the_memory(text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(SpecError, match="node list") as raised:
            expand(text)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(text) + 200_000
    finally:
        tracemalloc.stop()
    assert len(str(raised.value)) < 300


LISTS = st.lists(
    st.tuples(st.sampled_from("abn"), st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), max_size=3)),
    max_size=4,
)


@given(LISTS, st.sampled_from([",", " ", ", ", "\t", ",,"]))
def test_every_combination_is_there_once(parts: list[tuple[str, list[tuple[int, int]]]], separator: str) -> None:
    text = separator.join(name + "".join(f"[{low}-{low + more}]" for low, more in ranges) for name, ranges in parts)
    wanted = [
        [
            name + "".join(map(str, numbers))
            for numbers in product(*(range(low, low + more + 1) for low, more in ranges))
        ]
        for name, ranges in parts
    ]
    assert sorted(expand(text)) == sorted(chain.from_iterable(wanted))


@given(st.text(max_size=40))
def test_any_text_gives_hosts_or_a_clear_refusal(text: str) -> None:
    with contextlib.suppress(SpecError):
        assert all(isinstance(host, str) for host in expand(text))


@given(st.lists(st.integers(0, 999), min_size=1, max_size=8, unique=True), st.integers(1, 4))
def test_a_compressed_list_expands_to_its_hosts(numbers: list[int], width: int) -> None:
    text = f"node[{','.join(f'{number:0{width}d}' for number in numbers)}]-ib"
    assert expand(text) == [f"node{number:0{width}d}-ib" for number in numbers]
