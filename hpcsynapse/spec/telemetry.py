"""What is measured of the nodes themselves while a run is at work."""

from __future__ import annotations

from dataclasses import dataclass

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.fields import setting

_SHORTEST, _LONGEST = 0.1, 3600.0  # seconds


def _check_interval(name: str, value: float) -> None:
    if value and not _SHORTEST <= value <= _LONGEST:  # also refuses nan
        raise SpecError(f"{name} = {value} must be 0, for none, or between {_SHORTEST} and {_LONGEST:g} seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryOptions:
    """What is measured of the nodes themselves while a run is at work."""

    sample: float = setting(
        1.0, "seconds between looks at every node's load, 0 = none", check=_check_interval, option="sample"
    )

    def __post_init__(self) -> None:
        fields.validate("telemetry", self)
