"""Which steps of which ranks the built-in trainer traces with torch.profiler."""

from __future__ import annotations

from dataclasses import dataclass

from hpcsynapse.errors import SpecError
from hpcsynapse.fields import setting
from hpcsynapse.units import parse_numbers, parse_range

_MOST_STEPS = 1000  # a trace of more is larger than viewers hold


def _check_steps(name: str, value: str) -> None:
    first, last = parse_range(name, value)
    if last - first >= _MOST_STEPS:
        raise SpecError(f"{name} = {value!r}: at most {_MOST_STEPS} steps can be traced")


def _check_ranks(name: str, value: str) -> None:
    parse_numbers(name, value)


@dataclass(frozen=True, kw_only=True)
class ProfileSettings:
    """What is traced, beside the record of every step; settings of `[train]`."""

    profile_steps: str | None = setting(
        None, "trace these steps with torch.profiler, as 100-104 (the first is 0)", check=_check_steps
    )
    profile_ranks: str = setting("0", "of these ranks, as 0,4-7", check=_check_ranks)

    def profiled(self, rank: int) -> range:
        """Return the steps of a rank that are traced."""
        if self.profile_steps is None or rank not in parse_numbers("train.profile_ranks", self.profile_ranks):
            return range(0)
        first, last = parse_range("train.profile_steps", self.profile_steps)
        return range(first, last + 1)
