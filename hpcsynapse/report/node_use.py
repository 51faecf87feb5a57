"""What every node of a run used of what it was given, and exchanged, over all of the run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hpcsynapse.report.node_tables import Floats, NodeTable, node_tables
from hpcsynapse.report.predicted_traffic import Predicted, predicted_traffic
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.node_summary import cores_of
from hpcsynapse.runs.records import parts
from hpcsynapse.table import FRACTION, KEY, SECONDS, column, columns


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUse:
    """One node of a run; the fields, in this order, are the columns. Means are over the time that was recorded."""

    run: str = column("name of the run", priority=KEY, always=True)
    node: str = column("name of the node", priority=KEY, always=True)
    roles: str = column("ranks and parameter servers on it", priority=7, always=True)
    seconds: float = column("time that was recorded", head="over", unit=SECONDS, priority=4)
    cpu: float | None = column("share of all cores in use, by whomever", unit=FRACTION, priority=3)
    cores_used: float | None = column("cores that ranks and servers used, mean", head="cores used", priority=6)
    cores: int | None = column("cores that they might use", priority=5)
    cpu_efficiency: float | None = column(
        "cores used of those that might be", head="CPU efficiency", unit=FRACTION, priority=7
    )
    memory_peak_gb: float | None = column(
        "most memory, of the job where its control group is known, else resident memory of its processes",
        head="peak GB",
        priority=6,
    )
    memory_limit_gb: float | None = column("what the job was allowed, else what the node has", head="of GB", priority=5)
    memory_headroom: float | None = column("1 - peak / limit", head="headroom", unit=FRACTION, priority=5)
    gpus: int = column("GPUs that were measured", shown=False)
    gpu_efficiency: float | None = column("share of time in which kernels ran, mean", unit=FRACTION, priority=8)
    sm_active: float | None = column("share of multiprocessors at work (GPM), mean", unit=FRACTION, priority=6)
    tensor_active: float | None = column("share of time of tensor cores (GPM), mean", unit=FRACTION, priority=4)
    gpu_headroom: float | None = column("GPU memory that was never used, of the fullest", unit=FRACTION, priority=5)
    over: str = column("interfaces and ports whose traffic is counted", head="via", priority=2)
    received_mb: float | None = column("megabytes received", head="in MB", priority=6)
    sent_mb: float | None = column("megabytes sent", head="out MB", priority=6)
    received_mb_s: float | None = column("megabytes received per second, mean", head="in MB/s", priority=6)
    sent_mb_s: float | None = column("megabytes sent per second, mean", head="out MB/s", priority=6)
    received_packets_s: float | None = column("packets received per second, mean", head="in packets/s", priority=5)
    sent_packets_s: float | None = column("packets sent per second, mean", head="out packets/s", priority=5)
    predicted_sent_mb: float | None = column(
        "megabytes that the strategy must send: 2 (R-1)/R times the gradients of every step, or what workers push and "
        "servers give",
        head="predicted out",
        priority=5,
    )
    sent_of_predicted: float | None = column("sent / predicted; protocols add some percent", head="ratio", priority=6)
    energy_j: float | None = column("joules of its GPUs, by their own counters", head="J", priority=6)
    joules_per_sample: float | None = column("of the samples of its ranks", head="J/sample", priority=6)
    joules_per_epoch: float | None = column("of its share of an epoch", head="J/epoch", shown=False)


COLUMNS = columns(NodeUse)


def node_use(runs: Iterable[RunDirectory]) -> list[NodeUse]:
    """Return a row for every node of every run; raises RecordError for a run without telemetry."""
    return [row for run in runs for row in _of_run(run)]


def _of_run(run: RunDirectory) -> list[NodeUse]:
    predicted, cores = predicted_traffic(run), cores_of(run)
    tables = [one for one in node_tables(run) if one.starts]
    epoch, samples = _epoch(run), sum(_sum(one.column("samples")) or 0.0 for one in tables)
    epochs = samples / epoch if epoch else None
    return [_of_node(run.name, one, cores.get(one.host), predicted.get(one.host), epochs) for one in tables]


def _epoch(run: RunDirectory) -> float | None:
    """Return the samples of an epoch, where the records tell."""
    header = next((part.header for part in parts(run.timings)), {})
    steps, batch = header.get("steps_per_epoch"), header.get("global_batch")
    return float(steps * batch) if isinstance(steps, (int, float)) and isinstance(batch, (int, float)) else None


def _of_node(run: str, one: NodeTable, cores: int | None, predicted: Predicted | None, epochs: float | None) -> NodeUse:
    seconds = float(one.column("seconds").sum())
    used = _rate(one.column("ranks_cpu"), seconds)
    sent, received = (_sum(one.amount(name)) for name in ("sent_bytes", "received_bytes"))
    cpus = one.header.get("cpus")
    cores = cores or (cpus if isinstance(cpus, int) else None)
    busy = _rate(one.column("cpu_user") + one.column("cpu_system"), seconds)
    peak, limit = _memory(one)
    energy = [_sum(gpu) for gpu in one.of_gpus("energy")]
    joules = sum(each for each in energy if each is not None) if any(each is not None for each in energy) else None
    samples = _sum(one.column("samples")) or 0.0
    return NodeUse(
        run=run,
        node=one.host,
        roles=one.roles,
        seconds=seconds,
        cpu=busy / cpus if busy is not None and isinstance(cpus, int) and cpus else None,
        cores_used=used,
        cores=cores,
        cpu_efficiency=used / cores if used is not None and cores else None,
        memory_peak_gb=None if peak is None else peak / 1e9,
        memory_limit_gb=None if limit is None else limit / 1e9,
        memory_headroom=1 - peak / limit if peak is not None and limit else None,
        gpus=len(energy),
        gpu_efficiency=_percent(one.of_gpus("utilisation")),
        sm_active=_percent(one.of_gpus("sm_active")),
        tensor_active=_percent(one.of_gpus("tensor_active")),
        gpu_headroom=_gpu_headroom(one),
        over=" ".join(name.partition(".")[2] for name in one.over),
        received_mb=None if received is None else received / 1e6,
        sent_mb=None if sent is None else sent / 1e6,
        received_mb_s=None if received is None else received / 1e6 / seconds,
        sent_mb_s=None if sent is None else sent / 1e6 / seconds,
        received_packets_s=_rate(one.amount("received_packets"), seconds),
        sent_packets_s=_rate(one.amount("sent_packets"), seconds),
        predicted_sent_mb=None if predicted is None else predicted.sent / 1e6,
        sent_of_predicted=sent / predicted.sent if predicted and predicted.sent and sent is not None else None,
        energy_j=joules,
        joules_per_sample=joules / samples if joules is not None and samples else None,
        joules_per_epoch=joules / epochs if joules is not None and epochs else None,
    )


def _sum(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.sum()) if len(known) else None


def _rate(amounts: Floats, seconds: float) -> float | None:
    total = _sum(amounts)
    return None if total is None or not seconds else total / seconds


def _percent(every: list[Floats]) -> float | None:
    known = [values[~np.isnan(values)] for values in every]
    known = [values for values in known if len(values)]
    return float(np.mean([values.mean() for values in known])) / 100 if known else None


def _memory(one: NodeTable) -> tuple[float | None, float | None]:
    """Return the most memory that was used, and what there was."""
    job, ranks = (values[~np.isnan(values)] for values in map(one.column, ("job_memory", "ranks_memory")))
    peak = float(job.max()) if len(job) else float(ranks.max()) if len(ranks) else None
    limit = one.header.get("job_memory_limit") or one.header.get("memory_bytes")
    return peak, float(limit) if isinstance(limit, (int, float)) else None


def _gpu_headroom(one: NodeTable) -> float | None:
    listed = one.header.get("gpus")
    sizes = [each.get("memory_bytes") for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    left = [
        1 - float(np.nanmax(used)) / size
        for used, size in zip(one.of_gpus("memory_used"), sizes, strict=False)
        if size and not np.isnan(used).all()
    ]
    return min(left, default=None)
