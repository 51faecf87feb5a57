"""Predictions against what was measured: on the Slurm lab with slow links, and on published curves.

    python benchmarks/prediction.py [--part lab] [--part published] [--repeats 1] [--batch 4]

Lab (as root): a study of `allreduce` on engine ddp at 1, 2 and 4 nodes of one rank each, whose links are limited by
token buckets (no latency added). The model is fitted to the points of 1 and 2 nodes alone, and what it says of 4 nodes
is compared with what they measured; so is the assumption that a step takes on 4 nodes as long as on
2. All nodes share this machine's cores, so that 4 ranks may compute more slowly than 2, which no model of a network
knows: the batch is small, to keep computation short, and what computation took at 2 and 4 nodes stands in the results.

Published: every curve of three points or more that is shipped (hpcsynapse/report/published.toml): each point as the
others predict it, and the largest as all smaller ones do. Writes benchmarks/results/prediction.json.
`published_predictions.py` beside it cuts these curves off at small numbers of ranks, for docs/prediction.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hpcsynapse.errors import SpecError
from hpcsynapse.predict.curve import Curve
from hpcsynapse.predict.forecast import Forecast
from hpcsynapse.predict.measured_curves import of_report, of_table
from hpcsynapse.predict.rows import rows
from hpcsynapse.report.loading import load
from hpcsynapse.report.published import names, published
from hpcsynapse.report.scaling import scaling_report
from hpcsynapse.study.folder import StudyDirectory

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "prediction.json"
LAB = HERE.parent / "scripts" / "slurm-lab"
NAME, RATES = "pred", ("1gbit", "100mbit")
STEPS = {"1gbit": 120, "100mbit": 40}


def lab(command: str, *options: str) -> str:
    done = subprocess.run([LAB / command, "--lab", NAME, *options], check=True, capture_output=True, text=True)
    return done.stdout


def measure(rate: str, repeats: int, batch: int, folder: Path) -> Curve:
    """Run the study on a lab with links of that rate and return its points."""
    lab("up", "--nodes", "4", "--gpus", "0", "--cpus", "2", "--rate", rate)
    try:
        configuration = Path(os.environ.get("TMPDIR", "/tmp")) / f"slurm-lab-{NAME}" / "slurm.conf"
        words = [
            "study",
            "--name",
            rate,
            "--runs",
            str(folder),
            "--scheduler",
            "slurm",
            "--nodes",
            "4,2,1",
            "--ranks-per-node",
            "1",
            "--threads",
            "1",
            "--strategy",
            "allreduce",
            "--engine",
            "ddp",
            "--model",
            "simple-cnn",
            "--batch",
            str(batch),
            "--steps",
            str(STEPS[rate]),
            "--validate-every",
            "0",
            "--checkpoint-every",
            "0",
            "--repeats",
            str(repeats),
            "--time",
            "5m",
            "--follow",
        ]
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
        done = subprocess.run(
            [sys.executable, "-m", "hpcsynapse", *words],
            timeout=900,
            capture_output=True,
            text=True,
            env={**environ, "SLURM_CONF": str(configuration)},
        )
        if done.returncode:
            sys.exit(f"the study at {rate} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    finally:
        lab("down")
    runs = StudyDirectory.find(folder, rate).runs()
    loaded = [load(run) for run in runs]
    (curve,) = of_report(scaling_report(loaded, "weak").compared, dict(zip(map(id, loaded), runs, strict=True)), None)
    return curve


def held_out(curve: Curve, most: int) -> dict[str, Any]:
    """Return what the points of `most` ranks or fewer predict for the largest number, beside what was measured."""
    target = max(curve.observations, key=lambda point: point.ranks)
    start = dataclasses.replace(curve, observations=tuple(p for p in curve.observations if p.ranks <= most))
    row = next(row for row in rows(Forecast(start), [target.ranks]) if row.ranks == target.ranks)
    time = {"measured": target.time, "predicted": row.step_time_s} if curve.seconds else {}
    measured = Forecast(curve).speedup(*_of(target))[0, 0]
    return {
        "from_ranks": [point.ranks for point in start.observations],
        "ranks": target.ranks,
        "step_time_s": time,
        "speedup": {
            "measured": float(measured),
            "predicted": row.speedup,
            "interval": [row.speedup_low, row.speedup_high],
        },
        "error": float(measured / row.speedup - 1),
        "inside": bool(row.speedup_low <= measured <= row.speedup_high),
        "amdahl_error": None if row.amdahl_speedup is None else float(measured / row.amdahl_speedup - 1),
    }


def _of(point):
    import numpy as np

    return np.array([point.ranks], float), np.array([[point.time]])


def of_lab(rate: str, repeats: int, batch: int) -> dict[str, Any]:
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        curve = measure(rate, repeats, batch, Path(place))
    model = Forecast(curve).model
    points = [
        {
            "ranks": point.ranks,
            "step_time_s": point.time,
            "compute_s": [one.level for one in point.samples],
            "communicate_s": [one.communicate for one in point.samples],
        }
        for point in curve.observations
    ]
    step = {point.ranks: point.time for point in curve.observations}
    return {
        "rate": rate,
        "repeats": repeats,
        "batch": batch,
        "steps": STEPS[rate],
        "points": points,
        "load": [load_before, os.getloadavg()[0]],
        **held_out(curve, 2),
        "same_step_error": step[2] / step[4] - 1,
        "all_points": {
            "alpha_s": float(model.alpha[0, 1]),
            "bytes_per_s": (curve.observations[-1].samples[0].gradient_bytes or 0) / model.beta[0, 1]
            if model.beta[0, 1]
            else None,
        },
    }


def of_published() -> list[dict[str, Any]]:
    """Return errors of every published curve of three points or more."""
    found = []
    for name in names():
        groups: dict[tuple[Any, ...], list[Any]] = {}
        for point in published(name)[1]:
            groups.setdefault((point.source, point.model, point.batch_per_rank), []).append(point)
        for (source, model, batch), points in groups.items():
            try:
                (curve,) = of_table(points, None)
            except SpecError:
                continue
            if len(points) < 3:
                continue
            errors = [Forecast(curve).left_out(point) for point in curve.observations]
            ranks = sorted(point.ranks for point in points)
            found.append(
                {
                    "name": name,
                    "source": source,
                    "model": model,
                    "batch": batch,
                    "collective": curve.collective,
                    "left_out": [
                        {"ranks": point.ranks, "error": own, "amdahl_error": amdahl, "usl_error": usl}
                        for point, (own, amdahl, usl) in zip(curve.observations, errors, strict=True)
                    ],
                    "largest": held_out(curve, ranks[-2]),
                }
            )
    return found


def show(document: dict[str, Any]) -> None:
    for row in document.get("lab", []):
        times = row["step_time_s"]
        print(
            f"{row['rate']:8} 1, 2 -> 4 nodes: step {times['measured'] * 1e3:.1f} ms measured, "
            f"{times['predicted'] * 1e3:.1f} ms predicted, error {row['error']:+.1%} "
            f"(same step {row['same_step_error']:+.1%}), "
            f"{'inside' if row['inside'] else 'outside'} the interval"
        )
        for point in row["points"]:
            print(
                f"    {point['ranks']} ranks: step {point['step_time_s'] * 1e3:.1f} ms, computation "
                f"{', '.join(f'{1e3 * level:.1f}' for level in point['compute_s'])} ms"
            )
    for row in document.get("published", []):
        each = ", ".join(f"{one['ranks']}: {_percent(one['error'])}" for one in row["left_out"])
        last = row["largest"]
        print(
            f"{row['source']}, {row['model']}, batch {row['batch']}: left out {each}; largest from all smaller: "
            f"{_percent(last['error'])} (Amdahl {_percent(last['amdahl_error'])})"
        )


def _percent(error: float | None) -> str:
    return "-" if error is None else f"{error:+.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=("lab", "published"))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    parts = options.part or ("lab", "published")
    document = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    document |= {"python": platform.python_version(), "cpus": os.cpu_count()}
    if "published" in parts:
        document["published"] = of_published()
    if "lab" in parts:
        document["lab"] = [of_lab(rate, options.repeats, options.batch) for rate in RATES]
    show(document)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
