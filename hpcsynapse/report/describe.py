"""What was run: the description of a recorded run from the headers of its records and its run.toml."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcsynapse.files import read_json
from hpcsynapse.report.varied import Settings, settings_of
from hpcsynapse.runs.directory import RunDirectory

# Strategies whose ranks do not wait for one another: their throughput is counted over wall time.
ASYNCHRONOUS = frozenset({"ps-async", "mixed"})
# Names under which a status file may hold the accuracy on the test data, a fraction.
_SOFTWARE = {"python": "Python", "torch": "torch", "cuda": "CUDA", "nccl": "NCCL"}  # headers of records -> names
_ACCURACY = ("accuracy", "test_accuracy")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDescription:
    """The facts of a run that decide with which others it may be compared."""

    name: str
    strategy: str
    engine: str
    model: str
    data: str
    optimizer: str
    hardware: str
    threads: str
    nodes: int
    ranks: int
    steps_per_epoch: int | None
    finished_whole: bool
    start_up_from: float | None
    begun: float | None
    accuracy: float | None
    tokens_per_sample: int | None = None
    flops_per_sample: int | None = None
    peak_memory: int | None = None
    own_program: bool = False  # of the user: options of the built-in trainer mean nothing to it
    software: Mapping[str, str] = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)

    @property
    def asynchronous(self) -> bool:
        """Whether ranks go ahead without waiting for one another."""
        return self.strategy in ASYNCHRONOUS


def describe(name: str, headers: Iterable[Mapping[str, Any]], run: RunDirectory | None) -> RunDescription:
    """Return the description of a run; what a header says (it was resolved by then) comes before run.toml.

    `headers` are those of all ranks and starts, by time; `run` is None for a bare folder of records.
    """
    known = list(headers)
    newest = known[-1]
    table = read_run_toml(run.run_toml) if run else {}
    command = [str(word) for word in table.get("command", [])]
    # The [train] table of a user's own command is all defaults and says nothing about it.
    train: Mapping[str, Any] = {} if command else table.get("train", {})

    def fact(key: str, otherwise: str = "") -> str:
        return str(newest.get(key) or train.get(key) or otherwise)

    status = (read_json(run.status) if run else None) or {}
    attempt = [header for header in known if header.get("attempt") == newest.get("attempt")]
    # Rank 0 writes the history, so its clock is the one to compare with.
    begun = min(attempt, key=lambda header: (header["rank"], header.get("started", 0.0))).get("started")
    return RunDescription(
        name=name,
        strategy=str(newest.get("exchange") or fact("strategy")),  # with its options: other ones are another strategy
        engine=fact("engine"),
        model=fact("model", _program(command)),
        data=fact("data"),
        optimizer=fact("optimizer"),
        hardware=", ".join(sorted({str(header["device_name"]) for header in attempt if header.get("device_name")})),
        threads=str(newest.get("threads") or _threads(table)),
        nodes=max(_whole(newest, "nodes", 1), len({str(header.get("host")) for header in attempt})),
        ranks=max(_whole(newest, "world_size", 1), len({header["rank"] for header in attempt})),
        steps_per_epoch=_whole(newest, "steps_per_epoch", 0) or None,
        finished_whole=bool(train) and "steps" not in train and status.get("state") == "FINISHED",
        start_up_from=_start_of_job(run, begun or 0.0) if run else None,
        begun=begun,
        accuracy=_accuracy(status),
        tokens_per_sample=_whole(newest, "tokens_per_sample", 0) or None,
        flops_per_sample=_whole(newest, "flops_per_sample", 0) or None,
        peak_memory=_whole(status, "peak_memory", 0) or None,
        own_program=bool(command) or newest.get("recorded") == "auto",
        software={head: str(newest[key]) for key, head in _SOFTWARE.items() if newest.get(key)},
        settings=(settings_of(table, run.path, bool(newest.get("exchange"))) if run and table else {})
        | _unlike_devices(attempt),
    )


def _unlike_devices(attempt: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return how many ranks are on which kind of device, where they are on several: other shares are no repeats."""
    by_rank = {header["rank"]: str(header["device_name"]) for header in attempt if header.get("device_name")}
    kinds = Counter(by_rank.values())
    return {"devices": " + ".join(f"{kinds[kind]} x {kind}" for kind in sorted(kinds))} if len(kinds) > 1 else {}


def read_run_toml(path: Path) -> dict[str, Any]:
    """Return a run.toml as it stands, empty where it cannot be read."""
    # Read raw: a run written by a newer release, with settings unknown here, can still be reported.
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}


def _program(command: list[str]) -> str:
    scripts = [word for word in command if word.endswith((".py", ".sh"))]
    return Path((scripts or command or [""])[0]).name


def _threads(table: Mapping[str, Any]) -> str:
    launch, resources = table.get("launch", {}), table.get("resources", {})
    return str(launch.get("threads") or resources.get("cpus") or "")


def _whole(header: Mapping[str, Any], key: str, otherwise: int) -> int:
    value = header.get(key)
    return value if isinstance(value, int) else otherwise


def _start_of_job(run: RunDirectory, records_from: float) -> float | None:
    """Return when the newest start of the job entered SETUP (else TRAINING), Unix time, or None.

    SETUP is said twice in a row: by the rank's wrapper, and by the trainer once torch is imported. The first counts.
    """
    history = [
        (entry["state"], float(entry["time"]))
        for entry in run.read_history()
        if isinstance(entry.get("time"), (int, float)) and entry["time"] <= records_from
    ]
    while history and history[-1][0] not in ("SETUP", "TRAINING"):
        history.pop()
    if not history:
        return None
    state, begin = history.pop()
    while history and history[-1][0] in (("SETUP",) if state == "SETUP" else ("SETUP", "TRAINING")):
        state, begin = history.pop()
    return begin


def _accuracy(status: Mapping[str, Any]) -> float | None:
    for table in (status, status.get("result"), status.get("metrics"), status.get("test")):
        if not isinstance(table, Mapping):
            continue
        for key in _ACCURACY:
            value = table.get(key)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return float(value)
    return None
