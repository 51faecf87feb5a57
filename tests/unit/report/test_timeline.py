"""The timeline of a run: what the records say, nested and in order, in JSON that a viewer of traces opens."""

import gzip
import json

import pytest
from click.testing import CliRunner

from hpcsynapse.cli.main import cli
from hpcsynapse.errors import RecordError, SpecError
from hpcsynapse.files import write_json
from hpcsynapse.report import timeline
from hpcsynapse.report.timeline import write_timeline
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.timing import RECORD, StepRecorder


def slices(path):
    """The slices of a trace by thread: (name, begin, end) in microseconds."""
    text = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    found = {}
    for event in json.loads(text)["traceEvents"]:
        if event["ph"] == "X":
            own = found.setdefault((event["pid"], event["tid"]), [])
            own.append((event["name"], event["ts"], event["ts"] + event["dur"]))
    return found


def record(folder, role="worker", rank=0, steps=((1000.0, 1.0),)):
    with StepRecorder(folder, rank=rank, role=role, host="h", node_rank=rank) as recorder:
        for number, (start, total) in enumerate(steps):
            recorder.write(number, 0, start, 0.25, 0.25, 0.125, 0.125, 0.25, total, 8, 0.5)
    return recorder.path


@pytest.mark.parametrize("name", ["t.json", "t.json.gz"])
def test_steps_phases_and_pauses_stand_where_they_were(tmp_path, rank_writer, name) -> None:
    for rank in range(2):
        rank_writer(tmp_path, rank, 2, [1.0, 1.0, 1.0], epoch_steps=2, gap=0.5, start=1000.0 + rank, waits=[0.25] * 3)
    assert write_timeline(tmp_path, tmp_path / name) == 2 * (3 + 3 + 1) + 3
    found = slices(tmp_path / name)
    assert sorted(found) == [(0, 0), (0, 1)]
    for (_, rank), own in found.items():
        ms = [(what, begin / 1e6 - rank, end / 1e6 - rank) for what, begin, end in own]
        assert [one for one in ms if one[0] != "communicate"] == [
            ("step 0", 0.0, 1.0),
            ("step 1", 1.0, 2.0),
            ("validation", 2.0, 2.5),
            ("step 2", 2.5, 3.5),
        ]
        assert [one[1:] for one in ms if one[0] == "communicate"] == [(0.0, 0.25), (1.0, 1.25), (2.5, 2.75)]


def test_phases_follow_one_another_within_their_step_and_steps_do_not_overlap(tmp_path) -> None:
    record(tmp_path, steps=[(1000.0, 1.0), (1000.5, 1.0)])  # the clock was set back by half a second
    (own,) = slices_of(tmp_path)
    assert own == [
        ("step 0", 0.0, 5e5),
        ("data", 0.0, 2.5e5),
        ("forward", 2.5e5, 5e5),
        ("step 1", 5e5, 1.5e6),
        ("data", 5e5, 7.5e5),
        ("forward", 7.5e5, 1e6),
        ("backward", 1e6, 1.125e6),
        ("communicate", 1.125e6, 1.25e6),
        ("update", 1.25e6, 1.5e6),
    ]


def slices_of(folder):
    write_timeline(folder, folder / "t.json")
    return list(slices(folder / "t.json").values())


def test_servers_have_threads_of_their_own_on_their_node(tmp_path) -> None:
    record(tmp_path)
    record(tmp_path, role="ps")
    write_timeline(tmp_path, tmp_path / "t.json")
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    names = [event["args"]["name"] for event in events if event["ph"] == "M"]
    assert sorted(names) == ["node 0 h", "ps 0", "rank 0"]
    assert len(slices(tmp_path / "t.json")) == 2


def test_of_a_long_run_only_slow_steps_have_phases(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(timeline, "MOST_PHASES", 10)
    record(tmp_path, steps=[(1000.0, 1.0), (1001.0, 1.0), (1002.0, 4.0), (1006.0, 1.0)])
    (own,) = slices_of(tmp_path)
    assert {begin for name, begin, _ in own if name == "data"} == {2e6}
    assert [name for name, _, _ in own if name.startswith("step")] == ["step 0", "step 1", "step 2", "step 3"]


def test_cut_and_damaged_records_are_passed_over(tmp_path) -> None:
    steps = [(1000.0, 1.0), (float("nan"), 1.0), (1e300, 1.0), (1001.0, float("inf")), (1002.0, -1.0), (1003.0, 1.0)]
    path = record(tmp_path, steps=steps)
    path.write_bytes(path.read_bytes()[: -RECORD.size // 2])
    (own,) = slices_of(tmp_path)
    assert [name for name, _, _ in own if name.startswith("step")] == ["step 0"]


def test_a_wrong_name_or_no_records_write_nothing(tmp_path) -> None:
    with pytest.raises(RecordError, match="no step records"):
        write_timeline(tmp_path, tmp_path / "t.json")
    record(tmp_path / "timings")
    with pytest.raises(SpecError, match=r"\.json or \.json\.gz"):
        write_timeline(tmp_path / "timings", tmp_path / "t.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["timings"]


def test_the_command_says_what_it_wrote(tmp_path) -> None:
    record(tmp_path / "timings")
    target = tmp_path / "t.json.gz"
    done = CliRunner().invoke(cli, ["timeline", str(tmp_path), "-o", str(target)])
    assert done.exit_code == 0, done.output
    assert done.output == f"{target}: 8 events; open it in ui.perfetto.dev\n"
    assert len(slices(target)[0, 0]) == 6


@pytest.mark.parametrize("name", ["absent/t.json", "folder.json"])
def test_a_place_that_cannot_be_written_is_wrong_input_and_named(tmp_path, name) -> None:
    record(tmp_path / "timings")
    (tmp_path / "folder.json").mkdir()
    done = CliRunner().invoke(cli, ["timeline", str(tmp_path), "-o", str(tmp_path / name)])
    assert isinstance(done.exception, SpecError) and f"{tmp_path / name} cannot be written: " in str(done.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.json", "timings"]


def test_the_first_failure_is_marked_on_its_rank(tmp_path) -> None:
    run = RunDirectory.create(tmp_path, JobSpec(name="run"))
    run.timings.mkdir(exist_ok=True)
    record(run.timings, rank=3)
    run.evidence("0").mkdir(parents=True)
    write_json(run.failure("0", 3), {"rank": 3, "host": "h", "code": 5, "reason": "exit code 5", "time": 1002.5})
    write_timeline(run, tmp_path / "t.json")
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    (mark,) = [event for event in events if event["ph"] == "i"]
    assert (mark["name"], mark["ts"], mark["tid"]) == ("first failure: rank 3, exit code 5", 2.5e6, 3)
