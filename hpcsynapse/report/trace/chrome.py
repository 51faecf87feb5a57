"""Traces in Chrome's JSON format, which ui.perfetto.dev and chrome://tracing open."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import IO, Any

from hpcsynapse.report.trace.events import Floats, Nanoseconds, Slices, Thread

_WHOLE = 2**53  # numbers below are written without a fraction where they have none


class ChromeWriter:
    """Writes a trace into a text file that stays open; `about` is kept with it. Times are microseconds."""

    def __init__(self, file: IO[str], about: dict[str, Any]) -> None:
        self._file = file
        self.count = 0
        file.write(f'{{"displayTimeUnit":"ms","otherData":{json.dumps(about)},"traceEvents":[\n')

    def process(self, number: int, name: str) -> None:
        """Name a process."""
        self._named("process_name", number, 0, name)

    def thread(self, thread: Thread) -> None:
        """Name a thread."""
        self._named("thread_name", thread.process, thread.number, thread.name)

    def _named(self, kind: str, process: int, thread: int, name: str) -> None:
        self._event(json.dumps({"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": name}}))

    def slices(self, thread: Thread, slices: Slices) -> None:
        """Write slices, with their phases within them."""
        where = f'"pid":{thread.process},"tid":{thread.number}'
        quoted = [json.dumps(name) for name in slices.names]
        begin, end = slices.begin.tolist(), slices.end.tolist()
        for index, name in enumerate(slices.name.tolist()):
            if name >= 0:
                self._slice(quoted[name], begin[index], end[index], where)
                continue
            told = ",".join(
                f'"{key}":{_number(float(values[index]))}'
                for key, values in slices.told.items()
                if math.isfinite(values[index])
            )
            number, last = slices.step[index], slices.last[index]
            name_of = f'"step {number}"' if last == number else f'"steps {number}-{last}"'
            self._slice(name_of, begin[index], end[index], f'{where},"args":{{{told}}}')
            for phase in slices.drawn[index].nonzero()[0].tolist() if len(slices.phases) else ():
                first, last = slices.bounds[index, phase : phase + 2].tolist()
                self._slice(f'"{slices.phases[phase]}"', first, last, where)

    def nested(self, thread: Thread, slices: Sequence[tuple[int, int, str]]) -> None:
        """Write slices (begin, end, name), by begin, each within those around it, outer ones first."""
        for begin, end, name in slices:
            self._slice(json.dumps(name), begin, end, f'"pid":{thread.process},"tid":{thread.number}')

    def instant(self, thread: Thread, name: str, when: int, everywhere: bool = False) -> None:
        """Mark a point in time on a thread, or across all of them."""
        self._event(
            f'{{"ph":"i","s":"{"g" if everywhere else "t"}","name":{json.dumps(name)},"ts":{_micro(when)},'
            f'"pid":{thread.process},"tid":{thread.number}}}'
        )

    def counter(self, process: int, name: str, unit: str, when: Nanoseconds, values: Floats) -> None:
        """Write the values of a quantity of a process by time."""
        begin = f'{{"ph":"C","name":{json.dumps(name)},"pid":{process},"ts":'
        key = json.dumps(unit or "value")
        for time, value in zip(when.tolist(), values.tolist(), strict=True):
            self._event(f'{begin}{_micro(time)},"args":{{{key}:{_number(value)}}}}}')

    def finish(self) -> None:
        """Write what a trace ends with."""
        self._file.write("\n]}\n")

    def _slice(self, name: str, begin: int, end: int, rest: str) -> None:
        self._event(f'{{"ph":"X","name":{name},"ts":{_micro(begin)},"dur":{_micro(end - begin)},{rest}}}')

    def _event(self, event: str) -> None:
        self._file.write(f",\n{event}" if self.count else event)
        self.count += 1


def _micro(nanoseconds: int) -> str:
    return f"{nanoseconds // 1000}.{nanoseconds % 1000:03d}"


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < _WHOLE else f"{value:.6g}"
