"""The table of what can be asked for: path, function, and what it is; parameters and answers are the function's own.

Paths are fixed words: what a request names (a run, a log, a checkpoint) are parameters, and members of a listing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from hpcsynapse.serve import catalog, detail, downloads, form, logs, nodes, reports, steps
from hpcsynapse.serve.index import RunIndex
from hpcsynapse.serve.listing import Row
from hpcsynapse.serve.schema import Limits

API = "/api/v1/"


@dataclass(frozen=True, slots=True)
class RunList:
    """The runs of a folder, newest first; `unread` older ones are still being read, so ask again.

    `changed` is the newest change; given as `after`, only rows that have changed since are answered, and the names of
    runs that are `gone`.
    """

    folder: str
    changed: int
    unread: int
    runs: list[Row]
    gone: list[str]


def runs(index: RunIndex, after: Annotated[int, Limits(0, 10**15)] = 0) -> RunList:
    """Return the runs, or what has changed since an earlier answer."""
    index.refresh()
    rows = [row for row in index.listed() if row.changed > after]
    gone = [name for when, name in index.gone if when > after] if after else []
    return RunList(str(index.folder), index.changed, index.unread, rows, gone)


def _state_of_list(index: RunIndex) -> str:
    index.refresh()
    return f"{index.changed}-{index.unread}"


@dataclass(frozen=True, slots=True)
class Route:
    """A path below `/api/v1/`, and the function that answers."""

    path: str
    call: Callable[..., Any]
    tag: Callable[[RunIndex], str] | None = None  # changes when the answer does, told sooner than the answer

    @property
    def summary(self) -> str:
        """What is answered, in a sentence."""
        return (self.call.__doc__ or "").partition("\n")[0]


ROUTES = (
    Route("runs", runs, tag=_state_of_list),
    Route("run", detail.detail),
    Route("text", detail.text),
    Route("placement", detail.placement),
    Route("logs", logs.logs),
    Route("log", logs.log),
    Route("nodes", nodes.nodes),
    Route("history", nodes.history),
    Route("curve", steps.curve),
    Route("steps", steps.heat_map),
    Route("stragglers", reports.stragglers),
    Route("report", reports.report),
    Route("predictions", reports.predictions),
    Route("compare", catalog.compare),
    Route("studies", catalog.studies),
    Route("store", catalog.store),
    Route("settings", form.settings),
    Route("sites", catalog.sites),
    Route("templates", catalog.templates),
)
DOWNLOADS = (
    Route("checkpoint", downloads.checkpoint),
    Route("timeline", downloads.timeline),
    Route("archive", downloads.archive),
)
