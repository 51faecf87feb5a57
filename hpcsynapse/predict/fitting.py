"""Fitting the cost model to a curve.

Where records tell computation and communication apart, computation is measured, and alpha and beta are fitted to what
communication took. Where they do not (a table, a program that marks no phases) the computation is fitted together with
them to the step times, and differences between ranks are left out. Errors count relative to the step time; no
coefficient is negative. Points that exchange with one number of ranks only cannot tell alpha from beta: the estimate
is then bandwidth alone, and the interval reaches to latency alone.

For intervals every figure is drawn again, with the standard error that repeats (or the blocks of one run) show or the
misfit of the model, whichever is larger, and the model is fitted to each draw. They hold as long as the model does: a
network that congests with more nodes than were measured is not in them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hpcsynapse.predict import cost
from hpcsynapse.predict.curve import Curve, Observation
from hpcsynapse.predict.model import PIECES, Model, complete
from hpcsynapse.predict.nonnegative import solve
from hpcsynapse.predict.slowest import Spread, spread

Floats = npt.NDArray[np.float64]
DRAWS = 400
# The relative error that a model is taken to have before its misfit is seen, and the points that this counts for.
UNSEEN, UNSEEN_WEIGHT = 0.03, 2
_SPREADS = 40  # draws of the distribution of computation times
_BLOCKS = 20
_ITERATIONS = 15
_UNKNOWN: Floats = np.zeros(1)


def fit(curve: Curve) -> Model:
    """Return the model of a curve with its misfit."""
    model = _fit(curve, _Figures(curve))
    points = curve.observations
    errors = model.time(*places(points))[0] / np.array([point.time for point in points]) - 1
    links = np.unique(curve.links(places([point for point in points if curve.exchanges(point)])[1]))
    fitted = 1 + np.count_nonzero(model.alpha[0, links]) + np.count_nonzero(model.beta[0, links])
    spare = max(0, len(points) - int(fitted))
    variance = (float(np.sum(errors**2)) + UNSEEN_WEIGHT * UNSEEN**2) / (spare + UNSEEN_WEIGHT)
    return replace(model, misfit=math.sqrt(variance))


def draw(model: Model, seed: int = 0) -> Model:
    """Return DRAWS models, fitted to figures drawn again."""
    figures = _Figures(model.curve, np.random.default_rng(seed), model.misfit)
    return replace(_fit(model.curve, figures), misfit=model.misfit)


def left_out_error(curve: Curve, left_out: Observation) -> float | None:
    """Return the relative error of a point's step time as the other points predict it.

    None where they say nothing about it: there is one other point only, or none that exchanged over the same links, or
    step times alone would have to tell what a step is without an exchange.
    """
    rest = replace(curve, observations=tuple(point for point in curve.observations if point is not left_out))
    (link,) = curve.links(places([left_out])[1])
    alike = [point for point in rest.observations if curve.links(places([point])[1])[0] == link]
    if len(rest.observations) < 2:
        return None
    if curve.exchanges(left_out) and not any(curve.exchanges(point) for point in alike):
        return None
    if not _told_apart(curve) and not curve.exchanges(left_out) and all(map(curve.exchanges, rest.observations)):
        return None
    found = _fit(rest, _Figures(rest)).time(*places([left_out]))
    return float(found[0, 0] / left_out.time - 1)


def places(points: Sequence[Observation]) -> tuple[Floats, Floats]:
    """Return ranks and nodes of points."""
    return np.array([point.ranks for point in points], float), np.array([point.nodes for point in points], float)


class _Figures:
    """What was measured, one row; or DRAWS rows drawn with its errors."""

    def __init__(self, curve: Curve, mix: np.random.Generator | None = None, misfit: float = 0.0) -> None:
        points = curve.observations
        self.mix = mix
        self._errors = {id(point): max(point.error, misfit) for point in points}

    def times(self, points: Sequence[Observation], values: Sequence[float]) -> Floats:
        """Return times of points, which have the relative errors of their steps."""
        noise = self._noise(points)
        return np.asarray(np.asarray(values, float) * np.exp(noise))

    def rests(self, points: Sequence[Observation], values: Sequence[float]) -> Floats:
        """Return differences of such times, which have the absolute errors of the steps."""
        steps = np.array([point.time for point in points])
        return np.maximum(0.0, np.asarray(values, float) + steps * self._noise(points))

    def spreads(self, pieces: Sequence[Floats]) -> tuple[Spread, ...]:
        """Return the distribution of relative times; drawn: of blocks of neighbours, with replacement."""
        if self.mix is None:
            return (spread(np.concatenate(pieces)),)
        blocks = [block for piece in pieces for block in np.array_split(piece, _BLOCKS) if len(block)]
        chosen = self.mix.integers(0, len(blocks), (_SPREADS, len(blocks)))
        return tuple(spread(np.concatenate([blocks[index] for index in row])) for row in chosen)

    def _noise(self, points: Sequence[Observation]) -> Floats:
        if self.mix is None:
            return np.zeros((1, len(points)))
        errors = np.array([self._errors[id(point)] for point in points])
        return np.asarray(self.mix.standard_normal((DRAWS, len(points))) * errors)


def _fit(curve: Curve, figures: _Figures) -> Model:
    return (_of_records if _told_apart(curve) else _of_times)(curve, figures)


def _told_apart(curve: Curve) -> bool:
    """Tell whether records say what is computation and what communication."""
    together = [point for point in curve.observations if point.ranks > 1]
    known = all(point.samples and all(one.phases_known for one in point.samples) for point in together)
    return bool(together) and known


def _of_times(curve: Curve, figures: _Figures) -> Model:
    """Fit computation, alpha and beta to the step times at once."""
    points = curve.observations
    times = figures.times(points, [point.time for point in points])
    batches = curve.batches(places(points)[0])
    found = _Exchange(curve, points).solve(times, times, batches[:, None], figures.mix)
    level = found[:, 0]
    none = np.zeros_like(level)
    weak = curve.scaling == "weak"
    return Model(
        curve=curve, constant=level * batches[0] if weak else none, per_sample=none if weak else level,
        alpha=found[:, 3:], beta=found[:, 1:3],
    )  # fmt: skip


def _of_records(curve: Curve, figures: _Figures) -> Model:
    """Take computation as it was measured, and fit alpha and beta to what communication took."""
    measured = [point for point in curve.observations if point.samples]
    # Ranks that exchange compute more slowly than one alone; only they matter where the batch is always the same.
    usual = [point for point in measured if point.ranks > 1 or curve.scaling == "strong"] or measured
    levels = figures.times(usual, [_mean([one.level for one in point.samples]) for point in usual])
    constant, per_sample = _computation(curve, usual, levels, figures)
    exchanging = [point for point in measured if curve.exchanges(point)]
    batches = curve.batches(places(exchanging)[0])
    own = constant[:, None] + per_sample[:, None] * batches
    hidden = _hidden(exchanging)
    seen = figures.rests(exchanging, [_mean([one.communicate for one in point.samples]) for point in exchanging])
    whole = complete(seen, hidden * own) if hidden else seen
    steps = np.array([[point.time for point in exchanging]])
    exchange = _Exchange(curve, exchanging, own)
    found = exchange.solve(whole, np.broadcast_to(steps, whole.shape), np.empty((len(exchanging), 0)), figures.mix)
    samples = [one for point in usual for one in point.samples]
    return Model(
        curve=curve, constant=constant, per_sample=per_sample, alpha=found[:, 2:], beta=found[:, :2],
        spreads=figures.spreads([one.relative for one in samples]), hidden=hidden,
        independence=_independence([one.excess for one in samples]),
    )  # fmt: skip


def _computation(
    curve: Curve, points: Sequence[Observation], levels: Floats, figures: _Figures
) -> tuple[Floats, Floats]:
    """Return the computation of a rank: the same always in weak scaling, else a part of it grows with the batch."""
    batches = curve.batches(places(points)[0])
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


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


class _Exchange:
    """What alpha and beta contribute to points: beta and alpha of one node and of several, as far as they were used."""

    def __init__(self, curve: Curve, points: Sequence[Observation], think: Floats = _UNKNOWN) -> None:
        self._curve, self._think = curve, think
        ranks, nodes = places(points)
        self._members = curve.members(ranks, nodes)
        takes_part = np.array([curve.exchanges(point) for point in points], bool)
        self._links = np.stack([(curve.links(nodes) == link) & takes_part for link in (0, 1)], axis=1)

    def solve(self, values: Floats, steps: Floats, others: Floats, mix: np.random.Generator | None) -> Floats:
        """Return coefficients, a row for each row of values: those of `others`, beta of both links, alpha of both.

        Errors count relative to the step times. A link that was not used is given the coefficients of the other one.
        """
        kind, more = self._curve.collective, others.shape[1]
        rounds = cost.rounds(kind, self._members)[:, None] * self._links
        alone = cost.volume(kind, self._members, self._curve.servers)
        # Newton's method, which ends after one turn but for the queue: how long one waits there grows faster than beta,
        # so it starts above, where the servers would be busy all the time.
        start = np.min(steps / (self._members * alone + 1e-300), axis=1, keepdims=True)
        beta = np.broadcast_to(start, values.shape)
        think = np.min(values / others[:, 0], axis=1)[:, None] * others[:, 0] if more else self._think
        found = np.zeros((len(values), more + 4))
        for _ in range(_ITERATIONS):
            before = found
            busy, slope = cost.transfer(kind, self._members, beta, think, self._curve.servers)
            rest = busy - slope * beta
            columns = np.concatenate(np.broadcast_arrays(*(
                part[..., None] for part in [*others.T, *(slope[:, None] * self._links.T).swapaxes(0, 1), *rounds.T]
            )), axis=-1) / steps[..., None]  # fmt: skip
            found = solve(columns, (values - rest) / steps)
            if kind != cost.QUEUE or np.allclose(found, before, rtol=1e-5, atol=0):
                break
            beta = found[:, more : more + 2] @ self._links.T
            think = found[:, :more] @ others.T if more else self._think
        if mix is not None:
            found = solve(columns, (values - rest) / steps, mix)
        for here, other in ((0, 1), (1, 0)):
            if not self._links[:, here].any():
                found[:, [more + here, more + 2 + here]] = found[:, [more + other, more + 2 + other]]
        return found
