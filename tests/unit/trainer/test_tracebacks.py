"""Errors in users' code: the last line names their file and line, and the trainer's own frames are left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from user_folders import LOADER, MODEL, write

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer import data, models, tracebacks, usercode
from hpcsynapse.trainer.objective import Objective


def failure(action: Callable[[], object]) -> BaseException:
    """What an action raises, as if the trainer had called it: this file's own frames are not of a user."""
    with pytest.raises(BaseException) as caught:
        action()
    trace = caught.value.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return caught.value.with_traceback(trace)


def check(error: BaseException, place: str, shown: str) -> list[str]:
    """The last line is as expected, and no file of ours is in the traceback; returns the files that are."""
    assert tracebacks.describe(error) == f"{place}: {shown}"
    lines = tracebacks.render(error).splitlines()
    assert lines[-1] == f"hpcsynapse: {place}: {shown}"
    files = [line.split('"')[1] for line in lines if line.startswith('  File "')]
    assert not [file for file in files if "importlib" in file or "hpcsynapse/trainer" in file]
    return files


def line(path: Path, text: str) -> int:
    return next(number for number, found in enumerate(path.read_text().splitlines(), 1) if text in found)


def test_error_in_the_users_own_line(tmp_path: Path) -> None:
    text = MODEL.replace("return self.layer(inputs)", "import helpers\n        return helpers.half(inputs)")
    code = write(tmp_path, bks_model=text, helpers="def half(x):\n    return x / [][0]\n")
    model = models.create(str(code), {})
    error = failure(lambda: model(torch.zeros(1, 2)))
    files = check(error, f"{code / 'helpers.py'}:2", "IndexError: list index out of range")
    assert files == [str(code / "bks_model.py"), str(code / "helpers.py")]
    assert "return x / [][0]" in tracebacks.render(error)


def test_error_inside_a_library_that_the_user_calls(tmp_path: Path) -> None:
    code = write(tmp_path, bks_model=MODEL)
    model = models.create(str(code), {})
    place = f"{code / 'bks_model.py'}:{line(code / 'bks_model.py', 'return self.layer(inputs)')}"
    error = failure(lambda: model(torch.zeros(1, 9)))
    files = check(error, place, "RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x9 and 2x3)")
    assert files[0] == str(code / "bks_model.py")
    assert files[-1].endswith("linear.py")  # what the library did is still there


def test_errors_while_a_folder_is_loaded(tmp_path: Path) -> None:
    broken = write(tmp_path / "a", bks_model="import first", first="import second", second="VALUE = 1\nVALUE / 0\n")
    files = check(
        failure(lambda: models.create(str(broken), {})),
        f"{broken / 'second.py'}:2",
        "ZeroDivisionError: division by zero",
    )
    assert files == [str(broken / f"{name}.py") for name in ("bks_model", "first", "second")]
    inner = write(tmp_path / "b", bks_model="import first", first="VALUE = 1\ndef f(:\n")
    check(failure(lambda: models.create(str(inner), {})), f"{inner / 'first.py'}:2", "SyntaxError: invalid syntax")
    alone = write(tmp_path / "c", bks_model="def f(:\n")
    check(failure(lambda: models.create(str(alone), {})), f"{alone / 'bks_model.py'}:1", "SyntaxError: invalid syntax")
    absent = write(tmp_path / "d", bks_model="\nimport no_such_module_anywhere")
    check(
        failure(lambda: models.create(str(absent), {})),
        f"{absent / 'bks_model.py'}:2",
        "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
    )


def test_exit_and_errors_that_cannot_be_shown(tmp_path: Path) -> None:
    leaving = write(tmp_path / "a", bks_model="import sys\nsys.exit(0)")
    check(failure(lambda: models.create(str(leaving), {})), f"{leaving / 'bks_model.py'}:2", "SystemExit: 0")
    silent = write(
        tmp_path / "b",
        bks_model=("class Silent(Exception):\n    def __str__(self):\n        raise ValueError\nraise Silent"),
    )
    check(
        failure(lambda: models.create(str(silent), {})),
        f"{silent / 'bks_model.py'}:4",
        "Silent: (its message cannot be shown)",
    )
    long = write(tmp_path / "c", bks_model="raise ValueError('\\n\\n' + 'x' * 5000 + '\\nsecond')")
    check(failure(lambda: models.create(str(long), {})), f"{long / 'bks_model.py'}:1", "ValueError: " + "x" * 300)


def test_modules_are_called_as_the_user_calls_them(tmp_path: Path) -> None:
    code = write(tmp_path, bks_model="import parts\nparts.nothing", parts="")
    error = failure(lambda: usercode.load(code, "bks_model.py"))
    check(error, f"{code / 'bks_model.py'}:2", "AttributeError: module 'parts' has no attribute 'nothing'")
    assert usercode.PREFIX not in tracebacks.render(error)


def test_causes_are_looked_at_too(tmp_path: Path) -> None:
    """An error of ours that came of one in the user's code is told by the user's line."""
    code = write(tmp_path, bks_model="def f():\n    raise KeyError('k')\n")
    module = usercode.load(code, "bks_model.py")

    def ours() -> None:
        cause = failure(module.f)
        raise TrainError("it did not work") from cause

    assert tracebacks.describe(failure(ours)) == f"{code / 'bks_model.py'}:2: TrainError: it did not work"


def test_errors_in_data(tmp_path: Path) -> None:
    code = write(tmp_path, bks_dataset=LOADER + "    def collate(self, samples):\n        return samples[99]\n")
    train = data.load(str(code), None, {}).train
    number = line(code / "bks_dataset.py", "samples[99]")
    check(
        failure(lambda: train.batch(np.arange(2))),
        f"{code / 'bks_dataset.py'}:{number}",
        "IndexError: list index out of range",
    )


def test_what_a_users_code_returns_is_told_by_its_place(tmp_path: Path) -> None:
    """Nothing was raised in it, so the message names the place."""
    wrong = "        return torch.zeros(3)\n    def metrics(self, output, target):\n        return {'a': 'much'}\n"
    code = write(tmp_path / "model", bks_model=MODEL.replace("        return ((output - target) ** 2).mean()\n", wrong))
    objective, place = Objective(models.create(str(code), {})), code / "bks_model.py"
    with pytest.raises(
        TrainError, match=rf"{place}:{line(place, 'def loss')}\) returned a tensor \(3,\), not a tensor of"
    ):
        objective.loss(torch.zeros(1), torch.zeros(1))
    with pytest.raises(TrainError, match=rf"{place}:{line(place, 'def metrics')}\) must return a dict of numbers"):
        objective.metrics(torch.zeros(1), torch.zeros(1))
    loader = write(tmp_path / "data", bks_dataset=LOADER + "    def collate(self, samples):\n        return 1, 2, 3\n")
    with pytest.raises(
        TrainError, match=rf"{loader / 'bks_dataset.py'}:4\): a batch must be a pair .*, not tuple of 3"
    ):
        data.load(str(loader), None, {}).train.batch(np.arange(2))


def test_errors_of_ours_are_shown_whole() -> None:
    error = failure(lambda: data.load("cifar10", None, {}))
    text = tracebacks.render(error)
    assert "hpcsynapse/trainer/data/base.py" in text
    assert text.splitlines()[-1].startswith("hpcsynapse: TrainError: data 'cifar10' reads files")
