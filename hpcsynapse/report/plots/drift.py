"""Drift: how far the parameters of ranks were apart before each broadcast, over the steps of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcsynapse.report.drift import Drift
from hpcsynapse.report.plots.axes import label_ends
from hpcsynapse.report.plots.style import Plot, colour, dashes, marker, new_figure

_DECADES = 8.0  # values that differ by more than this factor are drawn on a logarithmic axis


def drift(points: Sequence[tuple[str, Drift]]) -> Plot | None:
    """Return the drift over steps; None where nothing was recorded."""
    if not points:
        return None
    figure, [axes] = new_figure()
    ends = []
    for index, (name, one) in enumerate(points):
        axes.plot(one.step, one.value, color=colour(index), marker=marker(index), ls=dashes(index))
        ends.append((float(one.step[-1]), float(one.value[-1]), name, colour(index)))
    lowest, highest = (find([find(one.value) for _, one in points]) for find in (np.min, np.max))
    if lowest > 0 and highest > _DECADES * lowest:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.08 * highest or 1.0)
    axes.set_xlim(left=0)
    axes.set(xlabel="step", ylabel="largest distance / norm", title="Drift of parameters before broadcasts")
    label_ends(axes, ends)
    words = "; ".join(f"{name}: median {np.median(one.value):.3g}, most {one.value.max():.3g}" for name, one in points)
    text = (
        "Largest distance of a rank's parameters from those of rank 0 before each broadcast, divided by the norm of "
        f"those. {words}."
    )
    return Plot("drift", "Drift of parameters between ranks", text, figure)
