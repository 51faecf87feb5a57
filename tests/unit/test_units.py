from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsynapse.errors import SpecError
from hpcsynapse.units import format_seconds, format_walltime, parse_mebibytes, parse_walltime


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:15:00", 900),
        ("1:00:00", 3600),
        ("100:00:00", 360000),
        ("2-03:04:05", 183845),
        ("1-00", 86400),
        ("90m", 5400),
        ("2h", 7200),
        ("45s", 45),
        ("1d", 86400),
    ],
)
def test_walltime_forms(text: str, seconds: int) -> None:
    assert parse_walltime(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "90", "15:00", "09:60:00", "1:00:61", "-1h", "0m", "1-25:00:00", "1h30m", "400d", "1h; reboot"]
)
def test_walltime_that_is_ambiguous_or_wrong_is_refused_by_name(text: str) -> None:
    with pytest.raises(SpecError, match="time"):
        parse_walltime(text)


@given(st.integers(min_value=1, max_value=365 * 86400))
def test_walltime_survives_formatting(seconds: int) -> None:
    assert parse_walltime(format_walltime(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "mib"), [("64G", 65536), ("512M", 512), ("0", 0), ("1T", 1048576), ("2048K", 2), ("4gb", 4096)]
)
def test_memory(text: str, mib: int) -> None:
    assert parse_mebibytes(text) == mib


@pytest.mark.parametrize("text", ["64", "G", "-1G", "1.5G", "3K", "1P"])
def test_memory_that_is_unclear_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="memory"):
        parse_mebibytes(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(42, "42 s"), (187, "3:07 min"), (8100, "2:15 h"), (3 * 86400 + 4 * 3600, "3 d 04 h")]
)
def test_durations_for_people(seconds: int, text: str) -> None:
    assert format_seconds(seconds) == text
