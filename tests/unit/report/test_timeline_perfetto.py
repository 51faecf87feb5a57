"""The timeline as Perfetto's protocol buffers, read by Perfetto's own: the same as in JSON, nested and in order."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from trace_reading import packets, read_chrome, read_perfetto

from hpcsynapse.report import timeline
from hpcsynapse.report.timeline import write_timeline
from hpcsynapse.timing import StepRecorder

pytest.importorskip("perfetto")


def record(folder, role="worker", rank=0, steps=((1000.0, 1.0),), node=0, **numbers):
    with StepRecorder(folder, rank=rank, role=role, host=f"h{node}", node_rank=node) as recorder:
        for number, (start, total) in enumerate(steps, numbers.get("first", 0)):
            recorder.write(number, 0, start, 0.25, 0.25, 0.125, 0.125, 0.25, total, 8, numbers.get("loss", 0.5))
    return recorder


def written(folder, name="t.pftrace"):
    count = write_timeline(folder, folder / name)
    return count, read_perfetto(folder / name)


@pytest.mark.parametrize("name", ["t.pftrace", "t.pftrace.gz"])
def test_a_step_its_phases_and_what_it_tells(tmp_path, name) -> None:
    record(tmp_path)
    count, tracks = written(tmp_path, name)
    node, rank = tracks.values()
    assert (node.name, node.parent, rank.name, rank.parent) == ("node 0 h0", None, "rank 0", 1)
    second = 10**9
    assert rank.slices == [
        ("step 0", 0, second, {"epoch": 0, "samples": 8, "loss": 0.5}),
        ("data", 0, second // 4, {}),
        ("forward", second // 4, second // 2, {}),
        ("backward", second // 2, second * 5 // 8, {}),
        ("communicate", second * 5 // 8, second * 3 // 4, {}),
        ("update", second * 3 // 4, second, {}),
    ]
    assert count == 6


def test_it_has_the_slices_of_the_json(tmp_path, rank_writer) -> None:
    rng = np.random.default_rng(3)
    for rank in range(3):
        times = 0.1 * rng.lognormal(0, 0.5, 60)
        rank_writer(tmp_path, rank, 3, times, epoch_steps=7, gap=0.5, start=1e9 + rank, waits=times / 3, between=0.01)
    record(tmp_path, "ps", 0, [(1e9, 1.0), (1e9 + 0.5, 1.0), (1e9 + 2, 0.0), (1e9 + 2, 1.0)])  # set back; no time
    record(tmp_path, rank=3, steps=[(1e9 + one, 1.0) for one in range(120)], node=1, first=5)
    count, tracks = written(tmp_path)
    write_timeline(tmp_path, tmp_path / "t.json")
    events = read_chrome(tmp_path / "t.json")
    threads = {(one["pid"], one["tid"]): one["args"]["name"] for one in events if one["name"] == "thread_name"}
    assert len(threads) == 5
    for place, name in threads.items():
        own = [one for one in events if one["ph"] == "X" and (one["pid"], one["tid"]) == place]
        (track,) = [track for track in tracks.values() if track.name == name]
        expected = [
            (one["name"], round(one["ts"] * 1e3), round((one["ts"] + one["dur"]) * 1e3), one.get("args", {}))
            for one in own
        ]
        assert track.slices == sorted(expected, key=lambda one: (one[1], -one[2]))
    kinds = Counter(packet.WhichOneof("data") for packet in packets(tmp_path / "t.pftrace"))
    assert kinds["track_event"] == 2 * count == 2 * sum(len(track.slices) for track in tracks.values())
    assert kinds["track_descriptor"] == len(tracks) == 5 + 2


@pytest.mark.parametrize("loss", [math.nan, math.inf, -2.5, 1e-30, 3.0])
def test_a_loss_of_any_kind_is_told_or_left_out(tmp_path, loss) -> None:
    record(tmp_path, loss=loss)
    _, tracks = written(tmp_path)
    told = tracks[2].slices[0][3]
    assert told.get("loss", math.nan) == pytest.approx(loss if math.isfinite(loss) else math.nan, nan_ok=True)


def test_the_origin_is_told_as_the_time_of_a_clock(tmp_path) -> None:
    record(tmp_path, steps=[(1.75e9 + 0.5, 1.0)])
    written(tmp_path)
    clocks = packets(tmp_path / "t.pftrace")[0].clock_snapshot.clocks
    assert {one.clock_id: one.timestamp for one in clocks} == {6: 0, 1: 1_750_000_000_500_000_000}


def test_more_slices_than_a_block_and_numbers_of_any_length(tmp_path, monkeypatch) -> None:
    from hpcsynapse.report.trace import perfetto

    monkeypatch.setattr(perfetto, "_BLOCK", 7)
    record(tmp_path, steps=[(1000.0 + one, 1.0) for one in range(30)], first=95)
    record(tmp_path, rank=1, steps=[(1000.0 + one, 1.0) for one in range(3)], first=2**32 - 3)
    _, tracks = written(tmp_path)
    names = [[one[0] for one in track.slices if one[0].startswith("step")] for track in tracks.values()]
    assert names == [[], [f"step {one}" for one in range(95, 125)], [f"step {2**32 - one}" for one in (3, 2, 1)]]


def test_it_keeps_the_phases_of_more_steps_than_the_json(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(timeline, "MOST_PHASES", 10)
    record(tmp_path, steps=[(1000.0, 1.0), (1001.0, 1.0), (1002.0, 4.0), (1006.0, 1.0)])
    assert len(written(tmp_path)[1][2].slices) == 24
    monkeypatch.setattr(timeline, "MOST_PHASES_OF_PERFETTO", 10)
    assert len(written(tmp_path)[1][2].slices) == 4 + 5


@pytest.mark.parametrize("name", ["t.pftrace", "t.json"])
def test_of_a_run_beyond_all_bounds_steps_are_drawn_together(tmp_path, monkeypatch, name) -> None:
    monkeypatch.setattr(timeline, "MOST_PHASES", 9)
    monkeypatch.setattr(timeline, "MOST_PHASES_OF_PERFETTO", 9)
    with StepRecorder(tmp_path, rank=0) as recorder:
        now = 1000.0
        for step in range(12):
            if step == 6:
                recorder.write_pause("validation", now, 1.0)
                now += 1.0
            total = 4.0 if step == 9 else 1.0
            recorder.write(step, step // 6, now, 0.25, 0.25, 0.125, 0.125, 0.125, total, 8, float(step))
            now += total
    write_timeline(tmp_path, tmp_path / name)
    second = 10**9
    if name == "t.json":
        events = [one for one in read_chrome(tmp_path / name) if one["ph"] == "X"]
        slices = [
            (one["name"], round(one["ts"] * 1e3), round((one["ts"] + one["dur"]) * 1e3), one.get("args", {}))
            for one in events
        ]
    else:
        slices = read_perfetto(tmp_path / name)[2].slices
    assert [one for one in slices if one[0][:4] in ("step", "vali")] == [
        ("steps 0-5", 0, 6 * second, {"epoch": 0, "samples": 48, "loss": 2.5}),
        ("validation", 6 * second, 7 * second, {}),
        ("steps 6-8", 7 * second, 10 * second, {"epoch": 1, "samples": 24, "loss": 7}),
        ("step 9", 10 * second, 14 * second, {"epoch": 1, "samples": 8, "loss": 9}),
        ("steps 10-11", 14 * second, 16 * second, {"epoch": 1, "samples": 16, "loss": 10.5}),
    ]
    data = [(begin, end) for kind, begin, end, _ in slices if kind == "data"]
    quarter = second // 4
    assert data == [
        (0, 6 * quarter),
        (7 * second, 7 * second + 3 * quarter),
        (10 * second, 10 * second + quarter),
        (14 * second, 14 * second + 2 * quarter),
    ]
