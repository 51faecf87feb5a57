"""Known answers: records built at a given efficiency come back as that."""

import csv
import io
import json

import pytest

from hpcsynapse.errors import RecordError, SpecError
from hpcsynapse.report.entries import entries_of
from hpcsynapse.report.loading import load
from hpcsynapse.report.points import COLUMNS
from hpcsynapse.report.scaling import scaling_report
from hpcsynapse.writers import to_csv, to_json, to_markdown, to_text

EXPECTED_COLUMNS = [
    "strategy", "engine", "model", "data", "nodes", "ranks", "baseline_strategy", "baseline_ranks", "scaling",
    "batch_per_rank", "global_batch", "settings", "repeats", "steps", "warmup_steps", "step_time_s", "step_time_s_low",
    "step_time_s_high", "epoch_time_s", "train_time_h", "steps_per_s", "throughput", "throughput_low",
    "throughput_high",
    "tokens_per_s", "flops_per_step", "flops_per_s", "run_throughput", "pause_s",
    "speedup", "speedup_low", "speedup_high", "efficiency",
    "efficiency_low", "efficiency_high", "start_up_s", "peak_memory", "accuracy", "staleness_mean", "staleness_p95",
    "dropped", "flags",
]  # fmt: skip  # a table


def report(*folders, **options):
    return scaling_report([load(folder) for folder in folders], **options)


@pytest.mark.parametrize("efficiency", [0.90, 0.68])
def test_weak_scaling_at_a_known_efficiency(make_run, efficiency):
    one = make_run("one", 1, 0.1)
    eight = make_run("eight", 8, 0.1 / efficiency, nodes=2)
    base, point = report(one, eight).points
    assert (base.scaling, base.speedup, base.efficiency, base.baseline_ranks) == ("weak", 1.0, 1.0, 1)
    assert (point.scaling, point.ranks, point.nodes, point.baseline_ranks) == ("weak", 8, 2, 1)
    assert point.efficiency == pytest.approx(efficiency, rel=1e-6)
    assert point.speedup == pytest.approx(8 * efficiency, rel=1e-6)
    assert point.throughput == pytest.approx(8 * 32 / 0.1 * efficiency, rel=1e-6)
    assert (point.batch_per_rank, point.global_batch) == (32, 256)
    assert point.step_time_s == pytest.approx(0.1 / efficiency, rel=1e-6)


@pytest.mark.parametrize("efficiency", [0.90, 0.68])
@pytest.mark.parametrize("epoch_steps", [10**6, 50])
def test_strong_scaling_at_a_known_efficiency(make_run, efficiency, epoch_steps):
    options = {"epoch_steps": epoch_steps, "gap": 7.0}  # a validation of 7 s between epochs must not count
    two = make_run("two", 2, 0.4, batch=128, **options)
    eight = make_run("eight", 8, 0.1 / efficiency, batch=32, **options)
    base, point = report(two, eight).points
    assert (base.scaling, base.ranks, base.baseline_ranks) == ("strong", 2, 2)
    assert (point.scaling, point.global_batch) == ("strong", 256)
    assert point.speedup == pytest.approx(4 * efficiency, rel=2e-2 if epoch_steps == 50 else 1e-6)
    assert point.efficiency == pytest.approx(point.speedup / 4)


def test_weak_speedup_is_relative_to_a_baseline_of_several_ranks(make_run):
    base, point = report(make_run("two", 2, 0.1), make_run("four", 4, 0.1)).points
    assert point.baseline_ranks == base.baseline_ranks == 2
    assert (point.speedup, point.efficiency) == (pytest.approx(2), pytest.approx(1))


def test_step_time_is_the_median_of_the_slowest_rank_without_warm_up(make_run):
    times = [5.0] * 10 + [0.1] * 50 + [0.2] * 49
    (point,) = report(make_run("run", 3, times, steps=109, warmup=10)).points
    assert point.step_time_s == pytest.approx(0.1)
    assert point.steps == 99


def test_epoch_time_leaves_out_pauses_and_the_epoch_with_warm_up(make_run):
    times = [3.0] * 5 + [0.1] * 95
    run = make_run("run", 1, times, steps=100, warmup=5, epoch_steps=20, gap=50.0)
    (point,) = report(run).points
    assert point.epoch_time_s == pytest.approx(2.0)


def test_a_torn_last_epoch_is_no_epoch(make_run):
    (point,) = report(make_run("run", 1, 0.1, steps=55, epoch_steps=20)).points
    assert point.epoch_time_s == pytest.approx(2.0)


def test_single_is_the_baseline_of_a_strategy(make_run):
    single = make_run("single", 1, 0.1, strategy="single", engine="none")
    alone = make_run("alone", 1, 0.11)
    pair = make_run("pair", 2, 0.125)
    rows = report(pair, alone, single).points
    assert [(row.strategy, row.ranks, row.baseline_ranks) for row in rows] == [
        ("single", 1, 1),
        ("allreduce", 1, 1),
        ("allreduce", 2, 1),
    ]
    assert [row.efficiency for row in rows] == pytest.approx([1, 0.1 / 0.11, 0.8])
    assert {row.scaling for row in rows} == {"weak"}


def test_single_is_the_baseline_of_all_strategies_that_did_not_run_on_one_rank(make_run, rank_writer, tmp_path):
    runs = [make_run("single", 1, 0.1, strategy="single", engine="none")]
    runs += [make_run(f"all-{ranks}", ranks, 0.125) for ranks in (2, 4)]
    for ranks in (2, 4):
        runs.append(tmp_path / f"ps-{ranks}")
        for rank in range(ranks):
            rank_writer(runs[-1], rank, ranks, [0.2] * 200, strategy="ps-async", engine="tcp")
    rows = report(*runs).points
    assert [(row.strategy, row.ranks) for row in rows] == [
        ("single", 1),
        ("allreduce", 2),
        ("allreduce", 4),
        ("ps-async", 2),
        ("ps-async", 4),
    ]
    assert {(row.baseline_strategy, row.baseline_ranks, row.scaling) for row in rows} == {("single", 1, "weak")}
    assert [row.efficiency for row in rows] == pytest.approx([1, 0.8, 0.8, 0.5, 0.5], rel=1e-3)


def test_single_with_twice_the_batch_makes_it_strong(make_run):
    single = make_run("single", 1, 0.2, strategy="single", engine="none", batch=64)
    rows = report(single, make_run("pair", 2, 0.125)).points
    assert [(row.scaling, row.speedup) for row in rows] == [("strong", 1.0), ("strong", pytest.approx(1.6))]


def test_strong_and_weak_are_not_guessed(make_run):
    singles = [make_run(f"s{batch}", 1, 0.1, strategy="single", batch=batch) for batch in (32, 64)]
    pair = make_run("pair", 2, 0.125)
    with pytest.raises(SpecError, match=r"both an equal global batch and an equal batch per rank.*--scaling strong"):
        report(*singles, pair)
    strong = report(*singles, pair, scaling="strong").points[-1]
    weak = report(*singles, pair, scaling="weak").points[-1]
    assert strong.speedup == pytest.approx(0.8)  # T(64 on one) / T(64 on two)
    assert weak.speedup == pytest.approx(1.6)


def test_neither_strong_nor_weak_is_an_error_that_names_the_batches(make_run):
    runs = [make_run("one", 1, 0.1, batch=32), make_run("two", 2, 0.1, batch=24)]
    with pytest.raises(SpecError, match=r"neither.*one: 1 x 32 = 32; .*two: 2 x 24 = 48"):
        report(*runs)
    assert [row.speedup for row in report(*runs, scaling="weak").points] == [1, 1]  # each batch for itself


def test_unlike_models_data_strategies_and_engines_have_their_own_baselines(make_run):
    names = ["model", "data", "strategy", "engine"]
    runs = []
    for index, name in enumerate(names):
        facts = {name: f"other-{name}"}
        runs += [make_run(f"{index}-{ranks}", ranks, 0.1 * (1 + index), **facts) for ranks in (2, 4)]
    rows = report(*runs).points
    assert len(rows) == 8
    assert {row.baseline_ranks for row in rows} == {2}
    assert all(row.efficiency == pytest.approx(1) for row in rows)


@pytest.mark.parametrize("fact", ["optimizer", "device_name", "threads"])
def test_other_conditions_are_kept_apart_with_a_warning(make_run, fact):
    one, two = make_run("one", 1, 0.1), make_run("two", 2, 0.1, **{fact: "other"})
    found = report(one, two)
    assert [row.baseline_ranks for row in found.points] == [1, 2]
    assert "reported apart" in found.warnings[0]
    assert "other" in found.warnings[0]
    single = make_run("single", 1, 0.1, strategy="single")
    found = report(single, two)
    assert "is not its baseline" in found.warnings[0]
    assert [row.baseline_ranks for row in found.points] == [1, 2]


def test_runs_with_other_shares_of_unlike_devices_are_no_repeats(rank_writer, tmp_path):
    def mixed(name, kinds):
        for rank, kind in enumerate(kinds):
            rank_writer(tmp_path / name, rank, len(kinds), [0.1] * 200, device_name=kind)
        return str(tmp_path / name)

    one, again, other = mixed("one", "abb"), mixed("again", "bab"), mixed("other", "aab")
    rows = report(one, again, other).points
    assert sorted((row.repeats, row.settings) for row in rows) == [
        (1, "devices=2 x a + 1 x b"),
        (2, "devices=1 x a + 2 x b"),
    ]
    assert [entry.repeats for entry in entries_of([one, again, other], tmp_path, print)] == [2, 1]
    (alike,) = report(mixed("first", "aaa"), mixed("second", "aaa")).points
    assert (alike.repeats, alike.settings) == (2, "")


def test_repeats_are_combined_with_an_interval(make_run):
    runs = [make_run(f"one{i}", 1, 0.1 * factor) for i, factor in enumerate((0.99, 1.0, 1.01))]
    runs += [make_run(f"two{i}", 2, 0.125 * factor) for i, factor in enumerate((0.99, 1.0, 1.01))]
    base, point = report(*runs).points
    assert (base.repeats, point.repeats, point.steps) == (3, 3, 600)
    assert point.efficiency == pytest.approx(0.8, rel=1e-4)
    assert point.efficiency_low < 0.8 < point.efficiency_high
    assert point.throughput_low < point.throughput < point.throughput_high
    assert point.throughput_high == pytest.approx(64 / point.step_time_s_low)
    # Welch by hand: sd of the logs 0.01, so the error is 0.01 * sqrt(2 / 3) with 4 degrees of freedom, t = 2.776.
    assert point.efficiency_high / point.efficiency == pytest.approx(1 + 2.776 * 0.01 * (2 / 3) ** 0.5, rel=1e-3)
    assert "one-repeat" not in point.flags


def test_flags(make_run):
    (point,) = report(make_run("run", 1, [0.1, 0.2] * 10, steps=20)).points
    assert point.flags == "one-repeat few-steps unstable no-phases"
    (point,) = report(make_run("warm", 1, 0.1, steps=40, warmup=40)).points
    assert point.flags == "one-repeat no-phases only-warm-up"
    (point,) = report(make_run("computed", 1, 0.1, steps=40, steps_per_epoch=100)).points
    assert point.flags == "one-repeat no-phases epoch-computed"
    assert point.epoch_time_s == pytest.approx(10.0)


def test_asynchronous_throughput_is_counted_over_the_common_window(make_run, rank_writer, tmp_path):
    base = make_run("base", 1, 0.1, strategy="ps-async", engine="tcp")
    for rank, (step_time, start) in enumerate([(0.1, 1000.0), (0.2, 1003.0), (0.4, 1001.0)]):
        rank_writer(
            tmp_path / "three",
            rank,
            3,
            [step_time] * round(40 / step_time),
            start=start,
            strategy="ps-async",
            engine="tcp",
        )
    one, three = report(base, tmp_path / "three").points
    assert one.throughput == pytest.approx(320, rel=1e-3)
    assert three.throughput == pytest.approx(32 * (10 + 5 + 2.5), rel=1e-3)
    assert three.step_time_s == pytest.approx(0.2)
    assert three.speedup == pytest.approx(1.75, rel=1e-3)


def test_the_baseline_can_be_chosen(make_run):
    runs = [make_run(f"r{ranks}", ranks, 0.1) for ranks in (1, 2, 4)]
    for baseline in ("2", str(runs[1])):
        assert [row.speedup for row in report(*runs, baseline=baseline).points] == pytest.approx([0.5, 1, 2])
    with pytest.raises(SpecError, match="neither one of the runs"):
        report(*runs, baseline="nonsense")
    with pytest.raises(SpecError, match="no point"):
        report(*runs, baseline="3")


def test_all_strategies_can_refer_to_one(make_run):
    runs = [make_run("single", 1, 0.05, strategy="single", engine="none")]
    for strategy, engine, slower in (("allreduce", "ddp", 1), ("central", "ddp", 2), ("allreduce", "mpi", 4)):
        runs += [
            make_run(f"{strategy}-{engine}-{ranks}", ranks, 0.1 * slower, strategy=strategy, engine=engine)
            for ranks in (2, 4)
        ]
    own = {(row.strategy, row.engine, row.ranks): row for row in report(*runs[1:]).points}
    assert own["central", "ddp", 4].speedup == pytest.approx(2)
    rows = {(row.strategy, row.engine, row.ranks): row for row in report(*runs, baseline="allreduce").points}
    assert {(row.baseline_strategy, row.baseline_ranks) for row in rows.values()} == {("allreduce", 2)}
    assert rows["allreduce", "ddp", 4].speedup == pytest.approx(2)
    assert rows["central", "ddp", 2].speedup == pytest.approx(0.5)
    assert rows["central", "ddp", 4].efficiency == pytest.approx(0.5)
    assert rows["allreduce", "mpi", 4].speedup == pytest.approx(2)  # its own engine, not the faster one
    # One rank does half the work of two in as many steps: throughput 1/2 of the baseline, on half the ranks.
    assert rows["single", "none", 1].speedup == pytest.approx(1)
    assert rows["single", "none", 1].efficiency == pytest.approx(2)


def test_strategies_can_be_compared_at_one_number_of_ranks(make_run):
    runs = [make_run("all", 4, 0.1), make_run("central", 4, 0.125, strategy="central")]
    rows = report(*runs, baseline="allreduce").points
    assert [(row.baseline_strategy, row.speedup) for row in rows] == [
        ("allreduce", 1.0),
        ("allreduce", pytest.approx(0.8)),
    ]
    found = report(runs[0], make_run("small", 4, 0.1, strategy="central", batch=16), baseline="allreduce")
    assert [row.baseline_strategy for row in found.points] == ["allreduce", "central"]
    assert "is no baseline for strong scaling, as no other point has its global batch" in found.warnings[0]


def test_a_common_baseline_serves_asynchronous_strategies_too(make_run, rank_writer, tmp_path):
    base = make_run("base", 1, 0.1)
    for rank in range(2):
        rank_writer(tmp_path / "ps", rank, 2, [0.125] * 200, strategy="ps-async", engine="tcp")
    row = report(base, tmp_path / "ps", baseline="allreduce", scaling="weak").points[-1]
    assert (row.strategy, row.baseline_strategy, row.baseline_ranks) == ("ps-async", "allreduce", 1)
    assert row.speedup == pytest.approx(1.6, rel=1e-3)
    with pytest.raises(SpecError, match="neither one of the runs"):
        report(base, baseline="central")


def test_a_missing_rank_is_an_error_not_a_wrong_throughput(make_run):
    run = make_run("run", 4, 0.1)
    next(run.glob("rank-00002.*")).unlink()
    with pytest.raises(RecordError, match=r"1 of 4 ranks left no step records, for example rank 2"):
        report(run)


def test_columns_are_exactly_these(make_run):
    points = report(make_run("run", 1, 0.1)).points
    assert list(COLUMNS) == EXPECTED_COLUMNS
    (row,) = csv.DictReader(io.StringIO(to_csv(points, COLUMNS)))
    assert list(row) == EXPECTED_COLUMNS
    assert float(row["step_time_s"]) == points[0].step_time_s  # full precision
    (entry,) = json.loads(to_json(points, COLUMNS))
    assert list(entry) == EXPECTED_COLUMNS
    assert entry["accuracy"] is None


def test_tables_for_people(make_run):
    rows = report(make_run("one", 1, 0.1), make_run("two", 2, 0.1 / 0.931)).points
    text = to_text(rows, COLUMNS)
    assert "93.1%" in text
    assert "1.86x" in text
    assert text.startswith("in all rows: strategy allreduce, ")
    assert len(text.splitlines()) == 4
    lines = to_markdown(rows, COLUMNS).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert "93.1%" in lines[3]
