"""The run directory: the only store, and the one place that knows its file names."""

from __future__ import annotations

import json
import shutil
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
from hpcsynapse.files import append_json, read_json, read_json_lines, write_atomic
from hpcsynapse.runs.class_counts import ClassCounts
from hpcsynapse.runs.states import RunState
from hpcsynapse.spec.job import JobSpec

# Of the folder of a run or study, by `site.share`: descriptions and job files may hold what nobody else should read.
MODES = {"private": 0o700, "group": 0o750, "all": 0o755}

_SUBMISSION: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("scheduler", "job_id", "script", "error", "unknown", "user", "host", "version", "commit"), str),
    "earlier_job_ids": list,
    "task": int,
    "time": (int, float),
}


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
    def starts(self) -> Path:
        """When and where each start of the ranks began, how it ended and what followed, one JSON object a line."""
        return self.path / "starts.jsonl"

    @property
    def exit(self) -> Path:
        """Exit code and end time, written by the job script."""
        return self.path / "exit.json"

    @property
    def unlisted(self) -> Path:
        """When a look at the queue first missed the run's job, for queues that record ends late."""
        return self.path / ".unlisted.json"

    @property
    def placement(self) -> Path:
        """Evidence of every rank, gathered before the first step."""
        return self.path / "placement.json"

    @property
    def timings(self) -> Path:
        """Step records."""
        return self.path / "timings"

    @property
    def telemetry(self) -> Path:
        """What the sampler of every node recorded."""
        return self.path / "telemetry"

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
    def profiles(self) -> Path:
        """Traces of chosen steps by torch.profiler."""
        return self.path / "profiles"

    @property
    def metrics(self) -> Path:
        """Learning curve: validation results by step and time, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def drift(self) -> Path:
        """What ranks had drifted apart by before each broadcast, one JSON object a line."""
        return self.path / "drift.jsonl"

    @property
    def class_counts(self) -> Path:
        """How often the newest validation took samples of one class for another."""
        return self.path / "class_counts.json"

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

    @property
    def owner(self) -> Path:
        """Which job the run belongs to, written by the first job script that comes."""
        return self.path / ".owner"

    def signal_notice(self, attempt: str) -> Path:
        """Name of a signal that the job script took for the ranks of one start of the job."""
        return self.path / f".signal.{attempt}"

    def owner_id(self) -> str | None:
        """Return the job that has claimed the run, or None before any has."""
        try:
            return self.owner.read_text(errors="replace").strip()[:300] or None
        except OSError:
            return None

    def job_script(self, file_name: str) -> Path:
        """The rendered job file."""
        return self.path / file_name

    def rank_log(self, rank: int) -> Path:
        """Output of one rank."""
        return self.logs / f"rank-{rank:05d}.log"

    @property
    def job_log(self) -> Path:
        """Output of the job script."""
        return self.logs / "job.log"

    def server_log(self, index: int) -> Path:
        """Output of one parameter server."""
        return self.logs / f"ps-{index:05d}.log"

    def server_state(self, index: int) -> Path:
        """What a parameter server takes up when it is started again."""
        return self.checkpoints / f"server-{index:05d}.pt"

    def servers_over(self, attempt: str) -> Path:
        """Is there once a parameter server has ended because all workers of one start of the job were done."""
        return self.path / f".servers-over.{attempt}"

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

        run = cls(runs / spec.name)
        draft = runs / f".new-{spec.name}-{uuid.uuid4().hex[:8]}"
        try:
            runs.mkdir(parents=True, exist_ok=True)
            if run.path.exists():
                raise SpecError(f"run {spec.name!r} exists already in {runs}; choose another --name")
            draft.mkdir(mode=0o700)
            for folder in ("timings", "checkpoints", "logs"):
                (draft / folder).mkdir()
            for name, text in {"run.toml": spec.to_toml(), **(files or {})}.items():
                (draft / name).touch(0o600 if spec.launch.has_secrets else 0o666)
                (draft / name).write_text(text, encoding="utf-8")
            cls(draft).append_history(RunState.CREATED)
            draft.chmod(MODES[spec.site.share])
            draft.rename(run.path)  # fails when somebody took the name meanwhile
        except BaseException as error:
            shutil.rmtree(draft, ignore_errors=True)
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
        except (OSError, ValueError, RecursionError) as error:
            raise SpecError(f"{self.run_toml}: {fields.why_unreadable(error)}") from None
        table.pop("format", None)
        return JobSpec.from_dict(table)

    def write_spec(self, spec: JobSpec) -> None:
        """Replace the run's description."""
        write_atomic(self.run_toml, spec.to_toml(), private=spec.launch.has_secrets)

    def append_history(self, state: str, reason: str = "", **more: object) -> None:
        """Append one state as a whole line."""
        record = {"time": time.time(), "state": state, **({"reason": reason} if reason else {}), **more}
        append_json(self.history, record)

    def read_submission(self) -> dict[str, Any]:
        """Return what is known of the run's way into the queue; entries that are not of their kind are left out."""
        told = read_json(self.submission) or {}
        return {key: value for key, value in told.items() if isinstance(value, _SUBMISSION.get(key, object))}

    def read_history(self) -> list[dict[str, Any]]:
        """Return the states so far; a torn last line is dropped."""
        return [record for record in read_json_lines(self.history) if "state" in record]

    def append_metrics(self, step: int, epoch: int, samples: int, values: Mapping[str, float]) -> None:
        """Add a point to the learning curve: results after `samples` of all ranks."""
        append_json(self.metrics, {"time": time.time(), "step": step, "epoch": epoch, "samples": samples, **values})

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the learning curve so far; a torn last line is dropped."""
        return [record for record in read_json_lines(self.metrics) if "samples" in record]

    def write_class_counts(self, step: int, epoch: int, samples: int, counts: ClassCounts) -> None:
        """Replace the counts by class with those of a validation after `samples` of all ranks."""
        told = {"time": time.time(), "step": step, "epoch": epoch, "samples": samples, **counts.to_dict()}
        write_atomic(self.class_counts, json.dumps(told) + "\n")

    def read_class_counts(self) -> ClassCounts | None:
        """Return the counts of the newest validation, or None where there are none that can be read."""
        table = read_json(self.class_counts)
        try:
            return None if table is None else ClassCounts.from_dict(table)
        except ValueError:
            return None

    def tell_start(self) -> None:
        """Write a line into the log of the job script between what was printed before and the start that follows."""
        with self.job_log.open("a", encoding="utf-8") as log:
            if log.tell():
                log.write(f"--- queued again, {time.strftime('%Y-%m-%d %H:%M:%S')}\n")

    def request_stop(self, reason: str) -> None:
        """Ask the run to finish its step, save and end."""
        write_atomic(self.stop, reason + "\n")
