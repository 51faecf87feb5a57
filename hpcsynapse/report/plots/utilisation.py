"""What nodes used and exchanged over time, by run and role: several runs on one axis that begins with each run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcsynapse.report.node_tables import QUANTITIES, Curve
from hpcsynapse.report.plots.style import Plot, beside, colour, dashes, new_figure, short, text_size
from hpcsynapse.units import counted


def utilisation(curves: Sequence[Curve]) -> Plot | None:
    """Return a panel for every quantity that is known, with a line for every role of every run; None for none."""
    known = [name for name in QUANTITIES if any(not np.isnan(one.values[name]).all() for one in curves)]
    if not known:
        return None
    columns = 2 if beside() else 1
    rows = -(-len(known) // columns)
    figure, axes = new_figure(8.5, 0.6 + 2.1 * rows + 0.2 * len(curves), rows=rows, columns=columns)
    for axis in axes[len(known) :]:
        axis.set_visible(False)
    for axis, name in zip(axes, known, strict=False):
        for index, one in enumerate(curves):
            axis.plot(one.time, one.values[name], color=colour(index), ls=dashes(index), label=_label(one))
        axis.set_ylim(bottom=0)
        axis.set_xlim(left=0)
        axis.set_title(QUANTITIES[name], fontsize=text_size(1.0))
        axis.set_xlabel("seconds since the run began")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, fontsize=text_size(0.9))
    return Plot("utilisation", "Use of nodes and network over time", _text(curves, known), figure)


def _label(one: Curve) -> str:
    return f"{short(one.run)}: {one.role or 'nodes'} ({counted(one.nodes, 'node')})"


def _text(curves: Sequence[Curve], known: Sequence[str]) -> str:
    """Return the means in words."""
    told = []
    for one in curves:
        means = (
            f"{QUANTITIES[name]} {np.nanmean(one.values[name]):.3g}"
            for name in known
            if not np.isnan(one.values[name]).all()
        )
        told.append(f"{_label(one)}: {'; '.join(means)}")
    return "Means over time, and over the nodes of a role. " + ". ".join(told) + "."
