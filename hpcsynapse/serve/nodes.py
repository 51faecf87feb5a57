"""The load of nodes: what `nodes` shows, and the same over time, from the files of their samplers."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Annotated

from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.node_load import COLUMNS, DAEMONS, Look, over_time
from hpcsynapse.runs.states import FINAL_STATES
from hpcsynapse.serve.index import RunIndex
from hpcsynapse.serve.schema import Limits
from hpcsynapse.serve.tables import Table, table_of
from hpcsynapse.submission.status import as_text

_MEASURES = ("cpu", "memory", "gpu", "gpu_memory", "power_w", "received_mb_s", "sent_mb_s")
_MOST_NODES = 64  # of which curves are shown
_MOST_RUNS = 50  # at work, whose nodes are shown together
_LOOKS: dict[tuple[str, ...], Look] = {}
_LOCK = Lock()


@dataclass(frozen=True, slots=True)
class NodeHistory:
    """One node over time: Unix times, and of every measure a value at each of them; null: not measured."""

    node: str
    time: list[float]
    values: dict[str, list[float | None]]


def nodes(index: RunIndex, name: str | None = None) -> Table:
    """Return the load of the nodes of a run, or of all runs at work and machines that are watched outside of jobs."""
    if name is not None:
        runs = [index.find(name)]
    else:
        index.refresh()
        going = [row.name for row in index.listed() if row.state not in FINAL_STATES][:_MOST_RUNS]
        runs = [run for run in map(index.find, going) if run.telemetry.is_dir()]
    loads = _look(index, runs, name is None).look(wait=False)
    title = "Load of every node" if name is None else f"Load of the nodes of {name}"
    return table_of(title, loads, COLUMNS, fold=False)


def _look(index: RunIndex, runs: list[RunDirectory], with_machines: bool) -> Look:
    """Return what looks at these runs, the same every time, as it knows since when a file has not grown."""
    key = (*(str(run.path) for run in runs), str(with_machines))
    with _LOCK:
        found = _LOOKS.pop(key, None) or Look(runs, index.folder / DAEMONS if with_machines else None)
        _LOOKS[key] = found
        while len(_LOOKS) > 16:
            del _LOOKS[next(iter(_LOOKS))]
    return found


def history(index: RunIndex, name: str, points: Annotated[int, Limits(2, 500)] = 100) -> list[NodeHistory]:
    """Return the load of the nodes of a run over time, of the first 64 by name."""
    found = over_time(index.find(name), points)
    return [
        NodeHistory(
            node=as_text(node),
            time=[when for when, _ in loads],
            values={one: [getattr(load, one) for _, load in loads] for one in _MEASURES},
        )
        for node, loads in sorted(found.items())[:_MOST_NODES]
    ]
