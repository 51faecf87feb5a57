"""What a timeline shows beside the steps: states, stop requests, validations, telemetry, traces of other programs."""

from __future__ import annotations

import gzip
import json
import os

import pytest
from click.testing import CliRunner
from trace_reading import read_chrome, read_perfetto

from hpcsynapse.cli.main import cli
from hpcsynapse.errors import RecordError, SpecError
from hpcsynapse.files import append_json, write_json
from hpcsynapse.report.timeline import View, write_timeline
from hpcsynapse.report.trace import counters
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.telemetry import Column, TelemetryWriter
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.timing import StepRecorder

pytest.importorskip("perfetto")
T0 = 1.75e9
SECOND = 10**9


@pytest.fixture
def run(tmp_path):
    """Two nodes with a rank each and ten steps of a second from T0 + 5 on."""
    found = RunDirectory.create(tmp_path / "runs", JobSpec(name="run"))
    for rank in range(2):
        with StepRecorder(found.timings, rank=rank, node_rank=rank, host=f"n{rank}", nodes=2) as recorder:
            for step in range(10):
                recorder.write(step, 0, T0 + 5 + step, 0.25, 0.25, 0.25, 0.125, 0.125, 1.0, 8, 0.5)
    return found


def tell(run, *states):
    for when, state, reason in states:
        append_json(run.history, {"time": T0 + when, "state": state, "reason": reason})


def tracks_of(run, tmp_path, view=None):
    write_timeline(run, tmp_path / "t.pftrace", view)
    found = list(read_perfetto(tmp_path / "t.pftrace").values())
    assert len({(one.name, one.parent) for one in found}) == len(found)
    return {one.name: one for one in found}


def test_states_are_slices_from_the_begin_of_the_job_to_its_end(run, tmp_path) -> None:
    run.history.write_text("")
    tell(run, (-5000, "QUEUED", ""), (0, "SETUP", ""), (4, "TRAINING", ""), (9, "EVALUATING", ""))
    tell(run, (10, "TRAINING", ""), (15, "STOPPED", "stopped by user"))
    append_json(run.history, {"time": "yesterday", "state": "TRAINING"})
    append_json(run.history, {"time": T0, "state": 7})
    track = tracks_of(run, tmp_path)["state"]
    assert [(name, begin // SECOND, end // SECOND) for name, begin, end, _ in track.slices] == [
        ("SETUP", 0, 4),
        ("TRAINING", 4, 9),
        ("EVALUATING", 9, 10),
        ("TRAINING", 10, 15),
    ]
    assert track.marks == [("STOPPED: stopped by user", 15 * SECOND)]
    rank = tracks_of(run, tmp_path)["rank 0"]
    assert rank.slices[0][:2] == ("step 0", 5 * SECOND)


def test_a_request_to_stop_is_marked_when_it_was_made(run, tmp_path) -> None:
    run.request_stop("enough")
    os.utime(run.stop, (T0 + 8, T0 + 8))
    notice = run.signal_notice("0")
    notice.write_text("USR1\n")
    os.utime(notice, (T0 + 9, T0 + 9))
    marks = tracks_of(run, tmp_path)["state"].marks
    assert marks == [("stop requested: enough", 3 * SECOND), ("signal taken by the job script: USR1", 4 * SECOND)]


def test_validations_are_counters(run, tmp_path) -> None:
    for when, accuracy in ((7, 0.5), (9, 0.75), (99, 1.0)):
        append_json(run.metrics, {"time": T0 + when, "step": 1, "samples": 1, "accuracy": accuracy, "note": "x"})
    tracks = tracks_of(run, tmp_path)
    assert tracks["validation accuracy"].values == [(2 * SECOND, 0.5), (4 * SECOND, 0.75)]
    assert "validation note" not in tracks


def sample(run, node, values, columns=("cpu_user", "idle")):
    run.telemetry.mkdir(exist_ok=True)
    path = run.telemetry / f"n{node}.0.telemetry"
    about = {"node_rank": node, "host": f"n{node}"}
    writer = TelemetryWriter(path, [Column(name, "<f4", "s", "") for name in columns], about)
    for when, *numbers in values:
        writer.add(T0 + when, 1.0, numbers)
    writer.close()


def test_telemetry_is_a_counter_of_its_node(run, tmp_path) -> None:
    sample(run, 0, [(6, 1.5, 0.0), (7, None, 0.0), (8, 2.0, 0.0), (500, 9.0, 0.0)])
    sample(run, 2, [(6, 4.0, 1.0), (7, 5.0, 1.0)])  # a node without ranks, for instance of servers
    write_timeline(run, tmp_path / "t.pftrace")
    tracks = read_perfetto(tmp_path / "t.pftrace")
    found = {(tracks[one.parent].name, one.name): one.values for one in tracks.values() if one.values}
    assert found == {
        ("node 0 n0", "cpu_user"): [(1 * SECOND, 1.5), (3 * SECOND, 2.0)],
        ("node 2 n2", "cpu_user"): [(1 * SECOND, 4.0), (2 * SECOND, 5.0)],
    }
    write_timeline(run, tmp_path / "t.json")
    events = [one for one in read_chrome(tmp_path / "t.json") if one["ph"] == "C"]
    assert [(one["pid"], one["ts"], one["args"]) for one in events] == [
        (0, 1e6, {"s": 1.5}),
        (0, 3e6, {"s": 2}),
        (2, 1e6, {"s": 4}),
        (2, 2e6, {"s": 5}),
    ]


def test_more_telemetry_than_a_viewer_holds_becomes_means(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(counters, "MOST_VALUES", 16)
    sample(run, 0, [(6 + number / 4, float(number)) for number in range(8)], columns=("cpu_user",))
    assert tracks_of(run, tmp_path)["cpu_user"].values == [(1 * SECOND, 1.0), (1.75 * SECOND, 4.0), (2.5 * SECOND, 6.5)]


def test_a_view_has_its_steps_and_ranks_alone(run, tmp_path) -> None:
    tell(run, (4, "TRAINING", ""))
    tracks = tracks_of(run, tmp_path, View(steps=(3, 4), ranks=frozenset({1})))
    assert "rank 0" not in tracks
    steps = [(name, begin) for name, begin, _, _ in tracks["rank 1"].slices if name.startswith("step")]
    assert steps == [("step 3", 0), ("step 4", SECOND)]
    assert [one[:3] for one in tracks["state"].slices] == [("TRAINING", 0, 2 * SECOND)]
    with pytest.raises(RecordError, match="of these steps and ranks"):
        write_timeline(run, tmp_path / "no.pftrace", View(steps=(50, 60)))
    assert not (tmp_path / "no.pftrace").exists()


@pytest.mark.parametrize("option", [("--steps", "9-3"), ("--steps", "x"), ("--ranks", "1,"), ("--ranks", "0-9999999")])
def test_a_view_that_is_none_is_wrong_input(run, option) -> None:
    done = CliRunner().invoke(cli, ["timeline", "run", "--runs", str(run.path.parent), *option])
    assert isinstance(done.exception, SpecError) and option[0] in str(done.exception)


HOROVOD = """[
{"name": "process_name", "ph": "M", "pid": 0, "args": {"start_time_since_epoch_in_micros":1750000006000000}},
{"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "allreduce.g0"}},
{"ph": "B", "name": "NEGOTIATE_ALLREDUCE", "ts": 1000, "pid": 1},
{"ph": "X", "name": "0", "ts": 1001, "pid": 1, "dur": 0},
{"ph": "E", "ts": 1500, "pid": 1},{"ph": "B", "name": "ALLREDUCE", "ts": 1600, "pid": 1},
{"ph": "B", "name": "MPI_ALLREDUCE", "ts": 1700, "pid": 1},{"ph": "E", "ts": 1800, "pid": 1},
{"ph": "E", "ts": 1900, "pid": 1}"""


@pytest.mark.parametrize("ending", ["", "\n]\n", ","])
def test_the_timeline_of_horovod_is_merged_also_where_its_program_was_killed(run, tmp_path, ending) -> None:
    (tmp_path / "hvd.json").write_text(HOROVOD + ending)
    track = tracks_of(run, tmp_path, View(merged=[tmp_path / "hvd.json"]))["allreduce.g0"]
    assert [(name, begin - SECOND, end - SECOND) for name, begin, end, _ in track.slices] == [
        ("NEGOTIATE_ALLREDUCE", 1_000_000, 1_500_000),
        ("0", 1_001_000, 1_001_000),
        ("ALLREDUCE", 1_600_000, 1_900_000),
        ("MPI_ALLREDUCE", 1_700_000, 1_800_000),
    ]


def test_a_profile_is_merged_with_what_sticks_out_cut_off(run, tmp_path) -> None:
    events = [
        {"ph": "M", "name": "thread_name", "pid": 7, "tid": 8, "args": {"name": "stream 8"}},
        {"ph": "X", "name": "outer", "ts": 6e6, "dur": 100, "pid": 7, "tid": 8},
        {"ph": "X", "name": "inner", "ts": 6e6 + 50, "dur": 100, "pid": 7, "tid": 8},
        {"ph": "X", "name": "long ago", "ts": -6e6, "dur": 100, "pid": 7, "tid": 8},
        {"ph": "X", "name": "odd", "ts": "x", "dur": 100, "pid": 7, "tid": 8},
        {"ph": "i", "name": "mark", "ts": 6e6, "pid": 7, "tid": 8},
        3,
    ]
    profile = {"baseTimeNanoseconds": int(T0) * SECOND, "distributedInfo": {"rank": 1}, "traceEvents": events}
    write_json(tmp_path / "p.json", profile)
    tracks = tracks_of(run, tmp_path, View(merged=[tmp_path / "p.json"]))
    assert [one[:3] for one in tracks["7 stream 8"].slices] == [
        ("outer", SECOND, SECOND + 100_000),
        ("inner", SECOND + 50_000, SECOND + 100_000),
    ]
    assert "profiler, rank 1" in tracks
    write_timeline(run, tmp_path / "t.json", View(merged=[tmp_path / "p.json"]))
    names = [one["name"] for one in read_chrome(tmp_path / "t.json") if one["pid"] > 1_000_000 and one["ph"] == "X"]
    assert names == ["outer", "inner"]


@pytest.mark.slow
def test_a_profile_of_torch_itself_is_where_its_step_was(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    from torch.profiler import ProfilerActivity, profile

    own = torch.profiler.record_function("own work")
    recorder = StepRecorder(tmp_path / "timings")
    with profile(activities=[ProfilerActivity.CPU]) as profiled, recorder, recorder.step(samples=1), own:
        torch.ones(100, 100) @ torch.ones(100, 100)
    profiled.export_chrome_trace(str(tmp_path / "p.json"))
    tracks = tracks_of(tmp_path / "timings", tmp_path, View(merged=[tmp_path / "p.json"]))
    (work,) = [one for track in tracks.values() for one in track.slices if one[0] == "own work"]
    (step,) = [one for one in tracks["rank 0"].slices if one[0] == "step 0"]
    assert step[1] - 10**6 <= work[1] <= work[2] <= step[2] + 10**6  # a millisecond: two ways to read one clock


def test_the_profiles_of_a_run_are_those_of_the_ranks_that_are_drawn(run, tmp_path) -> None:
    with pytest.raises(SpecError, match="no profiles"):
        write_timeline(run, tmp_path / "t.pftrace", View(profiles=True))
    run.profiles.mkdir()
    for rank in range(2):
        events = [{"ph": "X", "name": f"work {rank}", "ts": 6e6, "dur": 100, "pid": 1, "tid": 1}]
        told = json.dumps({"baseTimeNanoseconds": int(T0) * SECOND, "traceEvents": events})
        (run.profiles / f"rank-0000{rank}.0.json.gz").write_bytes(gzip.compress(told.encode()))
    assert {"profiler, rank 0", "profiler, rank 1"} <= tracks_of(run, tmp_path, View(profiles=True)).keys()
    drawn = tracks_of(run, tmp_path, View(profiles=True, ranks=frozenset({1})))
    assert "profiler, rank 1" in drawn and "profiler, rank 0" not in drawn
    assert [one[:2] for one in drawn["1 1"].slices] == [("work 1", SECOND)]


@pytest.mark.parametrize("text", ["", "{", "3", '{"traceEvents": 1}', '{"traceEvents": []}', "[]", "[" * 10**5])
def test_what_is_no_trace_is_wrong_input_and_nothing_is_written(run, tmp_path, text) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SpecError, match=r"x\.json: "):
        write_timeline(run, tmp_path / "t.pftrace", View(merged=[tmp_path / "x.json"]))
    with pytest.raises(SpecError, match="absent"):
        write_timeline(run, tmp_path / "t.pftrace", View(merged=[tmp_path / "absent"]))
    assert not list(tmp_path.glob("*t.pftrace*"))


def test_the_command_merges_and_chooses(run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hvd.json").write_text(HOROVOD)
    arguments = ["--steps", "1-2", "--ranks", "0,1", "--merge", "hvd.json"]
    done = CliRunner().invoke(cli, ["timeline", "run", "--runs", str(run.path.parent), *arguments])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("run.pftrace.gz: ")
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '["hvd.json", "run.pftrace.gz", "runs"]'
