"""The folder of a study, beside the run directories of the same place: what is to be run, and a run for every point.

`runs/NAME/study.toml` holds lists and description; `hpcsynapse study that/study.toml` repeats the study.
`runs/NAME/points/RUN/` is an ordinary run directory each: every command takes its path, or `NAME/RUN`.
`runs/NAME/failed/RUN.1/` is what a resumed study has made again.
`runs/NAME/jobs/array-1.sh`, `packed-1.sh` are job files for several runs, with a log beside each.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsynapse import fields
from hpcsynapse.errors import RunNotFoundError, SpecError
from hpcsynapse.files import read_json, write_atomic
from hpcsynapse.runs.directory import MODES, RunDirectory
from hpcsynapse.runs.states import RunState
from hpcsynapse.spec import settings
from hpcsynapse.spec.job import FORMAT, JobSpec
from hpcsynapse.study import vary
from hpcsynapse.study.lists import StudySpec
from hpcsynapse.study.plan import Point, expand

TABLE = "study"


def load_lists(path: Path | None, typed: Mapping[str, Any] | None = None) -> StudySpec:
    """Return the lists of a study: the table [study] of a description in TOML, and over it those of the command line.

    Raises SpecError naming what is wrong.
    """
    table = settings.read_description(path).get(TABLE, {}) if path else {}
    if not isinstance(table, dict):
        raise SpecError(f"{path}: [study] must be a table of settings, not {table!r}")
    if isinstance(own := table.get("vary"), dict):  # merged by setting, as --set is
        table = {**table, "vary": {**dict(vary.flat(own)), **(typed or {}).get("vary", {})}}
        typed = {name: value for name, value in (typed or {}).items() if name != "vary"}
    return fields.build(StudySpec, {**table, **(typed or {})}, TABLE)


@dataclass(frozen=True, slots=True)
class StudyDirectory:
    """One study's files on the shared file system."""

    path: Path

    @property
    def name(self) -> str:
        """The study's name."""
        return self.path.name

    @property
    def study_toml(self) -> Path:
        """The resolved lists and the description of all runs."""
        return self.path / "study.toml"

    @property
    def runs_path(self) -> Path:
        """The folder of the study's runs."""
        return self.path / "points"

    @property
    def failed(self) -> Path:
        """The folder of runs that were made again."""
        return self.path / "failed"

    @property
    def jobs(self) -> Path:
        """The folder of job files for several runs."""
        return self.path / "jobs"

    def new_job_file(self, kind: str) -> Path:
        """Return the path of a job file for several runs that is not there yet."""
        self.jobs.mkdir(exist_ok=True)
        number = 1
        while (self.jobs / f"{kind}-{number}.sh").exists():
            number += 1
        return self.jobs / f"{kind}-{number}.sh"

    @classmethod
    def named(cls, runs: Path, base: JobSpec) -> StudyDirectory:
        """Return the folder that a new study would have: the description's name, numbered when it is taken."""
        return cls(runs / _free_name(runs, base.name or f"study-{time.strftime('%Y%m%d-%H%M%S')}"))

    @classmethod
    def create(cls, runs: Path, study: StudySpec, base: JobSpec) -> StudyDirectory:
        """Make the folder of a new study, named as `named` does.

        It appears whole or not at all. Raises SpecError when the folder cannot be written.
        """
        import tomli_w

        found = cls.named(runs, base)
        draft = runs / f".new-{found.name}-{uuid.uuid4().hex[:8]}"
        table = {"format": FORMAT, **base.to_dict(), "name": found.name, TABLE: fields.plain(study)}
        try:
            runs.mkdir(parents=True, exist_ok=True)
            draft.mkdir(mode=0o700)
            cls(draft).runs_path.mkdir()
            write_atomic(cls(draft).study_toml, tomli_w.dumps(table), private=base.launch.has_secrets)
            draft.chmod(MODES[base.site.share])
            draft.rename(found.path)
        except BaseException as error:
            shutil.rmtree(draft, ignore_errors=True)
            if isinstance(error, OSError):
                raise SpecError(f"cannot make a study in {runs}: {error.strerror or error}") from None
            raise
        return found

    @classmethod
    def find(cls, runs: Path, name: str) -> StudyDirectory:
        """Return the study of that name, or at that path; raises RunNotFoundError with the nearest name."""
        if found := cls.at(runs, name):
            return found
        hint = fields.nearest(name, [study.name for study in cls.all(runs)])
        raise RunNotFoundError(f"no study {name!r} in {runs}{hint}")

    @classmethod
    def at(cls, runs: Path, name: str) -> StudyDirectory | None:
        """Return the study of that name, or at that path (its folder or its study.toml), or None."""
        for path in (runs / name, Path(name), Path(name).parent if Path(name).name == "study.toml" else None):
            with suppress(OSError):  # a name that no file can have
                if path and (path / "study.toml").is_file() and (path / "points").is_dir():
                    return cls(path.resolve())
        return None

    @classmethod
    def all(cls, runs: Path) -> Iterator[StudyDirectory]:
        """Return every study of a folder, by name."""
        with suppress(OSError):
            for path in sorted(runs.iterdir()):
                if not path.name.startswith(".") and (found := cls.at(path.parent, path.name)):
                    yield found

    def load(self) -> tuple[StudySpec, JobSpec]:
        """Return what the study was made from; raises SpecError when study.toml is damaged."""
        return load_lists(self.study_toml), settings.load(self.study_toml, beside=(TABLE,))

    def plan(self) -> list[Point]:
        """Return all runs that belong to the study, made or not."""
        return expand(*self.load())

    def runs(self) -> list[RunDirectory]:
        """Return the runs that have been made, in the order of the study."""
        made = {run.name: run for run in RunDirectory.all(self.runs_path)}
        with suppress(SpecError):  # a study.toml that was edited or is of another release
            order = {point.name: number for number, point in enumerate(self.plan())}
            return sorted(made.values(), key=lambda run: order.get(run.name, len(order)))
        return list(made.values())

    @property
    def size(self) -> int:
        """How many runs belong to the study, or how many have been made where study.toml cannot be read."""
        with suppress(SpecError):
            return len(self.plan())
        return len(self.runs())

    def set_aside(self, run: RunDirectory) -> None:
        """Move a run out of the points, to make it again; it is kept under a number in `failed`."""
        self.failed.mkdir(exist_ok=True)
        number = 1
        while (self.failed / f"{run.name}.{number}").exists():
            number += 1
        run.path.rename(self.failed / f"{run.name}.{number}")


def find_runs(runs: Path, names: Iterable[str]) -> list[RunDirectory]:
    """Return the runs of these names or paths; a study stands for all of its runs, each run is there once.

    Raises RunNotFoundError with the nearest name.
    """
    found: dict[Path, RunDirectory] = {}
    for name in names:
        study = StudyDirectory.at(runs, name)
        chosen = [find_run(runs, name)] if study is None else study.runs()
        found.update({run.path: run for run in chosen})
    return list(found.values())


def find_run(runs: Path, name: str) -> RunDirectory:
    """Return one run: of that name, at that path, or the run `STUDY/RUN` of a study.

    Raises RunNotFoundError with the nearest name, or with the studies that have a run of that name.
    """
    study, _, point = name.rpartition("/")
    if study and (place := StudyDirectory.at(runs, study)):
        name = str(place.runs_path / point)
    try:
        return RunDirectory.find(runs, name)
    except RunNotFoundError as error:
        studies = list(StudyDirectory.all(runs))
        of = [
            f"{one.name}/{name}" for one in studies if "/" not in name and (one.runs_path / name / "run.toml").is_file()
        ]
        if of:
            raise RunNotFoundError(f"{name} is a run of a study: write {' or '.join(of)}") from None
        hint = fields.nearest(name, [one.name for one in studies]) if "did you mean" not in str(error) else ""
        raise RunNotFoundError(f"{error}{hint}") from None


def name_of(run: RunDirectory) -> str:
    """Return the name by which a command finds a run in its folder: `STUDY/RUN` for one of a study."""
    points = run.path.parent
    return f"{points.parent.name}/{run.name}" if points.name == "points" else run.name


def all_runs(runs: Path) -> list[RunDirectory]:
    """Return every run of a folder and of its studies, oldest first."""
    found = [*RunDirectory.all(runs), *(run for study in StudyDirectory.all(runs) for run in study.runs())]
    return sorted(found, key=lambda run: run.run_toml.stat().st_mtime)


def has_finished(run: RunDirectory) -> bool:
    """Tell from a run's files alone whether it has come to its end, so that what it measured is whole."""
    ended, status = read_json(run.exit) or {}, read_json(run.status) or {}
    return ended.get("exit_code") == 0 and not ended.get("signal") and status.get("state") != RunState.STOPPED


def _free_name(runs: Path, wanted: str) -> str:
    name, number = wanted, 1
    while (runs / name).exists():
        number += 1
        name = f"{wanted[:56]}-{number}"
    return name
