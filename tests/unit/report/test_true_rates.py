"""Rates are what a user feels: samples by the time that passed, whatever was done inside of recorded steps."""

import json
import os
from unittest import mock

import numpy as np
import pytest
from generated_rates import BATCH, lockstep
from phased_runs import Phased

from hpcsynapse import timing
from hpcsynapse.errors import RecordError
from hpcsynapse.report.entries import of_runs
from hpcsynapse.report.loading import load
from hpcsynapse.report.reduced import Measured
from hpcsynapse.report.regression import changes
from hpcsynapse.report.scaling import scaling_report
from hpcsynapse.report.why import losses
from hpcsynapse.timing import StepRecorder

STEPS = 410
EVERY_10TH = np.where(np.arange(STEPS) % 10 == 9, 5.0, 1.0)


def noise(rng, ranks, slow=1.0):
    return 0.1 * np.exp(rng.normal(0, 0.02, (ranks, STEPS))) * slow


@pytest.fixture
def rng():
    return np.random.default_rng(0)


class Clock:
    """A clock that passes only when it is told to."""

    now = 0.0

    def __call__(self):
        return self.now

    def passes(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", clock)
    monkeypatch.setattr(timing.time, "time", lambda: 1000.0 + clock.now)
    return clock


def recorded(folder, clock, wait, *, asked, steps=110):
    """Record a loop whose loader takes `wait` seconds for a batch; `asked`: through the recorder."""

    def loader():
        for _ in range(steps):
            clock.passes(wait)
            yield None

    with mock.patch.dict(os.environ, {}, clear=True):
        recorder = StepRecorder(folder, rank=0, strategy="allreduce", engine="ddp")
    with recorder:
        for _ in recorder.batches(loader()) if asked else loader():
            with recorder.step(samples=32) as step:
                clock.passes(0.01)
                step.mark("forward")
    return load(folder)


@pytest.mark.parametrize("asked", [True, False])
def test_waiting_for_data_counts_whether_it_is_recorded_or_not(tmp_path, clock, asked):
    fast, slow = (recorded(tmp_path / f"{wait}", clock, wait, asked=asked) for wait in (0.0, 0.02))
    (row,) = scaling_report([slow]).points
    assert row.throughput == pytest.approx(32 / 0.03, rel=1e-5)
    assert ("between-steps=67%" in row.flags.split()) == (not asked)
    assert "between-steps" not in scaling_report([fast]).points[0].flags
    (found,) = changes(of_runs([fast]), of_runs([slow]))
    assert (found.verdict, found.time_ratio) == ("slower", pytest.approx(3.0, rel=1e-4))


TRACES = {
    "clean": (1.0, 1.0),
    "every 10th x5, the point only": (1.0, EVERY_10TH),
    "every 10th x5, both": (EVERY_10TH, EVERY_10TH),
    "every 50th x5": (1.0, np.where(np.arange(STEPS) % 50 == 49, 5.0, 1.0)),
    "throttled": (1.0, np.where(np.arange(STEPS) >= 205, 1.4, 1.0)),
}


@pytest.mark.parametrize("scaling", ["weak", "strong"])
@pytest.mark.parametrize("trace", TRACES)
def test_efficiency_is_that_of_the_wall_clock(rng, trace, scaling):
    share = 8 if scaling == "strong" else 1  # the work is shared among the ranks
    one, eight = noise(rng, 1, TRACES[trace][0]), noise(rng, 8, TRACES[trace][1]) / share
    runs = [lockstep(one, batch=BATCH * share), lockstep(eight, steps_per_epoch=100)]
    row = scaling_report(runs, scaling=scaling).points[-1]
    mean = [values.max(axis=0)[10:].mean() for values in (one, eight)]
    assert row.efficiency == pytest.approx(mean[0] / mean[1] / share, rel=0.01)
    assert row.throughput == pytest.approx(8 * BATCH / mean[1], rel=0.01)
    assert row.epoch_time_s == pytest.approx(100 * mean[1], rel=0.01)
    assert row.step_time_s == pytest.approx(np.median(eight.max(axis=0)[10:]), rel=1e-5)
    slow = [flag for flag in row.flags.split() if flag.startswith("slow-steps")]
    told = mean[1] / np.median(eight.max(axis=0)[10:]) - 1
    assert slow == ([f"slow-steps={told:.0%}"] if "every" in trace else [])


@pytest.mark.parametrize("ranks", [8, 48, 64, 80])
def test_single_ranks_that_stall_cost_what_they_cost_at_any_number(rng, ranks):
    """The median of the slowest rank jumps where half of all steps are slow; a rate does not."""

    def stalling(count):
        return noise(rng, count, np.where(rng.random((count, STEPS)) < 0.01, 10.0, 1.0))

    many = [
        scaling_report([lockstep(stalling(1)), lockstep(stalling(ranks))], scaling="weak").points[-1].efficiency
        for _ in range(12)
    ]
    assert np.exp(np.log(many).mean()) == pytest.approx(1.09 / (1 + 9 * (1 - 0.99**ranks)), rel=0.08)


def test_local_sgd_is_measured_by_the_mean_over_its_period(rng):
    """Ranks exchange (100 ms) and meet in every 4th step only; the slowest rank of a single step delays nobody."""
    needed = 0.1 * np.exp(rng.normal(0, 0.15, (32, 400)))
    needed = needed.reshape(32, 100, 4)
    whole = needed.sum(axis=2)
    needed[:, :, 3] += whole.max(axis=0) - whole + 0.1  # those who are early wait in the exchange
    run = lockstep(needed.reshape(32, 400), wait=False, warmup=0, strategy="local-sgd", batch=BATCH)
    truth = 32 * BATCH * 400 / (whole.max(axis=0) + 0.1).sum()
    assert Measured(run).throughput == pytest.approx(truth, rel=0.003)


def test_asynchronous_and_lock_step_runs_stand_in_one_table(rng, rank_writer, tmp_path):
    slow = np.where(rng.random((1, STEPS)) < 0.01, 10.0, 1.0)
    times = noise(rng, 1, slow)
    folders = {}
    for strategy in ("allreduce", "ps-async"):
        folders[strategy] = rank_writer(tmp_path / strategy, 0, 1, times[0], strategy=strategy).parent
    lock, free = (Measured(load(folders[name])).throughput for name in ("allreduce", "ps-async"))
    assert lock == pytest.approx(BATCH * STEPS / times.sum(), rel=1e-4)
    assert free == pytest.approx(lock, rel=1e-4)


def pausing(folder, ranks, *, chief=8.0, others=0.0, after=3.0, steps=100):
    """Write a run that validates every 20 steps: rank 0 for `chief` s, the others meet it in the next exchange."""
    for rank in range(ranks):
        with mock.patch.dict(os.environ, {"WORLD_SIZE": str(ranks)}, clear=True):
            recorder = StepRecorder(folder, rank=rank, warmup=0, strategy="allreduce", engine="ddp", started=999.0)
        own = chief if rank == 0 else others
        with recorder:
            now = 1000.0
            for step in range(steps):
                late = 0.0
                if step and step % 20 == 0:
                    if own:
                        recorder.write_pause("validation", now, own)
                    now, late = now + own, max(chief, others) - own
                recorder.write(step, step // 20, now, 0, 0.06, 0, 0.04 + late, 0, 0.1 + late, BATCH, 0.5)
                now += 0.1 + late
            recorder.write_pause("checkpoint", now, after)
    return folder


def test_rounding_of_unix_times_is_no_pause(tmp_path):
    run = load(Phased(ranks=2, steps=150, seed=5).write(tmp_path))
    assert run.pauses.sum() == 0 and run.whole_s == pytest.approx(run.period.sum())


@pytest.mark.parametrize("others", [0.0, 2.0, 8.0])
def test_a_marked_pause_is_no_training_and_is_in_the_whole_run(tmp_path, others):
    (row,) = scaling_report([load(pausing(tmp_path, 4, others=others))]).points
    assert row.throughput == pytest.approx(4 * BATCH / 0.1, rel=1e-4)
    assert row.pause_s == pytest.approx(4 * 8.0 + 3.0, rel=1e-4)
    assert row.run_throughput == pytest.approx(4 * BATCH * 100 / (100 * 0.1 + 35.0), rel=1e-4)
    assert row.epoch_time_s == pytest.approx(2.0, rel=1e-4)
    assert "between-steps" not in row.flags


def test_why_gives_every_pause_its_part_and_the_parts_are_the_allocation(tmp_path):
    runs = [load(pausing(tmp_path / f"{ranks}", ranks)) for ranks in (1, 2)]
    (loss,) = losses(scaling_report(runs).compared)
    parts = dict(zip(loss.parts, loss.after * 100 * BATCH, strict=True))  # rank-seconds a rank
    assert parts["validation"] == pytest.approx(32.0, rel=1e-4)
    assert parts["checkpoint"] == pytest.approx(3.0, rel=1e-4)
    assert sum(parts.values()) == pytest.approx(100 * 0.1 + 35.0, rel=1e-4)
    assert loss.efficiency_of_steps == pytest.approx(scaling_report(runs).points[-1].efficiency, rel=1e-6)


def test_format_2_marks_no_pauses_so_those_between_epochs_are_taken_for_some(rank_writer, tmp_path):
    path = rank_writer(tmp_path, 0, 1, [0.1] * 100, epoch_steps=20, between=0.01)
    assert Measured(load(tmp_path)).throughput == pytest.approx(BATCH / 0.11, rel=1e-3)
    whole = path.read_bytes()
    begin, size = whole.index(b"\n") + 1, timing.RECORD.size
    body = bytearray(whole[begin:])
    for step in range(20, 100):  # a validation of 5 s before each epoch
        place = step * size
        start = np.frombuffer(body[place + 8 : place + 16], "<f8")[0] + 5.0 * (step // 20)
        body[place + 8 : place + 16] = np.float64(start).tobytes()
    path.write_bytes(whole[:begin].replace(b'"version": 3', b'"version": 2') + body)
    (row,) = scaling_report([load(tmp_path)]).points
    assert row.throughput == pytest.approx(BATCH / 0.11, rel=1e-3)
    assert row.pause_s == pytest.approx(20.0, rel=1e-3)


def test_a_restart_is_told_and_its_time_is_the_runs_not_the_trainings(rank_writer, tmp_path):
    for rank in range(2):
        rank_writer(tmp_path, rank, 2, [0.1] * 60, start=1000.0)
        rank_writer(tmp_path, rank, 2, [0.1] * 60, start=1100.0, first=40, attempt="1")
    (row,) = scaling_report([load(tmp_path)]).points
    assert "several-starts" in row.flags.split()
    assert row.throughput == pytest.approx(2 * BATCH / 0.1, rel=1e-4)
    assert row.pause_s == pytest.approx(106.0 - 100 * 0.1, rel=1e-4)  # 20 steps were made twice
    assert row.run_throughput == pytest.approx(2 * BATCH * 100 / 106.0, rel=1e-4)


def test_two_lives_of_a_rank_within_one_start_are_told_apart(rank_writer, tmp_path):
    rank_writer(tmp_path, 0, 2, [0.1] * 50, start=1000.0)
    path = rank_writer(tmp_path, 1, 2, [0.1] * 50, start=1000.0)
    kept = path.read_bytes()
    second = rank_writer(tmp_path, 1, 2, [0.3] * 10, start=2000.0)
    second.rename(second.with_name("rank-00001.0+1.steps"))
    path.write_bytes(kept)
    run = load(tmp_path)
    np.testing.assert_allclose(run.slowest, 0.1, rtol=1e-6)  # not the second life's steps
    assert "several-starts" in scaling_report([run]).points[0].flags.split()


def test_records_of_two_runs_in_one_folder_are_an_error(rank_writer, tmp_path):
    rank_writer(tmp_path, 0, 2, [0.1] * 50, engine="ddp")
    rank_writer(tmp_path, 1, 2, [0.1] * 50, engine="horovod")
    with pytest.raises(RecordError, match="different engines \\(ddp, horovod\\)"):
        load(tmp_path)


@pytest.mark.parametrize("other", [-10.0, 0.0, 3600.0])
def test_start_up_is_by_the_clock_of_rank_0(make_directory, rank_writer, other):
    run = make_directory("r", 2, 0.1, steps=0)
    for rank, clock in ((0, 0.0), (1, other)):
        rank_writer(run.timings, rank, 2, [0.1] * 50, start=1000.0 + clock)
    run.history.write_text(json.dumps({"time": 995.0, "state": "SETUP"}) + "\n")
    assert load(run).start_up_s == pytest.approx(5.0)


@pytest.mark.parametrize(("offset", "back"), [(1.0, 0.0), (3600.0, 0.0), (0.0, -5.0)])
def test_the_clock_of_another_node_changes_no_rate(rank_writer, tmp_path, offset, back):
    rank_writer(tmp_path, 0, 2, [0.1] * 100, start=1000.0)
    path = rank_writer(tmp_path, 1, 2, [0.1] * 100, start=1000.0 + offset)
    body = bytearray(path.read_bytes())
    begin = body.index(b"\n") + 1
    for step in range(50, 100):
        place = begin + step * timing.RECORD.size + 8
        body[place : place + 8] = np.float64(np.frombuffer(body[place : place + 8], "<f8")[0] + back).tobytes()
    path.write_bytes(body)
    assert Measured(load(tmp_path)).throughput == pytest.approx(2 * BATCH / 0.1, rel=1e-4)


def test_idle_workers_at_the_end_are_in_the_whole_run(rank_writer, tmp_path):
    """Equal work, one of four asynchronous workers half as fast: for the second half of the run the others are done."""
    for rank in range(4):
        rank_writer(tmp_path / "four", rank, 4, [0.2 if rank == 3 else 0.1] * 200, strategy="ps-async")
    rank_writer(tmp_path / "one", 0, 1, [0.1] * 200, strategy="ps-async")
    runs = [load(tmp_path / name) for name in ("one", "four")]
    row = scaling_report(runs, scaling="weak").points[-1]
    assert row.efficiency == pytest.approx(0.875, rel=0.01)
    assert row.run_throughput == pytest.approx(0.5 * 4 * BATCH / 0.1, rel=0.01)
    (loss,) = losses(scaling_report(runs, scaling="weak").compared)
    assert loss.efficiency == pytest.approx(0.5, rel=0.01)
    assert loss.after[loss.parts.index("idle")] == pytest.approx(15.0 * 4 / (800 * BATCH), rel=1e-3)
