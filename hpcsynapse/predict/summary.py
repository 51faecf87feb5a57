"""A prediction in sentences and as a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np

from hpcsynapse.predict.forecast import Forecast
from hpcsynapse.predict.laws import Law
from hpcsynapse.predict.rows import ForecastPoint
from hpcsynapse.units import format_seconds

_LINKS = (" on one node", " between nodes")


def sentences(forecast: Forecast) -> Iterator[str]:
    """Yield what was fitted, how well that predicts measured points, and what is recommended."""
    curve = forecast.curve
    measured = ", ".join(str(point.ranks) for point in curve.observations)
    yield f"{curve.title}, {curve.scaling} scaling, from {measured} ranks"
    yield f"  exchange: {_exchange(forecast)}"
    yield f"  Amdahl's law: {_law(forecast.amdahl)}; universal law: {_law(forecast.usl)}"
    yield f"  left out and predicted: {_errors(forecast)}"
    yield f"  knee: {_count(forecast.knee) if forecast.knee else f'beyond {_count(forecast.most)}'}"
    goals = forecast.goals
    for name, goal in (("deadline", goals.deadline_s), ("budget", goals.budget)):
        if goal is not None:
            what = format_seconds(goal) if name == "deadline" else f"{goal:g} rank-hours"
            found = getattr(forecast, name)
            answer = _count(found) if found else f"not with {_count(forecast.most)} or fewer"
            yield f"  {name} of {what}, epochs {goals.epochs}: {answer}"


def document(forecast: Forecast, points: Sequence[ForecastPoint]) -> dict[str, Any]:
    """Return model, recommendations and rows of a prediction, ready for JSON."""
    model, size = forecast.model, _gradient_bytes(forecast)
    links = {
        name: {"alpha_s": float(model.alpha[0, index]), "beta_s": float(model.beta[0, index]),
               "bytes_per_s": size / float(model.beta[0, index]) if size and model.beta[0, index] else None}
        for index, name in enumerate(("one_node", "several_nodes")) if index in _used(forecast)
    }  # fmt: skip
    return {
        "collective": forecast.curve.collective,
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
            found.append(f"{alpha * 1e6:.4g} us a round and {speed}{where}")
        else:
            level = float(model.constant[0] + model.per_sample[0] * forecast.curve.observations[0].batch)
            share = 100 / level if level else 0.0
            found.append(f"{alpha * share:.3g} % of a step a round and {beta * share:.3g} % a model{where}")
    return f"{forecast.curve.collective}, {'; '.join(found)}"


def _count(ranks: int) -> str:
    return "1 rank" if ranks == 1 else f"{ranks} ranks"


def _law(law: Law | None) -> str:
    if law is None:
        return "too few points"
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
