"""Which options a report names where communication is exposed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hpcsynapse.cli.report import command
from hpcsynapse.report.advice import advice as of_point
from hpcsynapse.report.loading import load
from hpcsynapse.report.points import Point
from hpcsynapse.report.reduced import Measured
from hpcsynapse.timing import StepRecorder


def advice(folder: Path) -> str | None:
    return of_point(Point((Measured(load(folder)),)))


def record(
    folder: Path, communicate: float, *, late: float = 0.0, warmup: int = 0, steps: int = 40, **facts: str
) -> Path:
    """Write two ranks with steps of 0.1 s that communicate for so much of it; half as much in the first few.

    Rank 0 comes `late` and communicates that much less.
    """
    for rank in range(2):
        about = {"engine": "ddp", "model": "m", "data": "d", "world_size": 2, **facts}
        with StepRecorder(folder, rank=rank, warmup=warmup, **about) as recorder:
            for step in range(steps):
                phase = communicate if step >= warmup else 0.1 - communicate
                phase -= late * (rank == 0)
                recorder.write(step, 0, 1000 + step * 0.1, 0, 0.02, 0.02, phase, 0, 0.1, 32, 0.5)
    return folder


@pytest.mark.parametrize(
    ("label", "engine", "words", "absent"),
    [
        ("allreduce", "ddp", ["--compression fp16", "--bucket-mb", "--strategy local-sgd --overlap"], []),
        ("allreduce", "mpi", ["--compression fp16", "--strategy local-sgd"], ["--overlap", "--bucket-mb"]),
        ("allreduce+fp16", "ddp", ["--bucket-mb", "--overlap"], ["--compression"]),
        ("allreduce-broadcast+every5+powersgd", "ddp", ["--overlap"], ["--compression", "--bucket-mb"]),
        ("central", "ddp", ["--strategy allreduce", "--compression fp16"], ["--bucket-mb"]),
        ("local-sgd", "ddp", ["--overlap", "--average-every"], ["--strategy"]),
        ("local-sgd+every16+overlap+fp16", "ddp", ["--average-every"], ["--overlap", "--compression"]),
    ],
)
def test_options_that_were_not_tried(
    tmp_path: Path, label: str, engine: str, words: list[str], absent: list[str]
) -> None:
    found = advice(record(tmp_path / "run", 0.034, strategy=label.split("+")[0], exchange=label, engine=engine))
    assert found is not None and "34%" in found
    assert all(word in found for word in words), found
    assert not any(word in found for word in absent), found


@pytest.mark.parametrize(
    ("communicate", "facts"),
    [
        (0.009, {"strategy": "allreduce"}),
        (0.05, {"strategy": "single"}),
        (0.05, {"strategy": "ps-sync"}),
        (0.05, {}),  # a program of the user's own
    ],
)
def test_no_advice(tmp_path: Path, communicate: float, facts: dict[str, str]) -> None:
    assert advice(record(tmp_path / "run", communicate, **facts)) is None


def test_waiting_for_a_slow_rank_is_not_called_exchange(tmp_path: Path) -> None:
    folder = record(tmp_path / "run", 0.054, late=0.05, strategy="allreduce")
    found = advice(folder)
    assert found is not None and "ranks wait 25% of the time" in found and "exchange takes 4%" in found
    assert found.endswith(f"hpcsynapse report stragglers {folder}") and "--compression" not in found


@pytest.mark.parametrize(
    ("engine", "words"), [("ddp", "bf16_compress_hook"), ("horovod", "hvd.Compression.fp16"), ("mpi", None)]
)
def test_a_program_of_the_users_own_is_not_told_of_options_that_it_has_not(
    tmp_path: Path, engine: str, words: str | None
) -> None:
    found = advice(record(tmp_path / "run", 0.05, strategy="allreduce", engine=engine, recorded="auto"))
    assert (found is None) if words is None else (found is not None and words in found and "--" not in found)


def test_few_steps_are_not_enough_for_advice(tmp_path: Path) -> None:
    assert advice(record(tmp_path / "run", 0.05, steps=29, strategy="allreduce")) is None


def test_warm_up_does_not_count(tmp_path: Path) -> None:
    """30 of 70 steps are warm-up and communicate much."""
    assert advice(record(tmp_path / "run", 0.005, warmup=30, steps=70, strategy="allreduce")) is None


def test_the_report_prints_it_beside_its_text_only(tmp_path: Path) -> None:
    folder = str(record(tmp_path / "run", 0.05, strategy="allreduce", exchange="allreduce+bf16"))
    text, data = (CliRunner().invoke(command, [folder, *form]) for form in ([], ["--json"]))
    assert "hint: " in text.stderr and "50%" in text.stderr and "--overlap" in text.stderr
    assert "hint" not in text.stdout and "hint" not in data.stderr
    assert json.loads(data.stdout)[0]["strategy"] == "allreduce+bf16"


def test_runs_that_exchange_differently_are_no_repeats(tmp_path: Path) -> None:
    folders = [
        record(tmp_path / name, 0.0, strategy="allreduce", exchange=name) for name in ("allreduce", "allreduce+fp16")
    ]
    rows = json.loads(CliRunner().invoke(command, [*map(str, folders), "--json"]).stdout)
    assert [(row["strategy"], row["repeats"]) for row in rows] == [("allreduce", 1), ("allreduce+fp16", 1)]
    assert np.allclose([row["efficiency"] for row in rows], 1.0)
