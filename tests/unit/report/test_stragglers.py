"""Ranks, hosts and links that are made slow on purpose, and are named; and those that are not."""

import csv
import io

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from phased_runs import Phased

from hpcsynapse.cli.report import command
from hpcsynapse.report.late import median_of_others
from hpcsynapse.report.loading import DTYPE, load
from hpcsynapse.report.stragglers import COLUMNS, rank_times
from hpcsynapse.timing import StepRecorder

BUSY = {"noise": 0.1}


def times_of(tmp_path, **run):
    return rank_times(load(Phased(**run).write(tmp_path / "run")))


@pytest.mark.parametrize("phase", ["data", "forward", "backward"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_slow_rank_is_named_with_its_phase(tmp_path, phase, ranks):
    found = times_of(tmp_path, ranks=ranks, per_node=2, slow={(1, phase): 0.05}, **BUSY)
    assert [one.rank for one in found] == list(range(ranks))
    (slow,) = [one for one in found if one.slow]
    assert (slow.rank, slow.host, slow.device, slow.phase) == (1, "node0", "1", phase)
    assert slow.excess == pytest.approx(0.5, abs=0.05)  # 50 ms on top of 100
    assert slow.excess_low < 0.5 < slow.excess_high
    assert slow.last > 0.95
    assert slow.delay_s == pytest.approx(0.05, rel=0.2)
    assert "rank 1 on node0, device 1" in slow.sentence() and phase in slow.sentence()


def test_what_every_rank_spends_in_the_collective_makes_nobody_slow(tmp_path):
    """A slow link, or a switch: all ranks wait alike, and who has least to wait for is not thereby slow."""
    assert not any(one.slow for one in times_of(tmp_path, ranks=4, exchange=0.5, **BUSY))


def test_an_update_that_rank_0_alone_makes_does_not_make_it_slow(tmp_path):
    found = times_of(tmp_path, ranks=4, slow={(0, "update"): 0.1}, facts={"strategy": "central"}, **BUSY)
    assert not any(one.slow for one in found)


def test_a_slow_link_of_an_asynchronous_worker_is_its_own(tmp_path):
    found = times_of(
        tmp_path, ranks=4, together=False, slow={(2, "communicate"): 0.05}, facts={"strategy": "ps-async"}, **BUSY
    )
    (slow,) = [one for one in found if one.slow]
    assert (slow.rank, slow.phase, slow.last, slow.delay_s) == (2, "communicate", None, None)
    assert slow.excess == pytest.approx(0.05 / 0.126, abs=0.05)


def test_a_whole_slow_host_is_named_if_as_many_ranks_are_fast(tmp_path):
    slow = {(rank, "forward"): 0.05 for rank in (2, 3)}
    assert [one.rank for one in times_of(tmp_path, ranks=4, slow=slow, **BUSY) if one.slow] == [2, 3]


@pytest.mark.parametrize("every", [4, 7])
def test_a_disk_that_hangs_now_and_then_is_found(tmp_path, every):
    found = times_of(tmp_path, ranks=4, steps=1010, every=every, slow={(3, "data"): 0.2}, **BUSY)
    (slow,) = [one for one in found if one.slow]
    assert (slow.rank, slow.phase) == (3, "data")
    assert slow.excess == pytest.approx(0.2 / every / 0.1, abs=0.05)


@pytest.mark.parametrize(
    "run",
    [
        {"slow": {(1, "data"): 5.0}, "every": 1000},  # a single hiccup, once in the warm-up and once in all steps
        {"slow": {(1, "forward"): 0.005}},  # 5 %
        {"slow": {(1, "data"): 0.002}, "data": 0.001, "forward": 0.001, "backward": 0.001, "exchange": 0.5},
        {"slow": {(1, "forward"): 0.05}, "steps": 35},  # too few to be sure
        {"slow": {(1, "forward"): 0.05}, "facts": {"strategy": "admm"}},  # halves of a network
        {"slow": {(0, "forward"): 0.05}, "ranks": 1},
    ],
)
def test_what_is_not_clearly_slow_is_not_called_so(tmp_path, run):
    assert not any(one.slow for one in times_of(tmp_path, **{"ranks": 4, "steps": 1500, **BUSY, **run}))


def test_a_rank_that_becomes_slow_during_the_run_is_named_with_when(tmp_path):
    found = times_of(tmp_path, ranks=4, steps=410, since=205, slow={(1, "backward"): 0.03}, **BUSY)
    (slow,) = [one for one in found if one.slow]
    assert (slow.rank, slow.phase) == (1, "backward")
    assert slow.since_step == pytest.approx(205, abs=40)
    assert slow.excess == pytest.approx(0.3, abs=0.05)  # since then
    assert f"since step {slow.since_step}" in slow.sentence()


def test_work_between_steps_makes_a_rank_slow(tmp_path):
    found = times_of(tmp_path, ranks=4, pauses={0: 0.02}, **BUSY)
    (slow,) = [one for one in found if one.slow]
    assert (slow.rank, slow.phase, slow.since_step) == (0, "between steps", None)
    assert slow.excess == pytest.approx(0.2, abs=0.03)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), noise=st.floats(0.01, 0.3), ranks=st.sampled_from([2, 3, 16]))
def test_equal_ranks_are_never_slow(tmp_path_factory, seed, noise, ranks):
    folder = Phased(ranks=ranks, steps=100, noise=noise, seed=seed).write(tmp_path_factory.mktemp("equal"))
    assert not any(one.slow for one in rank_times(load(folder)))


def test_a_rank_with_more_samples_is_not_slow(tmp_path):
    folder = Phased(ranks=4, slow={(3, "forward"): 0.1}, **BUSY).write(tmp_path / "run")
    path = next(folder.glob("rank-00003*"))
    body = bytearray(path.read_bytes())
    begin = body.index(b"\n") + 1
    records = np.frombuffer(body, DTYPE, offset=begin).copy()
    records["samples"] *= 2
    path.write_bytes(bytes(body[:begin]) + records.tobytes())
    assert not any(one.slow for one in rank_times(load(folder)))


def test_ranks_are_compared_on_the_steps_that_all_of_them_recorded(tmp_path):
    folder = Phased(ranks=3, slow={(2, "forward"): 0.05}, **BUSY).write(tmp_path / "run")
    for index, path in enumerate(sorted(folder.iterdir())):
        body = path.read_bytes()
        path.write_bytes(body[: len(body) - 17 * (index + 1)])  # killed while writing
    assert [one.rank for one in rank_times(load(folder)) if one.slow] == [2]


@given(st.integers(2, 9), st.integers(1, 5), st.integers(0, 10**6))
def test_the_median_of_the_others(rows, columns, seed):
    values = np.random.default_rng(seed).integers(0, 4, (rows, columns)).astype(float)
    wanted = [np.median(np.delete(values, row, axis=0), axis=0) for row in range(rows)]
    np.testing.assert_array_equal(median_of_others(values), wanted)


def test_the_command(tmp_path):
    runs = [Phased(ranks=2, slow={(1, "data"): 0.05}).write(tmp_path / "slow"), Phased(ranks=1).write(tmp_path / "one")]
    words = ["stragglers", *map(str, runs)]
    rows = list(csv.DictReader(io.StringIO(CliRunner().invoke(command, [*words, "--csv"]).stdout)))
    assert list(rows[0]) == list(COLUMNS)
    assert [(row["rank"], row["slow"]) for row in rows] == [("0", "False"), ("1", "True")]
    text = CliRunner().invoke(command, words).stdout
    assert "node1" in text and "yes" in text
    alone = CliRunner().invoke(command, ["stragglers", str(runs[1])])
    assert "no run has ranks that can be compared" in alone.stderr


def test_records_without_phases_are_said_to_name_nobody(tmp_path):
    folder = tmp_path / "run"
    for rank in range(2):
        with StepRecorder(folder, rank=rank, warmup=0, strategy="allreduce", engine="ddp", world_size=2) as recorder:
            for step in range(40):
                recorder.write(step, 0, 1000 + step * 0.1, 0, 0, 0, 0, 0, 0.1, 32, 0.5)
    done = CliRunner().invoke(command, ["stragglers", str(folder), "--csv"])
    assert "its steps record no phases, so no slow rank can be named" in done.stderr
    assert "no phases" not in done.stdout
