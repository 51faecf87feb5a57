"""Runs that differ in a setting are different points, with a column that says in what; seeds are repeats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcsynapse.predict.measured_curves import of_report
from hpcsynapse.report import points, publication
from hpcsynapse.report.entries import of_runs, of_table
from hpcsynapse.report.loading import load
from hpcsynapse.report.page import summary
from hpcsynapse.report.plots.series import series_of
from hpcsynapse.report.plots.steps import named_points
from hpcsynapse.report.regression import changes
from hpcsynapse.report.scaling import scaling_report
from hpcsynapse.report.varied import differing, of_cell, settings_of, spread, told
from hpcsynapse.report.why import losses
from hpcsynapse.report.why_text import title
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.writers import to_csv, to_text


@pytest.fixture
def make(tmp_path: Path, run_writer: Any) -> Any:
    """Return a function that writes a run with settings of its own and loads it."""

    def one(
        name: str,
        ranks: int,
        *,
        command: tuple[str, ...] = (),
        strategy: str = "allreduce",
        headers: dict[str, str] | None = None,
        **sections: Any,
    ) -> Any:
        spec = JobSpec(name=name, command=command, resources=ResourceRequest(ranks_per_node=ranks))
        spec = spec if command else spec.with_("train", strategy=strategy)
        for section, changed in sections.items():
            spec = spec.with_(section, **changed)
        run = RunDirectory.create(tmp_path, replace(spec, name=name))
        run_writer(run.timings, ranks, 0.1, strategy=strategy, **(headers or {}))
        return load(run)

    return one


def test_a_seed_is_a_repeat_and_a_rate_is_not(make: Any) -> None:
    runs = [make(f"{lr}-{seed}", 2, train={"lr": lr, "seed": seed}) for lr in (0.1, 0.01) for seed in (1, 2)]
    rows = scaling_report(runs).points
    assert [(row.settings, row.repeats) for row in rows] == [("train.lr=0.01", 2), ("train.lr=0.1", 2)]


@pytest.mark.parametrize(
    ("strategy", "section", "name", "values"),
    [
        ("ps-sync", "ps", "servers", (1, 2)),
        ("ps-sync", "ps", "needed", (None, 1)),
        ("allreduce", "train", "model_args", ({"depth": 18}, {"depth": 50})),
        ("allreduce", "train", "momentum", (0.9, 0.0)),
        ("allreduce", "exchange", "average_every", (8, 16)),
        ("allreduce", "site", "name", ("a", "b")),
        ("allreduce", "train", "model_args", ({}, {"depth": 50})),
        ("allreduce", "resources", "gpus", (1, 2)),
    ],
)
def test_everything_that_is_set_keeps_runs_apart(
    make: Any, strategy: str, section: str, name: str, values: tuple[Any, ...]
) -> None:
    runs = [make(f"r{index}", 2, strategy=strategy, **{section: {name: value}}) for index, value in enumerate(values)]
    rows = scaling_report(runs).points
    assert [row.repeats for row in rows] == [1, 1]
    assert any(f"{section}.{name}" in row.settings for row in rows) and rows[0].settings != rows[1].settings
    assert len(of_runs(runs)) == 2


def test_a_setting_that_divides_makes_two_curves_each_with_its_own_baseline(make: Any) -> None:
    runs = [make(f"{lr}-{ranks}", ranks, train={"lr": lr}) for lr in (0.1, 0.01) for ranks in (1, 2)]
    compared = scaling_report(runs, "weak").compared
    assert sorted(tuple(point.names[0] for point in one.points) for one in compared) == [
        ("0.01-1", "0.01-2"),
        ("0.1-1", "0.1-2"),
    ]


def test_a_setting_that_follows_the_ranks_is_part_of_one_curve(make: Any) -> None:
    runs = [make(f"r{ranks}", ranks, train={"lr": 0.1 * ranks}) for ranks in (1, 2, 4)]
    (one,) = scaling_report(runs, "weak").compared
    assert [point.ranks for point in one.points] == [1, 2, 4]


def test_words_of_a_command_are_settings_but_its_run_and_seed(tmp_path: Path) -> None:
    def words(name: str, *more: str) -> dict[str, str]:
        run = tmp_path / name
        command = ["python", "train.py", "--out", str(run), "--tag", name, *more]
        return {key: value for key, value in settings_of({"command": command}, run).items() if "." not in key}

    assert words("one", "--seed", "1") == words("two", "--seed=2")
    assert differing([words("one", "--amp"), words("two")]) == ["--amp"]
    found = words("one", "--lr=0.1", "--amp", "--shift", "-1", "fast")
    assert {"--lr": "0.1", "--amp": "yes", "--shift": "-1", "word 3": "fast"}.items() <= found.items()


def test_what_the_name_of_the_strategy_tells_is_not_said_twice(make: Any) -> None:
    runs = [
        make(
            f"every{every}",
            2,
            strategy="local-sgd",
            exchange={"average_every": every},
            headers={"exchange": f"local-sgd+every{every}"},
        )
        for every in (16, 32)
    ]
    assert [row.settings for row in scaling_report(runs).points] == ["", ""]


def test_secrets_in_the_environment_are_in_no_report(make: Any) -> None:
    runs = [make(value, 2, launch={"env": {"API_KEY": value, "OMP_PLACES": value}}) for value in ("one", "two")]
    found = {row.settings for row in scaling_report(runs).points}
    assert found == {"launch.env.OMP_PLACES=one", "launch.env.OMP_PLACES=two"}


def test_a_cell_is_read_as_it_was_written() -> None:
    pairs = {"train.lr": "0.1", "--sizes": "1, 2", "word 3": "a=b", "train.model_args.depth": "18", "-k": "x"}
    assert of_cell(told(pairs.items())) == pairs and of_cell("") == {}


def test_every_report_keeps_curves_of_different_settings_apart(make: Any) -> None:
    runs = [make(f"{lr}-{ranks}", ranks, train={"lr": lr}) for lr in (0.1, 0.01) for ranks in (1, 2)]
    report = scaling_report(runs, "weak")
    both = ["lr=0.01", "lr=0.1"]

    def tell(texts: list[str]) -> list[str]:
        return sorted({text[text.index("lr=") :].split()[0].rstrip(":,)") for text in texts})

    assert tell(summary(report)) == both and len(summary(report)) == 2
    found = losses(report.compared)
    assert tell([title(one) for one in found]) == both and {row.settings for row in found[0].breakdown()} == {
        "train.lr=0.1"
    }
    assert tell([one.label for one in series_of(report.points)]) == both
    assert tell([name for name, _ in named_points(report.compared)]) == both and len(named_points(report.compared)) == 4
    curves = of_report(report.compared, {id(run): run.source for run in runs}, None)
    assert tell([curve.title for curve in curves]) == both
    assert all(len(publication.TABLES[kind](report.points)[0]) == 4 for kind in ("modes", "models"))


def test_compare_matches_settings_that_one_side_varies_and_names_the_others(make: Any, tmp_path: Path) -> None:
    varied = [make(f"a{lr}", 2, train={"lr": lr, "momentum": 0.9}) for lr in (0.1, 0.01)]
    lone = [make("b", 2, train={"lr": 0.1, "momentum": 0.5})]
    (both, missing) = changes(of_runs(varied), of_runs(lone))
    assert (both.settings, both.flags.split()[-1]) == ("train.lr=0.1", "other-settings=train.momentum")
    assert (missing.settings, missing.verdict) == ("train.lr=0.01", "missing")
    (alone,) = changes(of_runs(varied[:1]), of_runs(varied[1:]))
    assert (alone.settings, alone.flags.split()[-1]) == ("", "other-settings=train.lr")
    table = tmp_path / "a.csv"
    table.write_text(to_csv(scaling_report(varied).points, points.COLUMNS))
    (both, missing) = changes(of_table(table), of_runs(lone))
    assert (both.settings, both.verdict, missing.settings) == ("train.lr=0.1", "same", "train.lr=0.01")
    assert "other-settings" not in both.flags


def test_every_setting_that_differs_has_a_column(make: Any) -> None:
    values = [(lr, width) for lr in (1, 2) for width in (4, 8)]
    runs = [make(f"{lr}-{width}", 2, train={"lr": lr, "model_args": {"width": width}}) for lr, width in values]
    rows, known = spread(scaling_report(runs).points, points.COLUMNS)
    header, *lines = to_csv(rows, known).splitlines()
    place = header.split(",").index("settings")
    assert header.split(",")[place + 1 : place + 3] == ["train.model_args.width", "train.lr"]
    assert [row["train.model_args.width"] for row in rows] == ["4", "4", "8", "8"] and len(lines) == 4
    shown = to_text(rows, known)
    assert "width" in shown and "settings" not in shown and "train.lr" not in shown
    many = [replace(row, settings="a.a=1, a.b=2, a.c=3, a.d=4") for row in scaling_report(runs).points]
    assert "a.a=1, a.b=2, a.c=3, a.d=4" in to_text(*spread(many, points.COLUMNS))
    assert spread(scaling_report(runs[:1]).points, points.COLUMNS)[1] is points.COLUMNS
