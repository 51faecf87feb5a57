"""How fast every strategy learns, in samples and in time: real digits (14x14), a small CNN, 1, 2 and 4 ranks.

    python benchmarks/convergence.py [--epochs 15] [--repeats 3] [--target 0.97] [--runs DIR] [--plot]

Everything goes through `hpcsynapse study` and `hpcsynapse report target`. All runs have the same learning rate,
momentum and global batch (64 samples over all ranks); repeats differ in their seed. `mixed` runs on one and two
(emulated) nodes. `ps-async` and `mixed` divide the rate by 1 + staleness; `ps-async` also runs without that, as the
full rate with momentum is what most people try first. With --runs, what is there is not made again; --plot draws only.
Writes benchmarks/results/convergence.csv, convergence-curves.csv, convergence.json (what it was measured on),
convergence.svg and convergence.png.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).parent / "results"
TABLE, CURVES, PLOT = (RESULTS / name for name in ("convergence.csv", "convergence-curves.csv", "convergence"))
COMMON = ("--scheduler", "local", "--emulate", "--engine", "ddp", "--scaling", "strong", "--batch", "64",
          "--checkpoint-every", "0", "--time", "20m", "--set", "train.data_args.size=14")  # fmt: skip  # a command line
FLAT = "single,allreduce,allreduce-broadcast,central,local-sgd,ps-sync,ps-async"
STUDIES = {
    "flat": ("--strategy", FLAT, "--ranks-per-node", "1,2,4", "--staleness-lr"),
    "mixed": ("--strategy", "mixed", "--nodes", "1,2", "--ranks-per-node", "1,2", "--staleness-lr"),
    "full-rate": ("--strategy", "ps-async", "--ranks-per-node", "2,4"),
}
FULL_RATE = "ps-async, full rate"
# Okabe and Ito's colours, which people with any form of colour blindness tell apart; and marks, for print in grey.
STYLES = {
    "single": ("#000000", "o"),
    "allreduce": ("#0072B2", "o"),
    "allreduce-broadcast": ("#56B4E9", "s"),
    "central": ("#009E73", "^"),
    "local-sgd": ("#E69F00", "D"),
    "ps-sync": ("#CC79A7", "v"),
    "mixed": ("#7A5195", "P"),
    "ps-async": ("#D55E00", "X"),
    FULL_RATE: ("#8C8C8C", "x"),
}


def hpcsynapse(*arguments: str, output: int | None = None) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "hpcsynapse", *arguments]
    return subprocess.run(command, env=environment, check=True, text=True, stdout=output).stdout or ""


def names_of(repeats: int) -> list[tuple[str, int]]:
    """Return the studies, one set for each repeat after the other, so that all meet what else the machine does."""
    return [(name, number) for number in range(1, repeats + 1) for name in STUDIES]


def measure(options: argparse.Namespace, runs: Path) -> None:
    """Make the studies that are not there yet, complete those that are, and write table, curves and conditions."""
    loads = [os.getloadavg()[0]]
    for name, number in names_of(options.repeats):
        if (runs / f"{name}-{number}").exists():
            hpcsynapse("study", "--runs", str(runs), "--resume", f"{name}-{number}")
        else:
            hpcsynapse(
                "study",
                "--runs",
                str(runs),
                "--name",
                f"{name}-{number}",
                *COMMON,
                *STUDIES[name],
                "--epochs",
                str(options.epochs),
                "--seed",
                str(number),
            )
        loads.append(os.getloadavg()[0])
    names = [f"{name}-{number}" for name, number in names_of(options.repeats)]
    words = ("report", "target", str(options.target), *names, "--runs", str(runs))
    table = hpcsynapse(*words, "--csv", output=subprocess.PIPE)
    RESULTS.mkdir(exist_ok=True)
    TABLE.write_text(table)
    hpcsynapse(*words)
    write_curves(runs, options.repeats)
    about = {
        "python": platform.python_version(),
        "torch": version("torch"),
        "cpus": os.cpu_count(),
        "load_before_and_after_each_study": [round(load, 2) for load in loads],
        "target": options.target,
        "epochs": options.epochs,
        "repeats": options.repeats,
    }
    PLOT.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")


def write_curves(runs: Path, repeats: int) -> None:
    """Write every validation of every run."""
    from hpcsynapse.report.convergence import CurvePoint, curve
    from hpcsynapse.report.loading import load
    from hpcsynapse.study.folder import StudyDirectory

    columns = ["study", "repeat", "nodes", *CurvePoint.__dataclass_fields__]
    with CURVES.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for name, number in names_of(repeats):
            for run in StudyDirectory.find(runs, f"{name}-{number}").runs():
                about = load(run).about
                for point in curve(run, about):
                    values = [getattr(point, column) for column in CurvePoint.__dataclass_fields__]
                    short = [round(value, 4) if isinstance(value, float) else value for value in values]
                    writer.writerow([name, number, about.nodes, *short])


def title_of(row: dict[str, str]) -> str:
    """Return the name under which a row of table or curves is drawn."""
    full_rate = row.get("study") == "full-rate" or "staleness_lr=False" in row.get("settings", "")
    return FULL_RATE if full_rate else row["strategy"].partition("+")[0]


def is_drawn(row: dict[str, str]) -> bool:
    """Leave out `mixed` on several ranks of one node, where there is nothing asynchronous to mix."""
    return row["strategy"] != "mixed" or row["ranks"] == "1" or row["nodes"] == "2"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if is_drawn(row)]


def middle_curves(ranks: int) -> dict[str, list[tuple[float, ...]]]:
    """Return samples, time and accuracy of each strategy's validations, medians over the repeats."""
    runs: dict[str, dict[str, list[tuple[float, ...]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows_of(CURVES):
        if int(row["ranks"]) == ranks and row["time_s"]:
            point = tuple(float(row[column]) for column in ("samples", "time_s", "accuracy"))
            runs[title_of(row)][row["repeat"]].append(point)
    return {
        name: [
            tuple(median(values) for values in zip(*points, strict=True))
            for points in zip(*repeats.values(), strict=False)
        ]  # validations that all repeats have
        for name, repeats in runs.items()
    }


def draw(target: float) -> None:
    """Draw learning curves on 4 ranks, and the time that every strategy took to the target."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "convergence"  # the same figures, the same file
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
        }
    )
    figure = plt.figure(figsize=(11, 9), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1))
    left, right = upper.subplots(1, 2, sharey=True)
    draw_curves(left, right, target)
    handles, names = right.get_legend_handles_labels()
    upper.legend(
        handles, names, loc="outside lower center", ncols=len(names), frameon=False, handlelength=1.6, columnspacing=1.4
    )
    draw_times(lower.subplots(), target)
    for suffix, more in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 130})):
        figure.savefig(PLOT.with_suffix(suffix), **more)
        print(f"written to {PLOT.with_suffix(suffix)}")


def draw_curves(left, right, target: float) -> None:
    """Accuracy over samples and over time; the axis is that of the error, logarithmic, or all would lie at the top."""
    curves = middle_curves(4)
    for name in (name for name in STYLES if name in curves):
        color, mark = STYLES[name]
        # Strategies that compute the same lie on one another: each is drawn thinner than the one below it.
        width = {"allreduce": 5.0, "allreduce-broadcast": 3.6, "central": 2.4, "ps-sync": 1.2}.get(name, 1.6)
        for axes, column in ((left, 0), (right, 1)):
            errors = [max(1 - point[2], 1e-3) for point in curves[name]]
            axes.plot(
                [point[column] for point in curves[name]],
                errors,
                color=color,
                marker=mark,
                markersize=4,
                linewidth=width,
                label=name,
                markevery=3,
            )
    for axes, column, label, title in (
        (left, 0, "samples of all ranks", "Accuracy over samples, 4 ranks"),
        (right, 1, "training time [s]", "Accuracy over time, 4 ranks"),
    ):
        # A run that diverges computes with NaN and denormals, which takes long: the others set the scale.
        longest = max(curve[-1][column] for name, curve in curves.items() if name != FULL_RATE)
        axes.set(xlabel=label, title=title, yscale="log", ylim=(1.0, 0.01), xlim=(0, 1.03 * longest))
        ticks = (0.9, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
        axes.set_yticks(ticks, [f"{100 - 100 * tick:g}%" for tick in ticks])
        axes.minorticks_off()
        axes.grid(axis="y", color="#E5E5E5", linewidth=0.8)
        axes.axhline(1 - target, color="#444444", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    right.annotate(
        f"target\n{target:.0%}",
        (1.0, 1 - target),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        color="#444444",
    )
    left.set_ylabel("accuracy on the validation data")


def draw_times(axes, target: float) -> None:
    """One line for each strategy, a dot with its number of ranks at the time to the target."""
    rows = rows_of(TABLE)
    names = [name for name in STYLES if any(title_of(row) == name for row in rows)]
    longest = max(float(row["time_to_target_s"]) for row in rows if row["time_to_target_s"])
    for line, name in enumerate(names):
        axes.axhline(line, color="#E5E5E5", linewidth=0.8, zorder=0)
        mine = [row for row in rows if title_of(row) == name]
        for row in mine:
            if row["time_to_target_s"]:
                # Fewer ranks above, more below: dots of equal times do not hide one another.
                place = (float(row["time_to_target_s"]), line + {"1": -0.22, "4": 0.22}.get(row["ranks"], 0.0))
                axes.plot(*place, "o", color=STYLES[name][0], markersize=12)
                axes.annotate(
                    row["ranks"], place, ha="center", va="center_baseline", color="white", size=8, weight="bold"
                )
        lost = [
            f"{row['ranks']} ranks end at {float(row['final_value']):.0%}"
            for row in mine
            if not row["time_to_target_s"]
        ]
        if lost:
            axes.annotate(f"not reached: {', '.join(lost)}", (1.06 * longest, line), va="center", color="#444444")
    axes.set_yticks(range(len(names)), names)
    axes.set(
        xlim=(0, (1.35 if any(not row["time_to_target_s"] for row in rows) else 1.06) * longest),
        ylim=(len(names) - 0.4, -0.6),
        xlabel="training time to the target [s]",
        title=f"Time to {target:.0%}: the dots are 1, 2 and 4 ranks, medians of the repeats",
    )
    axes.tick_params(axis="y", length=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--target", type=float, default=0.97)
    parser.add_argument("--runs", type=Path, help="folder of the studies, to keep them [a temporary one]")
    parser.add_argument("--plot", action="store_true", help="draw what was measured before")
    options = parser.parse_args()
    if not options.plot:
        with tempfile.TemporaryDirectory(prefix="convergence-") as folder:
            measure(options, (options.runs or Path(folder)).absolute())
    draw(options.target)


if __name__ == "__main__":
    main()
