"""Ending a training that gets no better: decided from the learning curve alone, so that a resumed run decides alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hpcsynapse.errors import TrainError

_SMALLER_IS_BETTER = ("loss", "mae", "error")


def validations_without_better(curve: Iterable[Mapping[str, Any]], metric: str) -> int:
    """Return how many validations in a row, up to the newest, have not been better than the best before them.

    A loss, an `mae` or an error is better when it is smaller, all else when it is larger; nan is never better. Raises
    TrainError where validations do not tell the metric.
    """
    points = {point["step"]: point for point in curve if "step" in point}  # of a step that was made twice the newest
    if points and not any(metric in point for point in points.values()):
        newest = points[max(points)]
        known = [name for name, value in newest.items() if isinstance(value, float) and name not in ("time", "samples")]
        raise TrainError(f"train.patience_metric = {metric!r}: validations tell {', '.join(known)}")
    sign = -1.0 if metric.endswith(_SMALLER_IS_BETTER) else 1.0
    best, since = float("-inf"), 0
    for step in sorted(points):
        value = sign * float(points[step].get(metric, float("nan")))
        best, since = (value, 0) if value > best else (best, since + 1)
    return since
