"""The end-of-job verdict: every fault that was put into a run is named, with what to do, and nothing else is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from hpcsynapse.cli.main import cli
from hpcsynapse.files import write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.node_summary import summaries
from hpcsynapse.runs.telemetry import Column, TelemetryWriter, file_name
from hpcsynapse.runs.verdict import LINES, verdict
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.resources import ResourceRequest

PHASES = ("data", "forward", "backward", "communicate", "update")
NAMES = (
    *("ranks_cpu", "ranks_memory", "job_memory", "job_oom_kills", "samples", "step_time", "own_median", "own_slowest"),
    *PHASES,
    *("gpu.0.utilisation", "gpu.0.energy"),
)
COLUMNS = [
    Column("step", "<u4", "", ""),
    Column("slowest_rank", "<i4", "", ""),
    *(Column(name, "<f4", "", "") for name in NAMES),
]
STEP = {"data": 0.005, "forward": 0.03, "backward": 0.055, "communicate": 0.005, "update": 0.005}
NOTHING_STANDS_OUT = "nothing stands out in the steps"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, JobSpec(name="a", resources=ResourceRequest(cpus=2)))


def node(run: RunDirectory, host: str, records: int = 200, limit: float | None = None, **changed: float) -> None:
    """Write a node whose rank takes 10 steps of 100 ms a second and 1.8 cores, but for what is `changed`."""
    run.telemetry.mkdir(exist_ok=True)
    told = {"host": host, "interval": 1.0, "cpus": 2, "memory_bytes": 64e9, "job_memory_limit": limit}
    told |= {"gpus": [{}] if "gpu.0.utilisation" in changed else []}
    writer = TelemetryWriter(run.telemetry / file_name(host, "1.0"), COLUMNS, told)
    phases = {**STEP, **{name: changed[name] for name in PHASES if name in changed}}
    total = sum(phases.values())
    own = total - phases["communicate"]
    for number in range(records):
        looked = number % 5 == 4
        values = {
            "ranks_memory": 40e9 if looked else None,
            "samples": 320.0,
            "step_time": total,
            "own_median": own,
            "own_slowest": own,
            **phases,
            **changed,
            "ranks_cpu": 5 * changed.get("ranks_cpu", 1.8) if looked else None,
        }
        step = number * changed.get("rate", 1 / total)
        writer.add(number * 1.0, 1.0, [step, changed.get("rank", 0), *(values.get(name) for name in NAMES)])
        if looked:
            writer.flush()
    writer.close()


def test_a_healthy_run_has_nothing_that_stands_out(run: RunDirectory) -> None:
    for number in range(4):
        node(run, f"n{number}", rank=number)
    lines = verdict(run)
    assert any(NOTHING_STANDS_OUT in line for line in lines)
    assert not any(word in " ".join(lines) for word in ("slowest is", "no step was made", "would do", "ran out"))
    assert "ranks used at most 1.8 of 2 cores" in " ".join(lines) and "40.0 of the node's 64.0 GB" in " ".join(lines)


FAULTS = {
    "data": ({"data": 0.06}, "data are late: try --data-workers 2"),
    "exchange": ({"communicate": 0.08}, "exchange costs most"),
    "idle cores": ({"ranks_cpu": 0.3}, "ranks used at most 0.3 of 2 cores (n0); fewer --cpus would do"),
    "out of memory": ({"job_oom_kills": 2.0}, "memory ran out on n0 n1 n2 and 1 more, up to 2 times a node"),
    "pauses": ({"rate": 4.0}, "no step was made in 60% of the time"),
    "idle GPU": ({"gpu.0.utilisation": 30.0, "gpu.0.energy": 300.0}, "GPUs ran kernels 30% of the time; a larger"),
    "energy": ({"gpu.0.utilisation": 90.0, "gpu.0.energy": 400.0}, "kWh, 1.25 J a sample"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_named_and_what_is_not_is_not(run: RunDirectory, fault: str) -> None:
    changed, says = FAULTS[fault]
    for number in range(4):
        node(run, f"n{number}", rank=number, **changed)
    lines = verdict(run)
    assert any(says in line for line in lines), lines
    for other, (_, said) in FAULTS.items():
        if other != fault and not (other == "energy" and fault == "idle GPU"):
            assert not any(said in line for line in lines), lines


def test_a_slow_rank_is_named_with_its_host(run: RunDirectory) -> None:
    for number in range(4):
        slow = number == 2
        more = {"forward": 0.06, "communicate": 0.005} if slow else {"communicate": 0.035}
        node(run, f"n{number}", rank=number, **more)
    lines = verdict(run)
    assert "slowest is rank 2 on n2: 125 ms of its own work in a step, 95 ms is usual" in lines
    assert f"see which ranks are slow, and in what: hpcsynapse report stragglers {run.name}" in lines


def test_ranks_that_wait_for_nobody_are_not_said_to_wait(run: RunDirectory) -> None:
    write_json(run.status, {"strategy": "ps-async"})
    for number in range(2):
        node(run, f"n{number}", rank=number, communicate=0.1, own_slowest=0.15 if number else 0.095)
    lines = verdict(run)
    assert not any("waiting for the slowest" in line for line in lines)
    assert any("exchange costs most" in line for line in lines)


def test_a_request_for_much_more_memory_than_was_used_is_named(run: RunDirectory) -> None:
    node(run, "n0", limit=64e9, job_memory=9.6e9)
    assert any("at most 9.6 of the job's 64.0 GB (n0); --mem 13G would do" in line for line in verdict(run))


def test_too_little_is_no_ground_for_a_verdict(run: RunDirectory) -> None:
    assert verdict(run) == []
    node(run, "n0", records=15)
    assert verdict(run) == []


def test_a_long_run_of_many_nodes_is_judged_by_samples_of_it(run: RunDirectory) -> None:
    for number in range(64):
        node(
            run,
            f"n{number:02d}",
            records=3000,
            rank=number,
            **({"forward": 0.06} if number == 41 else {"communicate": 0.035}),
        )
    begin = time.process_time()
    found = summaries(run)
    print(f"{time.process_time() - begin:.2f} s of CPU")
    lines = verdict(run)
    assert len(found) == 64 and found[0].seconds == 3000 and found[0].samples == pytest.approx(3000 * 320, rel=0.01)
    assert any("slowest is rank 41 on n41" in line for line in lines) and len(lines) <= LINES


def test_status_of_one_ended_run_tells_it(run: RunDirectory) -> None:
    node(run, "n0", data=0.06)
    write_json(run.exit, {"exit_code": 0, "time": time.time(), "attempt": "1.0"})
    shown = CliRunner().invoke(cli, ["status", "--runs", str(run.path.parent), "a"]).output
    assert "- data are late: try --data-workers 2" in shown
