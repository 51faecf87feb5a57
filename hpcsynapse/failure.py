"""What ended a run: the first rank that failed by itself, told from the records that ranks leave behind.

`python -m hpcsynapse.failure RUN_DIR ATTEMPT CODE` turns the launcher's exit code into the job's: srun returns the
highest code of all ranks, torchrun always 1, and srun even 0 when it could not launch on a node (Slurm 22.05, seen).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from hpcsynapse.rundir import RunDirectory, read_json
from hpcsynapse.training import SERVED

_SIGTERM_CODE = 143
# What gloo, NCCL, Horovod and MPI say on ranks whose peer has gone.
_LOST_PEER = re.compile(
    r"connection (closed|reset|refused|aborted)|broken pipe|socket closed|remote process|HorovodInternalError|"
    r"Horovod has been shut down|recv\w* timed? ?out|peer (has )?(closed|gone|lost)",
    re.IGNORECASE,
)
_NO_SERVER = "no parameter server at"  # servers leave no record: who misses one is what can be named


def first_failure(run: RunDirectory, attempt: str = "") -> dict[str, Any]:
    """Return the rank that failed first in one start of the job (the newest by default), with its log's last lines.

    Ranks that were told to end, or that lost a peer, come after the one that caused it; should only such ones have
    left a record, then the cause is a rank that left none, because it was killed together with its wrapper.
    `by_itself` tells whether the rank was anything but told to end; the result is empty when nothing is known.
    """
    folder = _folder(run, attempt)
    if folder is None:
        return {}
    found = [record for path in folder.glob("failure-*.json") if (record := read_json(path))]
    records = [record for record in found if {"rank", "host", "code", "reason", "time"} <= record.keys()]
    if not records:
        return {}
    causes = [record for record in records if not _told_to_end(record) and not _lost_peer(run, record)]
    first = min(causes, key=lambda record: record["time"]) if causes else _silent(folder, records)
    first = first or min(records, key=lambda record: (_told_to_end(record), record["time"]))
    return {**first, "by_itself": not _told_to_end(first), "log": tail(run, int(first["rank"]))}


def _folder(run: RunDirectory, attempt: str) -> Path | None:
    if attempt and run.evidence(attempt).is_dir():
        return run.evidence(attempt)
    try:
        folders = [path for path in run.evidence("").iterdir() if path.is_dir()]
    except OSError:
        return None
    return max(folders, key=lambda path: path.stat().st_mtime, default=None)


def _told_to_end(record: dict[str, Any]) -> bool:
    return bool(record.get("told_to_end")) or record["code"] == _SIGTERM_CODE


def _lost_peer(run: RunDirectory, record: dict[str, Any]) -> bool:
    # Far enough back for a message that traces of Python and C++ follow.
    lines = tail(run, int(record["rank"]), 80)
    return any(map(_LOST_PEER.search, lines)) and not any(_NO_SERVER in line for line in lines)


def _silent(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the first rank that began and left no record of its end."""
    told = {record["rank"] for record in records}
    for path in sorted(folder.glob("rank-*.json")):
        evidence = read_json(path) or {}
        if "rank" in evidence and evidence["rank"] not in told:
            reason = "ended without a word, as if killed from outside"
            return {"rank": evidence["rank"], "host": evidence.get("host", "?"), "code": None, "reason": reason}
    return {}


def tail(run: RunDirectory, rank: int, lines: int = 20) -> list[str]:
    """Return the last lines of a rank's log."""
    try:
        with run.rank_log(rank).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 16384))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def main() -> None:
    """Print the exit code of the job: of the rank that failed first; 0 only when rank 0 has reached its end."""
    path, attempt, code = sys.argv[1:]
    run = RunDirectory(Path(path))
    last = read_json(run.status) or {}
    ended = last.get("attempt") == attempt and last.get("state") in ("FINISHED", "STOPPED")
    if code != "0" and ended and last.get("strategy") in SERVED:
        print("hpcsynapse: the run reached its end although a worker or server was lost on the way", file=sys.stderr)
        code = "0"
    if code == "0":
        if not ended:
            print("hpcsynapse: the launcher reported success, but rank 0 did not reach its end", file=sys.stderr)
        print(0 if ended else 1)
        return
    first = first_failure(run, attempt)
    print(first["code"] if first.get("by_itself") and first["code"] else code)


if __name__ == "__main__":
    main()
