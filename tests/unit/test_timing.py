"""Step records survive what happens to them: kills, torn ends, interrupted merges, full disks."""

import json
import math
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsynapse import timing
from hpcsynapse.errors import RecordError
from hpcsynapse.runs import records
from hpcsynapse.runs.records import iterate, last_record, merge, parts
from hpcsynapse.timing import FIELDS, MERGED_NAME, RECORD, StepRecorder, cause_of


@pytest.fixture(autouse=True)
def clean_environment():
    with mock.patch.dict(os.environ, {"PATH": os.environ["PATH"]}, clear=True):
        yield


def write(folder, rank=0, steps=3, attempt="0", **facts):
    with (
        mock.patch.dict(os.environ, {"HPCSYNAPSE_ATTEMPT": attempt}),
        StepRecorder(folder, rank=rank, warmup=1, **facts) as recorder,
    ):
        for step in range(steps):
            recorder.write(step, 0, 100.0 + step, 1, 2, 3, 4, 5, 15, 32, 0.25)
    return recorder.path


def read(folder):
    return sorted((header["rank"], header["attempt"], record[0]) for header, record in iterate(folder))


def test_a_record_is_what_the_header_says(tmp_path):
    path = write(tmp_path, steps=1, model="m")
    line, body = path.read_bytes().split(b"\n", 1)
    header = json.loads(line)
    assert [tuple(field) for field in header["fields"]] == [(name, kind) for name, kind, _ in FIELDS]
    assert (header["format"], header["version"], header["model"]) == ("hpcsynapse-steps", 3, "m")
    assert len(body) == header["record_size"] == RECORD.size
    assert RECORD.unpack(body) == (0, 0, 100.0, 1, 2, 3, 4, 5, 15, 32, 0.25, -1, 1, 0, 0)


def test_three_lines_record_a_loop(tmp_path):
    with StepRecorder(tmp_path, rank=0, warmup=1) as recorder:
        for _ in range(3):
            with recorder.step(samples=8) as step:
                time.sleep(0.002)
                step.mark("forward")
                step.loss = 1.5
    records = [dict(zip((name for name, _, _ in FIELDS), record, strict=True)) for _, record in iterate(tmp_path)]
    assert [record["step"] for record in records] == [0, 1, 2]
    assert [record["flags"] for record in records] == [1, 0, 0]
    assert all(0.002 <= record["forward"] <= record["total"] for record in records)
    assert all(abs(record["start"] - time.time()) < 60 for record in records)
    assert last_record(tmp_path) == records[-1]


def named(folder):
    return [dict(zip((name for name, _, _ in FIELDS), record, strict=True)) for _, record in iterate(folder)]


class Clock:
    """A clock that passes only when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def passes(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", clock)
    monkeypatch.setattr(timing.time, "time", lambda: 1000.0 + clock.now)
    return clock


def slow_loader(clock, waits):
    for wait in waits:
        clock.passes(wait)
        yield [1, 2, 3]


def test_the_wait_for_a_batch_is_the_data_phase_of_its_step(tmp_path, clock):
    with StepRecorder(tmp_path, rank=0) as recorder:
        for batch in recorder.batches(slow_loader(clock, [0.5, 0.25])):
            with recorder.step(samples=len(batch)) as step:
                clock.passes(1.0)
                step.mark("forward")
            clock.passes(0.125)  # logging: no part of a step
        with recorder.step(samples=3):  # without a batch
            clock.passes(2.0)
    first, second, third = named(tmp_path)
    assert (first["start"], first["data"], first["forward"], first["total"]) == (1000.0, 0.5, 1.0, 1.5)
    assert (second["start"], second["data"], second["total"]) == (1001.625, 0.25, 1.25)
    assert (third["start"], third["data"], third["total"]) == (1003.0, 0.0, 2.0)


def test_a_pause_is_marked_and_is_no_step(tmp_path, clock):
    with StepRecorder(tmp_path, rank=0) as recorder:
        for batch in recorder.batches(slow_loader(clock, [0.5, 0.5])):
            with recorder.pause("validation"):
                clock.passes(8.0)
            with recorder.step(samples=len(batch)):
                clock.passes(1.0)
        with pytest.raises(ZeroDivisionError), recorder.pause("checkpoint"):
            clock.passes(4.0)
            raise ZeroDivisionError
        recorder.mark("data")  # the style without begin: the step begins behind the pause
        recorder.end(samples=3)
    assert [(step["step"], step["data"], step["total"]) for step in named(tmp_path)] == [
        (0, 0.5, 1.5),
        (1, 0.5, 1.5),
        (2, 0.0, 0.0),
    ]
    (part,) = parts(tmp_path)
    everything = list(RECORD.iter_unpack(part.read()))
    pauses = [(cause_of(record[12]), record[0], record[2], record[8]) for record in everything if cause_of(record[12])]
    assert pauses == [("validation", 0, 1000.5, 8.0), ("validation", 1, 1010.0, 8.0), ("checkpoint", 2, 1019.0, 4.0)]
    assert last_record(tmp_path)["step"] == 2
    with pytest.raises(ValueError, match="'lunch': give one of validation, checkpoint"), recorder.pause("lunch"):
        pytest.fail("an unknown cause is told before the work")


def test_the_last_step_is_found_before_pauses(tmp_path):
    with StepRecorder(tmp_path, rank=0) as recorder:
        recorder.write(7, 0, 1.0, 0, 0, 0, 0, 0, 1.0, 3, 0.5)
        for _ in range(5):
            recorder.write_pause("other", 2.0, 1.0)
    assert last_record(tmp_path)["step"] == 7


def test_records_of_format_2_are_read(tmp_path):
    path = write(tmp_path, steps=2)
    path.write_bytes(path.read_bytes().replace(b'"version": 3', b'"version": 2', 1))
    assert [record[0] for _, record in iterate(tmp_path)] == [0, 1]
    write(tmp_path, rank=1)
    merge(tmp_path)
    assert [part.header["version"] for part in parts(tmp_path)] == [2, 3]


def test_a_step_that_raised_is_not_recorded(tmp_path):
    recorder = StepRecorder(tmp_path, rank=0)
    with pytest.raises(ZeroDivisionError), recorder.step(samples=8):
        raise ZeroDivisionError
    recorder.close()
    assert list(iterate(tmp_path)) == []


def test_cut_at_every_byte_a_file_gives_its_whole_records(tmp_path):
    path = write(tmp_path, steps=3)
    whole = path.read_bytes()
    begin = whole.index(b"\n") + 1
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        steps = [record[0] for _, record in iterate(tmp_path)]
        assert steps == list(range(max(0, (size - begin) // RECORD.size)))


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.floats(0, 1e9, width=32), st.floats(width=32)), max_size=20
    ),
    note=st.text(max_size=6000),
    cut=st.integers(0, RECORD.size),
)
def test_whatever_is_written_comes_back(tmp_path_factory, numbers, note, cut):
    folder = tmp_path_factory.mktemp("any")
    note = note.encode("utf-8", "replace").decode()
    with StepRecorder(folder, rank=7, note=note) as recorder:
        for step, total, loss in numbers:
            recorder.write(step, 1, 2.0, 0, 0, 0, 0, 0, total, 32, loss)
    torn = recorder.path.read_bytes()
    if numbers:
        recorder.path.write_bytes(torn[: len(torn) - cut])
    kept = numbers[:-1] if numbers and cut else numbers
    found = list(iterate(folder))
    assert [(record[0], record[8]) for _, record in found] == [(step, total) for step, total, _ in kept]
    for (_, record), (_, _, loss) in zip(found, kept, strict=True):
        assert record[10] == loss or (math.isnan(record[10]) and math.isnan(loss))
    assert all(header["note"] == note for header, _ in found)


def test_a_killed_writer_leaves_a_readable_file(tmp_path):
    code = (
        "import sys, time\nfrom hpcsynapse.timing import StepRecorder\n"
        "recorder = StepRecorder(sys.argv[1], rank=0)\n"
        "while True:\n with recorder.step(samples=1): pass\n"
    )
    root = Path(records.__file__).parent.parent
    for delay in (0.0, 0.05, 0.2):
        folder = tmp_path / str(delay)
        writer = subprocess.Popen([sys.executable, "-c", code, str(folder)], env={"PYTHONPATH": str(root)})
        try:
            limit = time.monotonic() + 30
            while not (folder.is_dir() and parts(folder) and parts(folder)[0].count) and time.monotonic() < limit:
                time.sleep(0.01)
            time.sleep(delay)
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        steps = [record[0] for _, record in iterate(folder)]
        assert steps == list(range(len(steps)))
        assert len(steps) >= 512


def test_files_without_a_whole_header_are_passed_over_and_others_are_refused(tmp_path):
    write(tmp_path, rank=0)
    (tmp_path / "rank-00001.0.steps").write_bytes(b'{"format": "hpcsy')
    (tmp_path / "rank-00002.0.steps").write_bytes(b"")
    assert {part.header["rank"] for part in parts(tmp_path)} == {0}
    (tmp_path / "rank-00003.0.steps").write_bytes(b"step,total\n1,2\n")
    with pytest.raises(RecordError, match=r"rank-00003.*not the description"):
        parts(tmp_path)
    (tmp_path / "rank-00003.0.steps").write_text('{"format": "hpcsynapse-steps", "version": 99}\n')
    with pytest.raises(RecordError, match="version 99"):
        parts(tmp_path)


def test_parts_of_a_missing_folder_is_empty(tmp_path):
    assert parts(tmp_path / "nowhere") == []
    assert merge(tmp_path / "nowhere") is None


def test_merged_records_are_the_same_records(tmp_path):
    for attempt in ("0", "1"):
        for rank in range(3):
            write(tmp_path, rank, steps=rank + 2, attempt=attempt)
    before = list(iterate(tmp_path))
    path = merge(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [MERGED_NAME]
    after = list(iterate(tmp_path))
    assert [record for _, record in after] == [record for _, record in before]
    assert [{k: v for k, v in header.items() if k != "file"} for header, _ in after] == [h for h, _ in before]
    assert merge(tmp_path) == path
    write(tmp_path, 0, steps=1, attempt="2")  # a requeued job goes on, and is merged again
    merge(tmp_path)
    assert len(list(iterate(tmp_path))) == len(before) + 1


def test_a_rerun_over_a_merged_folder_is_seen(tmp_path):
    write(tmp_path, steps=2)
    merge(tmp_path)
    write(tmp_path, steps=5)
    assert len(parts(tmp_path)) == 2
    merge(tmp_path)
    assert [part.count for part in parts(tmp_path)] == [2, 5]


@pytest.mark.slow
@pytest.mark.parametrize("second", [False, True])
def test_a_merge_killed_at_any_stage_neither_loses_nor_doubles(tmp_path, second):
    stage = 0
    while True:
        folder = tmp_path / str(stage)
        for rank in range(3):
            write(folder, rank, steps=4)
        if second:
            merge(folder)
            write(folder, 0, steps=2, attempt="1")
        expected = read(folder)
        finished = _merge_and_die(folder, stage)
        assert read(folder) == expected
        merge(folder)
        assert read(folder) == expected
        assert not list(folder.glob("rank-*"))
        if finished:
            break
        stage += 1
        assert stage < 50
    assert stage > 3


def _merge_and_die(folder, stage):
    """Merge in a child that ends without any clean-up at its stage-th change of the folder; True if it got through."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    count = 0

    def dying(function):
        def call(*args, **options):
            nonlocal count
            if count == stage:
                os._exit(9)
            count += 1
            return function(*args, **options)

        return call

    try:
        Path.open, Path.replace, Path.unlink = dying(Path.open), dying(Path.replace), dying(Path.unlink)
        records.Part.read = dying(records.Part.read)
        merge(folder)
        os._exit(0)
    finally:
        os._exit(1)


def test_a_merged_file_that_was_cut_is_read_to_where_it_ends(tmp_path):
    for rank in range(3):
        write(tmp_path, rank, steps=4)
    path = merge(tmp_path)
    whole = path.read_bytes()
    kept = parts(tmp_path)[1].offset + 2 * RECORD.size + 5
    path.write_bytes(whole[:kept])
    assert read(tmp_path) == [(0, "0", step) for step in range(4)] + [(1, "0", step) for step in range(2)]
    path.write_bytes(whole[:50])
    write(tmp_path, 0, attempt="1")
    with pytest.raises(RecordError, match=r"merged\.steps.*move the file away"):
        parts(tmp_path)
    with pytest.raises(RecordError):  # and nothing is merged over it
        merge(tmp_path)
    path.unlink()
    assert read(tmp_path) == [(0, "1", step) for step in range(3)]
    header = {"format": "hpcsynapse-steps", "version": 3, "record_size": RECORD.size, "parts": [1]}
    path.write_text(json.dumps(header) + "\n")
    with pytest.raises(RecordError, match="parts is damaged"):
        parts(tmp_path)


def test_merged_records_are_on_disk_before_what_they_are_made_of_is_removed(tmp_path, monkeypatch):
    write(tmp_path, 0)
    seen = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(sorted(path.name for path in tmp_path.glob("rank-*"))))
    merge(tmp_path)
    assert seen and all(names == ["rank-00000.0.steps"] for names in seen)


def test_a_merge_does_not_remove_records_that_came_meanwhile(tmp_path):
    write(tmp_path, 0)
    replace = Path.replace

    def late(self, target):
        write(tmp_path, 1, attempt="1")
        return replace(self, target)

    with mock.patch.object(Path, "replace", late):
        merge(tmp_path)
    assert read(tmp_path) == [(0, "0", step) for step in range(3)] + [(1, "1", step) for step in range(3)]


def test_a_reader_during_a_merge_sees_every_record(tmp_path):
    for rank in range(3):
        write(tmp_path, rank)
    expected = read(tmp_path)
    opened = records._open_part

    def disturbed(path):
        with mock.patch.object(records, "_open_part", opened):
            merge(tmp_path)
        return opened(path)

    with mock.patch.object(records, "_open_part", disturbed):
        assert read(tmp_path) == expected


def test_after_a_full_disk_the_file_holds_whole_records(tmp_path):
    recorder = StepRecorder(tmp_path, rank=0)
    for step in range(10):
        recorder.write(step, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0)
    real, calls = os.write, []

    def full(descriptor, data):
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:100])  # one record and a part of the next

    with mock.patch.object(os, "write", full), pytest.raises(OSError, match="No space"):
        recorder.flush()
    assert [record[0] for _, record in iterate(tmp_path)] == [0]
    recorder.write(10, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0)
    recorder.close()
    assert [record[0] for _, record in iterate(tmp_path)] == list(range(11))


def test_records_go_on_once_a_full_disk_has_space_again(tmp_path):
    recorder = StepRecorder(tmp_path, rank=0)
    steps = iter(range(10_000))

    def write():
        recorder.write(next(steps), 0, 0, 0, 0, 0, 0, 0, 1, 1, 0)

    with mock.patch.object(os, "write", side_effect=OSError(28, "No space left on device")):
        for _ in range(3):  # the buffer is full at the first of them
            with pytest.raises(OSError, match="No space"):
                while True:
                    write()
    kept = recorder._used // RECORD.size
    write()
    recorder.close()
    assert [record[0] for _, record in iterate(tmp_path)] == [*range(kept), next(steps) - 1]


def test_the_record_layout_has_no_padding():
    assert RECORD.size == sum(struct.calcsize("<" + code) for _, _, code in FIELDS)
