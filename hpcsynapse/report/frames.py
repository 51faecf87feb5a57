"""Reports as pandas DataFrames, for notebooks: the public calls of hpcsynapse.report.

Names are those of the command line: runs, studies (all of their runs that have finished), folders of record files, or
one table. `runs` is the folder of all runs: by default HPCSYNAPSE_RUNS, else ./runs. What the command line says as a
warning is a Python warning here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcsynapse.errors import RecordError, SpecError
from hpcsynapse.report import regression
from hpcsynapse.report.change import Change
from hpcsynapse.report.convergence import ACCURACY
from hpcsynapse.report.entries import entries_of
from hpcsynapse.report.from_table import table_report
from hpcsynapse.report.learning_curve import curve
from hpcsynapse.report.loading import each_rank, find_records
from hpcsynapse.report.loading import load as load_run
from hpcsynapse.report.points import ScalingPoint
from hpcsynapse.report.scaling import scaling_report
from hpcsynapse.report.sources import sources_of, table_of
from hpcsynapse.report.varied import spread
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.find import runs_folder
from hpcsynapse.table import columns
from hpcsynapse.timing import FIELDS, WARMUP
from hpcsynapse.writers import value_of

if TYPE_CHECKING:
    from pandas import DataFrame

Folder = str | Path | None


def load(*names: str, runs: Folder = None, scaling: str = "auto", baseline: str | None = None) -> DataFrame:
    """Return the scaling report: one row per point, the columns of `report --csv`; unknown numbers are NaN.

    Raises SpecError and RecordError as the command line does.
    """
    table = table_of(names)
    if table is not None:
        return _frame(ScalingPoint, table_report(table, scaling, baseline).points)
    sources, meant = sources_of(names, runs_folder(runs), _warn)
    report = scaling_report(map(load_run, sources), meant if scaling == "auto" else scaling, baseline)
    for text in report.warnings:
        _warn(text)
    return _frame(ScalingPoint, report.points)


def steps(run: str, runs: Folder = None) -> DataFrame:
    """Return the step records of a run: one row per rank and step; of several starts of the job the newest counts.

    Columns are rank, host and the fields of a record: durations in seconds, `start` Unix time, `warmup` whether it was
    one of the first steps after a start. Raises RunNotFoundError, and RecordError where there are no records.
    """
    pandas = _pandas()
    found = []
    for header, records in each_rank(find_records(runs_folder(runs), run)):
        columns: dict[str, Any] = {"rank": header["rank"], "host": str(header.get("host", ""))}
        for name, kind, _ in FIELDS:
            wide = np.float64 if kind.startswith("<f") else np.int64
            columns[name] = records[name].astype(wide)  # a copy: the records are overwritten by the next rank's
        columns["flags"] = (records["flags"] & WARMUP) != 0
        found.append(pandas.DataFrame(columns).rename(columns={"flags": "warmup"}))
    return pandas.concat(found, ignore_index=True).sort_values(["rank", "step"], ignore_index=True)


def learning_curves(*names: str, runs: Folder = None) -> DataFrame:
    """Return every validation of some runs: samples of all ranks and training time until then, and its metrics.

    Columns are run, strategy, engine, ranks, samples, time_s, then one for every metric, accuracy first. Raises
    RecordError for a run without any.
    """
    rows: list[dict[str, Any]] = []
    for source in sources_of(names, runs_folder(runs), _warn)[0]:
        if not isinstance(source, RunDirectory):
            raise SpecError(f"{source} is a folder of step records without a learning curve; give the run")
        about = load_run(source).about
        points = curve(source, about)
        if not points:
            raise RecordError(f"{source.name}: no validation was recorded; train.validate_every asks for them")
        own = {"run": source.name, "strategy": about.strategy, "engine": about.engine, "ranks": about.ranks}
        rows += [{**one.metrics, **own, "samples": one.samples, "time_s": one.time_s} for one in points]
    frame = _pandas().DataFrame(rows)
    places = ["run", "strategy", "engine", "ranks", "samples", "time_s"]
    metrics = sorted((name for name in frame.columns if name not in places), key=lambda name: name != ACCURACY)
    return frame[places + metrics].astype(dict.fromkeys(["time_s", *metrics], float))


def compare(
    reference: str, *candidates: str, tolerance: float = regression.TOLERANCE, runs: Folder = None
) -> DataFrame:
    """Return what `hpcsynapse compare` tells: one row per point, with the ratio of times, its interval and a verdict.

    Raises SpecError where the two sides have nothing in common.
    """
    folder = runs_folder(runs)
    before, after = (entries_of(side, folder, _warn) for side in ((reference,), candidates))
    return _frame(Change, regression.changes(before, after, tolerance))


def _frame(kind: type, rows: Iterable[Any]) -> DataFrame:
    """Return rows as a DataFrame with their columns; numbers stay numbers where some are not known."""
    found, known = spread(list(rows), columns(kind))
    frame = _pandas().DataFrame([[value_of(row, name) for name in known] for row in found], columns=list(known))
    return frame.astype({one.name: float for one in known.values() if one.kind is float})


def _pandas() -> Any:
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise SpecError(f"DataFrames need pandas ({error}); pip install 'hpcsynapse[report]'") from None
    return pandas


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)
