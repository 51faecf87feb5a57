"""Which steps are traced: a range of few steps, of ranks by number."""

from __future__ import annotations

import pytest

from hpcsynapse.errors import SpecError
from hpcsynapse.spec.training import TrainSpec


def test_steps_of_the_ranks_that_are_named() -> None:
    train = TrainSpec(profile_steps="100-104", profile_ranks="0,4-5")
    assert train.profiled(4) == range(100, 105) and not train.profiled(1)
    assert TrainSpec(profile_steps="7").profiled(0) == range(7, 8)
    assert not TrainSpec().profiled(0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"profile_steps": "9-3"},
        {"profile_steps": ""},
        {"profile_steps": "-1"},
        {"profile_steps": "0-1000"},
        {"profile_steps": "٣"},
        {"profile_ranks": "0,"},
        {"profile_ranks": "0-1000000"},
    ],
)
def test_what_is_no_range_is_wrong_input(wrong) -> None:
    with pytest.raises(SpecError, match="profile_"):
        TrainSpec(**wrong)
