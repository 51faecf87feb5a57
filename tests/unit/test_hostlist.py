import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsynapse.errors import SpecError
from hpcsynapse.hostlist import expand


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


@given(st.text(max_size=40))
def test_any_text_gives_hosts_or_a_clear_refusal(text: str) -> None:
    with contextlib.suppress(SpecError):
        assert all(isinstance(host, str) for host in expand(text))


@given(st.lists(st.integers(0, 999), min_size=1, max_size=8, unique=True), st.integers(1, 4))
def test_a_compressed_list_expands_to_its_hosts(numbers: list[int], width: int) -> None:
    text = f"node[{','.join(f'{number:0{width}d}' for number in numbers)}]-ib"
    assert expand(text) == [f"node{number:0{width}d}-ib" for number in numbers]
