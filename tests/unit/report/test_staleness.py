"""How old gradients were: known counts, quantiles, and what servers dropped."""

import json

import numpy as np
import pytest

from hpcsynapse.report.loading import load
from hpcsynapse.report.scaling import scaling_report
from hpcsynapse.report.staleness import Staleness, staleness
from hpcsynapse.timing import StepRecorder


def write(folder, rank, ages, strategy="ps-async", workers=2, warmup=0):
    with StepRecorder(
        folder, rank=rank, warmup=warmup, strategy=strategy, engine="tcp", world_size=workers
    ) as recorder:
        for step, age in enumerate(ages):
            recorder.write(step, 0, 1e9 + step * 0.1, 0.0, 0.04, 0.04, 0.01, 0.01, 0.1, 32, 1.0, age)


def test_mean_and_quantile_are_those_of_all_gradients_after_warm_up(tmp_path):
    ages = [np.random.default_rng(rank).poisson(3, 400) for rank in range(2)]
    for rank, own in enumerate(ages):
        write(tmp_path, rank, [50] * 5 + own.tolist(), warmup=5)
    found = staleness(tmp_path)
    every = np.concatenate(ages)
    assert found.mean == pytest.approx(every.mean())
    assert found.quantile(0.95) == np.quantile(every, 0.95, method="inverted_cdf")
    assert found.counts.sum() == 800
    assert found.dropped_share is None


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.51, 1.0])
def test_a_quantile_is_the_smallest_age_that_so_many_do_not_exceed(share):
    ages = [0, 1, 1, 5]
    counts = np.bincount(ages)
    assert Staleness(counts, None, None).quantile(share) == np.quantile(ages, share, method="inverted_cdf")


def test_steps_in_lock_step_have_none(tmp_path):
    write(tmp_path, 0, [-1] * 50, "allreduce", 1)
    assert staleness(tmp_path) is None
    (row,) = scaling_report([load(tmp_path)]).points
    assert (row.staleness_mean, row.staleness_p95, row.dropped) == (None, None, None)


def test_a_report_tells_staleness_and_what_was_dropped(make_directory):
    run = make_directory("run", 1, 0.1)
    for path in run.timings.iterdir():
        path.unlink()
    for rank in range(2):
        write(run.timings, rank, [1] * 60 + [2] * 20)
    # A gradient goes to both servers: of the first worker one of them dropped 10, of the second the other dropped 5.
    for server, dropped in enumerate(((10, 0), (4, 5))):
        workers = [{"worker": worker, "applied": 80 - count, "dropped": count} for worker, count in enumerate(dropped)]
        run.server_counts(server).write_text(json.dumps({"workers": workers}))
    (row,) = scaling_report([load(run)]).points
    assert (row.staleness_mean, row.staleness_p95) == (1.25, 2)
    assert row.dropped == pytest.approx(15 / 160)
    run.server_counts(0).write_text(json.dumps({"workers": [{"worker": "x"}, 3]}))
    run.server_counts(1).unlink()
    assert scaling_report([load(run)]).points[0].dropped is None
