"""When a run of the built-in trainer ends before its last step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hpcsynapse.errors import SpecError
from hpcsynapse.fields import at_least, setting
from hpcsynapse.spec.names import SERVED


@dataclass(frozen=True, kw_only=True)
class StoppingSettings:
    """When training is over; settings of `[train]`."""

    patience: int = setting(
        0, "end after so many validations in a row without a better one, 0 = never", check=at_least(0, 100_000)
    )
    patience_metric: str = setting("loss", "metric of the validation that is to get better")

    def check_patience(self, validate_every: int) -> None:
        """Refuse to wait for validations that are not made; raises SpecError."""
        if self.patience and not validate_every:
            raise SpecError(f"train.patience = {self.patience} counts validations, but train.validate_every = 0")

    def patience_conflicts(self, strategy: str) -> Iterator[str]:
        """Yield why a strategy cannot end early, if it cannot."""
        if self.patience and strategy in SERVED:
            yield f"train.patience does not go with strategy {strategy}, whose workers do not end together"
