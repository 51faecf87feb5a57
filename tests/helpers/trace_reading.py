"""Reading traces: of Perfetto by its own protocol buffers (package perfetto), of Chrome's JSON by json."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Track:
    name: str
    parent: int | None = None
    rank: int = 0
    slices: list[tuple[Any, ...]] = field(default_factory=list)  # name, begin, end (ns), what it tells
    marks: list[tuple[str, int]] = field(default_factory=list)
    values: list[tuple[int, float]] = field(default_factory=list)


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()


def packets(path: Path) -> list[Any]:
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2

    trace = perfetto_trace_pb2.Trace()
    trace.ParseFromString(content(path))
    return list(trace.packet)


def read_perfetto(path: Path) -> dict[int, Track]:
    """The tracks of a trace; what breaks the order or the nesting of a sequence is an AssertionError."""
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TrackEvent

    tracks: dict[int, Track] = {}
    names: dict[int, dict[int, str]] = {}
    keys: dict[int, dict[int, str]] = {}
    default: dict[int, int] = {}
    latest: dict[Any, int] = {}
    open_slices: dict[int, list[tuple[Any, ...]]] = {}
    for packet in packets(path):
        own = packet.trusted_packet_sequence_id
        assert own > 0
        if packet.sequence_flags & 1:
            names[own], keys[own] = {}, {}
        if packet.HasField("trace_packet_defaults"):
            default[own] = packet.trace_packet_defaults.track_event_defaults.track_uuid
        names.get(own, {}).update({one.iid: one.name for one in packet.interned_data.event_names})
        keys.get(own, {}).update({one.iid: one.name for one in packet.interned_data.debug_annotation_names})
        if packet.HasField("track_descriptor"):
            told = packet.track_descriptor
            assert told.uuid not in tracks
            name = told.process.process_name if told.HasField("process") else told.name
            tracks[told.uuid] = Track(name, told.parent_uuid or None, told.sibling_order_rank)
        if not packet.HasField("track_event"):
            continue
        event, when = packet.track_event, packet.timestamp
        track_id = event.track_uuid or default[own]
        track = tracks[track_id]
        place = (own, track_id) if own == 1 else own
        assert (own == 1 and event.type == TrackEvent.TYPE_INSTANT) or when >= latest.get(place, 0), "backwards"
        latest[place] = max(when, latest.get(place, 0))
        depth = open_slices.setdefault(track_id, [])
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            name = names[own][event.name_iid] if event.name_iid else event.name
            told = {
                keys[own][one.name_iid]: one.int_value if one.HasField("int_value") else one.double_value
                for one in event.debug_annotations
            }
            depth.append((name, when, told, len(track.slices)))
            track.slices.append(())
        elif event.type == TrackEvent.TYPE_SLICE_END:
            name, begin, told, place = depth.pop()
            track.slices[place] = (name, begin, when, told)
        elif event.type == TrackEvent.TYPE_INSTANT:
            track.marks.append((event.name, when))
        elif event.type == TrackEvent.TYPE_COUNTER:
            track.values.append((when, event.double_counter_value))
    assert not any(open_slices.values()), "a slice has no end"
    for track in tracks.values():
        track.slices.sort(key=lambda one: (one[1], -one[2]))
    return tracks


def read_chrome(path: Path) -> list[dict[str, Any]]:
    """The events of a trace in JSON."""
    return json.loads(content(path))["traceEvents"]
