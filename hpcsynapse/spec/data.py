"""How samples of the built-in trainer are set aside, and what becomes of those that fill no whole step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hpcsynapse.errors import SpecError
from hpcsynapse.fields import at_least, setting

_WHOLE = ("auto", "single", "allreduce", "allreduce-broadcast", "central", "sharded")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which samples are trained on; settings of `[train]`."""

    validation_share: float = setting(
        0.0, "part of the training samples set aside for validation, of every class alike", check=at_least(0, 0.9)
    )
    test_share: float = setting(
        0.0, "part set aside for a test at the end of the run, metrics test_NAME", check=at_least(0, 0.9)
    )
    last_batch: str = setting(
        "drop", "samples of an epoch that fill no whole step: left out, or one smaller step", choices=("drop", "keep")
    )

    def check_shares(self) -> None:
        """Refuse shares that leave nothing to train on; raises SpecError."""
        if self.validation_share + self.test_share > 0.9:
            raise SpecError(
                f"train.validation_share = {self.validation_share:g} and train.test_share = {self.test_share:g} "
                "leave less than a tenth to train on"
            )

    def data_conflicts(self, strategy: str, accumulate: int) -> Iterator[str]:
        """Yield why a strategy cannot take a smaller step, if it cannot."""
        if self.last_batch == "keep" and strategy not in _WHOLE:
            yield f"train.last_batch = 'keep' does not go with strategy {strategy}, whose steps are all of one size"
        if self.last_batch == "keep" and accumulate > 1:
            yield "train.last_batch = 'keep' does not go with train.accumulate, whose parts are all of one size"
