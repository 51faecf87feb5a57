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
    folds: int = setting(
        0, "parts of equal size, of every class alike, of which one is for validation; 0: none", check=at_least(0, 1000)
    )
    fold: int = setting(1, "which of the folds is for validation, counted from 1", check=at_least(1, 1000))
    last_batch: str = setting(
        "drop", "samples of an epoch that fill no whole step: left out, or one smaller step", choices=("drop", "keep")
    )

    def check_shares(self) -> None:
        """Refuse shares and folds that leave nothing to train on; raises SpecError."""
        if self.validation_share + self.test_share > 0.9:
            raise SpecError(
                f"train.validation_share = {self.validation_share:g} and train.test_share = {self.test_share:g} "
                "leave less than a tenth to train on"
            )
        if self.folds == 1:
            raise SpecError("train.folds = 1 leaves nothing to train on: give 2 or more, or 0 for none")
        if self.folds and self.validation_share:
            raise SpecError("train.folds and train.validation_share both set samples aside for validation; give one")
        if self.fold > max(1, self.folds):
            raise SpecError(f"train.fold = {self.fold} is none of train.folds = {self.folds}")

    def data_conflicts(self, strategy: str, accumulate: int) -> Iterator[str]:
        """Yield why a strategy cannot take a smaller step, if it cannot."""
        if self.last_batch == "keep" and strategy not in _WHOLE:
            yield f"train.last_batch = 'keep' does not go with strategy {strategy}, whose steps are all of one size"
        if self.last_batch == "keep" and accumulate > 1:
            yield "train.last_batch = 'keep' does not go with train.accumulate, whose parts are all of one size"
