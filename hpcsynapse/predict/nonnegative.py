"""Least squares with coefficients of zero or more, for few coefficients and many repetitions at once.

The best solution is that of ordinary least squares on some subset of the columns (Lawson and Hanson, Solving Least
Squares Problems, 1974), so with at most five columns all subsets are tried.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_TIE = 1e-9


def solve(columns: Floats, values: Floats, mix: np.random.Generator | None = None) -> Floats:
    """Return the coefficients, shape (repetitions, columns), for values of shape (repetitions, rows).

    `columns` has shape (rows, columns), or (repetitions, rows, columns). Where several subsets fit equally well, as
    they do with fewer rows than columns, the first is taken, the order being that of the columns; with `mix` a random
    mean of them, as every mean of them fits as well.
    """
    rows, width = columns.shape[-2:]
    found, misfits = [np.zeros((len(values), width))], [np.sum(values**2, axis=1)]
    for size in range(1, min(rows, width) + 1):
        for subset in itertools.combinations(range(width), size):
            part = columns[..., list(subset)]
            if np.linalg.matrix_rank(_scaled(part.reshape(-1, rows, size)[0])) < size:
                continue
            own = np.einsum("...kn,...n->...k", np.linalg.pinv(part), values)
            misfit = np.sum((np.einsum("...nk,...k->...n", part, own) - values) ** 2, axis=1)
            full = np.zeros((len(values), width))
            full[:, list(subset)] = own
            found.append(full)
            misfits.append(np.where((own >= 0).all(axis=1), misfit, np.inf))
    solutions, misfit = np.stack(found), np.stack(misfits)
    good = misfit <= misfit.min(axis=0) + _TIE * misfits[0]
    if mix is None:
        return np.asarray(solutions[np.argmax(good, axis=0), np.arange(len(values))])
    share = mix.gamma(0.5, size=good.shape)  # means near one of them are the more likely: it explains more or less all
    weights = np.where(good, share, 0.0)
    return np.asarray(np.einsum("sr,srk->rk", weights / weights.sum(axis=0), np.where(good[..., None], solutions, 0.0)))


def _scaled(part: Floats) -> Floats:
    size = np.linalg.norm(part, axis=0)
    return np.asarray(part / np.where(size > 0, size, 1.0))
