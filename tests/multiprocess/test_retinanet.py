"""The RetinaNet example end to end: receipts are drawn, two ranks train on them, detect.py tests what they learnt."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from jobs import HERE, Starter

EXAMPLE = HERE.parents[1] / "examples" / "retinanet"


def script(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, EXAMPLE / name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("model", [str(EXAMPLE / "model"), "retinanet"], ids=["user-code", "built-in"])
def test_case_study(model: str, starter: Starter, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    receipts, picture = tmp_path / "drawn", tmp_path / "detections.png"
    assert "16 receipts to learn from, 8 to test with" in script(
        "generate.py", receipts, "--train", "16", "--validation", "8"
    )
    job = starter(
        "receipts",
        2,
        model=model,
        data=str(EXAMPLE / "loader"),
        data_path=str(receipts),
        model_args={"backbone": "small", "channels": 32, "depth": 1},
        data_args={},
        batch=2,
        epochs=4,
        optimizer="adam",
        lr=0.003,
        clip_norm=0.1,
        validate_every=4,
        checkpoint_every=2,
    )
    run = job.succeed()
    result = run.read_history()[-1]["result"]
    assert set(result) == {"loss", "focal_loss", "smooth_l1", "image_ap50"}
    assert result["loss"] == pytest.approx(result["focal_loss"] + result["smooth_l1"])
    assert result["loss"] < 4.9  # 5.3 before the first step
    assert 0 <= result["image_ap50"] <= 1
    assert len(list(run.checkpoints.glob("step-*.pt"))) == 2

    said = script("detect.py", run.path, "--out", picture, "--show", "5")
    assert "step 16: 8 receipts" in said
    precisions = [float(value) for value in re.findall(r"^mAP@\S+ +([\d.]+)$", said, re.MULTILINE)]
    assert len(precisions) == 3
    assert all(0 <= value <= 1 for value in precisions)
    assert image.open(picture).size == (4 * 2 * 192, 2 * 2 * 256)
