"""A run as a run of an MLflow server, by its REST protocol (https://mlflow.org/docs/latest/api_reference/rest-api.html).

The run there carries ours in the tag `hpcsynapse.run_id`. Of every metric only points beyond the newest one that the
server has are sent, in the order of their steps: a second export adds nothing, one that was cut off is taken up, and
one of a run that goes on adds what is new.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsynapse.errors import ExportError, SpecError
from hpcsynapse.export.rest import RestServer
from hpcsynapse.export.scalars import scalars_of
from hpcsynapse.export.series import Series
from hpcsynapse.files import user_name
from hpcsynapse.report.describe import read_run_toml
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.records import parts
from hpcsynapse.runs.states import RunState
from hpcsynapse.study.folder import name_of

_API = "api/2.0/mlflow"
_TAG = "hpcsynapse.run_id"
_MOST_METRICS, _MOST_PARAMS = 1000, 100  # of one request
_LONGEST_PARAM, _LONGEST_NAME = 500, 250  # what older servers take as well
_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]", re.ASCII)
_STATUS = {
    RunState.FINISHED: "FINISHED",
    RunState.STOPPED: "KILLED",
    RunState.FAILED: "FAILED",
    RunState.LOST: "FAILED",
}
Metric = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did: the ids of the experiment and the run there, and how many points were added."""

    experiment: str
    run: str
    added: int

    def page(self, server: str) -> str:
        """Return the address of the run's page."""
        return f"{server}/#/experiments/{self.experiment}/runs/{self.run}"


def export_run(
    source: RunDirectory | Path,
    state: RunState | None,
    server: RestServer,
    experiment: str,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Exported:
    """Send settings, scalars and state of a run to a server; `progress` is told how many points of how many are sent.

    Raises ExportError when the server cannot be reached or refuses, RecordError when the run has nothing to tell.
    """
    scalars = scalars_of(source)
    place = _experiment(server, experiment)
    there = _find(server, place, source) or _create(server, place, source, scalars)
    run_id = str(there["info"]["run_id"])
    data = there.get("data") or {}
    _send_params(server, run_id, source, {str(one.get("key")) for one in data.get("params") or ()})
    known = {str(one.get("key")): int(one.get("step", 0)) for one in data.get("metrics") or ()}
    new = _beyond(scalars, known)
    total, sent = sum(len(one.steps) for one in new), 0
    for batch in _batches(_metrics(new), _MOST_METRICS):
        server.post(f"{_API}/runs/log-batch", {"run_id": run_id, "metrics": batch})
        sent += len(batch)
        progress(sent, total)
    latest = max((float(one.times[-1]) for one in scalars), default=0.0)
    over = _STATUS.get(state) if state else None
    end = {"status": over, "end_time": round(latest * 1000)} if over else {"status": "RUNNING"}
    server.post(f"{_API}/runs/update", {"run_id": run_id, **end})
    return Exported(place, run_id, total)


def _experiment(server: RestServer, name: str) -> str:
    """Return the id of an experiment, which is made where it is not there."""
    try:
        found = server.get(f"{_API}/experiments/get-by-name", experiment_name=name)["experiment"]
    except ExportError as refusal:
        if refusal.code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return str(_entry(server, server.post(f"{_API}/experiments/create", {"name": name}), "experiment_id"))
    except KeyError:
        raise ExportError(f"{server.address}: an answer without its experiment: is this an MLflow server?") from None
    if found.get("lifecycle_stage") == "deleted":
        raise SpecError(f"the experiment {name!r} was deleted on the server: restore it, or give another --experiment")
    return str(_entry(server, found, "experiment_id"))


def _entry(server: RestServer, answer: Any, key: str) -> Any:
    if not isinstance(answer, dict) or key not in answer:
        raise ExportError(f"{server.address}: an answer without {key}: is this an MLflow server?")
    return answer[key]


def _find(server: RestServer, experiment: str, source: RunDirectory | Path) -> dict[str, Any] | None:
    """Return the run there that is this one, with the newest point of every metric."""
    question = {
        "experiment_ids": [experiment],
        "filter": f"tags.`{_TAG}` = '{identity(source)}'",
        "max_results": 1,
        "order_by": ["attributes.start_time ASC"],
    }
    found = server.post(f"{_API}/runs/search", question).get("runs") or []
    return _whole(server, found[0]) if found else None


def _create(
    server: RestServer, experiment: str, source: RunDirectory | Path, scalars: Sequence[Series]
) -> dict[str, Any]:
    name = name_of(source) if isinstance(source, RunDirectory) else source.resolve().name
    tags = {_TAG: identity(source), "mlflow.user": user_name(), "mlflow.source.name": "hpcsynapse"}
    begun = min((float(one.times.min()) for one in scalars), default=0.0)
    question = {
        "experiment_id": experiment,
        "run_name": name,
        "start_time": round(begun * 1000),
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }
    return _whole(server, _entry(server, server.post(f"{_API}/runs/create", question), "run"))


def _whole(server: RestServer, run: Any) -> dict[str, Any]:
    """Return a run as the server told it, whose id can be relied on."""
    _entry(server, _entry(server, run, "info"), "run_id")
    return dict(run)


def identity(source: RunDirectory | Path) -> str:
    """Return what tells a run from all others, wherever it is copied to: made of its name and of when it was made."""
    if isinstance(source, RunDirectory):
        first = next(iter(source.read_history()), {})
        told = f"{source.name} {first.get('time')}"
    else:
        told = " ".join(f"{part.header.get('run')} {part.header.get('started')}" for part in parts(source, role=None))
    return hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:32]


def _send_params(server: RestServer, run_id: str, source: RunDirectory | Path, known: set[str]) -> None:
    """Send the settings that the server does not have; there they cannot be changed."""
    table = read_run_toml(source.run_toml) if isinstance(source, RunDirectory) else {}
    params = {_NOT_IN_NAMES.sub("_", key)[:_LONGEST_NAME]: value[:_LONGEST_PARAM] for key, value in _flat("", table)}
    new = [{"key": key, "value": value} for key, value in params.items() if key not in known and value]
    for batch in _batches(new, _MOST_PARAMS):
        server.post(f"{_API}/runs/log-batch", {"run_id": run_id, "params": batch})


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), item)
    else:
        yield prefix, " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _beyond(scalars: Iterable[Series], known: Mapping[str, int]) -> list[Series]:
    """Return the points that come after the newest ones that the server knows."""
    found = []
    for one in scalars:
        name = _NOT_IN_NAMES.sub("_", one.name)[:_LONGEST_NAME]
        kept = one.steps > known.get(name, -1)
        found.append(Series(name, one.steps[kept], one.times[kept], one.values[kept]))
    return found


def _metrics(scalars: Iterable[Series]) -> Iterator[Metric]:
    for one in scalars:
        for step, time, value in zip(one.steps.tolist(), one.times.tolist(), one.values.tolist(), strict=True):
            yield {"key": one.name, "value": value, "timestamp": round(time * 1000), "step": step}


def _batches(items: Iterable[Metric], most: int) -> Iterator[list[Metric]]:
    batch: list[Metric] = []
    for item in items:
        batch.append(item)
        if len(batch) == most:
            yield batch
            batch = []
    if batch:
        yield batch
