"""TensorBoard's own reader finds in an event file what the run recorded."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from hpcsynapse.cli.main import cli
from hpcsynapse.errors import SpecError
from hpcsynapse.export.series import Series
from hpcsynapse.export.tensorboard import NAME, write_events

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def scalars(folder):
    reader = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return {tag: [(one.step, one.wall_time, one.value) for one in reader.Scalars(tag)] for tag in reader.scalars.Keys()}


def test_every_scalar_of_a_run_is_read_back(run, tmp_path) -> None:
    arguments = ["export", "tensorboard", "exported", "--runs", str(run.path.parent), "-o", str(tmp_path / "tb")]
    for _ in range(2):  # the second time replaces the first
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 0, done.output
    found = scalars(tmp_path / "tb" / "exported")
    assert found.keys() == {
        *("train/loss", "train/samples_per_s", "train/epoch", "time/step_s", "time/slowest_s"),
        *(f"time/{phase}_s" for phase in ("data", "forward", "backward", "communicate", "update")),
        *("validation/accuracy", "validation/größe", "drift/parameters"),
    }
    assert found["train/loss"] == [
        (step, 1.7e9 + 0.5 * step, float(np.float32(1 / (step + 1)))) for step in range(8) if step != 3
    ]
    assert [value for _, _, value in found["train/samples_per_s"]] == [32.0] * 8
    assert [value for _, _, value in found["time/forward_s"]] == [0.0625] * 8
    assert [(step, value) for step, _, value in found["validation/accuracy"]] == [(4, 0.5), (8, 0.75)]
    assert found["drift/parameters"] == [(4, 1.7e9, 0.25)]
    points = sum(map(len, found.values()))
    assert done.output == f"{tmp_path}/tb/exported: {points} points; see it: tensorboard --logdir {tmp_path}/tb\n"
    assert [path.name for path in (tmp_path / "tb" / "exported").iterdir()] == [NAME]


def test_values_are_equal_in_32_bits_whatever_they_are(tmp_path) -> None:
    steps = np.array([0, 1, 127, 128, 2**21, 2**32 - 1])
    values = np.array([0.0, -1.5, 1e-40, 1e39, -1e-45, np.pi])
    write_events([Series("a/b", steps, 1.7e9 + steps, values)], tmp_path)
    read = [0.0, -1.5, float(np.float32(1e-40)), np.inf, float(np.float32(-1e-45)), float(np.float32(np.pi))]
    assert scalars(tmp_path) == {
        "a/b": [(step, 1.7e9 + step, value) for step, value in zip(steps.tolist(), read, strict=True)]
    }


def test_a_folder_that_cannot_be_made_is_wrong_input(run, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    arguments = ["export", "tensorboard", "exported", "--runs", str(run.path.parent), "-o", str(tmp_path / "file")]
    done = CliRunner().invoke(cli, arguments)
    assert isinstance(done.exception, SpecError) and "cannot be written" in str(done.exception)
