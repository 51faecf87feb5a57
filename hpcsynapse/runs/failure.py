"""What ended a run: the first rank that failed by itself, told from the records that ranks leave behind.

`python -m hpcsynapse.job exit-code RUN_DIR ATTEMPT CODE` turns the launcher's exit code into the job's: srun returns
the highest code of all ranks, torchrun always 1, and srun even 0 when a node could not be reached (Slurm 22.05, seen).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from hpcsynapse.files import read_json
from hpcsynapse.runs.clocks import read_clocks
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RunState
from hpcsynapse.spec.names import SERVED

_SIGTERM_CODE = 143
# What gloo, NCCL, Horovod and MPI say on ranks whose peer has gone.
_LOST_PEER = re.compile(
    r"connection (closed|reset|refused|aborted)|broken pipe|socket closed|remote process|HorovodInternalError|"
    r"Horovod has been shut down|recv\w* timed? ?out|peer (has )?(closed|gone|lost)",
    re.IGNORECASE,
)
# The last line of a Python traceback: the exception, and what it says.
_EXCEPTION = re.compile(r"(?:\[rank\d+\]: )?((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)(?:: .*)?)")
_LONGEST_EXCEPTION = 150  # characters that a line of status has room for
_NO_SERVER = "no parameter server at"  # servers leave no record: who misses one is what can be named


def first_failure(run: RunDirectory, attempt: str = "") -> dict[str, Any]:
    """Return the rank that failed first in one start of the job (the newest by default), with its log's last lines.

    Ranks that were told to end, that lost a peer or that waited for one in vain come after the one that caused it;
    should only such ones have left a record, then the cause is a rank that left none, because it was killed together
    with its wrapper.
    `by_itself` tells whether the rank was anything but told to end; the result is empty when nothing is known.
    """
    folder = _folder(run, attempt)
    if folder is None:
        return {}
    found = [record for path in folder.glob("failure-*.json") if (record := read_json(path))]
    records = [{"code": None, **record} for record in found if _is_record(record)]
    if not records:
        return {}
    silent = [record for record in records if record.get("silent") is True]
    others = (record for record in records if not (_told_to_end(record) or _waited(record) or _lost_peer(run, record)))
    causes = silent or list(others)
    first = _earliest(run, folder.name, causes) if causes else _silent(folder, records)
    first = first or min(records, key=lambda record: (_told_to_end(record), record["time"]))
    log = tail(run, first["rank"])
    return {**first, "reason": _reason(first, log), "by_itself": not _told_to_end(first), "log": log}


def _earliest(run: RunDirectory, attempt: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the record of the earliest end, by one clock where those of the hosts were measured."""
    if len({record["host"] for record in records}) < 2:
        return min(records, key=lambda record: record["time"])
    clocks = read_clocks(run.timings)
    return min(records, key=lambda record: clocks.corrected(attempt, record["host"], record["time"]))


def _reason(record: dict[str, Any], log: list[str]) -> str:
    """Return why a rank ended: for a Python program that gave up, the exception that its log ends with."""
    if record["reason"] != "exit code 1":
        return str(record["reason"])
    raised = [match[1] for line in log if (match := _EXCEPTION.fullmatch(line))]
    return raised[-1][:_LONGEST_EXCEPTION] if raised else "exit code 1"


def _is_record(record: dict[str, Any]) -> bool:
    """Tell whether a file says who ended how and when; one that was damaged or written by hand may say anything."""
    code, when = record.get("code"), record.get("time")
    return (
        _is_rank(record.get("rank"))
        and isinstance(record.get("host"), str)
        and isinstance(record.get("reason"), str)
        and (code is None or (isinstance(code, int) and abs(code) < 256))
        and isinstance(when, (int, float))
        and abs(when) < 1e12
    )


def _is_rank(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 10**7


def _folder(run: RunDirectory, attempt: str) -> Path | None:
    try:
        if attempt:  # a start of which no rank began has no folder, and another's failure is not its own
            return run.evidence(attempt) if run.evidence(attempt).is_dir() else None
        folders = [path for path in run.evidence("").iterdir() if path.is_dir()]
    except OSError:
        return None
    return max(folders, key=lambda path: path.stat().st_mtime, default=None)


def _told_to_end(record: dict[str, Any]) -> bool:
    return bool(record.get("told_to_end")) or record["code"] == _SIGTERM_CODE


def _waited(record: dict[str, Any]) -> bool:
    """Tell whether a rank ended because what it waited for, in an exchange with others, did not come."""
    return record.get("waits") is True


def _lost_peer(run: RunDirectory, record: dict[str, Any]) -> bool:
    # Far enough back for a message that traces of Python and C++ follow.
    lines = tail(run, record["rank"], 80)
    return any(map(_LOST_PEER.search, lines)) and not any(_NO_SERVER in line for line in lines)


def _silent(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the first rank that began and left no record of its end."""
    told = {record["rank"] for record in records}
    for path in sorted(folder.glob("rank-*.json")):
        evidence = read_json(path) or {}
        if _is_rank(evidence.get("rank")) and evidence["rank"] not in told:
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


def hosts_without_word(run: RunDirectory, attempt: str) -> set[str]:
    """Return the hosts of a start of the job where a rank began of which no end is on record."""
    folder = run.evidence(attempt)
    told = {int(path.stem[8:]) for path in folder.glob("failure-*.json") if path.stem[8:].isdecimal()}
    began = (read_json(path) or {} for path in folder.glob("rank-*.json"))
    return {str(one.get("host")) for one in began if _is_rank(one.get("rank")) and one["rank"] not in told}


def exit_code_of(run: RunDirectory, attempt: str, code: int) -> int:
    """Return a start's exit code: that of the first rank to fail, 0 only when rank 0 has reached its end."""
    last = read_json(run.status) or {}
    ended = last.get("attempt") == attempt and last.get("state") in (RunState.FINISHED, RunState.STOPPED)
    if code and ended and last.get("strategy") in SERVED:
        print("hpcsynapse: the run reached its end although a worker or server was lost on the way", file=sys.stderr)
        code = 0
    if code == 0:
        if not ended:
            print("hpcsynapse: the launcher reported success, but rank 0 did not reach its end", file=sys.stderr)
        return 0 if ended else 1
    first = first_failure(run, attempt)
    return int(first["code"]) if first.get("by_itself") and first["code"] else code


def main(arguments: list[str]) -> int:
    """`RUN_DIR ATTEMPT CODE`: print the job's exit code, which is not the launcher's."""
    path, attempt, code = arguments
    print(exit_code_of(RunDirectory(Path(path)), attempt, int(code)))
    return 0
