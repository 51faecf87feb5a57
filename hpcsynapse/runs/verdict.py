"""What to know of a run that has ended, and what to do next: at most ten lines, from its telemetry and its starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from hpcsynapse.errors import SpecError
from hpcsynapse.files import read_json
from hpcsynapse.runs.allocations import allocations
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.node_summary import NodeSummary, summaries
from hpcsynapse.units import counted

LINES = 10
_ENOUGH = 20.0  # seconds of telemetry below which nothing is said
_MUCH = 0.10  # of a step
_IDLE = 0.5  # share of cores, memory or GPUs below which less would do
_OFTEN = 0.3  # of the time without steps
_SLOW = 1.1  # times the median of all ranks
_ASYNCHRONOUS = ("ps-async", "mixed")  # strategies whose ranks wait for nobody


def verdict(run: RunDirectory) -> list[str]:
    """Return the lines, the most important first; none where there is too little telemetry to judge by."""
    nodes = summaries(run)
    if max((node.seconds for node in nodes), default=0.0) < _ENOUGH:
        return []
    workers = [node for node in nodes if node.step_time]
    lines = [
        *_whole(run, nodes),
        *_killed(nodes),
        *_steps(run, workers),
        *_outside(run, workers),
        *_gpus(workers or nodes),
        *_cores(run, nodes),
        *_memory(nodes),
    ]
    return lines[:LINES]


def _whole(run: RunDirectory, nodes: Sequence[NodeSummary]) -> Iterator[str]:
    starts = allocations(run, {})
    seconds = sum((one.ended - one.begun) * max(1, len(one.hosts), one.used) for one in starts)
    again = f", {counted(len(starts), 'start')}" if len(starts) > 1 else ""
    hours = f"{seconds / 3600:.3g} node-hours{again}; " if seconds else ""
    yield f"{hours}{counted(len(nodes), 'node')} recorded, {_duration(max(node.seconds for node in nodes))} at most"


def _killed(nodes: Sequence[NodeSummary]) -> Iterator[str]:
    if killed := [node for node in nodes if node.oom_kills]:
        worst = max(killed, key=lambda node: node.oom_kills)
        yield (
            f"memory ran out on {_hosts(killed)}, up to {counted(worst.oom_kills, 'time')} a node; "
            "ask for more --mem, or take a smaller --batch"
        )


def _steps(run: RunDirectory, workers: Sequence[NodeSummary]) -> Iterator[str]:
    """Say where the time of a step goes, and what to do about the largest part that is no computing."""
    if not workers:
        return
    step = _mean([node.step_time for node in workers])
    phases = {name: _mean([node.phases[name] for node in workers]) for name in workers[0].phases}
    slow = max(workers, key=lambda node: node.slowest)
    owns = sorted(node.own for node in workers)
    usual = owns[(len(owns) - 1) // 2]
    waits = not str((read_json(run.status) or {}).get("strategy", "")).startswith(_ASYNCHRONOUS)
    waiting = waits * min(phases["communicate"], max(0.0, slow.slowest - (step - phases["communicate"])))
    parts = {
        "compute": phases["forward"] + phases["backward"] + phases["update"],
        "exchange that nothing hides": phases["communicate"] - waiting,
        "waiting for the slowest rank": waiting,
        "waiting for data": phases["data"],
    }
    shares = {name: seconds / step for name, seconds in parts.items()}
    told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.005)
    yield f"a step takes {_duration(step)}: {told}"
    name, share = max(list(shares.items())[1:], key=lambda one: one[1])
    if share < _MUCH:
        yield "nothing stands out in the steps; more nodes: hpcsynapse predict scaling, with runs of other sizes"
    elif name == "waiting for data":
        yield f"data are late: try --data-workers {2 if shares[name] < 0.4 else 4}, or --stage them on the nodes"
    elif name == "waiting for the slowest rank":
        yield f"see which ranks are slow, and in what: hpcsynapse report stragglers {run.name}"
    else:
        yield f"exchange costs most: larger --batch, --compression fp16, fewer nodes; hpcsynapse report why {run.name}"
    if (slow.slowest > _SLOW * usual and len(workers) > 1) or slow.slowest > _SLOW * slow.own:
        yield (
            f"slowest is rank {slow.slowest_rank} on {slow.host}: {_duration(slow.slowest)} of its own work in a step, "
            f"{_duration(usual)} is usual"
        )


def _outside(run: RunDirectory, workers: Sequence[NodeSummary]) -> Iterator[str]:
    if workers and (outside := 1 - _mean([node.in_steps for node in workers])) > _OFTEN:
        yield (
            f"no step was made in {outside:.0%} of the time: start-up, validation, checkpoints; "
            f"hpcsynapse report lost {run.name}"
        )


def _gpus(nodes: Sequence[NodeSummary]) -> Iterator[str]:
    known = [node for node in nodes if node.gpu is not None]
    if known:
        used = _mean([node.gpu or 0.0 for node in known])
        active = [node.sm_active for node in known if node.sm_active is not None]
        more = f", their multiprocessors {_mean(active):.0%}" if active else ""
        hint = "; a larger --batch or --data-workers would keep them busier" if used < _IDLE else ""
        yield f"GPUs ran kernels {used:.0%} of the time{more}{hint}"
    energy, samples = sum(node.energy or 0.0 for node in nodes), sum(node.samples for node in nodes)
    if energy:
        each = f", {energy / samples:.3g} J a sample" if samples else ""
        yield f"the GPUs took {energy / 3.6e6:.3g} kWh{each}"


def _cores(run: RunDirectory, nodes: Sequence[NodeSummary]) -> Iterator[str]:
    asked = 0
    with suppress(SpecError):
        asked = run.load_spec().resources.cpus or 0
    known = [node for node in nodes if node.cores_used is not None and node.cores]
    if known:
        most = max(known, key=lambda node: (node.cores_used or 0.0) / node.cores)
        used = most.cores_used or 0.0
        hint = "; fewer --cpus would do" if used < _IDLE * most.cores and asked > 1 else ""
        yield f"CPU: ranks used at most {used:.1f} of {counted(most.cores, 'core')} ({most.host}){hint}"


def _memory(nodes: Sequence[NodeSummary]) -> Iterator[str]:
    known = [node for node in nodes if node.memory_peak and node.memory_limit]
    if known:
        most = max(known, key=lambda node: (node.memory_peak or 0.0) / (node.memory_limit or 1.0))
        peak, limit = (most.memory_peak or 0.0) / 1e9, (most.memory_limit or 0.0) / 1e9
        enough = most.limited and peak < _IDLE * limit
        hint = f"; --mem {max(1, round(1.3 * peak + 0.5))}G would do" if enough else ""
        whose = "the job's" if most.limited else "the node's"
        yield f"memory: at most {peak:.1f} of {whose} {limit:.1f} GB ({most.host}){hint}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _hosts(nodes: Sequence[NodeSummary]) -> str:
    names = [node.host for node in nodes]
    return " ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}:{minutes:02d} h" if hours else f"{minutes} min"
