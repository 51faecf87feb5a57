"""Clocks that nobody measured are found by the ends of exchanges; readers show all nodes on the first one's clock."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from trace_reading import read_chrome, read_perfetto

from hpcsynapse.cli.main import cli
from hpcsynapse.errors import RecordError
from hpcsynapse.files import write_json
from hpcsynapse.report.clocks import clocks_of
from hpcsynapse.report.loading import load
from hpcsynapse.report.timeline import write_timeline
from hpcsynapse.report.traffic import traffic
from hpcsynapse.runs.clocks import Measured, add_measured, begin_clock_file, clock_file
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.failure import first_failure
from hpcsynapse.runs.records import parts
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.timing import StepRecorder

CASES = 200
T0 = 1.75e9


def job(folder, seed, steps=400, **header):
    """A job of two ranks on two nodes that all-reduce in every step; returns offset and drift of the second clock.

    An exchange begins when the last rank has come and takes 1 ms or more; each rank leaves it a little later by itself.
    """
    rng = np.random.default_rng(seed)
    offset, drift = rng.uniform(-0.05, 0.05), rng.uniform(-20e-6, 20e-6)
    leaving = rng.uniform(2e-6, 6e-5, 2)  # mean, of each rank
    compute = 0.05 * rng.lognormal(0, 0.2, (steps, 2))
    exchange, own = 1e-3 * rng.lognormal(0, 0.5, steps), leaving * rng.exponential(1, (steps, 2))
    now = np.zeros(2)
    lines: list[list[tuple[float, ...]]] = [[], []]
    for step in range(steps):
        came = now + compute[step]
        left = came.max() + exchange[step] + own[step]
        for rank in range(2):
            ahead = rank * (offset + drift * now[rank])
            lines[rank].append((T0 + now[rank] + ahead, compute[step][rank], left[rank] - came[rank]))
        now = left + 1e-3
    about = {"strategy": "allreduce", "engine": "ddp", **header}
    for rank in range(2):
        with StepRecorder(folder, rank=rank, world_size=2, node_rank=rank, host=f"n{rank}", **about) as recorder:
            for step, (start, forward, wait) in enumerate(lines[rank]):
                recorder.write(step, 0, start, 0, forward, 0, wait, 1e-3, forward + wait + 1e-3, 8, 0.5)
    return offset, drift


def one_case(folder, seed):
    """The worst error of a job's corrected times, and the worst share of the bound that an error was."""
    folder.mkdir()
    offset, drift = job(folder, seed)
    found = clocks_of(folder, parts(folder))
    assert found.way == "exchanges"
    header = parts(folder)[1].header
    true = np.linspace(0, 20, 50)
    shown = T0 + true + offset + drift * true
    errors = np.abs(found.corrected(header, shown) - T0 - true)
    return errors.max(), (errors / found.bound(header, shown)).max()


@pytest.mark.slow
def test_any_offset_and_drift_is_found_by_the_ends_of_exchanges(tmp_path) -> None:
    cases = [one_case(tmp_path / str(seed), seed) for seed in range(CASES)]
    assert max(error for error, _ in cases) <= 100e-6
    assert sum(share <= 1 for _, share in cases) >= 0.95 * CASES


def test_ends_of_exchanges_agree_on_all_ranks_within_the_bound(tmp_path) -> None:
    job(tmp_path, 7)
    count = write_timeline(tmp_path, tmp_path / "t.pftrace")
    tracks = read_perfetto(tmp_path / "t.pftrace").values()
    ends = [
        np.array([end for name, _, end, _ in track.slices if name == "communicate"])
        for track in tracks
        if track.name.startswith("rank")
    ]
    found = clocks_of(tmp_path, parts(tmp_path))
    bound = found.bound(parts(tmp_path)[1].header, np.array([T0, T0 + 20]))
    assert count and len(ends) == 2
    assert np.mean(np.abs(ends[0] - ends[1]) <= bound * 1e9) >= 0.85


@pytest.mark.parametrize("header", [{"strategy": "ps-async"}, {"strategy": "mixed"}])
def test_ranks_that_do_not_wait_for_one_another_tell_no_clock(tmp_path, header) -> None:
    job(tmp_path, 1, **header)
    found = clocks_of(tmp_path, parts(tmp_path))
    times = np.array([T0])
    assert found.way == "none" and found.bound(parts(tmp_path)[1].header, times) is None
    assert found.corrected(parts(tmp_path)[1].header, times).tolist() == [T0]


def test_a_few_steps_are_not_enough(tmp_path) -> None:
    job(tmp_path, 1, steps=10)
    assert clocks_of(tmp_path, parts(tmp_path)).way == "none"


def measure(folder, offset, bound=2e-5):
    path = clock_file(folder, 1, "0")
    begin_clock_file(path, attempt="0", node_rank=1, host="n1", reference="n0")
    for when in (T0, T0 + 30):
        add_measured(path, Measured(when + offset, offset, bound))


def record(folder, rank, start, host):
    with StepRecorder(folder, rank=rank, node_rank=rank, host=host, strategy="ps-async") as recorder:
        recorder.write(0, 0, start, 0, 0.5, 0, 0, 0.5, 1.0, 8, 0.5)


def test_what_was_measured_comes_first_and_is_told(tmp_path) -> None:
    folder = tmp_path / "timings"
    record(folder, 0, T0 + 10, "n0")
    record(folder, 1, T0 + 10 + 0.25, "n1")
    record(folder, 2, T0 + 10, "n2")  # nothing is known of its clock
    measure(folder, 0.25)
    done = CliRunner().invoke(cli, ["timeline", str(tmp_path), "-o", str(tmp_path / "t.json")])
    assert done.exit_code == 0, done.output
    assert "clocks of nodes are corrected within 20 us, as measured while the run went on; n2 is not" in done.output
    events = read_chrome(tmp_path / "t.json")
    steps = {one["tid"]: one["ts"] for one in events if one["name"] == "step 0"}
    assert steps[0] == steps[2] == 0 and abs(steps[1]) < 1
    assert [one["args"]["name"] for one in events if one["name"] == "process_name"] == [
        "node 0 n0",
        "node 1 n1, within 20 us",
        "node 2 n2, own clock",
    ]


def test_on_one_host_there_is_nothing_to_correct(tmp_path) -> None:
    record(tmp_path, 0, T0, "n0")
    record(tmp_path, 1, T0, "n0")
    measure(tmp_path, 5.0)
    assert clocks_of(tmp_path, parts(tmp_path)).way == "one"


def test_reports_count_samples_by_one_clock(tmp_path) -> None:
    """Two asynchronous ranks that worked at the same time, one of them by a clock that is an hour ahead."""
    for rank in range(2):
        with StepRecorder(
            tmp_path, rank=rank, world_size=2, node_rank=rank, host=f"n{rank}", strategy="ps-async", warmup=0
        ) as recorder:
            for step in range(200):
                recorder.write(step, 0, T0 + rank * 3600 + step * 0.1, 0, 0, 0, 0, 0, 0.1, 8, 0.5)
    with pytest.raises(RecordError, match="overlap"):
        load(tmp_path)
    measure(tmp_path, 3600.0)
    assert load(tmp_path).rates.mean() == pytest.approx(160, rel=0.02)
    assert [row.seconds for row in traffic([tmp_path])] == [pytest.approx(20, abs=0.01)] * 2


@pytest.mark.parametrize(("ahead", "first"), [(0.0, 0), (5.0, 1)])
def test_what_failed_first_is_told_by_one_clock(tmp_path, ahead, first) -> None:
    run = RunDirectory.create(tmp_path, JobSpec(name="run"))
    run.evidence("0").mkdir(parents=True)
    for rank, when in ((0, 10.0), (1, 12.0)):
        told = {"rank": rank, "host": f"n{rank}", "code": 3, "reason": "exit code 3", "time": T0 + when}
        write_json(run.failure("0", rank), told)
    measure(run.timings, ahead)
    assert first_failure(run)["rank"] == first
