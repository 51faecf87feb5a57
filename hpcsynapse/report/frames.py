"""Reports as pandas DataFrames, for notebooks: the public calls of hpcsynapse.report.

Names are those of the command line: runs, studies (all of their runs that have finished), folders of record files, or
one table. `runs` is the folder of all runs: by default HPCSYNAPSE_RUNS, else ./runs. What the command line says as a
warning is a Python warning here.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcsynapse.errors import SpecError
from hpcsynapse.report import convergence, regression
from hpcsynapse.report.entries import entries_of
from hpcsynapse.report.from_table import table_report
from hpcsynapse.report.loading import each_rank, find_records
from hpcsynapse.report.loading import load as load_run
from hpcsynapse.report.points import ScalingPoint
from hpcsynapse.report.scaling import scaling_report
from hpcsynapse.report.sources import runs_folder, sources_of, table_of
from hpcsynapse.rundir import RunDirectory
from hpcsynapse.timing import FIELDS, WARMUP

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
    """Return every validation of some runs: samples of all ranks and training time until then, and the accuracy.

    Raises RecordError for a run without any.
    """
    rows = []
    for source in sources_of(names, runs_folder(runs), _warn)[0]:
        if not isinstance(source, RunDirectory):
            raise SpecError(f"{source} is a folder of step records without a learning curve; give the run")
        rows += convergence.curve(source, load_run(source).about)
    return _frame(convergence.CurvePoint, rows)


def compare(
    reference: str, *candidates: str, tolerance: float = regression.TOLERANCE, runs: Folder = None
) -> DataFrame:  # fmt: skip
    """Return what `hpcsynapse compare` tells: one row per point, with the ratio of times, its interval and a verdict.

    Raises SpecError where the two sides have nothing in common.
    """
    folder = runs_folder(runs)
    before, after = (entries_of(side, folder, _warn) for side in ((reference,), candidates))
    return _frame(regression.Change, regression.changes(before, after, tolerance))


def _frame(kind: type, rows: Iterable[Any]) -> DataFrame:
    """Return rows as a DataFrame with a column for every field; numbers stay numbers where some are not known."""
    names = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    frame = _pandas().DataFrame([dataclasses.asdict(row) for row in rows], columns=list(names))
    return frame.astype({name: float for name, annotation in names.items() if "float" in annotation})


def _pandas() -> Any:
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise SpecError(f"DataFrames need pandas ({error}); pip install 'hpcsynapse[report]'") from None
    return pandas


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)
