"""Elements that ranks exchange in an epoch, as exact closed forms.

With N elements on each of R ranks and E steps in an epoch (Raja, Brain imaging, UT Arlington 2019):

    centralized     2 N (R-1) E                    gradients to one rank, parameters back
    decentralized   2 E (N/R) (R-1)                ring all-reduce
    proposed        2 E (N/R) (R-1) + N (R-1)      ring all-reduce, and rank 0's parameters to all once in the epoch
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

from hpcsynapse.errors import SpecError
from hpcsynapse.table import KEY, NUMBER, Column

_MEANINGS = {
    "elements": "elements on every rank",
    "ranks": "ranks",
    "steps": "steps of an epoch",
    "centralized": "elements exchanged by gradients to one rank and parameters back",
    "decentralized": "elements exchanged by a ring all-reduce",
    "proposed": "the same, and rank 0's parameters to all once in the epoch",
}
COLUMNS = {
    name: Column(name=name, meaning=meaning, head=name, unit=NUMBER, priority=KEY, always=True)
    for name, meaning in _MEANINGS.items()
}
PLACES = 20
MAX_DIGITS = 30
MAX_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Counts:
    """One row: elements exchanged in an epoch of `steps` steps by `ranks` ranks with `elements` elements each."""

    elements: int
    ranks: int
    steps: int

    @property
    def centralized(self) -> Fraction:
        """Through one rank: 2 N (R-1) E."""
        return Fraction(2 * self.elements * (self.ranks - 1) * self.steps)

    @property
    def decentralized(self) -> Fraction:
        """Round a ring: 2 E (N/R) (R-1)."""
        return Fraction(2 * self.steps * self.elements * (self.ranks - 1), self.ranks)

    @property
    def proposed(self) -> Fraction:
        """Round a ring, and one broadcast of N elements to R-1 ranks."""
        return self.decentralized + self.elements * (self.ranks - 1)

    def to_dict(self) -> dict[str, Fraction]:
        """Return all columns by name."""
        return {name: Fraction(getattr(self, name)) for name in COLUMNS}


def counts(elements: Iterable[int], ranks: Iterable[int], steps: Iterable[int]) -> list[Counts]:
    """Return one row per combination, the last changing fastest; raises SpecError for more than MAX_ROWS."""
    lists = [list(elements), list(ranks), list(steps)]
    if (size := len(lists[0]) * len(lists[1]) * len(lists[2])) > MAX_ROWS:
        raise SpecError(f"{size} combinations are too many; at most {MAX_ROWS} are accepted")
    return [Counts(*row) for row in itertools.product(*lists)]


def parse_counts(name: str, text: str, largest: int = 10**MAX_DIGITS) -> list[int]:
    """Return the whole numbers from 1 in a comma-separated text; raises SpecError naming what is wrong."""
    words: Sequence[str] = [word.strip() for word in text.split(",")]
    for word in words:
        # The length is looked at first: Python refuses to read thousands of digits.
        if not (word.isascii() and word.isdecimal() and len(word) <= MAX_DIGITS + 1 and 0 < int(word) <= largest):
            limit = f"{largest}" if largest < 10**9 else f"1e{len(str(largest)) - 1}"
            raise SpecError(f"{name} {text[:60]!r}: write whole numbers from 1 to {limit}, such as 1,2,4")
    return list(dict.fromkeys(int(word) for word in words))


def decimal(value: Fraction) -> str:
    """Return a number as the shortest decimal that is exactly it; one that recurs is rounded to PLACES places."""
    if value.denominator == 1:
        return str(value.numerator)
    with localcontext() as context:
        context.prec = len(str(abs(value.numerator))) + len(str(value.denominator)) * 4 + 2 * PLACES
        quotient = Decimal(value.numerator) / Decimal(value.denominator)
        if Fraction(quotient) != value:
            quotient = quotient.quantize(Decimal(1).scaleb(-PLACES), ROUND_HALF_EVEN)
    return f"{quotient:f}".rstrip("0").rstrip(".")
