"""Users' folders in one process: each finds its own modules, at the top and at run time, and disturbs nobody."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from user_folders import LOADER, MODEL, write

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer import data, models, usercode

EXAMPLES = Path(__file__).parents[3] / "examples" / "user_code"


def folder(place: Path, name: str) -> Path:
    """A folder that imports in every way there is; all its modules answer with its name."""
    return write(
        place / name,
        bks_model="""
        import helpers
        import parts.deep
        import parts.deep as deep
        from helpers import NAME as named
        from parts import deep as again
        from parts.deep import *
        from . import helpers as sibling
        from .parts.deep import NAME as relative
        from bare import leaf

        TOP = [helpers.NAME, parts.deep.NAME, deep.NAME, named, again.NAME, STARRED, sibling.NAME, relative, leaf.NAME]
        SAME = [helpers is sibling, deep is again, parts.deep is deep]

        def later():
            import afterwards
            from parts.later import NAME
            return [afterwards.NAME, NAME, __import__("afterwards").NAME]

        class UserModel:
            def name(self):
                import lazy
                return lazy.NAME
        """,
        helpers=f"NAME = {name!r}",
        afterwards="from helpers import NAME",
        lazy=f"NAME = {name!r}",
        parts____init__="",
        parts__deep="from ..helpers import NAME\nSTARRED = NAME",
        parts__later="import helpers\nNAME = helpers.NAME",
        bare__leaf="from helpers import NAME",
    )


def test_two_folders_with_equal_modules_do_not_disturb_each_other(tmp_path: Path) -> None:
    path, plain = list(sys.path), set(sys.modules)
    first, second = (usercode.load(folder(tmp_path, name), "bks_model.py") for name in ("one", "two"))
    for module, name in ((first, "one"), (second, "two"), (first, "one")):
        assert module.TOP == [name] * 9  # noqa: SIM300
        assert all(module.SAME)
        assert module.later() == [name] * 3
        assert module.UserModel().name() == name
    assert sys.path == path
    left = {name for name in set(sys.modules) - plain if not name.startswith(usercode.PREFIX)}
    assert not left & {"helpers", "parts", "afterwards", "lazy", "bare", "bks_model"}
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("helpers")
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_module_runs_once_whatever_its_folder_is_called(tmp_path: Path) -> None:
    code = write(tmp_path / "code", bks_model="import counter\ncounter.COUNT.append(1)", counter="COUNT = []")
    (tmp_path / "link").symlink_to(code)
    one = usercode.load(code, "bks_model.py")
    assert usercode.load(tmp_path / "link", "bks_model.py") is one
    assert usercode.load(tmp_path / "link" / ".." / "code", "bks_model.py") is one
    assert one.counter.COUNT == [1]


def test_names_of_libraries(tmp_path: Path) -> None:
    """A sibling comes before a library, as with the folder first on sys.path, but only for its own folder; a folder of
    data comes behind one."""
    code = write(
        tmp_path,
        random="VALUE = 'mine'",
        bks_model="import random, numpy, sys\nVALUE = random.VALUE\nfrom time import time",
    )
    write(tmp_path, sys="VALUE = 'never'", time="VALUE = 'never'")
    (tmp_path / "numpy").mkdir()
    module = usercode.load(code, "bks_model.py")
    assert module.VALUE == "mine"
    assert module.numpy is np and module.sys is sys and callable(module.time)
    assert sys.modules["random"] is random and hasattr(random, "Random")


def test_threads_and_classes_made_later_find_the_siblings(tmp_path: Path) -> None:
    code = write(
        tmp_path, bks_model="def work(found):\n    from late import VALUE\n    found.append(VALUE)", late="VALUE = 5"
    )
    work, found = usercode.load(code, "bks_model.py").work, []
    threads = [threading.Thread(target=work, args=(found,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [5] * 8


def test_an_edit_is_seen_by_the_next_process_within_the_same_second(tmp_path: Path) -> None:
    """Byte code beside a source is neither read nor written."""
    code = write(tmp_path, bks_model="VALUE = 1")
    ask = (
        "import sys; from pathlib import Path; from hpcsynapse.trainer import usercode;"
        "print(usercode.load(Path(sys.argv[1]), 'bks_model.py').VALUE)"
    )
    for value in (1, 2, 3):
        write(tmp_path, bks_model=f"VALUE = {value}")
        done = subprocess.run([sys.executable, "-c", ask, str(code)], capture_output=True, text=True, timeout=60)
        assert done.stdout == f"{value}\n", done.stderr


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"holds no bks_model\.py, which defines UserModel"):
        models.create(str(tmp_path), {})
    code = write(tmp_path, bks_model="from .absent import x")
    with pytest.raises(ModuleNotFoundError, match="'absent'"):
        models.create(str(code), {})
    other = write(tmp_path / "other", bks_model="VALUE = 1")
    with pytest.raises(TrainError, match=r"other/bks_model\.py defines no UserModel"):
        models.create(str(other), {})
    third = write(tmp_path / "third", bks_model="raise AttributeError('of the user')")
    with pytest.raises(AttributeError, match="of the user"):
        models.create(str(third), {})


# --- models -------------------------------------------------------------------------------------------------------


def test_model_and_its_arguments(tmp_path: Path) -> None:
    code = write(tmp_path, bks_model=MODEL)
    assert models.create(str(code), {"width": 5}).layer.in_features == 5
    with pytest.raises(TrainError, match=r"UserModel \(.*bks_model\.py:5\): train\.model_args do not fit .*depth"):
        models.create(str(code), {"depth": 5})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class UserModel: pass", r"bks_model\.py:1\) is UserModel, not a torch\.nn\.Module"),
        ("from torch import nn\nclass UserModel(nn.Linear):\n    def __init__(self):\n        super().__init__(1, 1)",
         r"bks_model\.py:2\) has no method loss\(output, target\)"),
    ],
)  # fmt: skip  # a long string
def test_what_is_no_model(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TrainError, match=words):
        models.create(str(write(tmp_path, bks_model=text)), {})


@pytest.mark.parametrize("form", ["plain", "state_dict", "model"])
@pytest.mark.parametrize("source", [".", "src"])
def test_pretrained_weights(tmp_path: Path, form: str, source: str) -> None:
    """In the folder of the code, or beside `src` as BK.Synapse kept them."""
    write(tmp_path / source, bks_model=MODEL)
    weights = {"layer.weight": torch.full((3, 2), 7.0), "layer.bias": torch.zeros(3)}
    torch.save(weights if form == "plain" else {form: weights, "epoch": 3}, tmp_path / "model.pth")
    assert torch.equal(models.create(str(tmp_path), {}).layer.weight, weights["layer.weight"])


class Harmful:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path('harm').touch()",)


def test_weights_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = write(tmp_path / "code", bks_model=MODEL)
    file = code / "model.pth"
    torch.save({"layer.weight": torch.zeros(3, 4), "other": torch.zeros(1)}, file)
    with pytest.raises(TrainError, match=r"(?s)model\.pth does not fit .*bks_model\.py:5.*layer\.bias.*other"):
        models.create(str(code), {})
    for content in ([1, 2], {"a": 1}):
        torch.save(content, file)
        with pytest.raises(TrainError, match=r"model\.pth holds (list|dict), not a state dict"):
            models.create(str(code), {})
    torch.save(Harmful(), file)
    with pytest.raises(TrainError, match=r"model\.pth: no plain weights"):
        models.create(str(code), {})
    assert not (tmp_path / "harm").exists()
    for damaged in (b"", b"garbage", b"PK\x03\x04"):
        file.write_bytes(damaged)
        with pytest.raises(TrainError, match=r"model\.pth: no plain weights"):
            models.create(str(code), {})


# --- data ---------------------------------------------------------------------------------------------------------

COLLATE = "    def collate(self, samples):\n        return {'inputs': len(samples), 'targets': 'method'}\n"
FUNCTION = "def collate(samples):\n    return (len(samples), 'function')\n"


@pytest.mark.parametrize(
    ("more", "expected"), [(COLLATE, (3, "method")), (FUNCTION, (3, "function")), (COLLATE + FUNCTION, (3, "method"))]
)
def test_collate(tmp_path: Path, more: str, expected: tuple[int, str]) -> None:
    code = write(tmp_path, bks_dataset=LOADER + more)
    assert data.load(str(code), None, {}).train.batch(np.arange(3)) == expected


def test_without_collate_batches_are_stacked(tmp_path: Path) -> None:
    inputs, targets = data.load(str(write(tmp_path, bks_dataset=LOADER)), None, {}).train.batch(np.array([1, 4]))
    assert inputs.tolist() == [[1, 1], [4, 4]] and targets.shape == (2, 3)


def test_validation(tmp_path: Path) -> None:
    plain = str(write(tmp_path / "plain", bks_dataset=LOADER))
    both = str(write(tmp_path / "both", bks_dataset=LOADER + "class UserValDataset(UserDataset):\n    kind = 'val'\n"))
    found = data.load(plain, "/train", {})
    assert found.validation is None and found.train.samples.data_path == "/train"
    cases = [
        (both, {}, "/train", "val"),
        (both, {"val_path": "/val"}, "/val", "val"),
        (plain, {"val_path": "/val"}, "/val", ""),
        (plain, {"val_loader": both}, "/train", "val"),
        (plain, {"val_loader": both, "val_path": "/v"}, "/v", "val"),
        (both, {"val_loader": plain}, "/train", ""),
    ]
    for loader, args, path, kind in cases:
        validation = data.load(loader, "/train", args).validation.samples
        assert (validation.data_path, getattr(validation, "kind", "")) == (path, kind), (loader, args)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("    def __init__(self): pass", r"bks_dataset\.py:1\): the data path and .* do not fit \(\)"),
        ("    def __init__(self, data_path): pass", "has no __len__"),
        ("    def __init__(self, data_path): pass\n    def __len__(self): return 3", "has no __getitem__"),
        ("    pass\ndel UserDataset", "defines no UserDataset"),
    ],
)
def test_what_is_no_data_set(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TrainError, match=words):
        data.load(str(write(tmp_path, bks_dataset="class UserDataset:\n" + text)), None, {})


def test_the_example(tmp_path: Path) -> None:
    model, samples = models.create(str(EXAMPLES / "model"), {}), data.load(str(EXAMPLES / "loader"), None, {})
    inputs, targets = samples.train.batch(np.arange(20))
    output = model(inputs)
    assert output.shape == (20, 10) and 2 < model.loss(output, targets).item() < 3
    assert 0 <= model.metrics(output, targets)["accuracy"] <= 1
    assert (len(samples.train), len(samples.validation)) == (640, 160)
