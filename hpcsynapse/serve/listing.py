"""A run in the list of all runs: what its row says, from its state and its description."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpcsynapse.errors import SpecError
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RunState
from hpcsynapse.study.folder import name_of
from hpcsynapse.submission.status import RunStatus, as_text, epoch_at_work


@dataclass(frozen=True, slots=True)
class Row:
    """A run in the list: its state, where its program is, and what it was asked for. null: not known.

    Times are Unix times; `changed` counts up with every change of a row, over all rows.
    """

    name: str
    study: str | None
    state: RunState
    reason: str
    scheduler: str
    job_id: str
    native_state: str
    since: float | None
    created: float
    nodes: int | None
    ranks: int | None
    strategy: str
    model: str
    step: int | None
    steps: int | None
    epoch: int | None
    epochs: int | None
    samples_per_s: float | None
    steps_per_s: float | None
    loss: float | None
    eta_s: float | None
    metrics: dict[str, float]
    changed: int


def row_of(run: RunDirectory, status: RunStatus, created: float, facts: dict[str, Any], changed: int) -> Row:
    """Return the row of a run; a name of the queue's or a program's is text without control characters."""
    told, metrics = status.progress, status.progress.get("metrics")
    points = run.path.parent
    return Row(
        name=name_of(run),
        study=points.parent.name if points.name == "points" else None,
        state=status.state,
        reason=status.reason,
        scheduler=status.scheduler,
        job_id=status.job_id,
        native_state=status.native_state,
        since=status.since,
        created=created,
        nodes=facts.get("nodes"),
        ranks=facts.get("ranks"),
        strategy=as_text(str(told.get("strategy") or facts.get("strategy") or ""))[:100],
        model=as_text(str(told.get("model") or facts.get("model") or ""))[:200],
        step=_whole(told.get("step")),
        steps=_whole(told.get("steps")),
        epoch=epoch_at_work(told) if told.get("epochs") else _whole(told.get("epoch")),
        epochs=_whole(told.get("epochs")),
        samples_per_s=_number(told.get("samples_per_s")),
        steps_per_s=_number(told.get("steps_per_s")),
        loss=_number(told.get("loss")),
        eta_s=_number(told.get("eta_s")),
        metrics=_metrics(metrics) if isinstance(metrics, dict) else {},
        changed=changed,
    )


def facts_of(run: RunDirectory) -> dict[str, Any]:
    """Return what a run was asked for, as far as its description can be read."""
    try:
        spec = run.load_spec()
    except SpecError:
        return {"nodes": None}
    what = " ".join(spec.command)[:200] if spec.command else spec.train.model
    strategy = "" if spec.command else spec.train.strategy
    resources = spec.resources
    return {"nodes": resources.nodes, "ranks": resources.world_size, "strategy": strategy, "model": what}


def _metrics(found: dict[str, Any]) -> dict[str, float]:
    known = ((as_text(str(key))[:40], _number(value)) for key, value in list(found.items())[:32])
    return {key: value for key, value in known if value is not None}


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
