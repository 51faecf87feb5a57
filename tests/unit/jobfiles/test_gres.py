"""Generic resources: every request that can be written reads back, and no text is a surprise."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsynapse.jobfiles import gres
from hpcsynapse.jobfiles.gres import Gres

# A kind that is no count: what Slurm would take for a number, with or without a suffix of 1024, cannot be a name.
KINDS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,12}", fullmatch=True).filter(
    lambda text: not text.rstrip("kKmMgGtTpP").isdigit() and text != "no_consume"
)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda text: text not in ("none", "gres"))
RESOURCES = st.builds(Gres, NAMES, st.none() | KINDS, st.integers(0, 10**12 - 1))
PLACES = st.sampled_from(["", "(S:0)", "(S:0-1)", "(S:0,1)", "(IDX:0-2,5)", "(IDX:N/A)"])


@given(st.lists(RESOURCES, min_size=1, max_size=4))
def test_what_is_written_reads_back(resources: list[Gres]) -> None:
    text = ",".join(map(str, resources))
    assert gres.parse_request(text) == gres.parse_node(text) == resources
    assert gres.parse_request(",".join(f"gres:{one}" for one in resources)) == resources


@given(st.lists(st.tuples(RESOURCES, PLACES), min_size=1, max_size=4))
def test_where_a_resource_is_attached_changes_nothing(resources: list[tuple[Gres, str]]) -> None:
    assert gres.parse_node(",".join(f"{one}{place}" for one, place in resources)) == [one for one, _ in resources]


@given(st.text(alphabet=st.sampled_from(list("gpu:0123456789kMg=,/()S-. \u0661")), max_size=30))
def test_any_text_is_resources_or_refused(text: str) -> None:
    for parse in (gres.parse_request, gres.parse_gpus, gres.parse_node):
        with contextlib.suppress(ValueError):
            assert all(one.count >= 0 for one in parse(text))


@pytest.mark.parametrize(("text", "number"), [("4", 4), ("2k", 2048), ("1M", 2**20), ("3g", 3 * 2**30)])
def test_counts_with_suffixes(text: str, number: int) -> None:
    assert gres.count(text) == number


@pytest.mark.parametrize("text", ["", "k", "-1", "1.5", "9" * 5000, "2kk", "\u0661"])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(ValueError, match="is not a count"):
        gres.count(text)
