"""Communication counts are exact."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsynapse.errors import SpecError
from hpcsynapse.predict.comms import PLACES, Counts, counts, decimal, parse_counts

whole = st.integers(1, 10**30)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ((1, 2, 10), (20, 10, 11)),
        ((1, 4, 10), (60, 15, 18)),
        ((4, 2, 10), (80, 40, 44)),
        ((4, 4, 10), (240, 60, 72)),
        ((7, 1, 10), (0, 0, 0)),
        ((1, 3, 10), (40, Fraction(40, 3), Fraction(46, 3))),
    ],
)
def test_closed_forms(row, expected):
    found = Counts(*row)
    assert (found.centralized, found.decentralized, found.proposed) == expected


@given(elements=whole, ranks=whole, steps=whole)
def test_closed_forms_are_exact_for_any_size(elements, ranks, steps):
    found = Counts(elements, ranks, steps)
    assert found.decentralized * ranks == 2 * steps * elements * (ranks - 1) == found.centralized
    assert found.proposed - found.decentralized == elements * (ranks - 1)


@given(value=st.fractions(min_value=0, max_value=10**40, max_denominator=10**6))
def test_decimals_are_exact_or_rounded_to_the_last_place(value):
    text = decimal(value)
    rest = value.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    assert "e" not in text.lower()
    if rest == 1:
        assert Fraction(text) == value
    else:
        assert abs(Fraction(text) - value) <= Fraction(1, 2 * 10**PLACES)


def test_combinations_in_order():
    rows = counts([1, 4], [2, 4], [10])
    assert [(row.elements, row.ranks, row.steps) for row in rows] == [(1, 2, 10), (1, 4, 10), (4, 2, 10), (4, 4, 10)]
    with pytest.raises(SpecError, match="too many"):
        counts(range(1000), range(1000), [1])


@pytest.mark.parametrize("text", ["", " ", "0", "-1", "+1", "1.5", "1e3", "1,,2", "1,", "x", "٣", "9" * 5000, "1\n2\n"])
def test_anything_but_whole_numbers_is_refused(text):
    with pytest.raises(SpecError, match="--ranks"):
        parse_counts("--ranks", text)


def test_blanks_and_repeated_numbers():
    assert parse_counts("--ranks", " 2, 4,2 ") == [2, 4]
    with pytest.raises(SpecError, match="from 1 to 10000000"):
        parse_counts("--ranks", "10000001", 10_000_000)
