"""What could be done about the time that ranks spend in exchange, or wait for the slowest one in it.

Both come from the split that `report why` makes: what is called exchange would be left if all ranks were equally fast.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpcsynapse.report.compared import Compared
from hpcsynapse.report.points import Point
from hpcsynapse.report.reduced import FEW_STEPS
from hpcsynapse.report.why import step_times
from hpcsynapse.runs.directory import RunDirectory

EXPOSED = 0.10  # of a step
_OWN_PROGRAMS = {  # by engine: what torch and Horovod offer a script of the user's own
    "ddp": "gradients of 16 bits (DDP's bf16_compress_hook), accumulation under no_sync(), or a larger batch",
    "horovod": "compression=hvd.Compression.fp16, backward_passes_per_step, or a larger batch",
}
_MAY_WAIT = ("single", "admm")  # whose ranks have nobody to wait for, or work of different kinds


def advices(compared: Iterable[Compared]) -> list[str]:
    """Return what is to be said of the points of a report: for every strategy of the one that loses most."""
    found = []
    for one in compared:
        told = [(max(_shares(point)), hint) for point in one.points if (hint := advice(point, one.settings))]
        found += [max(told)[1]] if told else []
    return list(dict.fromkeys(found))


def advice(point: Point, settings: str = "") -> str | None:
    """Return a sentence with what to type about the larger of exchange and waiting; None where it is a tenth or less.

    None also of too few steps, and of ranks that do not wait for one another.
    """
    about, few = point.first.run.about, any(one.steps < FEW_STEPS for one in point.repeats)
    if few or point.asynchronous or point.ranks < 2 or about.strategy.partition("+")[0] in _MAY_WAIT:
        return None
    exchange, waiting = _shares(point)
    subject = " on ".join(filter(None, (about.strategy, f"{point.ranks} ranks")))
    subject += f" ({settings})" if settings else ""
    if waiting > max(EXPOSED, exchange):
        return (
            f"{subject}: ranks wait {waiting:.0%} of the time for the slowest one, exchange takes {exchange:.0%}; "
            f"see which: hpcsynapse report stragglers {_typed(point)}"
        )
    options = _OWN_PROGRAMS.get(about.engine) if about.own_program else _options(about.strategy, about.engine)
    if exchange > EXPOSED and options:
        return (
            f"{subject}: exchange that nothing hides takes {exchange:.0%} of the time, waiting for the slowest "
            f"rank {waiting:.0%}; try {options}"
        )
    return None


def _typed(point: Point) -> str:
    """Return how a command is told the first run of a point: a study's run by its place in it."""
    source = point.first.run.source
    if not isinstance(source, RunDirectory):
        return str(source)
    folder = source.path.parent
    return f"{folder.parent.name}/{folder.name}/{source.name}" if folder.name == "points" else source.name


def _shares(point: Point) -> tuple[float, float]:
    """Return which fractions of the time from step to step are exchange and waiting, mean over repeats."""
    if point.asynchronous:
        return 0.0, 0.0
    found = [step_times(one) for one in point.repeats]
    passed = sum(float(one.period.mean()) for one in point.repeats)
    return (sum(one["exchange"] for one in found) / passed, sum(one["waiting"] for one in found) / passed)


def _options(label: str, engine: str) -> str:
    """Return what a strategy (as a report labels it: `local-sgd+every16+fp16`) has not tried yet."""
    strategy, *used = label.split("+")
    halves = "" if {"fp16", "bf16", "powersgd"} & set(used) else "--compression fp16"
    if strategy == "local-sgd":
        found = [halves, "" if "overlap" in used or engine == "mpi" else "--overlap", "a larger --average-every"]
    elif strategy in ("allreduce", "allreduce-broadcast", "central"):
        bucket = "another --bucket-mb" if engine == "ddp" and not {"central", "powersgd"} & {strategy, *used} else ""
        away = "--strategy local-sgd --overlap" if engine != "mpi" else "--strategy local-sgd"
        found = [halves, bucket, "--strategy allreduce" if strategy == "central" else "", away]
    else:
        return ""
    return " or ".join(option for option in found if option)
