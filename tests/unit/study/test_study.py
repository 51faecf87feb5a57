"""Studies: which runs they consist of, what is made again, and what is left when they are interrupted."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import hpcsynapse

from hpcsynapse.errors import SpecError
from hpcsynapse.files import write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.study.folder import StudyDirectory, find_runs, has_finished
from hpcsynapse.study.lists import StudySpec
from hpcsynapse.study.plan import expand
from hpcsynapse.study.prepare import prepare, remaining, settle

LOCAL = JobSpec(queue=QueueOptions(scheduler="local"))


def names(study: StudySpec, base: JobSpec = LOCAL) -> list[str]:
    return [point.name for point in expand(study, base)]


def test_every_combination_is_run_and_repeats_are_interleaved() -> None:
    study = StudySpec(strategy=("allreduce", "central"), ranks_per_node=(1, 2), nodes=(1, 3), repeats=2)
    first = [
        "allreduce-1x1",
        "allreduce-1x2",
        "allreduce-3x1",
        "allreduce-3x2",
        "central-1x1",
        "central-1x2",
        "central-3x1",
        "central-3x2",
    ]
    assert names(study) == [f"{name}-r{repeat}" for repeat in (1, 2) for name in first]
    points = expand(study, LOCAL.with_("train", seed=7))
    assert [point.spec.train.seed for point in points] == [7] * 8 + [8] * 8
    last = points[-1].spec
    assert (last.resources.nodes, last.resources.ranks_per_node, last.train.strategy) == (3, 2, "central")
    assert points[-1].planned().ranks == 6


def test_names_tell_what_differs() -> None:
    study = StudySpec(
        engine=("ddp", "mpi"), model=("simple-cnn", "pack.age:Net"), batch=(8, 16), gpus=(0, 2), strategy=("allreduce",)
    )
    found = names(study)
    assert len(set(found)) == len(found) == 16
    assert found[0] == "allreduce-1x1-ddp-simple-cnn-b8-g0" and found[-1] == "allreduce-1x2-mpi-pack-age-Net-b16-g2"
    alike = StudySpec(model=("a.b:C", "a_b:C"), strategy=("single",))
    assert names(alike) == ["single-1x1-a-b-C", "single-1x1-a-b-C.2"]
    assert names(StudySpec()) == ["run-1x1"]
    program = JobSpec(command=("python", "x.py"), queue=QueueOptions(scheduler="local"))
    assert names(StudySpec(ranks_per_node=(1, 2)), program) == ["run-1x1", "run-1x2"]


def test_single_runs_once_and_servers_have_no_engine() -> None:
    study = StudySpec(strategy=("single", "allreduce", "ps-async"), engine=("ddp", "mpi"), gpus=(2, 4))
    points = {point.name: point.spec for point in expand(study, LOCAL)}
    assert list(points) == [
        "single-1x1-g1",
        "allreduce-1x2-ddp-g2",
        "allreduce-1x4-ddp-g4",
        "allreduce-1x2-mpi-g2",
        "allreduce-1x4-mpi-g4",
        "ps-async-1x2-g2",
        "ps-async-1x4-g4",
    ]
    assert points["single-1x1-g1"].resources == ResourceRequest(nodes=1, gpus=1, ranks_per_node=1)
    assert points["ps-async-1x2-g2"].train.engine == "auto"


def test_weak_and_strong_batches() -> None:
    lists = {"strategy": ("single", "allreduce"), "ranks_per_node": (1, 2, 4), "batch": (64,)}

    def batches(scaling: str) -> list[int]:
        return [point.spec.train.batch for point in expand(StudySpec(scaling=scaling, **lists), LOCAL)]  # type: ignore[arg-type]

    assert batches("weak") == [64, 64, 64, 64]
    assert batches("strong") == [64, 64, 32, 16]
    own = JobSpec(train=TrainSpec(batch=12), queue=QueueOptions(scheduler="local"))
    assert [point.spec.train.batch for point in expand(StudySpec(ranks_per_node=(2, 3), scaling="strong"), own)] == [
        6,
        4,
    ]


def test_batches_that_do_not_divide_are_all_named() -> None:
    study = StudySpec(strategy=("allreduce",), ranks_per_node=(2, 3, 5), batch=(64,), scaling="strong")
    with pytest.raises(SpecError, match=r"64 over 3 ranks \(strategy allreduce, batch 64, ranks_per_node 3\); 64"):
        expand(study, LOCAL)


def test_auto_is_one_engine_for_the_whole_curve(workdir: Path) -> None:
    study = StudySpec(strategy=("allreduce",), ranks_per_node=(1, 2))
    ready, _ = prepare(study, expand(study, settle(LOCAL)), workdir / "points")
    assert len({point.spec.train.engine for point in ready}) == 1
    assert all(point.spec.train.engine != "auto" for point in ready)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ranks-per-node", "1,x"], ["--ranks-per-node", "'1,x'"]),
        (["--ranks-per-node", "1,,2"], ["'1,,2'"]),
        (["--ranks-per-node", "2,2"], ["study.ranks_per_node = [2, 2]", "once"]),
        (["--ranks-per-node", "-1"], ["'-1'"]),
        (["--ranks-per-node", "0,1"], ["ranks_per_node = 0"]),
        (["--batch", "9" * 30], ["train.batch"]),
        (["--strategy", "allreduce,alreduce"], ["'alreduce'", "did you mean 'allreduce'"]),
        (["--model", "simple-cnn,simple-cn"], ["'simple-cn'"]),
        (["--model", "a$(id)"], ["a$(id)"]),
        (["--engine", "mpi", "--ranks-per-node", "1,2", "--launcher", "local"], ["mpirun"]),
        (["--ranks-per-node", "1,3", "--scaling", "strong"], ["32 over 3 ranks"]),
        (["--nodes", "1,2"], ["--emulate", "(run run-2x1)"]),
        (["--repeats", "0"], ["study.repeats = 0"]),
        (["--repeats", "1000", "--ranks-per-node", "1,2,3,4,5,6,7,8,9,10,11"], ["11000 runs"]),
        (["--scaling", "both"], ["'both'"]),
        (["--name", "a b"], ["'a b'"]),
        (["--strategy", "allreduce", "--", "true"], ["study.strategy", "program of your own"]),
        (["--scaling", "strong", "--", "true"], ["study.scaling", "program of your own"]),
        (["--ranks-per-node", "1,2", "--", "no-such-program"], ["no-such-program"]),
        (["absent.toml"], ["absent.toml"]),
        (["--runs", "/proc/nothing", "--", "true"], ["/proc"]),
    ],
)
def test_wrong_usage_exits_2_says_why_and_writes_nothing(workdir: Path, arguments: list[str], words: list[str]) -> None:
    done = hpcsynapse("study", "--scheduler", "local", *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert list(workdir.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[study]\nnode = [1]\n", ["study.node", "'nodes'"]),
        ("[study]\nranks_per_node = 2\n", ["study.ranks_per_node = 2", "a list"]),
        ("[study]\nranks_per_node = ['2']\n", ["study.ranks_per_node[0]", "whole number"]),
        ("study = 2\n", ["[study] must be a table"]),
        ("[study]\nranks_per_node = [1]\n[trian]\nlr = 1\n", ["unknown setting trian"]),
    ],
)
def test_a_wrong_study_toml_is_named(workdir: Path, text: str, words: list[str]) -> None:
    (workdir / "study.toml").write_text(text)
    done = hpcsynapse("study", "study.toml", "--scheduler", "local")
    assert done.returncode == 2 and done.stdout == ""
    assert all(word in done.stderr for word in words), done.stderr
    assert [path.name for path in workdir.iterdir()] == ["study.toml"]
    assert "unknown setting study" in hpcsynapse("submit", "study.toml").stderr


def test_options_that_a_study_takes_the_place_of_are_refused_beside_resume(workdir: Path) -> None:
    done = hpcsynapse("study", "--resume", "absent", "--epochs", "3")
    assert done.returncode == 2 and "leave 'epochs' out" in done.stderr
    StudyDirectory.create(workdir / "runs", StudySpec(), JobSpec(name="mine"))
    done = hpcsynapse("study", "--resume", "mind")
    assert done.returncode == 2 and "no study 'mind'" in done.stderr and "did you mean 'mine'" in done.stderr


def test_a_queue_that_cannot_chain_says_what_to_type(workdir: Path) -> None:
    arguments = ["study", "--scheduler", "loadleveler", "--ranks-per-node", "1,2", "--dry-run", "--launcher", "mpirun"]
    arguments += ["--engine", "mpi"]
    done = hpcsynapse(*arguments)
    assert done.returncode == 2 and "--no-chain" in done.stderr
    done = hpcsynapse(*arguments, "--no-chain")
    assert "--no-chain" not in done.stderr


def test_a_dry_run_prints_the_points_and_writes_nothing(workdir: Path) -> None:
    arguments = [
        "study",
        "--scheduler",
        "local",
        "--strategy",
        "single,allreduce",
        "--ranks-per-node",
        "1,2",
        "--batch",
        "64",
        "--scaling",
        "strong",
        "--engine",
        "ddp",
        "--dry-run",
    ]
    lines = hpcsynapse(*arguments).stdout.splitlines()
    assert lines[0].startswith("in all rows: repeat 1, ")
    assert lines[1].split() == ["run", "strategy", "ranks", "batch/rank"]
    assert [line.split()[0] for line in lines[2:]] == ["single-1x1", "allreduce-1x1", "allreduce-1x2"]
    rows = json.loads(hpcsynapse(*arguments, "--json").stdout)
    assert [(row["ranks"], row["batch_per_rank"], row["global_batch"]) for row in rows] == [
        (1, 64, 64),
        (1, 64, 64),
        (2, 32, 64),
    ]
    assert list(workdir.iterdir()) == []


@pytest.mark.slow
def test_study_toml_holds_the_whole_study(workdir: Path) -> None:
    (workdir / "hpcsynapse.toml").write_text("[train]\nlr = 0.5\n")
    (workdir / "mine.toml").write_text(
        'name = "mine"\n[study]\nranks_per_node = [1, 2]\nrepeats = 3\n[train]\nbatch = 4\n'
    )
    done = hpcsynapse(
        "study",
        "mine.toml",
        "--ranks-per-node",
        "1",
        "--repeats",
        "1",
        "--scheduler",
        "local",
        "--steps",
        "1",
        "--",
        "true",
    )
    assert done.returncode == 0, done.stderr
    written = tomllib.loads((workdir / "runs" / "mine" / "study.toml").read_text())
    assert written["format"] == 1 and written["study"]["ranks_per_node"] == [1] and written["train"]["lr"] == 0.5
    assert written["queue"]["scheduler"] == "local" and written["workdir"] == str(workdir)
    (workdir / "hpcsynapse.toml").unlink()
    (workdir / "elsewhere").mkdir()
    command = [sys.executable, "-m", "hpcsynapse", "study", "../runs/mine/study.toml", "--runs", "../runs"]
    again = subprocess.run(command, cwd=workdir / "elsewhere", capture_output=True, text=True, timeout=60)
    assert again.returncode == 0, again.stderr
    repeated = tomllib.loads((workdir / "runs" / "mine-2" / "study.toml").read_text())
    assert repeated | {"name": ""} == written | {"name": ""}


def fabricate(study: StudyDirectory, point: JobSpec, exit_code: int | None, state: str = "") -> RunDirectory:
    """Write a run as it would lie there: handed to a queue that no longer knows it, ended unless exit_code is None."""
    run = RunDirectory.create(study.runs_path, point)
    if state != "CREATED":
        write_json(run.submission, {"scheduler": "local", "job_id": "elsewhere.invalid:1:1" if state else "x:1:1"})
    if exit_code is not None:
        write_json(run.exit, {"exit_code": exit_code})
    if state in ("STOPPED", "TRAINING"):
        write_json(run.status, {"state": state})
    return run


def test_only_what_is_missing_or_has_not_finished_is_left(workdir: Path) -> None:
    lists = StudySpec(strategy=("allreduce",), ranks_per_node=(1, 2, 3, 4, 5, 6))
    study = StudyDirectory.create(workdir / "runs", lists, replace(LOCAL, name="s"))
    specs = [point.spec for point in study.plan()]
    fabricate(study, specs[0], 0)
    fabricate(study, specs[1], 3)
    fabricate(study, specs[2], 0, "STOPPED")
    fabricate(study, specs[3], None, "CREATED")
    running = fabricate(study, specs[4], None, "TRAINING")  # on another host, so nobody here can say that it ended
    left = remaining(study, study.plan())
    assert [point.name for point in left.points] == [f"allreduce-1x{ranks}" for ranks in (2, 3, 4, 6)]
    assert [run.name for run in left.again] == [f"allreduce-1x{ranks}" for ranks in (2, 3, 4)]
    assert left.underway == [running]
    assert [run.name for run in study.runs() if has_finished(run)] == ["allreduce-1x1"]
    study.set_aside(left.again[0])
    assert [path.name for path in study.failed.iterdir()] == ["allreduce-1x2.1"]
    fabricate(study, specs[1], 3)
    study.set_aside(left.again[0])
    assert sorted(path.name for path in study.failed.iterdir()) == ["allreduce-1x2.1", "allreduce-1x2.2"]
    assert "allreduce-1x2" not in [run.name for run in study.runs()]


def test_a_study_stands_for_its_runs(workdir: Path) -> None:
    runs = workdir / "runs"
    study = StudyDirectory.create(runs, StudySpec(ranks_per_node=(10, 2)), replace(LOCAL, name="s"))
    for point in reversed(study.plan()):
        fabricate(study, point.spec, 0)
    assert [run.name for run in find_runs(runs, ["s"])] == ["run-1x10", "run-1x2"]  # in the order of the study
    assert find_runs(runs, ["s", "s/points/run-1x2", str(study.path), str(study.study_toml)]) == study.runs()
    assert find_runs(runs, ["s/points/run-1x2"])[0].name == "run-1x2"
    assert find_runs(runs, ["s/run-1x2"])[0].path == study.runs_path / "run-1x2"
    with pytest.raises(SpecError, match="did you mean 's'"):
        find_runs(runs, ["ss"])
    with pytest.raises(SpecError, match="run-1x2 is a run of a study: write s/run-1x2"):
        find_runs(runs, ["run-1x2"])
    rows = list(csv.DictReader(io.StringIO(hpcsynapse("status", "s", "--csv").stdout)))
    assert [(row["name"], row["state"]) for row in rows] == [("run-1x10", "FINISHED"), ("run-1x2", "FINISHED")]
    assert hpcsynapse("status").stdout.splitlines()[1].split()[0] == "s"
    assert hpcsynapse("status").stdout.endswith("  2 of 2 finished\n")
    assert hpcsynapse("status", "s").stdout.splitlines()[2].startswith("s/run-1x2 ")
    shutil.rmtree(study.runs_path / "run-1x10")
    assert hpcsynapse("status").stdout.endswith("  1 of 2 finished\n")
    study.study_toml.write_text("[study\n")
    assert len(find_runs(runs, ["s"])) == study.size == 1
    done = hpcsynapse("study", "--resume", "s")
    assert done.returncode == 2 and "study.toml" in done.stderr


@pytest.mark.slow
def test_a_failed_run_is_made_again_and_only_that(workdir: Path) -> None:
    program = 'echo "$WORLD_SIZE" >> made; [ "$WORLD_SIZE" = 1 ] || [ -e repaired ]'
    done = hpcsynapse(
        "study", "--name", "s", "--ranks-per-node", "1,2", "--scheduler", "local", "--", "bash", "-c", program
    )
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"study s  2 runs to make  .*/runs/s", lines[0])
    assert re.match(r"1/2  run-1x1  FINISHED", lines[1]) and re.match(r"2/2  run-1x2  FAILED .*exit code 1", lines[2])
    assert "1 of 2 runs have not finished; later: hpcsynapse resume s" in done.stderr
    (workdir / "repaired").touch()
    assert [row["run"] for row in json.loads(hpcsynapse("study", "--resume", "s", "--dry-run", "--json").stdout)] == [
        "run-1x2"
    ]
    again = hpcsynapse("study", "--resume", "s", "--json")
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert [(row["run"], row["state"]) for row in found["runs"]] == [("run-1x1", "FINISHED"), ("run-1x2", "FINISHED")]
    made = (workdir / "made").read_text().split()
    assert made.count("1") == 1
    assert made.count("2") in (3, 4)  # of the first try one rank may be ended before it writes
    assert [path.name for path in (workdir / "runs" / "s" / "failed").iterdir()] == ["run-1x2.1"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_study_is_readable_and_goes_on(workdir: Path, number: signal.Signals) -> None:
    program = "echo $WORLD_SIZE >> made; until [ -e leave ]; do sleep 0.05; done"
    child = subprocess.Popen(
        [sys.executable, "-m", "hpcsynapse", "study", "--name", "s", "--ranks-per-node", "1,2",
         "--scheduler", "local", "--", "bash", "-c", program],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip  # a command line
    limit = time.monotonic() + 60
    while not (workdir / "made").exists():
        assert time.monotonic() < limit
        time.sleep(0.05)
    child.send_signal(number)
    told = child.communicate(timeout=60)[1]
    if number == signal.SIGINT:
        assert child.returncode == 130 and "hpcsynapse resume s" in told
    status = json.loads(hpcsynapse("status", "s", "--json").stdout)
    assert [(one["name"], one["state"]) for one in status] == [("run-1x1", "TRAINING")]
    (workdir / "leave").touch()
    done = hpcsynapse("study", "--resume", "s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (workdir / "made").read_text().split() == ["1", "2", "2"]
    assert not (workdir / "runs" / "s" / "failed").exists()


def test_jobs_of_a_queue_are_chained_and_a_refusal_is_resumed(
    workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    refused = "{ echo refused >&2; exit 1; }"
    sbatch = f'echo "$*" >> {tmp_path}/asked; n=$(wc -l < {tmp_path}/asked); [ $n != 2 ] || {refused}; echo $n'
    # squeue knows every job that it is asked for as waiting.
    squeue = """for word; do case $word in --jobs=*) jobs=${word#--jobs=};; esac; done
        for job in ${jobs//,/ }; do printf '%s\\x1fPENDING\\x1fNone\\x1f\\n' "$job"; done"""
    for name, text in (("sbatch", sbatch), ("squeue", squeue), ("srun", "true")):
        (fake / name).write_text(f"#!/bin/bash\n{text}\n")
        (fake / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    done = hpcsynapse(
        "study", "--scheduler", "slurm", "--name", "s", "--nodes", "1,2,3", "--dependency", "afterok:9", "--", "true"
    )
    assert done.returncode == 1 and "1 of 3 runs were queued" in done.stderr and "hpcsynapse resume s" in done.stderr
    done = hpcsynapse("study", "--resume", "s")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [
        "run run-2x1  job 3",
        "run run-3x1  job 4",
        "see: hpcsynapse status s; hpcsynapse report s",
    ]
    asked = [re.search(r"--dependency=\S+", line) for line in (tmp_path / "asked").read_text().splitlines()]
    assert [found and found[0] for found in asked] == [
        None,
        "--dependency=afterany:1",
        "--dependency=afterany:1",
        "--dependency=afterany:3",
    ]
    first = RunDirectory(workdir / "runs" / "s" / "points" / "run-1x1")
    assert "--dependency=afterok:9" in (first.path / "job.sh").read_text()  # the user's own, before the chain
    assert hpcsynapse("study", "--resume", "s").stdout.splitlines()[0].startswith("study s  0 runs to make")


def test_without_a_chain_no_job_waits(workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    for name, text in (("sbatch", f'echo "$*" >> {tmp_path}/asked; echo 7'), ("srun", "true"), ("squeue", "true")):
        (fake / name).write_text(f"#!/bin/bash\n{text}\n")
        (fake / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    done = hpcsynapse("study", "--scheduler", "slurm", "--nodes", "1,2", "--no-chain", "--json", "--", "true")
    assert done.returncode == 0, done.stderr
    assert [row["job_id"] for row in json.loads(done.stdout)["runs"]] == ["7", "7"]
    assert "dependency" not in (tmp_path / "asked").read_text()


def test_emulate_takes_the_runs_here(workdir: Path) -> None:
    base = settle(JobSpec(launch=LaunchOptions(emulate=True), queue=QueueOptions(scheduler="auto")))
    assert base.queue.scheduler == "local" and base.workdir == str(workdir)


@pytest.mark.slow
def test_a_study_of_real_trainings_is_reported(workdir: Path) -> None:
    done = hpcsynapse(
        "study", "--name", "s", "--strategy", "single,allreduce", "--ranks-per-node", "2", "--batch", "16",
        "--scaling", "strong", "--engine", "ddp", "--scheduler", "local", "--epochs", "3", "--record-warmup", "1",
        "--data", "synthetic", "--set", "train.data_args.samples=64", "--set", "train.data_args.shape=[1,8,8]",
        "--set", "train.data_args.validation=20",
    )  # fmt: skip  # a command line
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.splitlines()[3:]
    assert [line.split()[:2] for line in table][-2:] == [["single", "none"], ["allreduce", "ddp"]]
    rows = json.loads(hpcsynapse("report", "s", "--json").stdout)
    assert [(row["strategy"], row["ranks"], row["scaling"], row["global_batch"]) for row in rows] == [
        ("single", 1, "strong", 16),
        ("allreduce", 2, "strong", 16),
    ]
    assert [row["baseline_strategy"] for row in rows] == ["single", "single"]
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    curves = json.loads(hpcsynapse("report", "target", "0.0001", "s", "--json").stdout)
    assert [(row["strategy"], row["reached"], row["samples_to_target"]) for row in curves] == [
        ("allreduce", 1, 64),
        ("single", 1, 64),
    ]
    assert all(row["time_to_target_s"] > 0 for row in curves)
