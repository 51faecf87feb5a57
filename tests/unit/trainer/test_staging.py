"""Copies on a node's own disk: made once, whole or not at all, and renewed when the source has changed."""

import fcntl
import json
import os
import shutil
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpcsynapse.errors import SpecError, TrainError
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer.data import staging

LIMIT = 20.0


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "a set"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "one.bin").write_bytes(os.urandom(3000))
    (folder / "deep" / "er" / "two").write_bytes(b"2")
    (folder / "link").symlink_to("one.bin")
    (folder / "empty").touch()
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def stage(source: Path, scratch: Path, limit: float = LIMIT) -> Path:
    return Path(staging.stage(str(source), str(scratch), limit))


def test_a_folder_is_copied_once(source: Path, scratch: Path) -> None:
    copy = stage(source, scratch)
    assert copy.name == source.name and scratch in copy.parents
    assert content(copy) == content(source) and not (copy / "link").is_symlink()
    kept = (copy / "one.bin").stat()
    assert stage(source, scratch) == copy
    assert (copy / "one.bin").stat().st_ino == kept.st_ino
    assert oct((scratch / f"hpcsynapse-{os.getuid()}").stat().st_mode)[-3:] == "700"


def test_a_changed_source_has_a_new_copy_beside_the_old(source: Path, scratch: Path) -> None:
    old = stage(source, scratch)
    before = content(old)
    (source / "one.bin").write_bytes(os.urandom(3000))  # same size, other time
    new = stage(source, scratch)
    assert new != old
    assert content(new) == content(source) and content(old) == before


@pytest.mark.parametrize("damage", ["shorter", "gone", "more", "all gone"])
def test_a_damaged_copy_is_made_again(source: Path, scratch: Path, damage: str) -> None:
    copy = stage(source, scratch)
    if damage == "more":
        (copy / "stray").touch()
    elif damage == "all gone":
        shutil.rmtree(copy)
    else:
        (copy / "one.bin").unlink() if damage == "gone" else (copy / "one.bin").write_bytes(b"x")
    assert stage(source, scratch) == copy
    assert content(copy) == content(source)


def test_a_draft_of_a_killed_rank_is_dropped(source: Path, scratch: Path) -> None:
    copy = stage(source, scratch)
    draft = copy.parent.rename(copy.parent.with_name(copy.parent.name + ".draft"))
    (draft / source.name / "stray").touch()
    assert content(stage(source, scratch)) == content(source)
    assert not draft.exists()


def test_one_file_and_a_folder_given_with_dots(source: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = stage(source / "one.bin", scratch)
    assert copy.name == "one.bin" and copy.read_bytes() == (source / "one.bin").read_bytes()
    monkeypatch.chdir(source / "deep")
    assert content(stage(Path(".."), scratch)) == content(source)
    link = source.with_name("other name")
    link.symlink_to(source)
    assert stage(link, scratch).name == "other name" and content(stage(link, scratch)) == content(source)


def test_many_ranks_make_one_copy(source: Path, scratch: Path) -> None:
    """Six processes at once; each tells the copy that it was given, and the inode of a file in it."""
    pipe, write = os.pipe()
    ranks = []
    for _ in range(6):
        if not (rank := os.fork()):
            try:
                copy = stage(source, scratch) / "one.bin"
                os.write(write, f"{copy} {copy.stat().st_ino}\n".encode())
            finally:
                os._exit(0)
        ranks.append(rank)
    for rank in ranks:
        os.waitpid(rank, 0)
    os.close(write)
    with os.fdopen(pipe) as told:
        lines = told.read().splitlines()
    assert len(lines) == 6 and len(set(lines)) == 1


def test_the_wait_for_another_rank_has_a_limit(source: Path, scratch: Path) -> None:
    home = stage(source, scratch).parent.parent
    with (home / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TrainError, match=r"start_limit = 0\.3 s: another rank of this node has not copied it"):
            stage(source, scratch, 0.3)


def test_the_copying_has_a_limit_and_leaves_nothing(
    source: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = os.utime

    def utime(*args: object, **more: object) -> None:
        time.sleep(0.2)
        slow(*args, **more)

    monkeypatch.setattr(os, "utime", utime)  # a file system that is slow
    with pytest.raises(TrainError, match=r"launch.start_limit = 0.3 s: 0\.000 of 0\.000 GB were copied"):
        stage(source, scratch, 0.3)
    assert not [path for path in scratch.rglob("*") if path.name == "one.bin"]


def test_what_another_rank_has_just_compared_is_taken_as_it_is(source: Path, scratch: Path) -> None:
    """With many files and ranks, every rank would list the shared folder anew."""
    copy = stage(source, scratch)
    later = time.time() + 60
    os.utime(copy.parent.parent / "newest.json", (later, later))
    shutil.rmtree(source)
    assert stage(source, scratch) == copy


def test_refusals_name_node_and_path(
    source: Path, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = socket.gethostname()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5000))
    with pytest.raises(TrainError, match=rf"to {scratch} on node {node}: 0\.000 GB are to be copied, but only 0\.000"):
        stage(source, scratch)
    monkeypatch.undo()
    with pytest.raises(TrainError, match=f"{tmp_path}/absent to {scratch} on node {node}: .*No such file"):
        stage(tmp_path / "absent", scratch)
    with pytest.raises(TrainError, match=f"on node {node}: .*No such file.*{tmp_path}/nowhere"):
        stage(source, tmp_path / "nowhere")
    (source / "dangling").symlink_to("nothing")
    with pytest.raises(TrainError, match=r"No such file.*dangling"):
        stage(source, scratch)
    (source / "dangling").unlink()
    (source / "deep" / "loop").symlink_to("..")
    with pytest.raises(TrainError, match="loop links back to a folder that it lies in"):
        stage(source, scratch)
    (source / "deep" / "loop").unlink()
    os.mkfifo(source / "pipe")
    with pytest.raises(TrainError, match="pipe is neither a file nor a folder"):
        stage(source, scratch)


def test_a_folder_that_another_user_has_prepared(source: Path, scratch: Path, tmp_path: Path) -> None:
    (scratch / f"hpcsynapse-{os.getuid()}").symlink_to(tmp_path)
    with pytest.raises(TrainError, match="is not a folder of this user's"):
        stage(source, scratch)


def test_variables_are_those_of_the_node(source: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_SCRATCH", str(scratch))
    assert scratch in stage(source, Path("$NODE_SCRATCH")).parents
    with pytest.raises(TrainError, match=r"train.stage = '\$ABSENT/x' means .* on node .*: a variable in it is not"):
        stage(source, Path("$ABSENT/x"))
    monkeypatch.setenv("NODE_SCRATCH", "here")
    with pytest.raises(TrainError, match="no absolute path"):
        stage(source, Path("$NODE_SCRATCH"))
    with pytest.raises(SpecError, match=r"train.stage = 'here' must be an absolute path, or begin with a variable"):
        TrainSpec(stage="here")


def test_paths_of_a_description(source: Path, scratch: Path) -> None:
    args = {"val_path": str(source / "deep"), "size": 3}
    found = staging.staged(TrainSpec(data_path=str(source), data_args=args), str(scratch), LIMIT)
    assert content(Path(found.data_path)) == content(source)
    assert content(Path(found.data_args["val_path"])) == {"er/two": b"2"}
    assert found.data_args["size"] == 3
    nothing = TrainSpec()
    assert staging.staged(nothing, str(scratch), LIMIT) == nothing
    newest = json.loads((Path(found.data_path).parent.parent / "newest.json").read_text())
    assert newest["source"] == str(source)
