"""What people type for a program that none can start: `train.py` without its Python, or the job file of a queue."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from hpcsynapse.findings import Finding
from hpcsynapse.jobfiles import lines
from hpcsynapse.spec.job import JobSpec

_INTERPRETERS = {".py": "python", ".sh": "bash", ".bash": "bash", ".R": "Rscript", ".jl": "julia", ".pl": "perl"}
_MARK = b"\xef\xbb\xbf"  # of byte order, which the checks of a script name
_BINARY = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"#!")  # what the kernel starts by itself (execve(2))
_LAUNCHERS = ("srun", "mpirun", "mpiexec")


def mistaken_program(spec: JobSpec) -> Iterator[Finding]:
    """Yield what is wrong where the program is a file here that no rank can start, with what to type instead."""
    program = spec.command[0]
    path = Path(spec.workdir or ".", program)
    if not path.is_file() or ("/" not in program and shutil.which(program)):
        return
    text = beginning(path)
    if is_job_file(text):
        yield Finding("error", "command", _job_file(program, text))
    elif not os.access(path, os.X_OK) or not text.startswith((*_BINARY, _MARK + b"#!")):
        yield Finding("error", "command", _write_instead(spec, path, text))
    elif "/" not in program:
        yield Finding(
            "error",
            "command",
            f"{program!r} is a file here, but not on the PATH; write: {_words(spec, './' + program)}",
        )


def _write_instead(spec: JobSpec, path: Path, text: bytes) -> str:
    program = spec.command[0]
    interpreter = _INTERPRETERS.get(path.suffix) or _named(text) or "PROGRAM"
    why = "has no #! line" if os.access(path, os.X_OK) else "is a file here, but not a program that can be started"
    return f"{program!r} {why}; write: {_words(spec, f'{interpreter} {shlex.quote(program)}')}"


def _words(spec: JobSpec, program: str) -> str:
    arguments = shlex.join(spec.command[1:])
    return f"hpcsynapse submit -- {program} {arguments}".rstrip()


def _named(text: bytes) -> str:
    """Return the interpreter that a #! line names, without folder; `env` is looked through."""
    words = text.partition(b"\n")[0].removeprefix(b"#!").split() if text.startswith(b"#!") else []
    names = [Path(os.fsdecode(word)).name for word in words if not word.startswith(b"-")]
    return next((name for name in names if name != "env"), "")


def is_job_file(text: bytes) -> bool:
    """Tell whether a script has lines that ask a queue for something."""
    return any(map(lines.is_directive_line, text.decode(errors="replace").splitlines()))


def _job_file(program: str, text: bytes) -> str:
    """Tell how to queue a job file as it is, and how its command and nodes would be written here."""
    told = text.decode(errors="replace")
    nodes = lines.asked_nodes(told)
    asked = f"--nodes {nodes} " if nodes else ""
    return (
        f"{program!r} is a job file, whose lines to the queue would be ignored: queue it with {lines.SUBMIT}, or put "
        f"its command behind --, with what it asks for as options: hpcsynapse submit {asked}-- {_last_command(told)}"
    )


def _last_command(text: str) -> str:
    """Return the last command of a script without the launcher and its options, or COMMAND where that is not clear."""
    commands = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    words = commands[-1].split() if commands else []
    while words and (words[0] in _LAUNCHERS or (words[0].startswith("-") and "=" in words[0])):
        words.pop(0)
    plain = words and re.fullmatch(r"[\w./-]+", words[0]) and not words[0].startswith("-")
    return " ".join(words) if plain else "COMMAND"


def beginning(path: Path) -> bytes:
    """Return the first 64 KiB of a file, nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(1 << 16)
    except OSError:
        return b""
