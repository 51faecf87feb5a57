"""Columns that are declared once, in every form; tables that fit their terminal."""

import csv
import io
import json
from dataclasses import dataclass, replace

import pytest

from hpcsynapse.errors import SpecError
from hpcsynapse.table import (
    BYTES,
    FRACTION,
    KEY,
    NUMBER,
    RATIO,
    SECONDS,
    TEXT,
    chosen,
    column,
    columns,
    lower_end,
    upper_end,
)
from hpcsynapse.writers import WRITERS, documentation, json_text, to_csv, to_json, to_latex, to_markdown, to_text

NAN, INFINITE = float("nan"), float("inf")


@dataclass(frozen=True, kw_only=True)
class Row:
    model: str = column("what was trained", priority=KEY, default="cnn")
    ranks: int = column("ranks that trained", priority=KEY)
    step_time_s: float | None = column("median over steps", unit=SECONDS, interval=True, priority=7)
    step_time_s_low: float | None = lower_end()
    step_time_s_high: float | None = upper_end()
    speedup: float | None = column("times as fast", unit=RATIO, priority=8, default=None)
    accuracy: float | None = column("a fraction", unit=FRACTION, priority=2, default=None)
    raw: int = column("for programs", shown=False, default=7)
    slow: bool = column("whether it is slow", head="is slow", always=True, default=False)


COLUMNS = columns(Row)
ONE = Row(ranks=1, step_time_s=0.2624, step_time_s_low=0.0006247, step_time_s_high=110.2, speedup=1.0)
TWO = Row(ranks=2, step_time_s=0.0001, step_time_s_low=None, step_time_s_high=None, speedup=1.9, accuracy=0.5)


def test_huge_and_tiny_numbers_are_short():
    huge = NUMBER.show(1e30, (1e-30, 1.5e30))
    assert str(huge) == "1e+30 [1e-30, 1.5e+30]"
    assert (
        str(RATIO.show(1e30)) == "1e+30x"
        and str(NUMBER.show(1e-30)) == "1e-30"
        and str(NUMBER.show(1234567.0)) == "1234567"
    )


def test_what_is_declared():
    assert list(COLUMNS) == [
        "model",
        "ranks",
        "step_time_s",
        "step_time_s_low",
        "step_time_s_high",
        "speedup",
        "accuracy",
        "raw",
        "slow",
    ]
    assert [one.head for one in COLUMNS.values() if one.shown] == [
        "model",
        "ranks",
        "step time",
        "speedup",
        "accuracy",
        "is slow",
    ]
    assert [one.kind for one in COLUMNS.values()] == [str, int, float, float, float, float, float, int, bool]
    assert COLUMNS["model"].unit is TEXT and COLUMNS["ranks"].unit is NUMBER


def test_half_an_interval_is_refused():
    @dataclass(kw_only=True)
    class Half:
        x: float = column("x", interval=True)
        x_low: float = lower_end()

    with pytest.raises(TypeError, match=r"Half.x has an interval"):
        columns(Half)


@pytest.mark.parametrize(
    ("unit", "value", "ends", "text"),
    [
        (SECONDS, 0.2624, (0.0006247, 110.2), "262.4 ms [0.6, 110200]"),
        (SECONDS, 1.5, (1.4721, 1.5321), "1.5 s [1.472, 1.532]"),
        (SECONDS, 2.5e-5, (2e-5, 3e-5), "25 µs [20.00, 30.00]"),
        (SECONDS, 0.9999, (1e-9, 1.0), "999.9 ms [1e-06, 1000]"),
        (SECONDS, 12345.6, (None, None), "12346 s"),
        (SECONDS, 0.0, (0.0, 1.0), "0 µs [0.000, 1000000]"),
        (FRACTION, 0.508, (0.007, 38.314), "50.8% [0.7, 3831]"),
        (FRACTION, 1, (None, None), "100.0%"),
        (RATIO, 1.02, (0.01, 76.63), "1.02x [0.01, 76.63]"),
        (RATIO, 1.0, (1.0, 1.0), "1.00x"),
        (RATIO, 2.0, (0.5, INFINITE), "2.00x [0.50, inf]"),
        (NUMBER, 247.83, (36.614, 1678.2), "247.8 [36.6, 1678]"),
        (NUMBER, -1234.5, (None, None), "-1234"),
        (NUMBER, 123456, (None, None), "123456"),
        (NUMBER, True, (None, None), "yes"),
        (NUMBER, NAN, (1.0, 2.0), "-"),
        (NUMBER, None, (None, None), "-"),
        (BYTES, 3 << 20, (None, None), "3 MiB"),
        (BYTES, 512, (None, None), "512 B"),
        (BYTES, 5 << 40, (None, None), "5120 GiB"),
        (TEXT, "", (None, None), "-"),
        (TEXT, "a\x1b[2J\nb", (None, None), "a [2J b"),
    ],
)
def test_a_value_and_its_interval_have_one_unit(unit, value, ends, text):
    assert str(unit.show(value, ends)) == text


def test_csv_holds_all_in_full_precision():
    first, second = csv.DictReader(io.StringIO(to_csv([ONE, TWO], COLUMNS)))
    assert list(first) == list(COLUMNS)
    assert float(first["step_time_s_low"]) == 0.0006247 and second["step_time_s_low"] == ""


def test_json_has_no_nan():
    (row,) = json.loads(to_json([replace(ONE, speedup=NAN, step_time_s_high=INFINITE)], COLUMNS))
    assert list(row) == list(COLUMNS)
    assert row["speedup"] is None and row["step_time_s_high"] is None and row["raw"] == 7
    assert json.loads(json_text({"a": [NAN, (1.0, -INFINITE)], "b": "x"})) == {"a": [None, [1.0, None]], "b": "x"}


def test_what_is_equal_in_all_rows_stands_above_the_table():
    lines = to_text([ONE, replace(TWO, accuracy=None)], COLUMNS).splitlines()
    assert lines == [
        "in all rows: model cnn",
        "ranks               step time  speedup  is slow",
        "    1  262.4 ms [0.6, 110200]    1.00x       no",
        "    2                  100 µs    1.90x       no",
    ]


def test_a_single_row_is_folded_by_what_it_is_about():
    assert to_text([TWO], COLUMNS).splitlines()[:2] == [
        "in all rows: model cnn",
        "ranks  step time  speedup  accuracy  is slow",
    ]


def test_rows_that_are_alike_keep_a_column():
    @dataclass
    class Same:
        a: str = column("a", default="x")
        b: int = column("b", default=1)

    assert to_text([Same(), Same()], columns(Same)).splitlines() == ["in all rows: b 1", "a", "x", "x"]
    assert to_text([], columns(Same)) == "a  b\n"


@pytest.mark.parametrize(
    ("width", "heads"),
    [
        (None, "ranks step time speedup accuracy is slow"),
        (80, "ranks step time speedup accuracy is slow"),
        (50, "ranks step time speedup is slow"),
        (40, "ranks step time speedup"),
        (20, "ranks speedup"),
        (5, "ranks"),
        (1, "ranks"),  # rows cannot be told apart without it
    ],
)
def test_a_table_fits_its_terminal(width, heads):
    lines = to_text([ONE, TWO], COLUMNS, width).splitlines()
    (head,) = [line for line in lines if line.startswith("ranks")]
    assert " ".join(head.split()) == heads
    assert max(map(len, lines)) <= max(width or 80, 20)
    assert any("no room for: " in line for line in lines) is (width is not None and width <= 50)


def test_intervals_have_no_room_where_columns_are_all_needed():
    narrow = {name: replace(one, priority=KEY) for name, one in COLUMNS.items() if name != "slow"}
    lines = to_text([ONE, TWO], narrow, 36).splitlines()
    assert lines[1:3] == ["ranks  step time  speedup  accuracy", "    1   262.4 ms    1.00x         -"]
    assert " ".join(lines[-2:]).split() == ["no", "room", "for:", "intervals", "(--csv", "has", "all", "columns)"]


def test_columns_of_the_lowest_priority_are_left_out_first_and_named():
    lines = to_text([ONE, TWO], COLUMNS, 50).splitlines()
    assert lines[1] == "ranks               step time  speedup  is slow"
    assert lines[-1] == "no room for: accuracy (--csv has all columns)"


def test_markdown_keeps_its_columns():
    head, rule, first, _ = to_markdown([replace(ONE, model="a|b"), TWO], COLUMNS).splitlines()
    assert head == "| model | ranks | step time | speedup | accuracy | is slow |"
    assert rule == "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert first.startswith(r"| a\|b | 1 | 262.4 ms [0.6, 110200] | 1.00x | - |")


def test_latex_leaves_out_what_is_equal_and_prints_units_as_it_can():
    text = to_latex([ONE, TWO], COLUMNS)
    assert "% in all rows: model cnn\n" in text
    assert r"1 & 262.4 ms {[}0.6, 110200] & 1.00$\times$ & - & no \\" in text
    assert r"2 & 100 $\mu$s & 1.90$\times$ & 50.0\% & no \\" in text


@pytest.mark.parametrize("form", ["text", "markdown", "latex"])
def test_columns_that_are_asked_for_stand_in_that_order(form):
    asked = chosen(COLUMNS, ["speedup", "model", "raw"])
    text = WRITERS[form]([ONE, TWO], asked)
    words = [word for word in text.split() if word in ("speedup", "model", "raw", "cnn")]
    assert words[:3] == ["speedup", "model", "raw"] and words.count("cnn") == 2
    assert to_csv([ONE], asked) == "speedup,model,raw\n1.0,cnn,7\n"


def test_an_unknown_column_is_named_with_the_nearest_one():
    with pytest.raises(SpecError, match=r"column 'speed' is not known; did you mean 'speedup'\?; known are model, "):
        chosen(COLUMNS, ["ranks", "speed"])


def test_the_documentation_lists_names_headings_and_meanings():
    lines = documentation(COLUMNS).splitlines()
    assert lines[0] == "| column | heading | meaning |" and len(lines) == 2 + len(COLUMNS)
    assert "| `step_time_s` | step time | median over steps |" in lines
    assert "| `step_time_s_low` | in brackets | lower end of its 95 % interval |" in lines
    assert "| `raw` | not shown | for programs |" in lines
