"""Laws of scaling that know nothing of what is computed, beside the cost model.

Both give the speedup of R ranks, up to a constant factor that is fitted too:

    Amdahl's law                  R / (1 + sigma (R-1))                       sigma: serial fraction
    universal scalability law     R / (1 + sigma (R-1) + kappa R (R-1))       kappa: coherence

(Amdahl, AFIPS 1967; Gunther, Guerrilla Capacity Planning, 2007.) R / speedup is linear in its coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpcsynapse.predict.nonnegative import solve

Floats = npt.NDArray[np.float64]
AMDAHL, USL = 2, 3  # coefficients, and so the points that are needed


@dataclass(frozen=True, slots=True)
class Law:
    """A fitted law: speedup = factor R / (1 + sigma (R-1) + kappa R (R-1)); kappa is 0 in Amdahl's."""

    factor: float
    sigma: float
    kappa: float

    def speedup(self, ranks: Floats) -> Floats:
        """Return the speedup of so many ranks."""
        more = ranks - 1
        return np.asarray(self.factor * ranks / (1 + self.sigma * more + self.kappa * ranks * more))


def fit(ranks: Sequence[float] | Floats, speedups: Sequence[float] | Floats, size: int) -> Law | None:
    """Fit Amdahl's law (size AMDAHL) or the universal law (USL) by relative errors.

    None with too few rank counts, and where more than all of the work would have to be serial.
    """
    count, speedup = np.asarray(ranks, float), np.asarray(speedups, float)
    if len(np.unique(count)) < size:
        return None
    columns = np.stack([np.ones_like(count), count - 1, count * (count - 1)][:size], axis=1)
    # R / speedup is 1 / efficiency; dividing each row by it makes the errors relative.
    values = count / speedup
    found = solve(columns / values[:, None], np.ones((1, len(count))))[0]
    constant, *rest = [float(value) for value in found]
    if constant <= 0:  # no speedup at all on one rank: the law does not hold
        return None
    sigma, kappa = [value / constant for value in [*rest, 0.0][:2]]
    return Law(1 / constant, sigma, kappa) if sigma <= 1 else None
