"""Tables: the columns of a dataclass, declared once, and how their values are shown.

    @dataclass(frozen=True, kw_only=True)
    class Row:
        ranks: int = column("ranks that trained", priority=KEY)
        step_time_s: float | None = column("median over steps", unit=SECONDS, interval=True)
        step_time_s_low: float | None = lower_end()
        step_time_s_high: float | None = upper_end()

    to_text(rows, columns(Row), width=80)

That is all that is said of a column: its place, its names for programs and for people, its unit, what it means, and how
long it stays where a table is too wide. No printer (writers.py) knows a column.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from hpcsynapse.errors import SpecError
from hpcsynapse.fields import nearest

KEY = 9  # priority of a column without which rows cannot be told apart: it is never left out
_METADATA = "column"


@dataclass(frozen=True, slots=True)
class Unit:
    """How values are shown: the scales of a number from the smallest up, its decimals, and on which side it stands."""

    scales: tuple[tuple[float, float, str], ...] = ((math.inf, 1.0, ""),)  # below this: factor, suffix
    decimals: int | None = None  # None: four digits that count
    right: bool = True

    def show(self, value: Any, ends: tuple[Any, Any] = (None, None)) -> Cell:
        """Return a value, and its interval in the same unit, as people read them; None and nan are unknown."""
        if value is None or value == "" or value != value:
            return Cell("-")
        if isinstance(value, bool):
            return Cell("yes" if value else "no")
        if isinstance(value, str):  # from outside: nothing in it may move the cursor, or end a line
            return Cell("".join(letter if letter.isprintable() else " " for letter in value))
        if isinstance(value, int) and self.scales == NUMBER.scales:
            return Cell(str(value))
        factor, suffix = next((factor, suffix) for limit, factor, suffix in self.scales if abs(value) < limit)
        low, high = ends
        interval = ""
        if low is not None and high is not None and low != high:
            places = _places(value * factor) if self.decimals is None else self.decimals
            interval = f" [{_end(low * factor, places)}, {_end(high * factor, places)}]"
        return Cell(_number(value * factor, self.decimals), suffix, interval)


class Cell(NamedTuple):
    """What stands in a place of a table: a number or a text, its unit, and its interval."""

    number: str
    suffix: str = ""
    interval: str = ""

    def __str__(self) -> str:
        """Return the cell in one line."""
        return "".join(self)


NUMBER = Unit()
TEXT = Unit(right=False)
SECONDS = Unit(((1e-3, 1e6, " µs"), (1.0, 1e3, " ms"), (math.inf, 1.0, " s")))
FRACTION = Unit(((math.inf, 100.0, "%"),), decimals=1)
RATIO = Unit(((math.inf, 1.0, "x"),), decimals=2)
LARGE = Unit(((1e3, 1.0, ""), (1e6, 1e-3, " k"), (1e9, 1e-6, " M"), (math.inf, 1e-9, " G")))
BYTES = Unit(
    (
        (1000.0, 1.0, " B"),
        (1000.0 * 1024, 2.0**-10, " KiB"),
        (1000.0 * 1024**2, 2.0**-20, " MiB"),
        (math.inf, 2.0**-30, " GiB"),
    )
)
_KINDS: dict[str, type] = {"str": str, "bool": bool, "int": int, "float": float}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its name for programs, its heading for people, what it means, and how it is shown."""

    name: str
    meaning: str
    head: str
    kind: type = object  # what a value is where it is known: str, bool, int, float, else object
    unit: Unit = TEXT
    interval: bool = False  # the columns `name_low` and `name_high` are shown behind the value
    shown: bool = True  # False: for programs only
    priority: int = 5  # where a table is too wide, columns of the lowest priority are left out first
    always: bool = False  # has its place in the table also where it is equal in all rows, or empty


Columns = Mapping[str, Column]


def column(
    meaning: str,
    *,
    head: str = "",
    unit: Unit | None = None,
    interval: bool = False,
    shown: bool = True,
    priority: int = 5,
    always: bool = False,
    default: Any = dataclasses.MISSING,
) -> Any:
    """Declare a field of a dataclass as a column; see Column.

    The heading is by itself the name without underlines and `_s`; the unit of a number, by itself, is none.
    """
    facts = {
        "meaning": meaning,
        "head": head,
        "unit": unit,
        "interval": interval,
        "shown": shown,
        "priority": priority,
        "always": always,
    }
    return dataclasses.field(default=default, metadata={_METADATA: facts})


def lower_end() -> Any:
    """Declare the column `x_low` of a column `x` with an interval."""
    return column("lower end of its 95 % interval", shown=False)


def upper_end() -> Any:
    """Declare the column `x_high` of a column `x` with an interval."""
    return column("upper end of its 95 % interval", shown=False)


def columns(kind: type) -> dict[str, Column]:
    """Return the columns of a dataclass by name, in the order of its fields; raises TypeError for half an interval."""
    found = {}
    for item in dataclasses.fields(kind):
        if (facts := item.metadata.get(_METADATA)) is not None:
            annotation = getattr(item.type, "__name__", str(item.type))
            value = _KINDS.get(annotation.partition(" |")[0], object)
            head = facts["head"] or item.name.removesuffix("_s").replace("_", " ")
            unit = facts["unit"] or (TEXT if value is str else NUMBER)
            found[item.name] = Column(name=item.name, kind=value, **{**facts, "head": head, "unit": unit})
    for one in found.values():
        if one.interval and not {f"{one.name}_low", f"{one.name}_high"} <= found.keys():
            raise TypeError(f"{kind.__name__}.{one.name} has an interval, but not both of its ends")
    return found


def chosen(known: Columns, names: Iterable[str]) -> dict[str, Column]:
    """Return the columns that somebody asks for, in that order, to be shown as asked; raises SpecError for others."""
    found = {}
    for name in names:
        if name not in known:
            raise SpecError(f"column {name!r} is not known{nearest(name, known)}; known are {', '.join(known)}")
        found[name] = dataclasses.replace(known[name], shown=True, always=True, priority=KEY)
    return found


_HUGE = 1e12  # from here on nobody reads the digits


def _number(value: float, decimals: int | None) -> str:
    if abs(value) >= _HUGE:
        return f"{value:.3g}"
    if decimals is not None:
        text = f"{value:.{decimals}f}"
        return text if float(text) else text.removeprefix("-")  # -0.0 is 0.0
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def _places(value: float) -> int:
    """Return the decimals that a number with four digits that count has."""
    return min(8, max(0, 3 - math.floor(math.log10(abs(value))))) if value and math.isfinite(value) else 3


def _end(value: float, places: int) -> str:
    """Return the end of an interval: no more decimals than the value has, unless nothing would be left of it."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= _HUGE:
        return f"{value:.3g}"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    text = f"{value:.{places}f}"
    return text if value == 0 or float(text) else f"{value:.1g}"
