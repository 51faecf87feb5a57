"""Every plot: that it shows the figures, that nothing in it overlaps or is cut off, and that files are reproducible."""

import itertools
import json
import subprocess
import sys
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.text import Text
from phased_runs import Phased, write_curve

from hpcsynapse.cli.report import command
from hpcsynapse.files import append_json, write_json
from hpcsynapse.report.drift import drift_of
from hpcsynapse.report.from_table import table_report
from hpcsynapse.report.loading import load
from hpcsynapse.report.plots import scaling, series, steps, style
from hpcsynapse.report.plots.draw import draw
from hpcsynapse.report.scaling import scaling_report
from hpcsynapse.report.why import losses
from hpcsynapse.runs.class_counts import ClassCounts
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec

pytestmark = pytest.mark.slow  # every plot is drawn

NAMES = [
    "speedup",
    "efficiency",
    "throughput",
    "strategies",
    "step-times",
    "phases",
    "loss",
    "training",
    "metrics",
    "staleness",
    "drift",
    "confusion",
]
STRATEGIES = {
    "single": ([1], {"exchange": 0, "facts": {"strategy": "single", "engine": "none"}}),
    "allreduce": ([1, 2, 4, 8], {}),
    "central": ([2, 4, 8], {"exchange": 0.06, "facts": {"strategy": "central"}}),
    "ps-async": ([2, 4], {"together": False, "facts": {"strategy": "ps-async", "engine": "tcp"}}),
}


def class_counts(ranks):
    """Ten classes, of which every fifth sample is taken for the next class."""
    matrix = 80 * np.eye(10, dtype=int) + 20 * np.roll(np.eye(10, dtype=int), 1, axis=0)
    return ClassCounts.of_matrix(matrix.tolist(), names=[f"class{ranks}{number}" for number in range(10)])


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A study of four strategies, two repeats each, with learning curves."""
    runs, found = tmp_path_factory.mktemp("plots"), []
    for (strategy, (counts, how)), repeat in itertools.product(STRATEGIES.items(), range(2)):
        for ranks in counts:
            run = RunDirectory.create(runs, JobSpec(name=f"{strategy}-{ranks}-{repeat}"))
            phased = Phased(**{"ranks": ranks, "steps": 90, "seed": repeat, "exchange": 0.005 * (ranks - 1), **how})
            phased.write(run.timings)
            write_curve(run, 1 - 0.8 * np.exp(-np.arange(8) * ranks / 4), 90 * 32 * ranks // 8, 1.2)
            for step in range(10, 90, 10) if strategy == "allreduce" and ranks > 1 else ():
                append_json(run.drift, {"step": step, "drift": 1e-6 * step * ranks})
            write_json(run.status, {"state": "FINISHED", "metrics": {"accuracy": 0.01 * ranks}})
            run.write_class_counts(7, 7, 100 * ranks, class_counts(ranks))
            found.append(load(run))
    return found


@pytest.fixture(scope="module")
def report(loaded):
    return scaling_report(loaded)


@pytest.fixture(scope="module")
def plots(report):
    return {plot.name: plot for plot in draw(report, losses(report.compared))}


def test_all_plots_are_drawn(plots):
    assert list(plots) == NAMES
    for plot in plots.values():
        assert plot.title and len(plot.text) > 100


def texts(plot):
    """All texts that are seen, with their places in pixels."""
    plot.figure.canvas.draw()
    artists = [text for legend in plot.figure.legends for text in legend.get_texts()]
    for axes in plot.figure.axes:
        if axes.axison:
            artists += [axes.xaxis.label, axes.yaxis.label, axes._left_title, *axes.texts]
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                edge = 1e-6 * (high - low)
                artists += [
                    tick.label1 for tick in axis.get_major_ticks() if low - edge <= tick.get_loc() <= high + edge
                ]
    seen = [artist for artist in artists if artist.get_visible() and artist.get_text().strip()]
    # The text itself, not the arrow of an annotation.
    return [(artist.get_text(), Text.get_window_extent(artist)) for artist in seen]


@pytest.mark.parametrize("name", NAMES)
def test_no_text_overlaps_another_or_is_cut_off(plots, name):
    with style.style():
        found = texts(plots[name])
    width, height = plots[name].figure.canvas.get_width_height()
    assert len(found) > 8
    for text, box in found:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, f"{text!r} is cut off"
    for (one, a), (other, b) in itertools.combinations(found, 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or down <= 1, f"{one!r} and {other!r} overlap"


def two_repeats(folder, name, ranks, seconds):
    return load(Phased(ranks=ranks, steps=60, batch=64 // ranks, backward=seconds).write(folder / f"{name}-{ranks}"))


@pytest.fixture(scope="module")
def scattered(tmp_path_factory):
    """Plots of two repeats that differ by a factor: their intervals say almost nothing."""
    folder = tmp_path_factory.mktemp("scattered")
    runs = [
        two_repeats(folder, name, ranks, more * 0.2 / ranks)
        for ranks in (1, 2, 4)
        for name, more in (("a", 1.0), ("b", 4.0 if ranks > 1 else 1.05))
    ]
    report = scaling_report(runs, scaling="strong")
    assert max(row.speedup_high or 0 for row in report.points) > 100
    return {plot.name: plot for plot in draw(report, [])}


def test_wide_intervals_leave_the_axis_readable_and_get_an_arrow(scattered):
    for name, most in (("speedup", 4.0), ("efficiency", 1.0)):
        axes = scattered[name].figure.axes[0]
        low, high = axes.get_ylim()
        assert most < high <= 1.4 * most and low >= 0
        arrows = [line for line in axes.lines if line.get_marker() == "^"]
        assert [float(line.get_ydata()[0]) for line in arrows] == [high] * 2


@pytest.mark.parametrize("fit", ["one-column", "two-columns"])
def test_plots_for_a_paper_have_its_width_and_nothing_is_cut_off(report, fit):
    found = draw(report, losses(report.compared), style.FITS[fit])
    assert [plot.name for plot in found] == NAMES
    for plot in found:
        assert plot.figure.get_figwidth() == {"one-column": 3.35, "two-columns": 7.0}[fit]
        if len(plot.figure.axes) == 1:
            assert plot.title and not plot.figure.axes[0].get_title("left")
        if plot.name != "confusion":
            width, height = plot.figure.canvas.get_width_height()
            with style.style(plot.fit):
                found_texts = texts(plot)
            for text, box in found_texts:
                inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
                assert inside, f"{text!r} of {plot.name} is cut off"


def test_lines_are_told_apart_in_grey(plots):
    drawn = [line for line in plots["speedup"].figure.axes[0].lines if line.get_marker() in style.MARKERS]
    looks = [(line.get_marker(), str(line._unscaled_dash_pattern)) for line in drawn]
    assert len(looks) == 3 and len({marker for marker, _ in looks}) == len({dash for _, dash in looks}) == 3


def test_ideal_throughput_begins_at_the_baseline(plots, report):
    single = next(row for row in report.points if row.strategy == "single").throughput
    assert has_line(plots["throughput"], [1, 8], [single, 8 * single])


def test_plots_against_ranks_have_the_same_range(plots):
    assert len({plots[name].figure.axes[0].get_xlim() for name in ("speedup", "efficiency", "throughput")}) == 1


def test_bars_are_in_the_order_of_ranks(scattered):
    labels = [label.get_text() for label in scattered["phases"].figure.axes[0].get_yticklabels()]
    assert [label.split(", ")[-1] for label in labels] == ["1 rank", "2 ranks", "4 ranks"]


def lines_of(plot, panel=0):
    return [
        (np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float))
        for line in plot.figure.axes[panel].lines
    ]


def has_line(plot, x, y, panel=0):
    return any(len(a) == len(x) and np.allclose(a, x) and np.allclose(b, y) for a, b in lines_of(plot, panel))


@pytest.mark.parametrize("quantity", ["speedup", "efficiency", "throughput"])
def test_lines_go_through_the_figures_of_the_table_with_their_intervals(plots, report, quantity):
    for strategy in ("allreduce", "central", "ps-async"):
        rows = [row for row in report.points if row.strategy == strategy]
        assert has_line(plots[quantity], [row.ranks for row in rows], [getattr(row, quantity) for row in rows])
    if quantity != "throughput":
        ends = [
            segment[:, 1]
            for bars in plots[quantity].figure.axes[0].containers
            for collection in bars.lines[2]
            for segment in collection.get_segments()
        ]
        for row in report.points[1:]:
            low, high = getattr(row, f"{quantity}_low"), getattr(row, f"{quantity}_high")
            assert any(np.allclose(end, (low, high)) for end in ends)


def test_every_baseline_has_its_ideal_line(plots, tmp_path):
    assert has_line(plots["speedup"], [1, 8], [1, 8])
    (tmp_path / "t.csv").write_text(
        "strategy,gpus,train_time_h\nasync,1,22\nasync,4,7.5\nasync,8,3.4\nmixed,4,6.8\nmixed,8,3.5\n"
    )
    rows = table_report(tmp_path / "t.csv").points
    with style.style():
        plot = scaling.speedup(series.series_of(rows))
    assert has_line(plot, [1, 8], [1, 8]) and has_line(plot, [4, 8], [1, 2])
    assert {"ideal from 1", "ideal from 4"} <= {text for text, _ in texts(plot)}


def test_a_line_begins_at_the_baseline_of_another_strategy(plots, report):
    first = next(row for row in report.points if row.strategy == "central")
    assert has_line(plots["speedup"], [1, 2], [1, first.speedup])


def test_bars_of_phases_are_as_long_as_the_mean_step(plots, loaded):
    ends = [bar.get_x() + bar.get_width() for bar in plots["phases"].figure.axes[0].patches]
    own = [run for run in loaded if (run.about.strategy, run.about.ranks) == ("allreduce", 8)]
    step = np.mean([run.total[~run.warmup].mean() for run in own])
    assert any(end == pytest.approx(1000 * step, rel=1e-4) for end in ends)


def test_the_cumulative_curve_ends_at_all_steps(plots):
    curves = lines_of(plots["step-times"], 1)
    assert len(curves) == 7
    for x, y in curves:
        assert (np.diff(x) >= 0).all() and (np.diff(y) > 0).all() and y[-1] == 1


def test_the_loss_goes_down_to_what_is_left(plots, report):
    worst = min(losses(report.compared), key=lambda loss: loss.efficiency)
    shown = {round(bar.get_width(), 6) for axes in plots["loss"].figure.axes for bar in axes.patches}
    assert round(worst.efficiency, 6) in shown
    for share in worst.lost / worst.after.sum():
        assert round(float(share), 6) in shown


def test_training_curves_over_time_and_samples(plots, loaded):
    run = next(run for run in loaded if run.about.ranks == 8)
    assert any(x[-1] == pytest.approx(run.samples.sum()) for x, _ in lines_of(plots["training"], 1))
    assert any(x[-1] == pytest.approx(run.slowest.sum(), rel=1e-3) for x, _ in lines_of(plots["training"], 0))
    assert any(np.allclose(y, 0.8 * np.exp(-np.arange(8) * 2)) for _, y in lines_of(plots["training"], 3))


def test_validation_stands_beside_training(plots):
    accuracies = 1 - 0.8 * np.exp(-np.arange(8) * 2)  # of 8 ranks
    assert any(np.allclose(y, 2.4 - 2 * accuracies) for _, y in lines_of(plots["training"], 1) if len(y) == 8)
    shown = [y for _, y in lines_of(plots["metrics"])]
    assert any(np.allclose(y, accuracies**2) for y in shown) and any(np.allclose(y, accuracies**1.5) for y in shown)
    assert "f1 in training of allreduce" in plots["metrics"].text


def test_files_are_the_same_every_time_and_readable(plots, report):
    again = {plot.name: plot for plot in draw(report, losses(report.compared))}
    for name in ("efficiency", "loss", "training"):
        text = style.to_svg(plots[name])
        assert text == style.to_svg(again[name]), name
        assert ET.fromstring(text).tag.endswith("svg")
        assert "<dc:date>" not in text
    document = style.to_pdf(plots["efficiency"])
    assert document == style.to_pdf(again["efficiency"]) and document.startswith(b"%PDF") and b"/Type3" not in document
    image = style.to_png(plots["efficiency"])
    assert image == style.to_png(again["efficiency"]) and image.startswith(b"\x89PNG")


def contrast(one, other):
    """The ratio of WCAG 2.2."""

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
        return np.dot(linear, (0.2126, 0.7152, 0.0722))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_told_from_the_background_and_text_on_them_read():
    assert all(contrast(colour, "#FFFFFF") >= 3 for colour in style.COLOURS)
    assert all(contrast(colour, "#FFFFFF") >= 4.5 for colour in (style.INK, style.GREY))
    inks = {"black": "#000000", "white": "#FFFFFF"}
    for colour, ink in zip(steps._PHASE_COLOURS, steps._PHASE_INK, strict=True):
        assert contrast(colour, inks[ink]) >= 4.5


def test_names_from_outside_are_drawn_as_they_are(tmp_path):
    facts = {"strategy": r"a$b$\frac{<&>", "model": "\x1b[31m{x}_^"}
    runs = [Phased(ranks=ranks, steps=40, facts=facts).write(tmp_path / str(ranks)) for ranks in (1, 2)]
    report = scaling_report(map(load, runs))
    for plot in draw(report, losses(report.compared))[:3]:
        ET.fromstring(style.to_svg(plot))
        assert "frac" in plot.text


def test_a_users_matplotlibrc_changes_nothing(plots, report):
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30, "lines.linewidth": 9}):
        with style.style():
            again = scaling.efficiency(series.series_of(report.points))
            style.settle(again.figure)
        assert style.to_svg(again) == style.to_svg(plots["efficiency"])


def test_the_command_draws_what_there_is(tmp_path):
    (tmp_path / "t.csv").write_text("ranks,epoch_time_s\n1,10\n2,6\n")
    done = CliRunner().invoke(command, [str(tmp_path / "t.csv"), "--plots", str(tmp_path / "out"), "--csv"])
    assert done.exit_code == 0 and done.stdout.startswith("strategy,")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "efficiency.pdf",
        "efficiency.png",
        "efficiency.svg",
        "speedup.pdf",
        "speedup.png",
        "speedup.svg",
    ]
    assert "drawn: speedup.pdf" in done.stderr
    bare = Phased(ranks=2, steps=40).write(tmp_path / "bare")
    CliRunner().invoke(command, [str(bare), "--plots", str(tmp_path / "one")], catch_exceptions=False)
    assert {path.stem for path in (tmp_path / "one").iterdir()} == {"step-times", "phases", "training"}
    refused = CliRunner().invoke(command, [str(bare), "--plots", str(tmp_path / "t.csv" / "x")])
    assert "--plots" in str(refused.exception)
    refused = CliRunner().invoke(command, [str(bare), "--fit", "one-column"])
    assert "--plots DIR" in str(refused.exception)
    refused = CliRunner().invoke(command, ["stragglers", str(bare), "--html", "x.html"])
    assert refused.exit_code == 2 and "No such option" in refused.stderr


def test_matplotlib_is_loaded_for_plots_alone_and_its_lack_is_said(tmp_path):
    (tmp_path / "t.csv").write_text("ranks,epoch_time_s\n1,10\n2,6\n")
    code = (
        "import sys, json; sys.modules['matplotlib'] = None\nfrom hpcsynapse.cli.main import main\n"
        "main(['report', *json.loads(sys.argv[1])])"
    )

    def run(*words):
        argv = [sys.executable, "-c", code, json.dumps([str(tmp_path / "t.csv"), *words])]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    assert run("--csv").returncode == 0
    without = run("--plots", str(tmp_path / "out"))
    assert without.returncode == 2 and "pip install 'hpcsynapse[report]'" in without.stderr
    assert not (tmp_path / "out").exists()


def test_drift_is_what_the_run_recorded(plots, loaded, tmp_path):
    assert "allreduce" in plots["drift"].text
    run = next(one.source for one in loaded if one.about.strategy == "allreduce" and one.about.ranks == 4)
    with run.drift.open("a") as file:
        file.write('{"step": 95, "drift": null}\n{"step": 96, "drift": true}\n{"ste')  # diverged, foreign, torn
    assert drift_of(run).step.tolist() == list(range(10, 90, 10))
    assert drift_of(run).value.tolist() == pytest.approx([4e-6 * step for step in range(10, 90, 10)])
    assert drift_of(tmp_path) is None
