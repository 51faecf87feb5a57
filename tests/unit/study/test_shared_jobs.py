"""Several runs of a study in one job: what such a job asks for, what it makes in which order, and what it costs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import hpcsynapse

from hpcsynapse.errors import SpecError, SubmitError
from hpcsynapse.files import read_json, write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.schedulers import create
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.study.budget import node_hours, taken, within
from hpcsynapse.study.folder import StudyDirectory
from hpcsynapse.study.lists import StudySpec
from hpcsynapse.study.plan import Point, expand
from hpcsynapse.study.prepare import ReadyPoint
from hpcsynapse.study.shared_jobs import allocation, arrays, directives, queue_arrays, queue_packed
from hpcsynapse.submission.cancel import cancel_requested
from hpcsynapse.submission.prepare import Prepared, prepare
from hpcsynapse.submission.render import render
from hpcsynapse.templating import builtin_templates

GOLDEN = Path(__file__).parents[2] / "golden" / "study"
PROGRAM = JobSpec(
    name="mine",
    command=("python", "train.py"),
    workdir="/home/me/my project",
    launch=LaunchOptions(launcher="srun"),
    queue=QueueOptions(scheduler="slurm", partition="gpu", extra_directives=("--hint=nomultithread",)),
)


def points(base: JobSpec = PROGRAM, **lists: Any) -> list[Point]:
    return expand(StudySpec(**lists), base)


def ready(found: list[Point], folder: Path = Path("/studies/s/points"), packed: bool = False) -> list[ReadyPoint]:
    """The runs with their job files, without a look at what is installed here."""
    done = []
    for point in found:
        path = folder / point.name
        text = render(point.spec, path, packed=packed)
        prepared = Prepared(spec=point.spec, path=path, rendered=text, packed=packed)
        done.append(ReadyPoint(repeat=point.repeat, spec=point.spec, prepared=prepared))
    return done


def names(found: Sequence[Point]) -> list[str]:
    return [point.name for point in found]


def test_directives_are_those_of_the_head_without_name_and_log() -> None:
    text = (
        "#!/bin/bash\n#SBATCH --job-name=a\n# more\n\n#SBATCH --nodes=2\n#SBATCH --output=x\ncd /\n#SBATCH --nodes=9\n"
    )
    assert directives(text, "slurm") == ("#SBATCH --nodes=2",)


def test_the_largest_runs_of_an_allocation_come_first_in_every_repeat() -> None:
    found = points(nodes=(1, 4, 2), repeats=2, jobs="packed")
    assert names(found) == ["run-4x1-r1", "run-2x1-r1", "run-1x1-r1", "run-4x1-r2", "run-2x1-r2", "run-1x1-r2"]


@pytest.mark.slow
def test_runs_that_ask_for_the_same_are_one_array() -> None:
    found = points(nodes=(1, 2), repeats=2)
    chained = [names(group) for group in arrays(ready(found), chain=True)]
    assert chained == [["run-1x1-r1"], ["run-2x1-r1"], ["run-1x1-r2"], ["run-2x1-r2"]]
    free = [names(group) for group in arrays(ready(found), chain=False)]
    assert free == [["run-1x1-r1", "run-1x1-r2"], ["run-2x1-r1", "run-2x1-r2"]]
    alike = points(nodes=(3,), repeats=4)
    assert [names(group) for group in arrays(ready(alike), chain=True)] == [names(alike)]
    many = points(repeats=create("slurm").max_tasks)
    assert [len(group) for group in arrays(ready(many), chain=True)] == [1000]
    more = points(repeats=501, ranks_per_node=(1,), gpus=(0,), nodes=(1,)) + points(
        PROGRAM.with_("train", seed=9), repeats=501
    )
    assert [len(group) for group in arrays(ready(more), chain=True)] == [1000, 2]


def test_an_allocation_has_room_and_time_for_every_run() -> None:
    base = PROGRAM.with_("resources", time="10m", cpus=4)
    spec = allocation(points(base, nodes=(1, 4), gpus=(2, 4), jobs="packed"), None)
    assert (spec.resources.nodes, spec.resources.gpus, spec.resources.local_size, spec.resources.cpus) == (4, 4, 4, 4)
    assert spec.resources.walltime.total_seconds() == 4 * 600 + 60 + 4 * 5
    uneven = [
        point for gpus, ranks in ((4, 1), (1, 3)) for point in points(base, gpus=(gpus,), ranks_per_node=(ranks,))
    ]
    found = allocation(uneven, None).resources
    assert (found.gpus, found.ranks_per_node, found.cpus) == (4, 4, 3)  # room for 3 ranks of 4 cores each
    assert allocation(points(PROGRAM.with_("queue", signal="USR1@60")), None).queue.signal == "USR1@60"
    trained = JobSpec(name="t", queue=QueueOptions(scheduler="slurm", signal="USR1@60"))
    assert allocation(points(trained), None).queue.signal == "B:USR1@60"  # to the script, which tells its run


def test_an_allocation_lasts_no_longer_than_the_budget() -> None:
    found = points(PROGRAM.with_("resources", time="10m"), nodes=(2, 4), jobs="packed")
    assert allocation(found, 1.0).resources.walltime.total_seconds() == 900
    with pytest.raises(SpecError, match=r"0\.5 node-hours of the budget are 450 s on 4 nodes.*600 s.*--time"):
        allocation(found, 0.5)


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An sbatch that takes everything: it keeps what it was given in the folder returned."""
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "sbatch").write_text(f'#!/bin/bash\necho "$@" >> {fake}/asked\nwc -l < {fake}/asked\n')
    (fake / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    return fake


@pytest.mark.parametrize("jobs", ["array", "packed"])
def test_job_files_are_the_golden_ones(
    jobs: str, queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/hpcsynapse/bin/python")
    lists = StudySpec(nodes=(1, 2), gpus=(4,), repeats=2, jobs=jobs)
    study = StudyDirectory.create(tmp_path / "it's 100% mine", lists, PROGRAM)
    said: list[str] = []
    if jobs == "array":
        made = queue_arrays(study, ready(study.plan(), study.runs_path), False, "7", said.append)
    else:
        made = queue_packed(study, ready(study.plan(), study.runs_path, packed=True), None, "7", said.append)
    script = study.jobs / f"{jobs}-1.sh"
    text = script.read_text()
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    shown, golden = text.replace(str(tmp_path), "/scratch"), GOLDEN / f"{jobs}.sh"
    if request.config.getoption("--update-golden"):
        golden.write_text(shown)
    assert shown == golden.read_text()
    asked = (queue / "asked").read_text().splitlines()
    own = made[0].job_script("job.sh").read_text()
    if jobs == "array":
        assert asked == [f"--parsable {study.jobs}/array-{number}.sh" for number in (1, 2)]
        assert [read_json(run.submission)["job_id"] for run in made] == ["1_0", "1_1", "2_0", "2_1"]  # type: ignore[index]
        assert said == ["2 runs  array 1", "2 runs  array 2"] and "--nodelist" not in own
    else:
        assert asked == [f"--dependency=afterany:7 --parsable {script}"]
        records = [read_json(run.submission) or {} for run in made]
        assert [(one["job_id"], one["allocation_nodes"]) for one in records] == [("1", 2)] * 4
        assert 'srun --nodelist="$SLURM_JOB_NODELIST" --nodes=2 ' in own


def test_a_queue_that_refuses_marks_every_run(queue: Path, tmp_path: Path) -> None:
    (queue / "sbatch").write_text("#!/bin/bash\necho 'too many' >&2; exit 1\n")
    study = StudyDirectory.create(tmp_path / "runs", StudySpec(repeats=2, jobs="array"), PROGRAM)
    with pytest.raises(SubmitError, match=r"(?s)too many.*2 runs are marked FAILED"):
        queue_arrays(study, ready(study.plan(), study.runs_path), True, None, print)
    assert [run.read_history()[-1]["state"] for run in study.runs()] == ["FAILED", "FAILED"]


def test_the_environment_is_that_of_a_smaller_job() -> None:
    job = {"SLURM_JOB_ID": "5", "SLURM_JOB_NODELIST": "n[1-4]", "SLURM_NNODES": "4", "PATH": "/bin"}
    found = create("slurm").subset(job, ["n1", "n2"], 4)
    assert found["SLURM_JOB_NODELIST"] == "n1,n2" and found["SLURM_TASKS_PER_NODE"] == "4(x2)"
    assert (found["SLURM_NNODES"], found["SLURM_NTASKS"], found["SLURM_JOB_ID"], found["PATH"]) == (
        "2",
        "8",
        "5",
        "/bin",
    )


HEAD = """cd "${0%/*}" && echo "$0" >> ../../made
trap 'caught=TERM; exit 143' TERM
trap 'printf "{\\"exit_code\\": %d, \\"signal\\": \\"%s\\"}" "$?" "${caught:-}" > exit.json' EXIT
"""


class Job:
    """The program of an allocation of four nodes in a process of its own, its runs' job files being small scripts."""

    def __init__(self, folder: Path, limit: str = "10s", **scripts: str) -> None:
        self.points = folder / "points"
        for name, script in scripts.items():
            spec = replace(PROGRAM, name=name, resources=ResourceRequest(nodes=2, time=limit))
            run, _ = prepare(spec, self.points, name=name, packed=True).write()
            run.job_script("job.sh").write_text(HEAD + script + "\n")
        self.names, self.made = list(scripts), folder / "made"

    def start(self, seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "hpcsynapse.job", "packed", str(self.points), str(seconds)]
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "SLURM_JOB_NODELIST": "n[1-4]"},
        )
        assert child.stdin
        child.stdin.write("\n".join(self.names) + "\n")
        child.stdin.close()
        child.stdin = None
        return child

    def run(self, seconds: float = 60) -> tuple[int, list[str]]:
        child = self.start(seconds)
        out, _ = child.communicate(timeout=60)
        return child.returncode, [line.removeprefix("hpcsynapse: run ") for line in out.splitlines()]

    def __getitem__(self, name: str) -> RunDirectory:
        return RunDirectory(self.points / name)

    def wait_for(self, path: Path) -> None:
        limit = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < limit
            time.sleep(0.02)


@pytest.mark.slow
def test_runs_are_made_in_order_on_the_first_nodes(tmp_path: Path) -> None:
    job = Job(tmp_path, b="echo $SLURM_JOB_NODELIST $SLURM_NNODES", a="exit 3", c="true")
    assert job.run() == (1, ["b: ended well", "a: failed", "c: ended well"])
    assert (job["b"].logs / "job.log").read_text() == "n1,n2 2\n"
    assert [Path(line).parent.name for line in job.made.read_text().split()] == ["b", "a", "c"]
    assert job.run() == (1, ["a: failed"])  # the job was queued once more: what has finished stays


@pytest.mark.slow
def test_a_run_begins_only_when_its_whole_limit_is_left(tmp_path: Path) -> None:
    job = Job(tmp_path, a="sleep 2", b="true")
    assert job.run(seconds=11) == (1, ["a: ended well", "b: not begun"])
    assert not job["b"].exit.exists()


@pytest.mark.slow
def test_a_run_ends_at_its_limit_and_the_next_one_begins(tmp_path: Path) -> None:
    job = Job(tmp_path, limit="1s", a="for i in {1..300}; do sleep 0.1; done", b="true")
    assert job.run() == (1, ["a: failed", "b: ended well"])
    assert (read_json(job["a"].exit) or {})["signal"] == "TIMEOUT"


def test_a_run_that_is_cancelled_ends_or_does_not_begin(tmp_path: Path) -> None:
    job = Job(tmp_path, a="touch here; for i in {1..300}; do sleep 0.1; done", b="true", c="true")
    job["b"].append_history("STOPPED", request="cancel")
    child = job.start(60)
    job.wait_for(job["a"].path / "here")
    job["a"].append_history("STOPPED", request="cancel")
    out, _ = child.communicate(timeout=60)
    assert [line.rpartition(": ")[2] for line in out.splitlines()] == ["failed", "not begun", "ended well"]
    assert (read_json(job["a"].exit) or {})["signal"] == "TERM" and cancel_requested(job["a"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_goes_to_the_run_underway_and_no_other_begins(tmp_path: Path, number: signal.Signals) -> None:
    job = Job(tmp_path, a="trap 'exit 0' USR1; touch here; for i in {1..300}; do sleep 0.1; done", b="true")
    child = job.start(60)
    job.wait_for(job["a"].path / "here")
    child.send_signal(number)
    out, _ = child.communicate(timeout=60)
    first = "failed" if number == signal.SIGTERM else "ended well"
    assert [line.rpartition(": ")[2] for line in out.splitlines()] == [first, "not begun"]


def test_a_run_that_is_gone_is_named_and_the_next_one_begins(tmp_path: Path) -> None:
    job = Job(tmp_path, a="true", b="true")
    shutil.rmtree(job["a"].path)
    code, lines = job.run()
    assert code == 1 and "run.toml" in lines[0] and lines[1] == "b: ended well"


def test_what_a_run_costs(tmp_path: Path) -> None:
    spec = replace(PROGRAM, resources=ResourceRequest(nodes=2, time="1h"))
    run, _ = prepare(spec, tmp_path, name="a").write()
    assert (node_hours(run, waits=False), node_hours(run, waits=True)) == (0.0, 2.0)
    write_json(run.status, {"state": "TRAINING"})  # it began and was lost
    assert node_hours(run, waits=False) == 2.0
    write_json(run.exit, {"exit_code": 0, "start": 1000.0, "time": 2800.0})
    assert node_hours(run, waits=False) == 1.0
    write_json(run.submission, {"allocation_nodes": 8})  # the others stood idle meanwhile
    assert node_hours(run, waits=False) == 4.0
    write_json(run.exit, {"exit_code": 0, "start": "x", "time": None})
    assert node_hours(run, waits=False) == 8.0


def test_runs_set_aside_count_too(tmp_path: Path) -> None:
    study = StudyDirectory.create(tmp_path, StudySpec(repeats=2), replace(PROGRAM, name="s"))
    for point in study.plan():
        run, _ = prepare(point.spec, study.runs_path, name=point.name).write()
        write_json(run.exit, {"exit_code": 1, "start": 0.0, "time": 3600.0})
    study.set_aside(study.runs()[0])
    assert taken(study) == 2.0


def test_no_run_that_could_exceed_the_budget() -> None:
    found = points(PROGRAM.with_("resources", time="1h"), nodes=(1, 2, 1 + 2))
    assert names(within(found, None, 99)) == ["run-1x1", "run-2x1", "run-3x1"]
    assert names(within(found, 6.0, 0.0)) == ["run-1x1", "run-2x1", "run-3x1"]
    assert names(within(found, 6.0, 0.5)) == ["run-1x1", "run-2x1"]
    with pytest.raises(SpecError, match=r"6 node-hours, of which 5\.5 are taken.*run-1x1: it may take 1"):
        within(found, 6.0, 5.5)
    assert within([], 0.0, 5.0) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--jobs", "array"], ["local has no job file", "--jobs separate"]),
        (["--jobs", "packed"], ["local has no job file"]),
        (["--jobs", "all"], ["'all'"]),
        (["--budget", "0.001"], ["0.001 node-hours", "run-1x1"]),
        (["--budget", "-1"], ["study.budget = -1"]),
        (["--budget", "nan"], ["study.budget"]),
        (["--scheduler", "loadleveler", "--jobs", "array", "--no-chain"], ["loadleveler has no job file"]),
        (["--scheduler", "minotauro", "--jobs", "packed", "--no-chain"], ["minotauro has no job file"]),
    ],
)
def test_wrong_usage_exits_2_and_writes_nothing(workdir: Path, arguments: list[str], words: list[str]) -> None:
    done = hpcsynapse("study", "--scheduler", "local", *arguments, "--launcher", "mpirun", "--time", "1m", "--", "true")
    assert done.returncode == 2, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert list(workdir.iterdir()) == []


@pytest.mark.slow
def test_a_study_here_ends_with_its_budget_and_goes_on_with_another(workdir: Path) -> None:
    arguments = ["--scheduler", "local", "--ranks-per-node", "1,2", "--time", "10s", "--budget", "0.003", "--name", "s"]
    done = hpcsynapse("study", *arguments, "--", "sleep", "1")
    assert done.returncode == 1 and "at most 0.00556 node-hours" in done.stdout.splitlines()[0]
    assert "have room for 1 of 2 runs" in done.stderr and "too small for run run-1x2" in done.stderr
    assert "1 of 2 runs have not finished; later: hpcsynapse resume s" in done.stderr
    more = ["study", "--resume", "s", "--budget", "1"]
    assert [one["run"] for one in json.loads(hpcsynapse(*more, "--dry-run", "--json").stdout)] == ["run-1x2"]
    assert "local has no job file" in hpcsynapse(*more, "--jobs", "packed").stderr
    assert hpcsynapse(*more).returncode == 0


def test_a_site_has_its_own_way_in_every_job_file(queue: Path, tmp_path: Path) -> None:
    site = tmp_path / "site" / "slurm"
    site.mkdir(parents=True)
    text = (builtin_templates() / "slurm" / "job.sh.j2").read_text()
    (site / "job.sh.j2").write_text(text.replace("#!/bin/bash\n", "#!/bin/bash\n#SBATCH --licenses=fs:1\n", 1))
    base = PROGRAM.with_("site", template_dir=str(site.parent))
    study = StudyDirectory.create(tmp_path / "runs", StudySpec(repeats=2, jobs="packed"), base)
    queue_packed(study, ready(study.plan(), study.runs_path, packed=True), None, None, print)
    assert "#SBATCH --licenses=fs:1\n" in (study.jobs / "packed-1.sh").read_text()
