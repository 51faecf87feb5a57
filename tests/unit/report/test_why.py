"""Losses with known causes: each is found in its part, and the parts add up to the difference."""

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from phased_runs import Phased

from hpcsynapse.cli.report import command
from hpcsynapse.errors import RecordError, SpecError
from hpcsynapse.report.loading import load
from hpcsynapse.report.points import Point
from hpcsynapse.report.reduced import Measured
from hpcsynapse.report.scaling import scaling_report
from hpcsynapse.report.why import COLUMNS, PARTS, losses, spent
from hpcsynapse.report.why_text import to_text

QUIET = {"noise": 0.0, "warmup": 0}


def explain(*folders, from_baseline=False, **options):
    report = scaling_report([load(folder) for folder in folders], **options)
    return losses(report.compared, from_baseline)


def shares(loss):
    """Rank-milliseconds of a step lost, by part: rank-seconds per sample x samples of a rank's step."""
    return {part: 1000 * 32 * lost for part, lost in zip(loss.parts, loss.lost, strict=True)}


@pytest.mark.parametrize(
    ("changed", "lost"),
    [
        ({"exchange": 0.045}, {"communication": 25}),
        ({"data": 0.030}, {"input": 20}),
        ({"backward": 0.080}, {"compute": 20}),
        ({"update": 0.009}, {"compute": 4}),
        ({"between": 0.007}, {"other": 6}),
        # One of four ranks takes 40 ms longer, a quarter of the rank-seconds; the other three wait for it.
        ({"slow": {(2, "forward"): 0.04}}, {"compute": 10, "imbalance": 30}),
        ({"slow": {(1, "data"): 0.04}}, {"input": 10, "imbalance": 30}),
        # Rank 0 logs: the others wait for it in the exchange (one step of 200 has none before it).
        ({"pauses": {0: 0.04}}, {"between steps": 10 * 199 / 200, "imbalance": 30 * 199 / 200}),
        ({"exchange": 0.045, "slow": {(1, "data"): 0.04}}, {"input": 10, "imbalance": 30, "communication": 25}),
    ],
)
def test_an_injected_loss_is_found_in_its_part(tmp_path, changed, lost):
    two = Phased(ranks=2, **QUIET).write(tmp_path / "two")
    four = Phased(ranks=4, **QUIET, **changed).write(tmp_path / "four")
    (loss,) = explain(two, four)
    assert shares(loss) == pytest.approx({part: lost.get(part, 0) for part in loss.parts}, rel=1e-3, abs=1e-3)


@settings(max_examples=20)
@given(
    ranks=st.sampled_from([(1, 2), (2, 4), (3, 5)]),
    exchange=st.floats(0, 0.1),
    data=st.floats(0, 0.1),
    extra=st.floats(0, 0.2),
    noise=st.floats(0, 0.2),
    every=st.integers(1, 7),
    seed=st.integers(0, 99),
    asynchronous=st.booleans(),
)
def test_the_parts_always_add_up_to_the_loss(
    tmp_path_factory, ranks, exchange, data, extra, noise, every, seed, asynchronous
):
    tmp_path, facts = tmp_path_factory.mktemp("sum"), {"strategy": "ps-async" if asynchronous else "allreduce"}
    how = {"steps": 30, "warmup": 3, "noise": noise, "together": not asynchronous, "facts": facts}
    small = Phased(ranks=ranks[0], seed=seed, **how).write(tmp_path / "a")
    slow = {(0, "backward"): extra}
    large = Phased(ranks=ranks[1], seed=seed + 1, exchange=exchange, data=data, slow=slow, every=every, **how)
    large = large.write(tmp_path / "b")
    (loss,) = explain(small, large)
    rows = loss.breakdown()
    assert [row.part for row in rows] == [*list(PARTS)[:-1], "total"]
    total = rows.pop()
    assert sum(row.lost_s for row in rows) == pytest.approx(total.lost_s, rel=1e-9, abs=1e-12)
    assert sum(row.share for row in rows) == pytest.approx(1 - loss.efficiency, rel=1e-9, abs=1e-9)
    assert min(row.point_s for row in rows if row.part != "warm-up") > -1e-8
    for run, all_of_it in ((load(small), total.baseline_s), (load(large), total.point_s)):
        if asynchronous:
            assert run.whole_s >= run.worker_spent[-1] / run.about.ranks
        else:
            assert run.whole_s == pytest.approx(run.period.sum(), rel=1e-5)
        wanted = run.whole_s * run.about.ranks / run.counted
        assert all_of_it == pytest.approx(wanted, rel=1e-5)  # all the rank-seconds there are, and no others


def test_start_up_is_spread_over_the_samples_and_counts_where_both_know_it(tmp_path, make_directory):
    runs = []
    for ranks, start_up in ((1, 4.0), (2, 10.0)):
        run = make_directory(f"r{ranks}", ranks, 0.1, steps=0)
        Phased(ranks=ranks, exchange=0, start=1000.0, **QUIET).write(run.timings)
        run.history.write_text(json.dumps({"time": 1000.0 - start_up, "state": "SETUP"}) + "\n")
        runs.append(run)
    (loss,) = explain(*runs)
    samples = 200 * 32
    assert loss.parts[-1] == "start-up"
    assert loss.lost[-1] == pytest.approx((2 * 10.0) / (2 * samples) - 4.0 / samples)
    assert loss.efficiency_of_steps == pytest.approx(1.0)
    step = 0.106 / 32
    assert loss.efficiency == pytest.approx((step + 4 / samples) / (step + 10 / samples), rel=1e-4)
    assert "with warm-up, pauses and start-up" in to_text([loss])
    bare = Phased(ranks=4, exchange=0, **QUIET).write(tmp_path / "bare")
    assert explain(runs[1], bare)[0].parts[-1] == "idle"


def test_from_each_number_of_ranks_to_the_next_or_from_the_baseline(tmp_path):
    single = Phased(ranks=1, exchange=0, facts={"strategy": "single", "engine": "none"}, **QUIET).write(tmp_path / "s")
    runs = [Phased(ranks=ranks, exchange=0.01 * ranks, **QUIET).write(tmp_path / str(ranks)) for ranks in (8, 2, 4)]
    pairs = [(loss.baseline.ranks, loss.point.ranks) for loss in explain(single, *runs)]
    assert pairs == [(1, 2), (2, 4), (4, 8)]
    assert [(loss.baseline.ranks, loss.point.ranks) for loss in explain(single, *runs, from_baseline=True)] == [
        (1, 2),
        (1, 4),
        (1, 8),
    ]
    assert {loss.baseline.first.run.about.strategy for loss in explain(single, *runs)} == {"single", "allreduce"}
    assert explain(single) == []


def test_repeats_are_averaged(tmp_path):
    base = Phased(ranks=1, exchange=0, **QUIET).write(tmp_path / "one")
    runs = [Phased(ranks=2, exchange=value, **QUIET).write(tmp_path / f"{value}") for value in (0.01, 0.03)]
    (loss,) = explain(base, *runs)
    assert shares(loss)["communication"] == pytest.approx(20, rel=1e-3)


def test_waiting_is_never_more_than_what_was_spent_in_communication(tmp_path):
    """Local SGD: on most steps nobody communicates, so nobody waits, however unequal the ranks are."""
    one = Phased(ranks=1, exchange=0, **QUIET).write(tmp_path / "one")
    run = Phased(ranks=2, together=False, exchange=0, slow={(0, "forward"): 0.05}, **QUIET).write(tmp_path / "two")
    (loss,) = explain(one, run)
    assert shares(loss) == pytest.approx({part: 25 * (part == "compute") for part in loss.parts}, rel=1e-3, abs=1e-3)


def test_hostile_phases_do_not_spoil_the_report(tmp_path):
    folders = [Phased(ranks=ranks, steps=40, **QUIET).write(tmp_path / str(ranks)) for ranks in (1, 2)]
    path = next(folders[1].glob("rank-00001*"))
    body = bytearray(path.read_bytes())
    begin = body.index(b"\n") + 1
    body[begin + 16 : begin + 20] = np.float32(np.nan).tobytes()  # the data phase of the first record
    body[begin + 28 : begin + 32] = np.float32(np.inf).tobytes()  # its communication
    path.write_bytes(bytes(body))
    (loss,) = explain(*folders)
    assert np.isfinite(loss.after).all()


def test_records_without_samples_are_refused(tmp_path):
    folder = Phased(ranks=2, batch=0, **QUIET).write(tmp_path / "run")
    with pytest.raises(RecordError, match="no samples"):
        spent(Point((Measured(load(folder)),)))


@pytest.fixture
def call(tmp_path):
    for ranks in (1, 2, 4):
        slow = {(3, "data"): 0.05} if ranks == 4 else {}
        Phased(ranks=ranks, exchange=0.01 * (ranks - 1), slow=slow).write(tmp_path / f"r{ranks}")

    def invoke(*words):
        return CliRunner().invoke(command, ["why"] + [str(tmp_path / f"r{ranks}") for ranks in (1, 2, 4)] + list(words))

    return invoke


def test_the_command_says_why_and_names_who_was_waited_for(call, tmp_path):
    text = call().stdout
    assert text.count("rank-milliseconds per sample") == 2
    assert "allreduce, ddp, simple-cnn, digits: 4 ranks after 2 ranks (weak scaling)" in text
    assert "rank 3 on node3, device 0:" in text and "mostly in data, last in 100% of the steps" in text
    assert text.count("before the collective") == 1  # r2 has nobody to wait for
    rows = list(csv.DictReader(io.StringIO(call("--csv").stdout)))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["part"] for row in rows] == [*list(PARTS)[:-1], "total"] * 2
    assert json.loads(call("--json", "--baseline", "1").stdout)[-1]["baseline_ranks"] == 1
    assert call("--markdown").stdout.startswith("| strategy |")


def test_what_cannot_be_explained_is_an_error(tmp_path):
    alone = Phased(ranks=2, **QUIET).write(tmp_path / "alone")
    assert isinstance(CliRunner().invoke(command, ["why", str(alone)]).exception, SpecError)
    (tmp_path / "t.csv").write_text("ranks,epoch_time_s\n1,10\n2,6\n")
    assert isinstance(CliRunner().invoke(command, ["why", str(tmp_path / "t.csv")]).exception, SpecError)
