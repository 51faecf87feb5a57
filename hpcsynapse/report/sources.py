"""What the names given to a report stand for: runs, studies, folders of step records, or a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hpcsynapse.errors import SpecError
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.study.folder import StudyDirectory, has_finished

Source = RunDirectory | Path


def table_of(names: Sequence[str]) -> Path | None:
    """Return the table that is named, or None for runs; raises SpecError for a table among others."""
    tables = [name for name in names if name.endswith(".csv") and not Path(name).is_dir()]
    if not tables:
        return None
    if len(names) > 1:
        raise SpecError(f"a table is reported alone, not together with {next(n for n in names if n != tables[0])!r}")
    return Path(tables[0])


def sources_of(names: Sequence[str], runs: Path, warn: Callable[[str], None]) -> tuple[list[Source], str]:
    """Return runs and folders of records, each once, and the kind of scaling where studies say it, else auto.

    `warn` is told which runs of a study are left out. Raises RunNotFoundError for a name of nothing.
    """
    from hpcsynapse.report.loading import find_records

    found: dict[Path, Source] = {}
    kinds = set()
    for name in names:
        study = StudyDirectory.at(runs, name)
        chosen, kind = ([find_records(runs, name)], "auto") if study is None else _of_study(study, warn)
        kinds.add(kind)
        found.update({one.path if isinstance(one, RunDirectory) else one: one for one in chosen})
    return list(found.values()), kinds.pop() if len(kinds) == 1 else "auto"


def _of_study(study: StudyDirectory, warn: Callable[[str], None]) -> tuple[list[Source], str]:
    """Return the runs of a study that have finished and its kind of scaling."""
    lists, base = study.load()
    made = study.runs()
    finished: list[Source] = [run for run in made if has_finished(run)]
    if left_out := [run.name for run in made if run not in finished]:
        warn(f"left out, as they have not finished: {', '.join(left_out)}")
    if not finished:
        raise SpecError(f"no run of study {study.name} has finished yet")
    # A program of one's own decides what a batch is, unless its command takes that of the study.
    return finished, "auto" if base.command and not lists.batch else lists.scaling
