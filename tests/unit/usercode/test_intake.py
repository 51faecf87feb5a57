"""Archives and folders that come into the store: nothing leaves the target, nothing is a link, nothing explodes."""

from __future__ import annotations

import io
import os
import stat
import string
import zipfile
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hpcsynapse.errors import SpecError
from hpcsynapse.usercode import store
from hpcsynapse.usercode.intake import Limits, chunks, opened


def archive(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        for name, content in members:
            info = zipfile.ZipInfo(name) if isinstance(name, str) else name
            info.compress_type = method
            made.writestr(info, content)
    return path


def special(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    return info


def taken(path: Path, limits: Limits | None = None) -> dict[str, bytes]:
    with opened(path, limits or Limits()) as sources:
        return {str(source.path): b"".join(chunks(source)) for source in sources}


def test_files_come_in_as_they_are(tmp_path: Path) -> None:
    members = (
        ("b/c.txt", b"1"),
        ("a.txt", b"2" * 3_000_000),
        ("b/", b""),
        ("./d.txt", b""),
        ("__MACOSX/b/._c", b"x"),
        ("b/__pycache__/c.pyc", b"x"),
    )
    expected = {"a.txt": b"2" * 3_000_000, "b/c.txt": b"1", "d.txt": b""}
    loose = Limits(ratio=10_000)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert taken(archive(tmp_path / "x.zip", *members, method=method), Limits(ratio=1e9)) == expected
    folder = tmp_path / "folder"
    for name, content in expected.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "b" / "__pycache__").mkdir()
    (folder / "b" / "__pycache__" / "c.pyc").write_bytes(b"x")
    assert taken(folder, loose) == expected


def test_backslashes_of_windows_archivers_separate_folders(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", ("top\\", b""), ("top\\src\\", b""), ("top\\src\\a.py", b"1"), ("top/b", b"2"))
    assert taken(path) == {"src/a.py": b"1", "b": b"2"}
    twice = archive(tmp_path / "y.zip", ("beside", b""), ("a\\b", b"1"), ("a/b", b"2"))
    with pytest.raises(SpecError, match=r"'a/b' is there twice"):
        taken(twice)


def test_one_top_folder_is_left_out(tmp_path: Path) -> None:
    one = archive(tmp_path / "a.zip", ("top/x/a", b"1"), ("top/b", b"2"), ("__MACOSX/top/._b", b"3"))
    assert taken(one) == {"x/a": b"1", "b": b"2"}
    two = archive(tmp_path / "b.zip", ("top/a", b"1"), ("other/b", b"2"))
    assert taken(two) == {"top/a": b"1", "other/b": b"2"}
    beside = archive(tmp_path / "c.zip", ("top/a", b"1"), ("b", b"2"))
    assert taken(beside) == {"top/a": b"1", "b": b"2"}
    assert taken(archive(tmp_path / "d.zip")) == {}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil", "does not name a file below"),
        ("a/../../evil", "does not name"),
        ("/etc/evil", "does not name"),
        ("a/..", "does not name"),
        ("C:/evil", "does not name"),
        ("c:evil", "does not name"),
        ("..\\evil", "does not"),
        ("a\\..\\..\\evil", "does not name"),
        ("\\\\host\\share", "does not name"),
        ("\\etc", "does not name"),
        ("C:\\evil", "does not name"),
        ("a//b", "does not name"),
        ("//", "does not"),
        ("a\nb", "control character"),
        ("a\x1b[2J", "control character"),
        ("x" * 256, "too long"),
        ("/".join(["d" * 100] * 30), "too long"),
    ],
)
def test_names_that_say_anything_but_a_file_below(tmp_path: Path, name: str, words: str) -> None:
    path = archive(tmp_path / "x.zip", ("fine", b"1"), (name, b"evil"))
    with pytest.raises(SpecError, match=words):
        taken(path)


def test_a_name_that_ends_for_some_readers(tmp_path: Path) -> None:
    """zipfile cuts a name at NUL; what it cut off must not pass unseen."""
    content = archive(tmp_path / "x.zip", ("fineXevil", b"1")).read_bytes()
    (tmp_path / "x.zip").write_bytes(content.replace(b"fineXevil", b"fine\0evil"))
    with pytest.raises(SpecError, match="control character"):
        taken(tmp_path / "x.zip")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (stat.S_IFLNK, "a symbolic link"),
        (stat.S_IFIFO, "a pipe"),
        (stat.S_IFSOCK, "a socket"),
        (stat.S_IFCHR, "a device"),
        (stat.S_IFBLK, "a device"),
    ],
)
def test_only_plain_files_in_archives(tmp_path: Path, kind: int, words: str) -> None:
    path = archive(tmp_path / "x.zip", ("fine", b"1"), (special("odd", kind), b"/etc/passwd"))
    with pytest.raises(SpecError, match=f"'odd' is {words}"):
        taken(path)


def test_only_plain_files_in_folders(tmp_path: Path) -> None:
    for name, make in (
        ("link", lambda path: path.symlink_to("/etc/passwd")),
        ("folder", lambda path: path.symlink_to("/etc")),
        ("dangling", lambda path: path.symlink_to("nowhere")),
        ("pipe", os.mkfifo),
    ):
        folder = tmp_path / name
        (folder / "deep").mkdir(parents=True)
        make(folder / "deep" / "odd")
        with pytest.raises(SpecError, match=r"deep/odd is a (symbolic link|pipe)"):
            taken(folder)


@pytest.mark.parametrize("names", [("a", "a"), ("a", "./a"), ("a", "a/b"), ("a/b", "a"), ("a", "a/"), ("a/b/c", "a/b")])
def test_a_name_stands_for_one_thing(tmp_path: Path, names: tuple[str, str]) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.writestr("beside", b"")
        for name in names:
            with pytest.warns(UserWarning, match="Duplicate") if name in made.namelist() else nullcontext():
                made.writestr(name, b"")
    with pytest.raises(SpecError, match=r"there twice|both a file and a folder"):
        taken(tmp_path / "x.zip")


def test_bombs(tmp_path: Path) -> None:
    bomb = archive(tmp_path / "x.zip", ("zeros", bytes(20_000_000)))
    with pytest.raises(SpecError, match=r"20000000 bytes out of \d+ look like a zip bomb .*--max-ratio"):
        taken(bomb)
    assert len(taken(bomb, Limits(ratio=10_000))["zeros"]) == 20_000_000
    with pytest.raises(SpecError, match=r"20000000 bytes are more than the 1000000 allowed; give --max-size"):
        taken(bomb, Limits(size=1_000_000, ratio=10_000))
    many = archive(tmp_path / "y.zip", *((f"f{number}", b"") for number in range(11)))
    with pytest.raises(SpecError, match="more than the 10 files allowed; give --max-files"):
        taken(many, Limits(files=10))
    assert len(taken(many, Limits(files=11))) == 11
    # The same bytes under many names, as overlapping archives have them: the archive's own size is what counts.
    overlapping = io.BytesIO()
    with zipfile.ZipFile(overlapping, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("0", bytes(150_000))
        first = made.infolist()[0]
        for number in range(1, 30):
            other = zipfile.ZipInfo(f"{number}")
            for field in ("CRC", "compress_size", "file_size", "compress_type", "header_offset"):
                setattr(other, field, getattr(first, field))
            made.filelist.append(other)
            made.NameToInfo[other.filename] = other
        made._didModify = True
    (tmp_path / "z.zip").write_bytes(overlapping.getvalue())
    with pytest.raises(SpecError, match="zip bomb"):
        taken(tmp_path / "z.zip")


def test_an_archive_that_lies_about_a_size_is_damaged(tmp_path: Path) -> None:
    content = archive(tmp_path / "x.zip", ("zeros", bytes(1000)), method=zipfile.ZIP_STORED).read_bytes()
    for lie in (10, 100_000):
        changed = content.replace((1000).to_bytes(4, "little"), lie.to_bytes(4, "little"))
        assert changed != content
        (tmp_path / "x.zip").write_bytes(changed)
        with pytest.raises(SpecError, match=r"zeros: damaged|not a whole"):
            taken(tmp_path / "x.zip")


def test_what_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with pytest.raises(SpecError, match="does not exist"):
        taken(path)
    for content in (b"", b"text", b"PK\x03\x04" + bytes(100)):
        path.write_bytes(content)
        with pytest.raises(SpecError, match="neither a folder nor a zip archive"):
            taken(path)
    whole = archive(path, ("a", os.urandom(5000)), ("b", b"2")).read_bytes()
    path.write_bytes(whole[:1000] + bytes(100) + whole[1100:])
    with pytest.raises(SpecError, match="a: damaged in the archive"):
        taken(path)
    path.write_bytes(whole.replace(b"PK\x01\x02", b"PK\x01\x03"))
    with pytest.raises(SpecError, match="not a whole zip archive"):
        taken(path)


def test_encrypted_archives(tmp_path: Path) -> None:
    content = bytearray(archive(tmp_path / "x.zip", ("a", b"1")).read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(SpecError, match="'a' is encrypted"):
        taken(tmp_path / "x.zip")


_PIECES = st.sampled_from(
    ["..", ".", "", "/", "\\", "a", "b", "C:", "\0", "\n", "~", "..\\..", "content", "entry.json"]
)
_NAMES = st.one_of(
    st.lists(_PIECES, min_size=1, max_size=6).map("/".join),
    st.text(alphabet=string.printable + "é\u2028", min_size=1, max_size=30),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_NAMES, min_size=1, max_size=4, unique=True), st.sampled_from([0, stat.S_IFREG, stat.S_IFLNK]))
@example(["a/../../../escaped"], 0)
@example(["a", "a/b"], stat.S_IFREG)
def test_no_archive_writes_outside(tmp_path: Path, names: list[str], kind: int) -> None:
    """Whatever the names: an entry is added whole below its own folder, or nothing is left at all."""
    place = tmp_path / "store"
    before = {path for path in tmp_path.rglob("*") if place not in (path, *path.parents)}
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as made:
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename, info.external_attr = name, (kind | 0o644) << 16 if kind else 0
            made.writestr(info, b"content")
    try:
        entry = store.add(place, "dataset", path, name="x")
    except SpecError:
        assert not (place / "datasets").exists() or list((place / "datasets").iterdir()) == []
    else:
        content = Path(entry.path)
        files = [found for found in content.rglob("*") if not found.is_dir()]
        assert len(files) == entry.files <= len(names)
        assert all(not found.is_symlink() and found.read_bytes() == b"content" for found in files)
        assert {found.name for found in content.parent.iterdir()} == {"content", "entry.json"}
        store.remove(place, "dataset", "x")
    after = {path for path in tmp_path.rglob("*") if place not in (path, *path.parents)}
    assert after - {path} == before - {path}
    assert not Path("/escaped").exists()
