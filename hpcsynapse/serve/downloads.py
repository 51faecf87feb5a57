"""Files to take away: checkpoints, all that a run wrote but these as one archive, and the timeline of its ranks.

What is made is made in a folder of this machine that goes with the answer. Links in a run's folder are left out.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from hpcsynapse.errors import RunNotFoundError
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.serve.detail import checkpoints, open_inside
from hpcsynapse.serve.index import RunIndex

if TYPE_CHECKING:
    from starlette.responses import StreamingResponse

_PIECE = 1 << 18
_MOST_FILES = 20_000  # of an archive
_FOLDERS = ("logs", "timings", "tensorboard", "telemetry")
Download = tuple[str, str, IO[bytes]]  # name, type, content


def checkpoint(index: RunIndex, name: str, file: str) -> Download:
    """Return a checkpoint of a run as a file."""
    run = index.find(name)
    if file not in [one.file for one in checkpoints(run)]:
        raise RunNotFoundError(f"run {name} has no checkpoint {file!r}")
    try:
        return f"{run.name}-{file}", "application/octet-stream", os.fdopen(open_inside(run, "checkpoints", file), "rb")
    except OSError:
        raise RunNotFoundError(f"run {name} has no checkpoint {file!r}") from None


def timeline(index: RunIndex, name: str) -> Download:
    """Return the steps of all ranks as a trace, as `timeline` writes it, for ui.perfetto.dev."""
    from hpcsynapse.report.timeline import write_timeline

    run = index.find(name)

    def make(folder: Path) -> Path:
        write_timeline(run, folder / "trace.json.gz")
        return folder / "trace.json.gz"

    return f"{run.name}.json.gz", "application/gzip", _made(make)


def archive(index: RunIndex, name: str) -> Download:
    """Return description, job file, states, metrics, logs, step records and TensorBoard files as a zip archive."""
    run = index.find(name)
    return f"{run.name}.zip", "application/zip", _made(lambda folder: _zip(run, folder / "run.zip"))


def _zip(run: RunDirectory, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as found:
        for folder, file in _files(run)[:_MOST_FILES]:
            with suppress(OSError), os.fdopen(open_inside(run, folder, file), "rb") as source:
                inside = "/".join(part for part in (run.name, folder, file) if part)
                with found.open(zipfile.ZipInfo(inside), "w", force_zip64=True) as part:
                    shutil.copyfileobj(source, part, _PIECE)
    return target


def _files(run: RunDirectory) -> list[tuple[str, str]]:
    """Return folder and name of what an archive holds; no secret, whose names begin with a point."""
    found = []
    for folder in ("", *_FOLDERS):
        place = run.path / folder
        with suppress(OSError):
            if not place.is_symlink():
                names = sorted(one.name for one in os.scandir(place) if one.is_file(follow_symlinks=False))
                found += [(folder, name) for name in names if not name.startswith(".")]
    return found


def _made(make: Callable[[Path], Path]) -> IO[bytes]:
    """Return what is made in a folder of its own, open; its name is gone then."""
    with tempfile.TemporaryDirectory(prefix="hpcsynapse-") as folder:
        return make(Path(folder)).open("rb")


def response(download: Download) -> StreamingResponse:
    """Return a file as an answer that no browser shows as a page of ours."""
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import StreamingResponse

    name, kind, content = download

    async def pieces() -> AsyncIterator[bytes]:
        with content:
            while piece := await run_in_threadpool(content.read, _PIECE):
                yield piece

    headers = {
        "content-disposition": f'attachment; filename="{name}"',
        "content-length": str(os.fstat(content.fileno()).st_size),
        "content-security-policy": "sandbox; default-src 'none'",
        "cache-control": "no-store",
        "content-encoding": "identity",
    }
    return StreamingResponse(pieces(), media_type=kind, headers=headers)
