"""What ended the starts of a run before it had finished, and what each of them cost."""

from __future__ import annotations

from dataclasses import dataclass

from hpcsynapse.table import KEY, NUMBER, column, columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """One start that ended before its run had finished; the fields, in this order, are the columns."""

    run: str = column("name of the run", priority=KEY, always=True)
    start: int = column("which start of the run, from 1", priority=KEY, always=True)
    attempt: str = column("the start's name in the run directory", priority=3)
    time: float = column("when its nodes were given back, Unix time", shown=False)
    cause: str = column("what ended it; unknown where nothing says it", priority=8, always=True)
    host: str = column("where, if it was one host", priority=7, always=True)
    evidence: str = column("the file of the run directory that says so", priority=5, always=True)
    lost_steps: int = column("steps that were made again, or not kept", head="lost steps", priority=6, always=True)
    replayed: float = column("node-hours of these steps", unit=NUMBER, priority=6, always=True)
    detection: float = column("node-hours until the failure was on record", unit=NUMBER, priority=6, always=True)
    waiting: float = column("node-hours without work until the end of the start", unit=NUMBER, priority=6, always=True)
    restart: float = column("node-hours of the next start until its first step", unit=NUMBER, priority=6, always=True)


COLUMNS = columns(Interruption)
