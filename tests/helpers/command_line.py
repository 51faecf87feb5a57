"""`hpcsynapse` as a process of its own, without the time that a new Python takes to load what is loaded here already.

The process is a fork of the tests' own: it has a standard input that is empty, its output goes into files, and it ends
as any other. What a fresh Python would do is tested where that matters (`tests/unit/test_architecture.py`, the lab).
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from typing import BinaryIO, NoReturn

from hpcsynapse.cli.main import main


def hpcsynapse(*arguments: str, timeout: float = 240, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end, with more variables; raises TimeoutExpired after killing it."""
    command = ["hpcsynapse", *arguments]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _become(command, environ, out, err)
        status = _wait(child, command, timeout)
        out.seek(0)
        err.seek(0)
        said = [stream.read().decode(errors="surrogateescape") for stream in (out, err)]
    return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(status), *said)


def _wait(child: int, command: list[str], timeout: float) -> int:
    end = time.monotonic() + timeout
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise subprocess.TimeoutExpired(command, timeout)
        time.sleep(0.002)


def _become(command: list[str], environ: dict[str, str], out: BinaryIO, err: BinaryIO) -> NoReturn:
    """Be the program in the forked process; nothing of the tests may run in it, whatever happens."""
    code = 1
    try:
        for number, stream in enumerate((io.FileIO(os.open(os.devnull, os.O_RDONLY)), out, err)):
            os.dup2(stream.fileno(), number)
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
        sys.stdout = _text(1, "surrogateescape")
        sys.stderr = _text(2, "backslashreplace")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(environ)
        sys.argv = command
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001  as Python itself ends a program
        traceback.print_exc()
    finally:
        for written in (sys.stdout, sys.stderr):
            written.flush()
        os._exit(code)


def _text(number: int, errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(number, "w", closefd=False)), "utf-8", errors, line_buffering=number == 2
    )
