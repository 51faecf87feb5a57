"""Traces as Perfetto's protocol buffers (protos/perfetto/trace/perfetto_trace.proto), many packets at a time.

Every thread is a track and a sequence of packets of its own, whose first packet names the track and the texts that
slices refer to by number. Packets of a sequence stand in the order of their times; at one time an end stands before a
begin, and an inner end before an outer one. Marks and counters are in the first sequence, with the tracks they are on.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import IO

import numpy as np
import numpy.typing as npt

from hpcsynapse.report import protobuf
from hpcsynapse.report.protobuf import Bytes, Pieces
from hpcsynapse.report.trace.events import Floats, Nanoseconds, Slices, Thread

_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4  # TrackEvent.Type
_CLEARED, _NEEDS = 1, 2  # TracePacket.SequenceFlags
_REALTIME, _BOOTTIME = 1, 6  # BuiltinClock: what Unix times are, and what packets have by default
_BLOCK = 100_000  # slices at a time
_EXPLICIT = 3  # TrackDescriptor.ChildTracksOrdering: by sibling_order_rank


class PerfettoWriter:
    """Writes a trace into a binary file that stays open.

    `origin` is the Unix time of its time 0 (s), `latest` the largest time in it (ns).
    """

    def __init__(self, file: IO[bytes] | gzip.GzipFile, origin: float, latest: int) -> None:
        self._file = file
        self.count = 0
        self._width = protobuf.width_for(max(latest, 1))
        self._sequences: dict[Thread, int] = {}
        self._processes: dict[int, int] = {}  # numbers of tracks
        self._threads: dict[Thread, int] = {}
        self._tracks = 0
        self._last_sequence = 1
        clocks = [
            protobuf.single(1, protobuf.number(1, clock) + protobuf.number(2, time))
            for clock, time in ((_BOOTTIME, 0), (_REALTIME, max(0, round(origin * 1e9))))
        ]
        self._packet(protobuf.single(6, b"".join(clocks)), sequence=1)

    def process(self, number: int, name: str) -> None:
        """Name a process."""
        track = self._processes[number] = self._new_track()
        described = protobuf.number(1, number + 1) + protobuf.text(6, name)  # 0 is the idle process of a machine
        self._describe(track, protobuf.single(3, described) + protobuf.number(11, _EXPLICIT))

    def thread(self, thread: Thread) -> None:
        """Name a thread."""
        track = self._threads[thread] = self._new_track()
        self._last_sequence += 1
        sequence = self._sequences[thread] = self._last_sequence
        parent = protobuf.number(5, self._processes[thread.process])
        self._describe(track, protobuf.text(2, thread.name) + parent + protobuf.number(12, thread.number))
        defaults = protobuf.single(59, protobuf.single(11, protobuf.number(11, track)))
        self._packet(defaults + protobuf.number(13, _CLEARED | _NEEDS), sequence)

    def slices(self, thread: Thread, slices: Slices) -> None:
        """Write slices, with their phases within them."""
        sequence = self._sequences[thread]
        names = [*slices.names, *slices.phases]
        interned = b"".join(_interned(2, place, name) for place, name in enumerate(names, 1))
        interned += b"".join(_interned(3, place, name) for place, name in enumerate(slices.told, 1))
        self._packet(protobuf.single(12, interned) + protobuf.number(13, _NEEDS), sequence)
        for first in range(0, len(slices.begin), _BLOCK):
            block = _Block(slices, slice(first, first + _BLOCK), sequence, self._width)
            self._file.write(block.packets().tobytes())
            self.count += block.count

    def nested(self, thread: Thread, slices: Sequence[tuple[int, int, str]]) -> None:
        """Write slices (begin, end, name), by begin, each within those around it, outer ones first."""
        sequence, around = self._sequences[thread], list[int]()
        for begin, end, name in slices:
            while around and around[-1] <= begin:
                self._event(sequence, around.pop(), protobuf.number(9, _END))
            self._event(sequence, begin, protobuf.number(9, _BEGIN) + protobuf.text(23, name))
            around.append(end)
        while around:
            self._event(sequence, around.pop(), protobuf.number(9, _END))
        self.count += len(slices)

    def instant(self, thread: Thread, name: str, when: int, everywhere: bool = False) -> None:
        """Mark a point in time on a thread."""
        event = protobuf.number(9, _INSTANT) + protobuf.number(11, self._threads[thread]) + protobuf.text(23, name)
        self._packet(protobuf.number(8, when) + protobuf.single(11, event), sequence=1)
        self.count += 1

    def counter(self, process: int, name: str, unit: str, when: Nanoseconds, values: Floats) -> None:
        """Write the values of a quantity of a process by time."""
        track = self._new_track()
        described = protobuf.single(8, protobuf.text(6, unit) if unit else b"")
        self._describe(track, protobuf.text(2, name) + protobuf.number(5, self._processes[process]) + described)
        value = [protobuf.number(9, _COUNTER) + protobuf.number(11, track), *protobuf.doubles(44, values)]
        event = protobuf.message(11, *value)
        head = [protobuf.number(10, 1), *protobuf.numbers(8, when, self._width)]
        self._file.write(protobuf.messages(len(when), protobuf.message(1, *head, *event)).tobytes())
        self.count += len(when)

    def finish(self) -> None:
        """Write what a trace ends with: nothing."""

    def _new_track(self) -> int:
        self._tracks += 1
        return self._tracks

    def _describe(self, track: int, described: bytes) -> None:
        self._packet(protobuf.single(60, protobuf.number(1, track) + described), sequence=1)

    def _event(self, sequence: int, when: int, event: bytes) -> None:
        told = protobuf.number(8, when) + protobuf.single(11, event) + protobuf.number(13, _NEEDS)
        self._packet(told, sequence)

    def _packet(self, told: bytes, sequence: int) -> None:
        self._file.write(protobuf.single(1, protobuf.number(10, sequence) + told))


def _interned(field: int, place: int, name: str) -> bytes:
    return protobuf.single(field, protobuf.number(1, place) + protobuf.text(2, name))


class _Block:
    """The packets of some slices: each is a row of begins and ends, without those of phases that are not drawn."""

    def __init__(self, slices: Slices, part: slice, sequence: int, width: int) -> None:
        self._slices, self._part, self._width = slices, part, width
        self._head = protobuf.number(10, sequence) + protobuf.number(13, _NEEDS)
        self._size = len(slices.begin[part])
        # Columns: begin, then begin and end of every phase, then end.
        self._there = np.ones((self._size, 2 * len(slices.phases) + 2), np.bool_)
        for phase in range(len(slices.phases)):
            self._there[:, 2 * phase + 1] = self._there[:, 2 * phase + 2] = slices.drawn[part, phase]
        self.count = int(self._there.sum()) // 2

    def packets(self) -> Bytes:
        """Return the bytes of all packets, one behind the other."""
        pieces = list(self._pieces())
        lengths = np.zeros(self._there.shape, np.int64)
        for rows, column, packets in pieces:
            lengths[rows, column] = packets.shape[1]
        places = np.cumsum(lengths.ravel()).reshape(lengths.shape) - lengths
        found = np.empty(int(lengths.sum()), np.uint8)
        for rows, column, packets in pieces:
            found[places[rows, column][:, None] + np.arange(packets.shape[1])] = packets
        return found

    def _pieces(self) -> list[tuple[npt.NDArray[np.int64], int, Bytes]]:
        """Return rows, column, and packets of one length."""
        slices, part = self._slices, self._part
        everywhere = np.arange(self._size)
        named = np.flatnonzero(slices.name[part] >= 0)
        found = [(named, 0, self._begins(slices.begin[part][named], slices.name[part][named] + 1))]
        found += [(rows, 0, packets) for rows, packets in self._steps(np.flatnonzero(slices.name[part] < 0))]
        for phase in range(len(slices.phases)):
            rows = np.flatnonzero(self._there[:, 2 * phase + 1])
            bounds = slices.bounds[part][rows]
            code = np.full(len(rows), len(slices.names) + phase + 1)
            found.append((rows, 2 * phase + 1, self._begins(bounds[:, phase], code)))
            found.append((rows, 2 * phase + 2, self._ends(bounds[:, phase + 1])))
        found.append((everywhere, self._there.shape[1] - 1, self._ends(slices.end[part])))
        return [one for one in found if len(one[0])]

    def _begins(self, when: Nanoseconds, code: npt.NDArray[np.int64]) -> Bytes:
        return self._events(when, [protobuf.number(9, _BEGIN), *protobuf.numbers(10, code, 1)])

    def _ends(self, when: Nanoseconds) -> Bytes:
        return self._events(when, [protobuf.number(9, _END)])

    def _steps(self, rows: npt.NDArray[np.int64]) -> list[tuple[npt.NDArray[np.int64], Bytes]]:
        """Return the begins of steps: those whose names are equally long and that tell the same numbers, together."""
        if not len(rows):
            return []
        first, last = self._slices.step[self._part][rows], self._slices.last[self._part][rows]
        told = {key: values[self._part][rows] for key, values in self._slices.told.items()}
        kind = np.where(last == first, 0, _digits(last)) * 100 + _digits(first)
        for place, values in enumerate(told.values()):
            kind += np.isfinite(values) * (10_000 << place)
        found = []
        for one in np.unique(kind).tolist():
            here = np.flatnonzero(kind == one)
            own = {key: values[here] for key, values in told.items()}
            name: Pieces = [b"step ", _decimal(first[here], one % 100)]
            if digits := one // 100 % 100:
                name = [b"steps ", *name[1:], b"-", _decimal(last[here], digits)]
            event: Pieces = [protobuf.number(9, _BEGIN), *protobuf.message(23, *name), *_annotations(own)]
            found.append((rows[here], self._events(self._slices.begin[self._part][rows[here]], event)))
        return found

    def _events(self, when: Nanoseconds, event: Pieces) -> Bytes:
        whole = [self._head, *protobuf.numbers(8, when, self._width), *protobuf.message(11, *event)]
        return protobuf.messages(len(when), protobuf.message(1, *whole))


def _digits(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return how many digits numbers have."""
    found = np.ones(len(values), np.int64)
    for power in range(1, 19):
        found += values >= 10**power
    return found


def _decimal(values: npt.NDArray[np.int64], digits: int) -> Bytes:
    """Return numbers of so many digits as text."""
    found = np.empty((len(values), digits), np.uint8)
    for place in range(digits):
        found[:, digits - 1 - place] = values // 10**place % 10 + ord("0")
    return found


def _annotations(told: dict[str, Floats]) -> Pieces:
    """Return the numbers of steps that are finite as debug annotations, whole ones as such."""
    found: Pieces = []
    for place, values in enumerate(told.values(), 1):
        if not np.isfinite(values).all():
            continue
        whole = bool((values == np.floor(values)).all()) and bool((values >= 0).all()) and float(values.max()) < 2**53
        field = (
            protobuf.numbers(4, values.astype(np.int64), protobuf.width_for(int(values.max())))
            if whole
            else protobuf.doubles(5, values)
        )
        found += protobuf.message(4, protobuf.number(1, place), *field)
    return found
