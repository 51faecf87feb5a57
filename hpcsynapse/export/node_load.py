"""What was sampled on nodes: as scalars over the time of a run, and the newest values for OpenMetrics."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpcsynapse.export.series import Series
from hpcsynapse.runs.telemetry import LAST, STANDARD, Telemetry, telemetry
from hpcsynapse.timing import PHASES

_STRETCH, _LONG_STRETCH = 10.0, 60.0  # seconds of which a point is the mean, in runs of an hour at most and beyond
_HOUR = 3600.0
_LATEST = 4e9  # Unix time
_IN_STEPS = {"step", "samples", "step_time", "own_median", "own_slowest", "slowest_rank", *PHASES}
_ODD = re.compile(r"[^A-Za-z0-9_]")


def node_scalars(folder: Path) -> Iterator[Series]:
    """Yield every quantity that was sampled on a node and changed as `node-N/QUANTITY`.

    A point is a mean over 10 s (in runs of more than an hour: 60 s); its step are the seconds since the first sample of
    the run. The last stretch is left out while it may still grow.
    """
    files = [one for one in telemetry(folder) if _node(one) is not None and one.count]
    begin = min((one.started for one in files), default=0.0)
    for one in files:
        records = np.frombuffer(one.read(), np.dtype(one.kinds))
        records = records[(records["time"] >= begin) & (records["time"] < _LATEST)]
        if not len(records):
            continue
        passed = records["time"] - begin
        stretch = _STRETCH if float(passed.max()) <= _HOUR else _LONG_STRETCH
        places, inverse = np.unique((passed // stretch).astype(np.int64), return_inverse=True)
        whole = len(places) if records["flags"][-1] & LAST else len(places) - 1
        steps = (places * stretch).astype(np.int64)[:whole]
        for column in one.columns[len(STANDARD) :]:
            values = records[column.name].astype(np.float64)
            known = np.isfinite(values)
            if column.name in _IN_STEPS or not known.any() or np.ptp(values[known]) == 0:
                continue
            sums = np.bincount(inverse[known], values[known], len(places))
            counts = np.bincount(inverse[known], minlength=len(places))
            means: npt.NDArray[np.float64] = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
            yield Series(f"node-{_node(one)}/{column.name}", steps, begin + steps.astype(np.float64), means[:whole])


def newest(run: str, folder: Path) -> Iterator[tuple[str, str, dict[str, str], float]]:
    """Yield name, meaning, labels and value of all that a run's nodes sampled last.

    `net.eth0.sent_bytes` becomes `net_sent_bytes` with the label `net`, and so do GPUs.
    """
    latest: dict[int, Telemetry] = {}
    for one in telemetry(folder):  # of several starts of the job the newest; each has files of its own
        node = _node(one)
        if node is not None and one.count and one.started >= (latest[node].started if node in latest else 0.0):
            latest[node] = one
    for node, one in latest.items():
        record = one.newest() or {}
        for column in one.columns[len(STANDARD) :]:
            value = float(record.get(column.name, math.nan))
            if not math.isfinite(value) or column.name in _IN_STEPS:
                continue
            kind, _, rest = column.name.partition(".")
            which, _, amount = rest.rpartition(".")
            labels = {"run": run, "node": str(node), "host": one.host} | ({_plain(kind): which} if which else {})
            unit = f" ({column.unit})" if column.unit else ""
            if which:
                yield _plain(f"{kind}_{amount}"), f"{amount} of {kind}{unit}", labels, value
            else:
                yield _plain(column.name), f"{column.meaning}{unit}", labels, value


def _plain(name: str) -> str:
    """Return a name as those of metrics and labels are."""
    return _ODD.sub("_", name)


def _node(one: Telemetry) -> int | None:
    node = one.header.get("node_rank")
    return node if isinstance(node, int) and node >= 0 else None
