"""How old gradients were: the share of each number of updates, for every point that does not work in lock-step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from hpcsynapse.report.plots.axes import label_ends
from hpcsynapse.report.plots.style import Plot, colour, dashes, marker, new_figure
from hpcsynapse.report.staleness import Staleness


def staleness(points: Sequence[tuple[str, Staleness]]) -> Plot | None:
    """Return the cumulative share of gradients by their staleness; None where nothing was recorded."""
    if not points:
        return None
    figure, [axes] = new_figure()
    farthest = max(2, *(one.quantile(0.99) for _, one in points))
    ends = []
    for index, (name, one) in enumerate(points):
        share = np.cumsum(one.counts) / one.counts.sum()
        known = share[: farthest + 1]
        values = np.concatenate((known, np.ones(farthest + 1 - len(known))))
        places = np.arange(farthest + 1)
        axes.step([*places, farthest + 0.3], [*values, values[-1]], where="post", color=colour(index), ls=dashes(index))
        axes.plot([one.mean], [values[min(int(one.mean), farthest)]], marker(index), color=colour(index))
        ends.append((farthest + 0.3, float(values[-1]), name, colour(index)))
    axes.set_ylim(0, 1.05)
    axes.set_xlim(0, farthest + 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(
        xlabel="updates by others between a worker's pull and its push (dot: mean)",
        ylabel="gradients at most so old",
        title="Staleness of gradients",
    )
    label_ends(axes, ends)
    words = "; ".join(
        f"{name}: mean {one.mean:.3g}, 95 % at most {one.quantile(0.95)}{_dropped(one)}" for name, one in points
    )
    text = f"Updates by others between a worker's pull of the parameters and the push of its gradient. {words}."
    return Plot("staleness", "Staleness of gradients", text, figure)


def _dropped(one: Staleness) -> str:
    return "" if not one.dropped_share else f", {one.dropped_share:.1%} dropped"
