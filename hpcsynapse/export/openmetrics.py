"""The newest numbers of runs as OpenMetrics text, which Prometheus and its textfile collectors read.

There is one sample a run or node and quantity, and never one a step (https://prometheus.io/docs/specs/om/open_metrics_spec/).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

from hpcsynapse.export.node_load import newest
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RunState
from hpcsynapse.submission.status import RunStatus

# name of a gauge -> (name in the progress of a run, meaning)
_GAUGES = {
    "hpcsynapse_step": ("step", "Steps made."),
    "hpcsynapse_planned_steps": ("steps", "Steps to make in all."),
    "hpcsynapse_epoch": ("epoch", "Epochs that are over."),
    "hpcsynapse_planned_epochs": ("epochs", "Epochs to make in all."),
    "hpcsynapse_steps_per_second": ("steps_per_s", "Rate of steps."),
    "hpcsynapse_samples_per_second": ("samples_per_s", "Rate of samples, of all ranks."),
    "hpcsynapse_loss": ("loss", "Newest training loss."),
    "hpcsynapse_learning_rate": ("lr", "Newest learning rate."),
    "hpcsynapse_left_seconds": ("eta_s", "Time until the end, by the present rate."),
}
_Labels = Mapping[str, str]
_Sample = tuple[_Labels, float]


def openmetrics(runs: Sequence[RunStatus]) -> str:
    """Return the state, the progress and the newest validation of runs as one OpenMetrics document."""
    lines = _family("hpcsynapse_run", "info", "A run, and its job.", _jobs(runs), "_info")
    lines += _family("hpcsynapse_run_state", "stateset", "State of a run.", _states(runs))
    for name, (key, meaning) in _GAUGES.items():
        lines += _family(name, "gauge", meaning, _of_progress(runs, key))
    lines += _family("hpcsynapse_validation", "gauge", "Newest result of validation.", _validations(runs))
    lines += _family("hpcsynapse_exit_code", "gauge", "Exit code of an ended run.", _exits(runs))
    for (name, meaning), samples in _sampled(runs).items():
        lines += _family(f"hpcsynapse_node_{name}", "gauge", meaning, samples)
    return "\n".join([*lines, "# EOF"]) + "\n"


def _family(name: str, kind: str, meaning: str, samples: Iterable[_Sample], suffix: str = "") -> list[str]:
    """Return the lines of one metric family, none where it has no samples."""
    told = [f"{name}{suffix}{_labels(labels)} {value:.17g}" for labels, value in samples]
    return [f"# TYPE {name} {kind}", f"# HELP {name} {_escaped(meaning)}", *told] if told else []


def _labels(labels: _Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    """Return a text with what would end it escaped; what UTF-8 cannot hold is replaced."""
    whole = value.encode("utf-8", "replace").decode()
    return whole.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _jobs(runs: Sequence[RunStatus]) -> Iterator[_Sample]:
    for run in runs:
        yield {"run": run.name, "scheduler": run.scheduler, "job_id": run.job_id}, 1


def _states(runs: Sequence[RunStatus]) -> Iterator[_Sample]:
    for run in runs:
        for state in RunState:
            yield {"run": run.name, "hpcsynapse_run_state": str(state)}, float(run.state == state)


def _of_progress(runs: Sequence[RunStatus], key: str) -> Iterator[_Sample]:
    for run in runs:
        if _is_number(value := run.progress.get(key)):
            yield {"run": run.name}, float(value)


def _validations(runs: Sequence[RunStatus]) -> Iterator[_Sample]:
    for run in runs:
        metrics = run.progress.get("metrics")
        for name, value in metrics.items() if isinstance(metrics, dict) else ():
            if _is_number(value):
                yield {"run": run.name, "metric": str(name)}, float(value)


def _exits(runs: Sequence[RunStatus]) -> Iterator[_Sample]:
    for run in runs:
        if run.exit_code is not None:
            yield {"run": run.name}, float(run.exit_code)


def _sampled(runs: Sequence[RunStatus]) -> dict[tuple[str, str], list[_Sample]]:
    """Return the newest samples of nodes, by the name and the meaning of the quantity."""
    found: dict[str, tuple[str, list[_Sample]]] = {}
    for run in runs:
        for name, meaning, labels, value in newest(run.name, RunDirectory(Path(run.path)).telemetry):
            found.setdefault(name, (meaning, []))[1].append((labels, value))
    return {(name, meaning): samples for name, (meaning, samples) in found.items()}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
