"""Fitting the cost model to a curve.

Where records tell computation and communication apart, computation is measured, and alpha and beta are fitted to what
communication took. Where they do not (a table, a program that marks no phases) the computation is fitted together with
them to the step times, and differences between ranks are left out. Errors count relative to the step time; no
coefficient is negative. Points that exchange with one number of ranks only cannot tell alpha from beta: the estimate
is then bandwidth alone, and the interval reaches to latency alone.

For intervals every figure is drawn again with its error and the model's misfit (`uncertainty`), and the model is fitted
to each draw. They hold as long as the model does: a network that congests only beyond what was measured is not in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hpcsynapse.predict.curve import Curve, Observation
from hpcsynapse.predict.exchange import Exchange, places
from hpcsynapse.predict.figures import TINY, Figures, communication, level_errors, mean, rest_errors, time_errors
from hpcsynapse.predict.model import PIECES, Model, complete
from hpcsynapse.predict.nonnegative import solve
from hpcsynapse.predict.uncertainty import Errors, misfits

Floats = npt.NDArray[np.float64]
DRAWS = 1000


def fit(curve: Curve) -> Model:
    """Return the model of a curve with its misfit: the root of the mean square of what step times differ from it."""
    model, points = _fit(curve, Figures(curve)), curve.observations
    errors = model.time(*places(points))[0] / np.array([point.time for point in points]) - 1
    return replace(model, misfit=float(np.sqrt(np.mean(errors**2))))


def draw(model: Model, draws: int = DRAWS, seed: int = 0) -> Model:
    """Return so many models, fitted to figures drawn again."""
    rng = np.random.default_rng(seed)
    figures = Figures(model.curve, rng, *_drawn_misfits(model, draws, rng))
    return replace(_fit(model.curve, figures), misfit=model.misfit)


def draw_base(model: Model, draws: int, seed: int = 1) -> Floats:
    """Return what the time of a step of the baseline may be, relative to how it was measured."""
    curve, rng = model.curve, np.random.default_rng(seed)
    index = next((i for i, point in enumerate(curve.observations) if point.ranks == curve.baseline_ranks), None)
    if index is None:
        return np.ones(draws)
    wrong, _ = _drawn_misfits(model, draws, rng)
    return np.asarray(np.exp(time_errors(curve.observations).noise(rng, wrong)[:, index]))


def left_out_error(curve: Curve, left_out: Observation) -> float | None:
    """Return the relative error of a point's step time as the other points predict it.

    None where they say nothing about it: there is one other point only, or none that exchanged over the same links, or
    step times alone would have to tell what a step is without an exchange.
    """
    rest = without(curve, left_out)
    if len(rest.observations) < 2 or (curve.exchanges(left_out) and not _alike(rest, left_out)):
        return None
    if not curve.told_apart and not curve.exchanges(left_out) and all(map(curve.exchanges, rest.observations)):
        return None
    found = _fit(rest, Figures(rest)).time(*places([left_out]))
    return float(found[0, 0] / left_out.time - 1)


def left_out_exchange(curve: Curve, left_out: Observation) -> float | None:
    """Return the same of what tells exchanges apart best: of communication where it was measured, else of the step.

    None also where the other points exchanged with one number of ranks, so that latency and bandwidth are not told.
    """
    rest = without(curve, left_out)
    if len({point.ranks for point in _alike(rest, left_out)}) < 2 or not curve.exchanges(left_out):
        return None
    if not curve.told_apart:
        return left_out_error(curve, left_out)
    if not left_out.samples:
        return None
    seen = max(float(communication([left_out])[0]), TINY)
    return float(_fit(rest, Figures(rest)).parts(*places([left_out]))[1][0, 0] / seen - 1)


def exchange_error(curve: Curve) -> float:
    """Return the root of the mean square error of what `left_out_exchange` compares with."""
    errors = rest_errors(_exchanging(curve)) if curve.told_apart else time_errors(curve.observations)
    return float(np.sqrt(np.mean(errors.sizes**2)))


def without(curve: Curve, left_out: Observation) -> Curve:
    """Return a curve without one of its points."""
    return replace(curve, observations=tuple(point for point in curve.observations if point is not left_out))


def _alike(curve: Curve, other: Observation) -> list[Observation]:
    """Return the points that exchanged over the same links as another one."""
    (link,) = curve.links(places([other])[1])
    return [
        point for point in curve.observations if curve.links(places([point])[1])[0] == link and curve.exchanges(point)
    ]


def _drawn_misfits(model: Model, draws: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return draws of what the model may miss: of times, and of communication relative to it."""
    if not model.curve.told_apart:
        points = model.curve.observations
        residuals = model.time(*places(points))[0] / np.array([point.time for point in points]) - 1
        wrong = misfits(residuals, time_errors(points), len(points) - 1 - _coefficients(model), draws, rng)
        return wrong, wrong
    computed, exchanged = _computed(model), _exchanged(model)
    # Few points tell of communication alone; what varies between runs is in it as it is in computation.
    both = np.concatenate([computed[0], exchanged[0]])
    errors = Errors(np.concatenate([computed[1].sizes, exchanged[1].sizes]))
    return misfits(*computed, draws, rng), misfits(both, errors, computed[2] + exchanged[2], draws, rng)


def _computed(model: Model) -> tuple[Floats, Errors, int]:
    """Return relative residuals of computation, the errors of the figures, and how many of them are to spare."""
    usual = _usual(model.curve)
    level = np.array([mean([one.level for one in point.samples]) for point in usual])
    found = model.constant[0] + model.per_sample[0] * model.curve.batches(places(usual)[0])
    fitted = np.count_nonzero(model.constant[0]) + np.count_nonzero(model.per_sample[0])
    return found / level - 1, level_errors(usual), len(usual) - int(fitted)


def _exchanged(model: Model) -> tuple[Floats, Errors, int]:
    """Return the same of communication."""
    points = _exchanging(model.curve)
    if not points:
        return np.empty(0), Errors(np.empty(0)), 0
    seen = communication(points)
    found = model.parts(*places(points))[1][0] - seen
    return found / np.maximum(seen, TINY), rest_errors(points), len(points) - _coefficients(model)


def _coefficients(model: Model) -> int:
    """Return how many coefficients of the exchange were fitted."""
    links = np.unique(model.curve.links(places(_exchanging(model.curve))[1]))
    return int(np.count_nonzero(model.alpha[0, links]) + np.count_nonzero(model.beta[0, links]))


def _exchanging(curve: Curve) -> list[Observation]:
    measured = [point for point in curve.observations if point.samples] if curve.told_apart else curve.observations
    return [point for point in measured if curve.exchanges(point)]


def _usual(curve: Curve) -> list[Observation]:
    """Return the points that computation is taken from.

    Ranks that exchange compute more slowly than one alone; only they matter where the batch is always the same.
    """
    measured = [point for point in curve.observations if point.samples]
    return [point for point in measured if point.ranks > 1 or curve.scaling == "strong"] or measured


def _fit(curve: Curve, figures: Figures) -> Model:
    model = (_of_records if curve.told_apart else _of_times)(curve, figures)
    if curve.network is None:
        return model
    alpha, beta = model.alpha.copy(), model.beta.copy()
    alpha[:, 1], beta[:, 1] = figures.network(curve.network, len(alpha))
    return replace(model, alpha=alpha, beta=beta)


def _of_times(curve: Curve, figures: Figures) -> Model:
    """Fit computation, alpha and beta to the step times at once."""
    points = curve.observations
    times = figures.times(points)
    steps = np.array([[point.time for point in points]])
    batches = curve.batches(places(points)[0])
    found = Exchange(curve, points).solve(times, steps, batches[:, None], figures.mix)
    level = found[:, 0]
    none = np.zeros_like(level)
    weak = curve.scaling == "weak"
    return Model(
        curve=curve,
        constant=level * batches[0] if weak else none,
        per_sample=none if weak else level,
        alpha=found[:, 3:],
        beta=found[:, 1:3],
    )


def _of_records(curve: Curve, figures: Figures) -> Model:
    """Take computation as it was measured, and fit alpha and beta to what communication took."""
    usual, exchanging = _usual(curve), _exchanging(curve)
    constant, per_sample = _computation(curve, usual, figures)
    batches = curve.batches(places(exchanging)[0])
    own = constant[:, None] + per_sample[:, None] * batches
    hidden = _hidden(exchanging)
    seen = figures.rests(exchanging)
    whole = complete(seen, hidden * own) if hidden else seen
    steps = np.array([[point.time for point in exchanging]])
    found = Exchange(curve, exchanging, own).solve(whole, steps, np.empty((len(exchanging), 0)), figures.mix)
    samples = [one for point in usual for one in point.samples]
    return Model(
        curve=curve,
        constant=constant,
        per_sample=per_sample,
        alpha=found[:, 2:],
        beta=found[:, :2],
        spreads=figures.spreads(samples),
        hidden=hidden,
        independence=_independence([one.excess for one in samples]),
    )


def _computation(curve: Curve, points: Sequence[Observation], figures: Figures) -> tuple[Floats, Floats]:
    """Return the computation of a rank: the same always in weak scaling, else a part of it grows with the batch."""
    levels, batches = figures.levels(points), curve.batches(places(points)[0])
    if curve.scaling == "weak":
        return np.exp(np.log(levels).mean(axis=1)), np.zeros(len(levels))
    columns = np.stack([batches, np.ones_like(batches)], axis=1)[:, : len(set(batches.tolist()))]
    found = solve(columns / levels[:, :, None], np.ones_like(levels), figures.mix)
    return found[:, 1] if found.shape[1] > 1 else np.zeros(len(levels)), found[:, 0]


def _hidden(points: Sequence[Observation]) -> float:
    """Return the part of the computation during which communication goes on: backward without its first piece."""
    shares = [one.backward / one.level for point in points for one in point.samples if one.overlaps]
    return float(np.median(shares)) * (1 - 1 / PIECES) if shares else 0.0


def _independence(excesses: Sequence[tuple[float, float]]) -> float:
    measured, alone = (sum(parts) for parts in zip(*excesses, strict=True))
    return min(1.0, max(0.0, measured / alone)) if alone > 0 else 1.0
