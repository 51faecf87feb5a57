"""`hpcsynapse models`: what it prints, and what it says when it cannot."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from hpcsynapse.cli.main import cli
from hpcsynapse.trainer.catalog import MODELS


def models(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["models", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_all_models_once_for_each_size() -> None:
    rows = list(csv.DictReader(io.StringIO(models("--csv"))))
    assert list(dict.fromkeys(row["name"] for row in rows)) == list(MODELS)
    assert list(rows[0]) == ["name", "input", "classes", "parameters", "bytes", "multiply_adds", "flops", "source"]
    assert all(row["source"] and int(row["bytes"]) == 4 * int(row["parameters"]) for row in rows)
    twice = {"alexnet", "vgg16", "vgg19", "resnet50", "resnet152"}
    sizes = [(row["name"], row["input"], row["classes"]) for row in rows if row["name"] in twice]
    expected = [
        (name, *size) for name in MODELS if name in twice for size in (("3x224x224", "1000"), ("3x32x32", "10"))
    ]
    assert sizes == expected
    assert len(rows) == len(MODELS) + len(twice)


def test_known_answer_in_all_forms() -> None:
    row = {
        "name": "simple-cnn",
        "input": "1x28x28",
        "classes": 10,
        "parameters": 1_199_882,
        "bytes": 4_799_528,
        "multiply_adds": 11_992_448,
        "flops": 23_984_896,
        "source": "Raja 2019 (brain imaging), on MNIST",
    }
    assert json.loads(models("--json", "simple-cnn", "simple-cnn")) == [row]
    assert list(csv.DictReader(io.StringIO(models("simple-cnn", "--csv")))) == [{k: str(v) for k, v in row.items()}]
    assert models("simple-cnn") == (
        "in all rows: input 1x28x28\n"
        "model       classes  parameters      bytes  multiply adds    FLOPs  source\n"
        "simple-cnn       10       1.2 M  4.577 MiB        11.99 M  23.98 M  Raja 2019 (brain imaging), on MNIST\n"
    )


def fail(code: str, *arguments: str) -> str:
    program = f"import sys\n{code}\nfrom hpcsynapse.cli.main import main\nmain(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_an_unknown_name_names_the_nearest() -> None:
    assert "did you mean 'vgg19'" in fail("", "models", "simple-cnn", "vgg20")


def test_without_torch_there_is_a_hint_and_help() -> None:
    without = "sys.modules['torch'] = None"
    assert "pip install 'hpcsynapse[train]'" in fail(without, "models", "--csv")
    program = f"import sys\n{without}\nfrom hpcsynapse.cli.main import main\nmain(['models', '--help'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "FLOPs" in done.stdout
