"""What is wrong with a folder of user code is found without running it, at submission and by check."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from command_line import hpcsynapse
from hypothesis import given
from hypothesis import strategies as st

from hpcsynapse.errors import SpecError
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.submission.resolve import resolve
from hpcsynapse.usercode.checks import MAX_SOURCES, is_folder, label, problems, sources


def model(folder: Path, text: str = "class UserModel: pass", **more: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {"bks_model": text, **more}.items():
        (folder / f"{name}.py").write_text(content)
    return folder


@pytest.mark.parametrize("target", ["./m", "a/b", "/a", "..", ".", "~/m", "store:m", "store:odd name"])
def test_folders(target: str) -> None:
    assert is_folder(target)
    assert TrainSpec(model=target, data=target).model == target


@pytest.mark.parametrize("target", ["m", "a.b:c", "resnet56"])
def test_no_folders(target: str) -> None:
    assert not is_folder(target) and label(target) == target


@pytest.mark.parametrize("target", ["", "A", "a b", "a:b:c", "a.b", "a\nb"])
def test_what_is_neither(target: str) -> None:
    with pytest.raises(SpecError, match=r"train\.model"):
        TrainSpec(model=target)


def test_labels() -> None:
    assert [label(target) for target in ("./m", "/s/models/m/content", "/root/models/m/src", "store:m", "/", "..")] == [
        "m",
        "m",
        "m",
        "m",
        "folder",
        "folder",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "class UserModel: pass",
        "from net import UserModel",
        "from net import Net as UserModel",
        "from net import *",
        "UserModel = make()",
        "UserModel: type = make()",
        "a, UserModel = make()",
        "if True:\n    class UserModel: pass",
        "try:\n    import a\nexcept ImportError:\n    UserModel = None",
        "with a:\n    UserModel = 1",
        "import net as UserModel",
        "def UserModel(): pass",
    ],
)
def test_ways_to_define_the_class(tmp_path: Path, text: str) -> None:
    assert list(problems(model(tmp_path, text), "model")) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class Usermodel: pass", "bks_model.py defines no class UserModel"),
        ("def f():\n    class UserModel: pass", "defines no class UserModel"),
        ("UserModel.x = 1\nother[UserModel] = 2", "defines no class UserModel"),
        ("class UserModel:\n    def f(:\n", "bks_model.py:2: SyntaxError: invalid syntax"),
        ("class UserModel: pass\nreturn 5", "bks_model.py:2: SyntaxError: 'return' outside function"),
        ("class UserModel:\n\tif 1:\n        pass", "bks_model.py:3: TabError"),
        ("# coding: none-such\nclass UserModel: pass", "SyntaxError: unknown encoding"),
        ("class UserModel: pass\0", "bks_model.py"),
        ("x = " + "(" * 5000 + ")" * 5000, "bks_model.py"),
        ("x = " + "-" * 200_000 + "1", "bks_model.py"),
    ],
)
def test_what_is_wrong_in_a_file(tmp_path: Path, text: str, words: str) -> None:
    found = list(problems(model(tmp_path, text), "model"))
    assert len(found) == 1 and words in found[0], found


def test_every_module_of_the_folder_must_compile(tmp_path: Path) -> None:
    folder = model(tmp_path, helpers="x = = 1\n")
    for hidden in (".ipynb_checkpoints", "__pycache__", "venv/lib"):
        (folder / hidden).mkdir(parents=True)
        (folder / hidden / "broken.py").write_text("x = = 1\n")
    (folder / "venv" / "pyvenv.cfg").write_text("")
    os.mkfifo(folder / "pipe.py")
    (folder / "loop").symlink_to(folder)
    assert list(problems(folder, "model")) == [f"{folder / 'helpers.py'}:1: SyntaxError: invalid syntax"]


def test_what_is_missing(tmp_path: Path) -> None:
    assert list(problems(tmp_path / "absent", "model")) == [f"folder {tmp_path / 'absent'} does not exist"]
    assert list(problems(model(tmp_path), "loader")) == [
        f"{tmp_path} holds no bks_dataset.py, which defines class UserDataset"
    ]
    assert list(problems(model(tmp_path / "b" / "src").parent, "model")) == []


def test_a_folder_of_everything_is_not_read_to_its_end(tmp_path: Path) -> None:
    folder = model(tmp_path)
    for number in range(MAX_SOURCES + 5):
        (folder / f"m{number}.py").write_text("")
    assert "more than" in list(problems(folder, "model"))[-1]
    assert len(list(sources(folder))) > MAX_SOURCES


@given(st.binary(max_size=200))
def test_any_bytes_are_judged(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("code")
    (folder / "bks_model.py").write_bytes(content)
    for problem in problems(folder, "model"):
        assert "bks_model.py" in problem


@pytest.mark.slow
def test_submission_and_check_run_no_code(workdir: Path) -> None:
    """Every module of the folders would leave a file when it ran; the run's own ranks do run it."""
    spy = "from pathlib import Path\nPath({!r}, __name__.rpartition('.')[2]).touch()\n".format(str(workdir / "ran"))
    (workdir / "ran").mkdir()
    model(workdir / "m", spy + "import helpers\nclass UserModel: pass", helpers=spy)
    (workdir / "d").mkdir()
    (workdir / "d" / "bks_dataset.py").write_text(spy + "class UserDataset:\n    def __init__(self, data_path): pass\n")
    arguments = ["--scheduler", "local", "--model", "./m", "--data", "./d", "--set", "train.data_args.val_loader=./d"]
    for verb in ("check", "render"):
        done = hpcsynapse(verb, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    for kind, name in (("model", "m"), ("loader", "d")):
        done = hpcsynapse("store", "add", kind, name)
        assert done.returncode == 0, done.stderr
    assert list((workdir / "ran").iterdir()) == []
    done = hpcsynapse("submit", *arguments, "--follow", "--json")
    assert done.returncode == 1  # neither is what its name promises
    assert "bks_dataset.py:3) has no __len__" in done.stderr
    assert {path.name for path in (workdir / "ran").iterdir()} == {"bks_dataset"}
    run = Path(json.loads(done.stdout.splitlines()[0])["path"])
    assert run.name.startswith("m-1x1-")


def test_folders_become_absolute_paths(workdir: Path) -> None:
    spec = JobSpec(train=TrainSpec(model="./m", data="~/d", data_path="files", data_args={"val_path": "v", "n": 1}))
    train = resolve(spec, workdir / "runs").train
    assert (train.model, train.data_path) == (f"{workdir}/m", f"{workdir}/files")
    assert train.data == str(Path.home() / "d")
    assert train.data_args == {"val_path": f"{workdir}/v", "n": 1}
    again = resolve(JobSpec(workdir="/", train=train), workdir / "runs").train
    assert (again.model, again.data_path, again.data_args) == (train.model, train.data_path, train.data_args)
    named = TrainSpec(model="resnet56", data_args={"val_path": "v"})
    assert resolve(JobSpec(train=named), workdir / "runs").train.data_args == {"val_path": "v"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "./absent"], "absent does not exist"),
        (["--model", "./m", "--data", "./m"], "holds no bks_dataset.py"),
        (["--model", "store:absent"], "no model 'absent' in"),
        (["--data", "store:m"], "no loader 'm' in"),
        (["--data-path", "store:m"], "no dataset 'm' in"),
        (["--data-path", "store:../m"], "no dataset '../m' in"),
    ],
)
def test_what_submission_refuses(workdir: Path, arguments: list[str], words: str) -> None:
    model(workdir / "m")
    done = hpcsynapse("submit", "--scheduler", "local", *arguments)
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert not (workdir / "runs").exists()
