"""The run directory: the only store, and the one place that knows its file names."""

from __future__ import annotations

import json
import math
import os
import time
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsynapse import fields
from hpcsynapse.errors import RunNotFoundError, SpecError
from hpcsynapse.spec import JobSpec

STATES = (
    "CREATED", "QUEUED", "SETUP", "TRAINING", "EVALUATING", "SAVING", "FINISHED", "STOPPED", "FAILED", "LOST",
)  # fmt: skip
FINAL_STATES = frozenset({"FINISHED", "STOPPED", "FAILED", "LOST"})
FORMAT = 1


def write_atomic(path: Path, text: str) -> None:
    """Replace a file in one step: readers see the old text or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file in one step."""
    write_atomic(path, json.dumps(_finite(value), indent=1) + "\n")


def _finite(value: Any) -> Any:
    """Return a value with null for NaN and infinity, which JSON does not have (a loss that diverged)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None where the file is missing or not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _append(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line of JSON by a single write, so that lines of several writers do not mix."""
    line = (json.dumps(_finite(record)) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """One run's files on the shared file system."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def run_toml(self) -> Path:
        """The resolved description."""
        return self.path / "run.toml"

    @property
    def submission(self) -> Path:
        """Queue, job id, command, removed environment."""
        return self.path / "submission.json"

    @property
    def status(self) -> Path:
        """Newest state of the training, replaced by rank 0 or the launcher."""
        return self.path / "status.json"

    @property
    def history(self) -> Path:
        """Append-only states, one JSON object a line."""
        return self.path / "history.jsonl"

    @property
    def exit(self) -> Path:
        """Exit code and end time, written by the job script."""
        return self.path / "exit.json"

    @property
    def placement(self) -> Path:
        """Evidence of every rank, gathered before the first step."""
        return self.path / "placement.json"

    @property
    def timings(self) -> Path:
        """Step records."""
        return self.path / "timings"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of the built-in trainer."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """Log of the job script and one of every rank."""
        return self.path / "logs"

    @property
    def tensorboard(self) -> Path:
        """Scalars for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def metrics(self) -> Path:
        """Learning curve: validation results by step and time, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def dual(self) -> Path:
        """Strategy admm: what each half tells of itself, and the files that they exchange."""
        return self.path / "dual"

    @property
    def secret(self) -> Path:
        """Key with which parameter servers and workers know one another; readable by the owner alone."""
        return self.path / ".secret"

    @property
    def stop(self) -> Path:
        """A file whose existence asks the run to finish its step, save and end."""
        return self.path / "stop"

    def job_script(self, file_name: str) -> Path:
        """The rendered job file."""
        return self.path / file_name

    def rank_log(self, rank: int) -> Path:
        """Output of one rank."""
        return self.logs / f"rank-{rank:05d}.log"

    def server_log(self, index: int) -> Path:
        """Output of one parameter server."""
        return self.logs / f"ps-{index:05d}.log"

    def server_state(self, index: int) -> Path:
        """What a parameter server takes up when it is started again."""
        return self.checkpoints / f"server-{index:05d}.pt"

    def server_counts(self, index: int) -> Path:
        """Gradients applied and dropped by a parameter server, by worker."""
        return self.path / f"server-{index:05d}.json"

    def evidence(self, attempt: str) -> Path:
        """Folder into which every rank of one start of the job writes where it runs."""
        return self.path / "evidence" / attempt

    def failure(self, attempt: str, rank: int) -> Path:
        """What ended one rank of one start of the job, when it was not success."""
        return self.path / "evidence" / attempt / f"failure-{rank:05d}.json"

    @classmethod
    def create(cls, runs: Path, spec: JobSpec, files: Mapping[str, str] | None = None) -> RunDirectory:
        """Make the directory of a new run with its description and further files; nothing is left when that fails.

        Raises SpecError when the name is taken or the folder cannot be written.
        """
        if spec.name is None:
            raise SpecError("a run needs a name before its directory is made")
        import tomli_w

        run = cls(runs / spec.name)
        draft = runs / f".new-{spec.name}-{uuid.uuid4().hex[:8]}"
        try:
            runs.mkdir(parents=True, exist_ok=True)
            if run.path.exists():
                raise SpecError(f"run {spec.name!r} exists already in {runs}; choose another --name")
            draft.mkdir()
            for folder in ("timings", "checkpoints", "logs"):
                (draft / folder).mkdir()
            (draft / "run.toml").write_text(tomli_w.dumps({"format": FORMAT, **spec.to_dict()}), encoding="utf-8")
            for name, text in (files or {}).items():
                (draft / name).write_text(text, encoding="utf-8")
            cls(draft).append_history("CREATED")
            draft.rename(run.path)  # fails when somebody took the name meanwhile
        except BaseException as error:
            _remove_draft(draft)
            if isinstance(error, OSError):
                raise SpecError(f"cannot make a run directory in {runs}: {error.strerror or error}") from None
            raise
        return run

    @classmethod
    def find(cls, runs: Path, name: str) -> RunDirectory:
        """Return the run of that name, or at that path; raises RunNotFoundError with the nearest name."""
        for path in (runs / name, Path(name)):
            with suppress(OSError):  # a name that no file can have
                if (path / "run.toml").is_file():
                    return cls(path.resolve())
        hint = fields.nearest(name, [run.name for run in cls.all(runs)])
        raise RunNotFoundError(f"no run {name!r} in {runs}{hint}")

    @classmethod
    def all(cls, runs: Path) -> Iterator[RunDirectory]:
        """Return every run of a folder, oldest first."""
        try:
            found = [path for path in runs.iterdir() if not path.name.startswith(".") and (path / "run.toml").is_file()]
        except OSError:
            return
        for path in sorted(found, key=lambda path: (path / "run.toml").stat().st_mtime):
            yield cls(path)

    def load_spec(self) -> JobSpec:
        """Return the run's description; raises SpecError when run.toml is damaged."""
        try:
            table = tomllib.loads(self.run_toml.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SpecError(f"{self.run_toml}: {error}") from None
        table.pop("format", None)
        return JobSpec.from_dict(table)

    def append_history(self, state: str, reason: str = "", **more: object) -> None:
        """Append one state as a whole line."""
        record = {"time": time.time(), "state": state, **({"reason": reason} if reason else {}), **more}
        _append(self.history, record)

    def read_history(self) -> list[dict[str, Any]]:
        """Return the states so far; a torn last line is dropped."""
        return [record for record in _read_lines(self.history) if "state" in record]

    def append_metrics(self, step: int, epoch: int, samples: int, values: Mapping[str, float]) -> None:
        """Add a point to the learning curve: results after `samples` of all ranks."""
        _append(self.metrics, {"time": time.time(), "step": step, "epoch": epoch, "samples": samples, **values})

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the learning curve so far; a torn last line is dropped."""
        return [record for record in _read_lines(self.metrics) if "samples" in record]

    def request_stop(self, reason: str) -> None:
        """Ask the run to finish its step, save and end."""
        write_atomic(self.stop, reason + "\n")


def _remove_draft(draft: Path) -> None:
    import shutil

    shutil.rmtree(draft, ignore_errors=True)
