"""A prediction in sentences and as a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np

from hpcsynapse.predict.cost import SERVERS
from hpcsynapse.predict.curve import Curve
from hpcsynapse.predict.forecast import MAX_RANKS, Forecast
from hpcsynapse.predict.laws import AMDAHL, USL
from hpcsynapse.predict.rows import ForecastPoint
from hpcsynapse.units import format_seconds

_SHOWN = 3  # exchanges that are named
_LINKS = (" on one node", " between nodes")


def sentences(forecast: Forecast) -> Iterator[str]:
    """Yield what was fitted, how well that predicts measured points, and what is recommended."""
    curve = forecast.curve
    measured = ", ".join(str(point.ranks) for point in curve.observations)
    yield f"{curve.title}, {curve.scaling} scaling, from {measured} ranks"
    yield f"  exchange: {_exchange(forecast)}"
    if len(forecast.candidates) > 1:
        yield f"  possible exchanges: {_possible(forecast)}"
    if curve.phases_missing:
        yield "  phases: not recorded, so that differences between ranks count as communication; mark them in the loop"
    if curve.one_node:
        yield f"  {_one_node(forecast)}"
    if curve.scaling == "strong":
        yield f"  Amdahl's law: {_law(forecast, AMDAHL)}; universal law: {_law(forecast, USL)}"
    yield f"  left out and predicted: {_errors(forecast)}"
    yield f"  knee: {_found(forecast, forecast.knee, f'beyond {_count(forecast.most)}')}"
    goals = forecast.goals
    for name, goal in (("deadline", goals.deadline_s), ("budget", goals.budget)):
        if goal is not None:
            what = format_seconds(goal) if name == "deadline" else f"{goal:g} rank-hours"
            answer = _found(forecast, getattr(forecast, name), f"not with {_count(forecast.most)} or fewer")
            yield f"  {name} of {what}, epochs {goals.epochs}: {answer}"


def document(forecast: Forecast, points: Sequence[ForecastPoint]) -> dict[str, Any]:
    """Return model, recommendations and rows of a prediction, ready for JSON."""
    model, size = forecast.model, _gradient_bytes(forecast)
    links = {
        name: {
            "alpha_s": float(model.alpha[0, index]),
            "beta_s": float(model.beta[0, index]),
            "bytes_per_s": size / float(model.beta[0, index]) if size and model.beta[0, index] else None,
        }
        for index, name in enumerate(("one_node", "several_nodes"))
        if index in _used(forecast)
    }
    return {
        "collective": model.curve.collective,
        "congestion": asdict(model.curve.congestion) if model.curve.congestion else None,
        "exchanges": [
            {"exchange": exchange_name(one.curve), "left_out_error": one.error, "share": one.share}
            for one in forecast.candidates
        ],
        "links": links,
        "gradient_bytes": size,
        "misfit": model.misfit,
        "amdahl": asdict(forecast.amdahl) if forecast.amdahl else None,
        "usl": asdict(forecast.usl) if forecast.usl else None,
        "knee": forecast.knee,
        "deadline": forecast.deadline,
        "budget": forecast.budget,
        "looked_up_to": forecast.most,
        "points": [asdict(point) for point in points],
    }


def _used(forecast: Forecast) -> list[int]:
    """Return the links that measured points used: 0 within one node, 1 between nodes."""
    curve = forecast.curve
    nodes = np.array([point.nodes for point in curve.observations if curve.exchanges(point)], float)
    return sorted(set(curve.links(nodes).tolist()))


def _gradient_bytes(forecast: Forecast) -> float | None:
    sizes = {one.gradient_bytes for point in forecast.curve.observations for one in point.samples}
    return sizes.pop() if len(sizes) == 1 else None


def _exchange(forecast: Forecast) -> str:
    model, size, found = forecast.model, _gradient_bytes(forecast), []
    for link in _used(forecast):
        where = _LINKS[link] if forecast.curve.nodes_known else ""
        alpha, beta = float(model.alpha[0, link]), float(model.beta[0, link])
        if forecast.curve.seconds:
            speed = f"{size / beta / 1e6:.4g} MB/s" if size and beta else f"{beta * 1e3:.4g} ms a model"
            found.append(f"{alpha * 1e6:.4g} µs a round and {speed}{where}")
        else:
            level = float(model.constant[0] + model.per_sample[0] * forecast.curve.observations[0].batch)
            share = 100 / level if level else 0.0
            found.append(f"{alpha * share:.3g} % of a step a round and {beta * share:.3g} % a model{where}")
    return f"{exchange_name(model.curve)}, {'; '.join(found)}"


def _count(ranks: int) -> str:
    return "1 rank" if ranks == 1 else f"{ranks} ranks"


def _found(forecast: Forecast, ranks: int | None, otherwise: str) -> str:
    """Return what is recommended, with the remarks that its row has."""
    remarks = forecast.doubts(forecast.most if ranks is None and forecast.curve.one_node else ranks or 0)
    mark = f" ({', '.join(remarks)})" if remarks else ""
    return (otherwise if ranks is None else _count(ranks)) + mark


def _one_node(forecast: Forecast) -> str:
    full = _count(forecast.curve.ranks_per_node)
    if forecast.curve.network is not None:
        return f"network: as given; one node has {full}"
    return (
        f"one node: the network between nodes was not measured, and nothing is said beyond {full}; measure two nodes, "
        "or give --network 100Gbit --latency 2us"
    )


def _possible(forecast: Forecast) -> str:
    """Return the exchanges that intervals cover, with what each makes of points that are left out."""
    found = []
    for one in forecast.candidates[:_SHOWN]:
        error = "" if one.error is None else f", left-out error {100 * one.error:.2g} %"
        found.append(f"{exchange_name(one.curve)} ({100 * one.share:.0f} % of the interval{error})")
    more = len(forecast.candidates) - _SHOWN
    return "; ".join(found) + (f"; {more} more" if more > 0 else "")


def exchange_name(curve: Curve) -> str:
    """Return an exchange for people: `ring`, `tree, congested from 32 ranks`, `servers, 4`."""
    if curve.congestion is not None:
        power = {0.5: "with the root of", 1.0: "in proportion to"}[curve.congestion.power]
        return f"{curve.collective}, growing {power} ranks from {curve.congestion.since} on"
    if curve.collective == SERVERS and curve.servers is not None:
        return "as many servers as are needed" if curve.servers > MAX_RANKS else f"{curve.servers} servers"
    return curve.collective


def _law(forecast: Forecast, size: int) -> str:
    law = forecast.amdahl if size == AMDAHL else forecast.usl
    if law is None:
        counts = {point.ranks for point in forecast.curve.observations}
        return "too few points" if len(counts) < size else "no fit"
    coherence = f", coherence {100 * law.kappa:.3g} %" if law.kappa else ""
    return f"{100 * law.sigma:.3g} % serial{coherence}"


def _errors(forecast: Forecast) -> str:
    errors = [forecast.left_out(point) for point in forecast.curve.observations]
    found = []
    for name, column in zip(("this model", "Amdahl", "universal law"), zip(*errors, strict=True), strict=True):
        known = [abs(value) for value in column if value is not None]
        if known:
            found.append(f"{name} {100 * median(known):.3g} % (at most {100 * max(known):.3g} %)")
    return ", ".join(found) or "too few points to leave one out"
