"""The server as a process: where it listens, who finds it, what it does while nobody looks, and when it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from web import Server, wait_for_end
from web_runs import make_run

from hpcsynapse.errors import SpecError
from hpcsynapse.serve import endpoint
from hpcsynapse.serve.server import Bounds, over


@pytest.fixture
def one_run(tmp_path: Path) -> Path:
    make_run(tmp_path / "runs", "one")
    return tmp_path / "runs"


def test_the_socket_is_for_its_user_alone_and_goes_with_the_server(one_run: Path) -> None:
    server = Server(one_run)
    path = Path(server.target)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert re.fullmatch(r"on your own machine, type   ssh -N -L 8642:/\S+\.sock \S+@\S+\n", server.printed[0])
    assert server.get("runs")["runs"][0]["name"] == "one"
    notice = next(path.parent.glob("*.json"))
    assert stat.S_IMODE(notice.stat().st_mode) == 0o600
    kept = [file for file in server.home.rglob("*") if file.is_file() and server.token in file.read_text()]
    assert kept == [notice]
    assert server.token not in Path(f"/proc/{server.process.pid}/cmdline").read_text()
    left = server.home
    server._own = False
    assert server.close() == 128 + signal.SIGTERM
    assert not path.exists() and not notice.exists()
    assert not list(left.rglob("*.json"))
    shutil.rmtree(left)


def test_a_second_one_finds_the_first_and_a_killed_one_leaves_its_place(one_run: Path) -> None:
    first = Server(one_run)
    done = subprocess.run(first.command, env=first.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.splitlines(True) == first.printed
    assert f"is there already (process {first.process.pid})" in done.stderr
    done = subprocess.run([*first.command, "--allow-actions"], env=first.environment, capture_output=True, text=True)
    assert f"it allows no actions: end it (kill {first.process.pid})" in done.stderr
    first.process.kill()
    first.process.wait(20)
    again = Server(one_run, home=first.home)
    assert again.printed[0] == first.printed[0] and again.token != first.token
    assert again.ask("/api/v1/runs", token=first.token)[0] == 401
    again.close()
    first._own = True
    first.process.stdout.close()  # type: ignore[union-attr]
    shutil.rmtree(first.home)


def test_a_port_is_of_this_machine_alone_and_wants_the_token(one_run: Path) -> None:
    server = Server(one_run, "--port", "0")
    host, _, port = server.target.rpartition(":")
    assert host == "127.0.0.1"
    listening = Path(f"/proc/{server.process.pid}/net/tcp").read_text()
    assert f"0100007F:{int(port):04X}" in listening and f"00000000:{int(port):04X}" not in listening
    assert server.ask("/api/v1/runs", token="")[0] == 401
    assert server.get("runs")["runs"]
    server.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_cannot_connect(one_run: Path) -> None:
    server = Server(one_run)
    server.home.chmod(0o755)  # the socket's own folder is what keeps others out
    connect = f"import socket; socket.socket(socket.AF_UNIX).connect({server.target!r})"
    argv = ["setpriv", "--reuid", "65534", "--clear-groups", "python3", "-c", connect]
    done = subprocess.run(argv, capture_output=True, text=True, cwd="/", timeout=30)
    assert "PermissionError" in done.stderr
    server.close()


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "hpcsynapse"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(SpecError, match="not a folder of yours alone"):
        endpoint.private_folder()
    folder.rmdir()
    (tmp_path / "real").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "real")
    with pytest.raises(SpecError, match="not a folder of yours alone"):
        endpoint.private_folder()
    folder.unlink()
    if os.geteuid() == 0:
        folder.mkdir(mode=0o700)
        os.chown(folder, 65534, 65534)
        with pytest.raises(SpecError, match="not a folder of yours alone"):
            endpoint.private_folder()


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("x" * 90)))
    (tmp_path / ("x" * 90)).mkdir(mode=0o700)
    with pytest.raises(SpecError, match="107 bytes"):
        endpoint.Endpoint(tmp_path)


def test_a_server_on_another_machine_is_named(one_run: Path, tmp_path: Path) -> None:
    first = Server(one_run)
    note = next((first.home / "state" / "hpcsynapse").glob("*.json"))
    told = json.loads(note.read_text())
    assert set(told) == {"host", "pid", "runs", "started"}
    first.process.kill()
    first.process.wait(20)
    note.write_text(json.dumps({**told, "host": "login2.example.org"}))
    again = Server(one_run, home=first.home)
    assert f"was started on login2.example.org (process {told['pid']})" in again.errors()
    again.close()
    first.process.stdout.close()  # type: ignore[union-attr]
    shutil.rmtree(first.home)


def test_it_ends_when_nobody_uses_it(one_run: Path) -> None:
    server = Server(one_run, "--idle", "1s")
    assert wait_for_end(server.process) == 0
    assert "the server ends" in server.errors()
    server.process.stdout.close()  # type: ignore[union-attr]
    shutil.rmtree(server.home)


def test_it_ends_when_its_processor_time_is_used_up(one_run: Path) -> None:
    server = Server(one_run, "--cpu-budget", "1s")
    end = time.monotonic() + 60
    while server.process.poll() is None and time.monotonic() < end:
        try:
            server.ask("/api/v1/runs")
        except (OSError, IndexError):
            break
    assert wait_for_end(server.process) == 0
    assert "seconds of processor time are used up" in server.errors()
    server.process.stdout.close()  # type: ignore[union-attr]
    shutil.rmtree(server.home)


def test_bounds() -> None:
    assert over(12 * 3600, 0, Bounds(12 * 3600, None)) == "not used for 12 hours: the server ends"
    assert over(3600, 600, Bounds(12 * 3600, 600)) == "its 600 seconds of processor time are used up: the server ends"
    assert over(3600, 599, Bounds(12 * 3600, 600)) == ""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here")
def test_nothing_is_done_while_nobody_looks(one_run: Path, tmp_path: Path) -> None:
    make_run(one_run, "goes-on", "TRAINING")
    trace = tmp_path / "trace"
    prefix = ["strace", "-f", "-qq", "-e", "trace=%file,execve,connect", "-o", str(trace)]
    server = Server(one_run, prefix=prefix)
    server.get("runs")
    assert str(one_run) in trace.read_text()
    before = len(trace.read_text().splitlines())
    time.sleep(12)  # two looks of the server at its bounds
    after = trace.read_text().splitlines()[before:]
    assert not [line for line in after if str(one_run) in line or "execve" in line or "connect" in line]
    os.kill(int(Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()), signal.SIGTERM)
    server.process.wait(20)
    server.process.stdout.close()  # type: ignore[union-attr]
    shutil.rmtree(server.home)


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "hpcsynapse", "serve", "--runs", str(tmp_path / "absent")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "there is no folder of runs" in done.stderr and not done.stdout
