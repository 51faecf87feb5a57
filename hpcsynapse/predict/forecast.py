"""What more ranks would bring: speedups, the knee, and how many ranks a deadline or a budget asks for.

The knee is the largest number of ranks from which twice as many still bring half of the ideal gain: doubling them
raises the speedup by 50 % or more. Start-up, validation and checkpoints are in none of the figures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hpcsynapse.errors import SpecError
from hpcsynapse.predict import laws
from hpcsynapse.predict.choice import Candidate, candidates
from hpcsynapse.predict.curve import Curve, Observation
from hpcsynapse.predict.fitting import DRAWS, draw, draw_base, fit, left_out_error
from hpcsynapse.predict.model import Model
from hpcsynapse.report.intervals import LEVEL

Floats = npt.NDArray[np.float64]
WORTH = 0.5  # of the ideal gain that doubling the ranks must bring
FAR = 16  # times the measured ranks, from which on a prediction is marked
MAX_RANKS = 100_000  # up to which the knee and recommendations are looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """What a recommendation is to reach: `deadline_s` for so many epochs, `budget` in rank-hours for as many."""

    epochs: int = 1
    deadline_s: float | None = None
    budget: float | None = None
    epoch_samples: float | None = None


@dataclass(frozen=True)
class Forecast:
    """A fitted curve and what follows from it."""

    curve: Curve
    goals: Goals = field(default_factory=Goals)

    @cached_property
    def candidates(self) -> list[Candidate]:
        """The exchanges that the points allow, the most plausible first."""
        return candidates(self.curve)

    @cached_property
    def model(self) -> Model:
        """The cost model, with the most plausible exchange."""
        return fit(self.candidates[0].curve)

    @cached_property
    def amdahl(self) -> laws.Law | None:
        """Amdahl's law, or None where it does not fit, with too few points, and for weak scaling, which it denies."""
        return self._law(laws.AMDAHL)

    @cached_property
    def usl(self) -> laws.Law | None:
        """The universal scalability law, or None likewise."""
        return self._law(laws.USL)

    @cached_property
    def most(self) -> int:
        """The largest number of ranks that is looked at: every rank has a sample, and the network is known."""
        curve = self.curve
        if curve.one_node and curve.network is None:
            return curve.ranks_per_node
        if curve.scaling == "weak" or not curve.batches_known:
            return MAX_RANKS
        return min(MAX_RANKS, int(curve.batches(np.ones(1))[0]))

    @property
    def fewest(self) -> int:
        """The smallest number of ranks that was measured; nothing is predicted below it."""
        return min(point.ranks for point in self.curve.observations)

    @cached_property
    def knee(self) -> int | None:
        """The knee, or None where it lies beyond `most`."""
        ranks = self._allocations()
        ranks = ranks[2 * ranks <= self.most]
        gain = self.speedups(2 * ranks) / self.speedups(ranks) - 1
        worth = np.flatnonzero(gain >= WORTH)
        if len(worth) and worth[-1] == len(ranks) - 1:
            return None
        return int(ranks[worth[-1]]) if len(worth) else self.fewest

    @cached_property
    def deadline(self) -> int | None:
        """The fewest ranks that make the epochs in time, or None; raises SpecError where epochs are not known."""
        if self.goals.deadline_s is None:
            return None
        ranks, epochs = self._epochs("--deadline")
        in_time = np.flatnonzero(epochs * self.goals.epochs <= self.goals.deadline_s)
        return int(ranks[in_time[0]]) if len(in_time) else None

    @cached_property
    def budget(self) -> int | None:
        """The ranks that make the epochs fastest within the rank-hours, or None; raises SpecError likewise."""
        if self.goals.budget is None:
            return None
        ranks, epochs = self._epochs("--budget")
        afforded = np.flatnonzero(ranks * epochs * self.goals.epochs / 3600 <= self.goals.budget)
        return int(ranks[afforded[np.argmin(epochs[afforded])]]) if len(afforded) else None

    def nodes(self, ranks: Floats) -> Floats:
        """Return the nodes that so many ranks fill."""
        return np.asarray(np.ceil(ranks / self.curve.ranks_per_node))

    def speedups(self, ranks: Floats) -> Floats:
        """Return predicted speedups against the baseline."""
        return np.asarray(self.speedup(ranks, self.model.time(ranks, self.nodes(ranks)))[0])

    def speedup(self, ranks: Floats, times: Floats, base: float | Floats | None = None) -> Floats:
        """Return the speedup that step times mean, against the baseline's."""
        gain = (self.curve.base_time if base is None else base) / times
        return np.asarray(gain * ranks / self.curve.baseline_ranks if self.curve.scaling == "weak" else gain)

    def epoch_s(self, speedups: Floats) -> Floats | None:
        """Return the times of an epoch at these speedups, or None where nothing is known of epochs."""
        curve = self.curve
        samples = self.goals.epoch_samples or curve.epoch_samples
        if samples is not None and curve.base_throughput is not None:
            return np.asarray(samples / (curve.base_throughput * speedups))
        return None if curve.base_epoch_s is None else curve.base_epoch_s / speedups

    def intervals(self, ranks: Floats, nodes: Floats) -> tuple[Floats, Floats]:
        """Return 95 % intervals of step times and of speedups, each of shape (2, numbers of ranks).

        They contain the estimate, which is at an end of them where latency and bandwidth cannot be told apart.
        """
        estimate = self.model.time(ranks, nodes)
        times = np.concatenate([model.time(ranks, nodes) for model in self._drawn])
        base = self.curve.base_time * draw_base(self.model, len(times))
        speedups = self.speedup(ranks, times, base[:, None])
        ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        return (
            _around(np.quantile(times, ends, axis=0), estimate),
            _around(np.quantile(speedups, ends, axis=0), self.speedup(ranks, estimate)),
        )

    def left_out(self, point: Observation) -> tuple[float | None, float | None, float | None]:
        """Return the errors of a point's step time as the others predict it: cost model, Amdahl's law, USL."""
        measured = self.speedup(np.array([point.ranks], float), np.array([[point.time]]))[0, 0]
        by_law = []
        for size in (laws.AMDAHL, laws.USL):
            law = self._law(size, without=point)
            by_law.append(None if law is None else float(measured / law.speedup(np.array([point.ranks], float))[0] - 1))
        return left_out_error(self.candidates[0].curve, point), by_law[0], by_law[1]

    @cached_property
    def _drawn(self) -> list[Model]:
        """Models drawn again, of every exchange as many as it is plausible."""
        shares = [(fit(one.curve), round(one.share * DRAWS)) for one in self.candidates]
        return [draw(model, draws, seed) for seed, (model, draws) in enumerate(shares) if draws]

    def doubts(self, ranks: int) -> list[str]:
        """Return remarks on what is said of so many ranks: `far`, `one-node`, `given-network`, `no-phases`."""
        curve = self.curve
        found = ["far"] if ranks > FAR * max(point.ranks for point in curve.observations) else []
        if curve.one_node:
            beyond = ranks > curve.ranks_per_node and curve.network is not None
            found.append("given-network" if beyond else "one-node")
        return [*found, "no-phases"] if curve.phases_missing else found

    def _law(self, size: int, without: Observation | None = None) -> laws.Law | None:
        if self.curve.scaling != "strong":
            return None
        points = [point for point in self.curve.observations if point is not without]
        ranks = np.array([point.ranks for point in points], float)
        return laws.fit(ranks, self.speedup(ranks, np.array([[point.time for point in points]]))[0], size)

    def _allocations(self) -> Floats:
        """Return numbers of ranks from the smallest measured that fill their nodes, and fewer on one node."""
        filled = self.curve.ranks_per_node
        found = np.array([*range(1, min(filled, self.most + 1)), *range(filled, self.most + 1, filled)], float)
        return found[found >= self.fewest]

    def _epochs(self, option: str) -> tuple[Floats, Floats]:
        ranks = self._allocations()
        epochs = self.epoch_s(self.speedups(ranks))
        if epochs is None:
            how = "" if self.curve.base_throughput is None else "; give --epoch-samples"
            raise SpecError(f"{option} needs the time of an epoch, which {self.curve.title} does not tell{how}")
        return ranks, epochs


def _around(ends: Floats, estimate: Floats) -> Floats:
    return np.stack([np.minimum(ends[0], estimate[0]), np.maximum(ends[1], estimate[0])])


def doublings(curve: Curve) -> list[int]:
    """Return numbers of ranks to look at where none are asked for: up to 256 times what was measured."""
    largest = max(point.ranks for point in curve.observations)
    most = curve.ranks_per_node if curve.one_node and curve.network is None else MAX_RANKS
    return [largest << step for step in range(1, 9) if largest << step <= most]
