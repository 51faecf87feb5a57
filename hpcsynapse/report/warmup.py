"""Steps at the beginning of a run that are still slower than the rest, found by MSER-5.

Of all cuts the one is taken behind which the marginal standard error is smallest: the sum of squares about the mean of
the batches kept / their number squared (K. P. White, An Effective Truncation Heuristic for Bias Reduction in
Simulation Output, Simulation 69, 1997; in batches of 5: White, Cobb and Spratt, A Comparison of Five Steady-State
Truncation Heuristics for Simulation, Winter Simulation Conference 2000). At most half of the steps are cut, as there.
Two things differ from it: the value of a batch is the median of its logarithms, as a lone straggler is no warm-up; and
only cuts whose batches are clearly slower than the later half count, as noise alone has a smallest error somewhere too:
slower than nearly all of it, and by more than Student's t lets expect. Without the latter one in four runs of 30 steps
without any warm-up was cut; with it 6 in 1,000.
tests/unit/report/test_warmup.py holds what that finds, and what it cuts where there is nothing to find.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hpcsynapse.report.intervals import t_quantile

Floats = npt.NDArray[np.float64]
BATCH = 5
MIN_BATCHES = 6
CLEARLY = 0.95  # share of the later half of the batches that are faster than the mean of those cut
CERTAIN = 0.995  # probability below which a mean of the batches cut lies where nothing is slower
RESOLUTION = 1e-6  # relative: recorded times are 32-bit floats


def detected(times: npt.NDArray[np.float64]) -> int:
    """Return how many of the first step times (s, in order, all positive) are warm-up: a multiple of BATCH, or 0."""
    count = len(times) // BATCH
    if count < MIN_BATCHES:
        return 0
    batches = np.median(np.log(times[: count * BATCH]).reshape(count, BATCH), axis=1)
    centred = batches - batches.mean()  # so that nothing is lost in the differences below
    cuts = np.arange(limit(len(times)) // BATCH + 1)
    kept = count - cuts
    sums, squares = (np.cumsum(values[::-1])[::-1][: len(cuts)] for values in (centred, centred**2))
    errors = np.maximum((squares - sums**2 / kept) / kept, RESOLUTION**2) / kept
    # The later half is kept whatever the cut; a cut of nothing is always allowed.
    later, mean = centred[cuts[-1] :], np.cumsum(centred)[: len(cuts) - 1] / cuts[1:]
    slower = mean > np.quantile(later, CLEARLY) + RESOLUTION
    errors[1:][~(slower & _surely(mean, cuts[1:], later))] = np.inf
    return int(np.argmin(errors)) * BATCH


def _surely(mean: Floats, cuts: npt.NDArray[np.int64], later: Floats) -> npt.NDArray[np.bool_]:
    """Tell which means, of so many batches, noise like that of the later batches does not explain."""
    spread = later.std(ddof=1) * np.sqrt(1 / cuts + 1 / len(later))
    return np.asarray(mean - later.mean() > t_quantile(CERTAIN, len(later) - 1) * spread)


def limit(steps: int) -> int:
    """Return the most that is ever cut of so many steps; a run with that much may not have settled at all."""
    return BATCH * (steps // BATCH // 2)
