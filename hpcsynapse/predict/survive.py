"""What failures leave of a run's time, for numbers of nodes: before it is submitted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from hpcsynapse.runs import reliability
from hpcsynapse.table import FRACTION, KEY, NUMBER, Unit, column, columns

CERTAINTY = 0.999  # with which the spares of a forecast are enough
_TIME = Unit(((120.0, 1.0, " s"), (7200.0, 1 / 60, " min"), (172_800.0, 1 / 3600, " h"), (math.inf, 1 / 86400, " d")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a run pays, in seconds: standing still for a save, the write behind it, coming back, also on a spare node.

    `rate` is failures per 1,000 node-days, `duration` how long the run has its nodes.
    """

    rate: float
    save: float
    write: float
    restart: float
    spare_restart: float
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """A forecast for one number of nodes; the fields, in this order, are the columns."""

    nodes: int = column("nodes that work", priority=KEY, always=True)
    between_s: float = column("mean time between two failures", head="failure every", unit=_TIME, always=True)
    failures: float = column("failures expected in the run's time", unit=NUMBER, priority=7, always=True)
    interval_s: float = column("work between two checkpoints", head="save every", unit=_TIME, always=True)
    goodput: float = column("part of the time that is useful", unit=FRACTION, priority=8, always=True)
    lost_node_h: float = column("node-hours that are not, in the run's time", head="node-hours lost", unit=NUMBER)
    spares: int = column(
        f"spare nodes that are enough for the run's time with {100 * CERTAINTY:g} % certainty", priority=7, always=True
    )
    goodput_with_spares: float = column(
        "the same where a spare takes over", head="goodput with spares", unit=FRACTION, always=True
    )
    spares_worth_node_h: float = column(
        "node-hours won by the spares less those that they take, in the run's time",
        head="spares are worth",
        unit=NUMBER,
        always=True,
    )


COLUMNS = columns(Survival)


def forecasts(nodes: Iterable[int], costs: Costs) -> list[Survival]:
    """Return a row for each number of nodes."""
    return [forecast(count, costs) for count in nodes]


def forecast(nodes: int, costs: Costs) -> Survival:
    """Return what failures leave of the time of so many nodes, at the best interval between checkpoints.

    A spare is worth what restarts on it save over those through the queue; both are paid for the whole time.
    """
    between = reliability.mean_time_between_failures(nodes, costs.rate)
    interval = max(reliability.best_interval(costs.save, between), costs.write)  # one write at a time
    interval = min(interval, costs.duration)
    found, with_spares = (
        reliability.goodput(interval, costs.save, restart, between, costs.write)
        for restart in (costs.restart, costs.spare_restart)
    )
    hours, expected = costs.duration / 3600, costs.duration / between
    spares = reliability.failures_at_most(expected, CERTAINTY)
    return Survival(
        nodes=nodes,
        between_s=between,
        failures=expected,
        interval_s=interval,
        goodput=found,
        lost_node_h=(1 - found) * nodes * hours,
        spares=spares,
        goodput_with_spares=with_spares,
        spares_worth_node_h=((with_spares - found) * nodes - spares) * hours,
    )
