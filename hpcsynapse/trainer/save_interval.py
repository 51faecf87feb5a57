"""How long a run goes between two checkpoints within epochs."""

from __future__ import annotations

from statistics import median

from hpcsynapse.runs.reliability import best_interval, mean_time_between_failures
from hpcsynapse.spec.training import TrainSpec

_GUESS = 1.0  # seconds that a save is taken to stop the steps for, until the first has been made
_MOST = 3600.0  # seconds: failures are not all that ends runs, and saving once an hour costs next to nothing
_REMEMBERED = 20  # newest saves


class SaveInterval:
    """The `seconds` between checkpoints, 0 for never: as described, or the best for what saves take (Young, Daly).

    `rate` is failures per 1,000 node-days. Writes beside the steps are not to wait for one another, so that the
    interval is no shorter than they are.
    """

    def __init__(self, train: TrainSpec, nodes: int, rate: float) -> None:
        self._auto, self._between = train.checkpoint_auto, mean_time_between_failures(nodes, rate)
        self._stops: list[float] = []
        self.seconds = self._best(_GUESS, 0.0) if self._auto else train.checkpoint_seconds

    def learn(self, stopped: float, write: float) -> None:
        """Take up what a save has taken: seconds that steps stood still, and that the newest write took beside them."""
        if self._auto:
            self._stops = [*self._stops, stopped][-_REMEMBERED:]
            self.seconds = self._best(median(self._stops), write)

    def _best(self, stopped: float, write: float) -> float:
        return min(max(best_interval(stopped, self._between), write), _MOST)
