"""How wrong measured figures and the model may be: what an interval of a prediction is made of.

Figures have the standard error that their repeats show, pooled over all points, or with one run a point that of the
run's blocks of steps. What the model then still misses beyond those errors is its misfit: the variation between runs
where there are no repeats, and whatever the model does not know of. Residuals tell how large it may be, as in a
meta-analysis of studies that differ (DerSimonian and Laird, Controlled Clinical Trials 7, 1986); with few residuals
the answer is a distribution. Where there are none every order of magnitude from 0.01 % to UNSEEN is as plausible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
UNSEEN = 0.05  # beyond it a misfit is the less plausible the larger it is, as by Cauchy's distribution
_MIN_FREEDOM = 3  # fewer repeats than that do not tell a standard error
_MISFITS: Floats = np.geomspace(1e-4, 1.0, 200)  # each as plausible as the next, up to UNSEEN


@dataclass(frozen=True, slots=True)
class Errors:
    """Standard errors of figures, with their degrees of freedom (0: known); `pooled`: one estimate holds for all."""

    sizes: Floats
    freedom: float = 0.0
    pooled: bool = False

    def noise(self, rng: np.random.Generator, misfits: Floats) -> Floats:
        """Return a deviation of every figure for every misfit, shape (misfits, figures)."""
        shape = (len(misfits), len(self.sizes))
        wrong = np.ones((len(misfits), 1))
        if self.freedom:
            wrong = self.freedom / rng.chisquare(self.freedom, (len(misfits), 1 if self.pooled else len(self.sizes)))
        return np.asarray(rng.standard_normal(shape) * np.sqrt(self.sizes**2 * wrong + misfits[:, None] ** 2))


def errors_of(sizes: Sequence[float], freedoms: Sequence[float], repeats: Sequence[int]) -> Errors:
    """Return the errors of means over repeats; those without are taken to vary between runs as the others do.

    `sizes` are standard errors of the means, with `freedoms` degrees of freedom each.
    """
    size, freedom, count = (np.asarray(one, float) for one in (sizes, freedoms, repeats))
    again = count > 1
    total = float(freedom[again].sum())
    if total < _MIN_FREEDOM:
        known = freedom[freedom > 0]
        return Errors(size, float(known.min()) if len(known) else 0.0)
    between = np.sqrt(np.sum(freedom[again] * size[again] ** 2 * count[again]) / total / count)
    return Errors(np.maximum(between, np.where(again, 0.0, size)), total, pooled=True)


def errors_of_runs(values: Sequence[Sequence[float]], within: Sequence[Sequence[float]], freedom: float) -> Errors:
    """Return the errors of the means of runs, by point; `within` are standard errors in runs, of `freedom` degrees."""
    counts = [len(one) for one in values]
    own = [float(np.sqrt(np.sum(np.square(one)))) / len(one) for one in within]
    if sum(counts) - len(counts) < _MIN_FREEDOM:
        return Errors(np.array(own), freedom)
    sizes = [float(np.std(one, ddof=1)) / np.sqrt(len(one)) if len(one) > 1 else 0.0 for one in values]
    found = errors_of(sizes, [count - 1 for count in counts], counts)
    return Errors(np.maximum(found.sizes, own), found.freedom, pooled=True)


def misfits(residuals: Floats, errors: Errors, spare: int, draws: int, rng: np.random.Generator) -> Floats:
    """Return draws of what the misfit may be, from relative residuals of which `spare` were not fitted away."""
    plausible = -np.log1p((_MISFITS / UNSEEN) ** 2)
    if spare > 0:
        variance = _MISFITS[:, None] ** 2 + errors.sizes**2
        plausible -= (spare * np.log(variance).mean(axis=1) + np.sum(residuals**2 / variance, axis=1)) / 2
    weights = np.exp(plausible - plausible.max())
    below = np.cumsum(weights) / weights.sum()
    return np.asarray(np.interp(rng.random(draws), below, _MISFITS))
