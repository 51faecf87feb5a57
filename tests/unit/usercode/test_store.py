"""The store as its users type it, what it refuses, and what is left when it is killed."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcsynapse.cli.store import command
from hpcsynapse.errors import SpecError
from hpcsynapse.units import format_bytes, parse_bytes
from hpcsynapse.usercode import store


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(command, list(arguments))
    assert not result.exception or isinstance(result.exception, (SystemExit, SpecError)), result.exception
    return result


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / f"{name}.py").write_text(text)
    return path


MODEL = "class UserModel: pass\n"
LOADER = "class UserDataset: pass\n"


def zipped(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name, content in files.items():
            made.writestr(name.replace("__", "/").replace("_pth", ".pth").replace("_py", ".py"), content)
    return path


def entry(name: str) -> dict[str, object]:
    facts = json.loads(run("show", "model", name, "--json").output)
    return {key: facts[key] for key in ("size", "files", "sha256")}


def test_source_and_weights_come_as_two_archives(workdir: Path) -> None:
    """As BK.Synapse took them; together, one after the other, and in one folder they are the same model."""
    zipped(workdir / "src.zip", src__bks_model_py=MODEL.encode(), top=b"x")
    zipped(workdir / "weights.zip", weights__model_pth=b"w" * 100)
    both = folder(workdir / "both" / "src", bks_model=MODEL).parent
    (both / "top").write_bytes(b"x")
    (both / "model.pth").write_bytes(b"w" * 100)
    assert run("add", "model", "src.zip", "--name", "a", "--weights", "weights.zip").exit_code == 0
    assert run("add", "model", "src.zip", "--name", "b").exit_code == 0
    assert run("weights", "b", "weights.zip").output.startswith("model b  3 files, 123 B")
    assert run("add", "model", "both", "--name", "c").exit_code == 0
    assert entry("a") == entry("b") == entry("c")
    assert (workdir / "store" / "models" / "b" / "content" / "model.pth").read_bytes() == b"w" * 100
    assert {path.name for path in (workdir / "store" / "models" / "b").iterdir()} == {"content", "entry.json"}


def test_weights_are_replaced_by_a_file_that_torch_wrote(workdir: Path) -> None:
    """What torch.save writes is an archive itself, which must not be unpacked."""
    folder(workdir / "net", bks_model=MODEL)
    run("add", "model", "net", "--weights", str(zipped(workdir / "w.zip", model_pth=b"old")))
    content = zipped(workdir / "new.pth", archive__data="x" * 50).read_bytes()  # type: ignore[arg-type]
    assert run("weights", "net", "new.pth").exit_code == 0
    kept = workdir / "store" / "models" / "net" / "content"
    assert (kept / "model.pth").read_bytes() == content
    assert entry("net")["size"] == sum(path.stat().st_size for path in kept.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["weights", "ne", "w.zip"], "no model 'ne'"),
        (["weights", "net", "two.zip"], "weights are one file model.pth"),
        (["weights", "net", "text"], "neither a folder nor a zip"),
        (["weights", "net", "none.pth"], "does not exist"),
        (["add", "loader", "net", "--weights", "w.zip"], "a loader has no weights"),
        (["add", "model", "w.zip", "--name", "other"], "holds weights alone: add them to a stored model with"),
        (["weights", "net", "w.zip", "--max-size", "50"], "100 bytes are more than the 50 allowed"),
    ],
)
def test_weights_that_are_none_leave_the_model_as_it_was(workdir: Path, arguments: list[str], words: str) -> None:
    folder(workdir / "net", bks_model=MODEL)
    run("add", "model", "net")
    zipped(workdir / "w.zip", model_pth=b"w" * 100)
    zipped(workdir / "two.zip", model_pth=b"w", other_pth=b"w")
    (workdir / "text").write_text("x")
    before = {path: path.read_bytes() for path in (workdir / "store").rglob("*") if path.is_file()}
    done = run(*arguments)
    assert isinstance(done.exception, SpecError) and words in str(done.exception)
    assert {path: path.read_bytes() for path in (workdir / "store").rglob("*") if path.is_file()} == before


def test_the_life_of_an_entry(workdir: Path) -> None:
    folder(workdir / "net", bks_model=MODEL, layers="A = 1\n")
    added = run("add", "model", "net", "--description", "a net")
    assert added.output.startswith("model net  2 files, 28 B, added 20")
    facts = json.loads(run("show", "model", "net", "--json").output)
    content = workdir / "store" / "models" / "net" / "content"
    assert facts["path"] == str(content)
    assert {key: facts[key] for key in ("kind", "name", "size", "files", "description")} == {
        "kind": "model",
        "name": "net",
        "size": 28,
        "files": 2,
        "description": "a net",
    }
    assert abs(facts["added"] - time.time()) < 60 and len(facts["sha256"]) == 64
    assert {path.name for path in content.iterdir()} == {"bks_model.py", "layers.py"}
    assert "description  a net" in run("show", "model", "net").output
    assert run("list").output.startswith("model    net  2 files, 28 B")
    assert json.loads(run("list", "model", "--json").output) == [facts]
    rows = list(csv.DictReader(io.StringIO(run("list", "--csv").output)))
    assert rows == [{key: str(value) for key, value in facts.items()}]
    assert json.loads(run("list", "loader", "--json").output) == []
    assert run("remove", "model", "net").output.startswith("removed model net  2 files")
    assert json.loads(run("list", "--json").output) == []
    assert list((workdir / "store" / "models").iterdir()) == []
    assert (workdir / "net" / "layers.py").exists()


def test_the_check_sum_is_that_of_the_content(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", bks_model=MODEL, layers="A = 1\n")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for name in ("layers.py", "bks_model.py"):  # another order, and a folder around them
            archive.write(one / name, f"around/{name}")
    first = store.add(tmp_path / "s", "model", one)
    assert store.add(tmp_path / "s", "model", tmp_path / "two.zip").sha256 == first.sha256
    (one / "layers.py").write_text("A = 2\n")
    assert store.add(tmp_path / "s", "model", one, name="three").sha256 != first.sha256
    (one / "layers.py").rename(one / "other.py")
    (one / "other.py").write_text("A = 1\n")
    assert store.add(tmp_path / "s", "model", one, name="four").sha256 != first.sha256


def test_where_the_store_is(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workdir / "d").mkdir()
    assert store.store_folder() == workdir / "store"
    monkeypatch.setenv("HPCSYNAPSE_STORE", str(workdir / "named"))
    assert run("add", "dataset", "d").exit_code == 0
    assert run("add", "dataset", "d", "--store", "given").exit_code == 0
    for place in ("named", "given"):
        assert (workdir / place / "datasets" / "d" / "entry.json").is_file()
    assert store.locate("store:d", "dataset", "/") == str(workdir / "named" / "datasets" / "d" / "content")


@pytest.mark.parametrize(
    ("kind", "files", "words"),
    [
        ("model", {"net": MODEL}, "net holds no bks_model.py"),
        ("model", {"bks_model": LOADER}, "bks_model.py defines no class UserModel"),
        ("model", {"bks_model": MODEL, "other": "x ="}, "other.py:1: SyntaxError"),
        ("loader", {"bks_dataset": MODEL}, "bks_dataset.py defines no class UserDataset"),
    ],
)
def test_code_that_cannot_be_used(tmp_path: Path, kind: str, files: dict[str, str], words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        store.add(tmp_path / "store", kind, folder(tmp_path / "net", **files))
    assert ".new-" not in str(caught.value)
    assert list((tmp_path / "store" / f"{kind}s").iterdir()) == []


def test_names(tmp_path: Path) -> None:
    data, place = folder(tmp_path / "data"), tmp_path / "store"
    store.add(place, "dataset", data)
    with pytest.raises(SpecError, match=r"dataset 'data' exists already .* choose another --name"):
        store.add(place, "dataset", data)
    assert store.add(place, "loader", folder(tmp_path / "code", bks_dataset=LOADER), name="data").kind == "loader"
    with pytest.raises(SpecError, match=r"no dataset 'dat' in .*; did you mean 'data'\?"):
        store.remove(place, "dataset", "dat")
    with pytest.raises(SpecError, match="no model 'data'"):
        store.find(place, "model", "data")
    odd = folder(tmp_path / "with blank")
    with pytest.raises(SpecError, match=r"name 'with blank' cannot be kept; give --name"):
        store.add(place, "dataset", odd)
    assert store.add(place, "dataset", odd, name="plain").name == "plain"


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.text(min_size=1, max_size=70), st.sampled_from(["..", ".", "../x", "a/b", "/x", ".new-x", "a\0b", "-x"])
    )
)
def test_hostile_names(tmp_path: Path, name: str) -> None:
    """A name is kept as it is, or refused; it never leads anywhere else."""
    data, place = folder(tmp_path / "data"), tmp_path / "store"
    outside = sorted(path.name for path in tmp_path.iterdir() if path != place)
    try:
        assert Path(store.add(place, "dataset", data, name=name).path) == place / "datasets" / name / "content"
        store.remove(place, "dataset", name)
    except SpecError:
        for action in (store.find, store.remove):
            with pytest.raises(SpecError, match="no dataset"):
                action(place, "dataset", name)
    assert not place.exists() or [path.name for path in (place).rglob("*")] in ([], ["datasets"])
    assert sorted(path.name for path in tmp_path.iterdir() if path != place) == outside


def test_what_is_no_entry_is_passed_over(tmp_path: Path) -> None:
    place = tmp_path / "store"
    entry = store.add(place, "dataset", folder(tmp_path / "data"))
    for name, content in (("half", None), ("torn", '{"kind": "data'), ("wrong", '{"size": "much"}'), ("list", "[1]")):
        (place / "datasets" / name).mkdir()
        if content is not None:
            (place / "datasets" / name / "entry.json").write_text(content)
    (place / "datasets" / "file").write_text("")
    assert list(store.stored(place)) == [entry]
    with pytest.raises(SpecError, match="no dataset 'torn'"):
        store.find(place, "dataset", "torn")
    assert list(store.stored(tmp_path / "absent")) == []


def test_a_store_does_not_swallow_itself(workdir: Path) -> None:
    with pytest.raises(SpecError, match="holds the store itself"):
        store.add(workdir / "store", "dataset", workdir)


def test_two_at_once(tmp_path: Path) -> None:
    """One of many that add the same name wins; its content is whole."""
    place, results = tmp_path / "store", []
    sources = [folder(tmp_path / f"d{number}", a=f"A = {number}\n", b=f"A = {number}\n") for number in range(6)]

    def add(source: Path) -> None:
        try:
            results.append(store.add(place, "dataset", source, name="same"))
        except SpecError as error:
            results.append(error)

    threads = [threading.Thread(target=add, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    won = [result for result in results if isinstance(result, store.Entry)]
    assert len(results) == 6 and len(won) == 1
    assert all("exists already" in str(result) for result in results if isinstance(result, SpecError))
    content = Path(won[0].path)
    assert (content / "a.py").read_text() == (content / "b.py").read_text()
    assert [path.name for path in (place / "datasets").iterdir()] == ["same"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "drafts"), [(signal.SIGKILL, 1), (signal.SIGTERM, 0)])
def test_killed_while_adding(tmp_path: Path, number: int, drafts: int) -> None:
    """Every command reads what is left: no entry, or a whole one; only SIGKILL leaves a hidden draft behind."""
    data, place = folder(tmp_path / "data"), tmp_path / "store"
    for index in range(3000):
        (data / f"{index}").write_text("x")
    words = [sys.executable, "-m", "hpcsynapse", "store", "add", "dataset", str(data), "--store", str(place)]
    adding = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 30
    while not list(place.glob("datasets/.new-*/content/1*")):
        assert time.monotonic() < end and adding.poll() is None, adding.communicate()
    adding.send_signal(number)
    adding.communicate(timeout=30)
    assert list(store.stored(place)) == []
    assert len(list((place / "datasets").iterdir())) == drafts
    assert store.add(place, "dataset", data).files == 3000
    assert run("list", "--store", str(place)).output.startswith("dataset  data  3000 files")


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match=r"cannot add to .*file: Not a directory"):
        store.add(tmp_path / "file", "dataset", folder(tmp_path / "data"))


def test_limits_are_options(workdir: Path) -> None:
    data = folder(workdir / "d", a="A = 1\n" * 100, b="")
    for option, words in (
        ("--max-size=500", "600 bytes are more than the 500"),
        ("--max-files=1", "more than the 1 files"),
    ):
        result = run("add", "dataset", str(data), option)
        assert words in str(result.exception)
    assert run("add", "dataset", str(data), "--max-size", "1K", "--max-files", "2").exit_code == 0
    assert run("add", "dataset", str(data), "--max-ratio", "0").exit_code == 2


def test_sizes() -> None:
    assert [parse_bytes(text) for text in ("5", "4K", "2M", "100GB")] == [5, 4096, 2 << 20, 100 << 30]
    for wrong in ("", "0", "-1", "1.5G", "G", "1E"):
        with pytest.raises(SpecError, match="is not a number of bytes"):
            parse_bytes(wrong)
    assert [format_bytes(size) for size in (0, 999, 1000, 1 << 20, 5 << 30, 3 << 40)] == [
        "0 B",
        "999 B",
        "1.0 KiB",
        "1.0 MiB",
        "5.0 GiB",
        "3.0 TiB",
    ]
