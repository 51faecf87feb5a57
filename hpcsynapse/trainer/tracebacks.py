"""Errors in users' code, told by their file and line: the trainer's own frames are not what a user sees first."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from traceback import FrameSummary, TracebackException

from hpcsynapse.trainer import usercode

_OURS = str(Path(__file__).parents[1]) + os.sep
_LIBRARIES = tuple(
    path + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib") if (path := sysconfig.get_path(name))
)
_PRIVATE = re.compile(usercode.PREFIX + r"[0-9a-f]+\.")  # the name of a user's folder as a package
_LONGEST = 300  # characters of a message in one line


def describe(error: BaseException) -> str:
    """Return an error in one line: `file:line: Type: message` where a user's code raised it, else `Type: message`."""
    message = _message(error)
    shown = f"{type(error).__name__}: {message}" if message else type(error).__name__
    found = next(filter(None, map(_place, _chain(error))), "")
    return _PRIVATE.sub("", f"{found}: {shown}" if found else shown)


def render(error: BaseException) -> str:
    """Return the traceback of an error, ending in a line that says `describe`.

    Where a user's code raised it, it begins with the user's first frame and leaves out the machinery of imports.
    """
    whole = TracebackException.from_exception(error)
    if any(map(_place, _chain(error))):
        for part in _parts(whole):
            _trim(part)
    return _PRIVATE.sub("", "".join(whole.format())) + f"hpcsynapse: {describe(error)}\n"


def _message(error: BaseException) -> str:
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:  # noqa: BLE001 - a user's exception may fail to describe itself
        return "(its message cannot be shown)"
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:_LONGEST]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _place(error: BaseException) -> str:
    """Return `file:line` of the deepest frame of a user's, or of a user's file that does not compile."""
    if isinstance(error, SyntaxError) and error.filename and _is_users(error.filename):
        return f"{error.filename}:{error.lineno or 1}"
    trace, found = error.__traceback__, ""
    while trace is not None:
        if _is_users(file := trace.tb_frame.f_code.co_filename):
            found = f"{file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _is_users(file: str) -> bool:
    """Tell whether a file is neither ours nor a library's."""
    if file.startswith(("<", _OURS, *_LIBRARIES)):
        return False
    return not {"site-packages", "dist-packages"} & set(Path(file).parts)


def _parts(trace: TracebackException | None) -> Iterator[TracebackException]:
    while trace is not None:
        yield trace
        trace = trace.__cause__ or (None if trace.__suppress_context__ else trace.__context__)


def _trim(trace: TracebackException) -> None:
    """Drop what comes before the user's first frame, and imports' own frames behind it."""
    frames = list(trace.stack)
    first = next((number for number, frame in enumerate(frames) if _is_users(frame.filename)), None)
    if first is not None:
        trace.stack[:] = [frame for frame in frames[first:] if not _is_import(frame)]
    elif trace.exc_type is not None and issubclass(trace.exc_type, SyntaxError):
        trace.stack.clear()


def _is_import(frame: FrameSummary) -> bool:
    return frame.filename.startswith("<frozen importlib") or frame.filename == usercode.__file__
