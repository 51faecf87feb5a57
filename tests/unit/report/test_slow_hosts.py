"""Hosts over many runs: which are named, which are left out of the next job, and how the queue is told."""

import json
import os
import time

import pytest
from click.testing import CliRunner
from phased_runs import Phased

from hpcsynapse.cli.report import command as report
from hpcsynapse.cli.submit import command as submit
from hpcsynapse.errors import SpecError
from hpcsynapse.report.hosts import MAX_AGE, host_times, runs_of, slow_hosts
from hpcsynapse.report.loading import load
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.schedulers import SCHEDULERS, create
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions as Launch
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.submission.render import render

NOW = time.time()


@pytest.fixture
def runs(tmp_path):
    """Return a function that writes a run of four hosts into the folder of runs."""

    def make(name, slow=(), *, hosts=None, scheduler="slurm", day=0.0, times=1):
        for number in range(1, times):
            make(f"{name}-{number}", slow, hosts=hosts, scheduler=scheduler, day=day)
        spec = JobSpec(
            name=name,
            resources=ResourceRequest(nodes=4),
            queue=QueueOptions(scheduler=scheduler),
            launch=Launch(launcher="srun" if scheduler == "slurm" else "auto"),
        )
        run = RunDirectory.create(tmp_path / "runs", spec)
        extra = {(rank, "forward"): 0.05 for rank in slow}
        Phased(ranks=4, steps=60, slow=extra, start=NOW - 86400 * day).write(run.timings)
        for rank, host in enumerate(hosts or ()):
            path = next(run.timings.glob(f"rank-0000{rank}*"))
            path.write_bytes(path.read_bytes().replace(f'"node{rank}"'.encode(), json.dumps(host).encode(), 1))
        os.utime(run.run_toml, (NOW - 86400 * day,) * 2)
        return run

    make.folder = tmp_path / "runs"
    return make


def names(found):
    return [one.host for one in found]


def test_a_host_that_is_slow_in_half_of_its_runs_is_left_out(runs):
    for day, slow in enumerate([(2,), (), (2, 1), ()]):
        runs(f"r{day}", slow, day=day)
    first, *others = host_times(runs_of(runs.folder))
    assert (first.host, first.runs, first.slow_runs, first.ranks, first.phase) == ("node2", 4, 2, "2", "forward")
    assert (first.exclude, [one.exclude for one in others]) == (True, [False] * 3)
    assert {one.host: one.slow_runs for one in others} == {"node0": 0, "node1": 1, "node3": 0}
    newest = load(runs.folder / "r0" / "timings").start[-1]
    assert first.last_seen == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(newest))
    assert names(slow_hosts(runs.folder, "slurm")) == ["node2"]


@pytest.mark.parametrize(("times", "wanted"), [(1, []), (2, []), (3, ["node2"])])
def test_no_host_is_left_out_on_fewer_than_three_runs(runs, times, wanted):
    runs("r", (2,), times=times)
    assert names(slow_hosts(runs.folder, "slurm")) == wanted


def test_only_the_newest_runs_count(runs):
    for day in range(8):
        runs(f"r{day}", (2,) if day >= 5 else (3,) if day == 0 else (), day=day)
    found = {one.host: one for one in host_times(runs_of(runs.folder))}
    assert (found["node2"].runs, found["node2"].slow_runs, found["node2"].exclude) == (5, 0, False)
    assert (found["node3"].slow_runs, found["node3"].exclude) == (1, False)


def test_old_runs_and_those_of_other_queues_tell_nothing(runs):
    runs("old", (1,), day=MAX_AGE.days + 1, times=3)
    runs("here", (2,), scheduler="local", times=3)
    assert slow_hosts(runs.folder, "slurm") == []
    assert names(slow_hosts(runs.folder, "local")) == ["node2"]


def test_runs_of_studies_count_and_broken_ones_are_passed_over(runs, tmp_path):
    study = runs.folder / "study"
    (study / "points").mkdir(parents=True)
    (study / "study.toml").write_text("format = 1\n")
    runs("others", (1,), times=2)
    runs("point", (1,)).path.rename(study / "points" / "point")
    broken = runs("broken", (2,))
    next(broken.timings.iterdir()).unlink()
    (runs("no-toml", (3,)).run_toml).write_text("= nonsense")
    assert names(slow_hosts(runs.folder, "slurm")) == ["node1"]


def test_domains_are_left_out_and_names_that_no_host_has_are_not_passed_on(runs):
    runs("r", (0, 1), hosts=["n0.cluster.org", "--nodelist=x", "n2", "n3"], day=1, times=3)
    assert {one.host for one in host_times(runs_of(runs.folder))} >= {"n0", "--nodelist=x"}
    assert names(slow_hosts(runs.folder, "slurm")) == ["n0"]
    for hostile in ("a\n#SBATCH --wrap=x", "a,b", "/etc/hosts", "$(id)", "", "-x", "n[1-9]", "a b"):
        runs(f"h{abs(hash(hostile))}", (1,), hosts=["n0", hostile, "n2", "n3"], times=3)
    assert names(slow_hosts(runs.folder, "slurm")) == []  # n0 was not slow in the newest five runs


def test_the_report_of_hosts(runs):
    run = runs("r", (2,), times=3)
    words = ["hosts", "--runs", str(runs.folder)]
    text = CliRunner().invoke(report, words).stdout.splitlines()
    assert text[0].startswith("in all rows: runs 3, ")
    assert text[1].split()[:2] == ["host", "slow"]
    assert text[2].split()[0] == "node2" and text[2].endswith("yes")
    assert (
        json.loads(CliRunner().invoke(report, [*words, str(run.path), "--json"]).stdout)[0]["exclude"] is False
    )  # one run
    empty = CliRunner().invoke(report, ["hosts", "--runs", str(runs.folder / "none"), "--csv"])
    assert empty.exit_code == 0 and "no run has ranks" in empty.stderr
    assert empty.stdout.startswith("host,runs,")


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """A Slurm that takes every job."""
    (tmp_path / "bin").mkdir()
    for name in ("sbatch", "sinfo", "srun"):
        path = tmp_path / "bin" / name
        path.write_text("#!/bin/sh\necho 4711\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


def test_submit_leaves_slow_hosts_out_and_says_so(runs, queue, workdir):
    runs("old", (1,), times=3)
    words = ["--runs", str(runs.folder), "--scheduler", "slurm", "--exclude-slow", "--exclude", "node[7-9]"]
    done = CliRunner().invoke(submit, [*words, "--name", "new", "--", "true"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "leaves out node1: slow in 3 of 3 runs" in done.stderr
    run = RunDirectory(runs.folder / "new")
    assert '#SBATCH --exclude="node[7-9],node1"\n' in (run.path / "job.sh").read_text()
    assert run.load_spec().queue.exclude == ("node[7-9]", "node1")  # the description repeats the run as it was
    refused = CliRunner().invoke(submit, ["--runs", str(runs.folder), "--exclude-slow", "--resume-run", "new"])
    assert isinstance(refused.exception, SpecError) and "exclude-slow" in str(refused.exception)


def test_queues_that_cannot_leave_hosts_out_refuse(runs, workdir):
    refusing = [name for name in SCHEDULERS if "queue.exclude" in create(name).lacks]
    assert {"loadleveler", "minotauro", "local"} <= set(refusing)
    for name in refusing:
        spec = JobSpec(name="x", command=("true",), queue=QueueOptions(scheduler=name, exclude=("n1",)))
        with pytest.raises(SpecError, match=r"queue\.exclude has no counterpart"):
            render(spec.with_("launch", launcher="local"), workdir)
    words = ["--runs", str(runs.folder), "--scheduler", "local", "--exclude-slow", "--", "true"]
    refused = CliRunner().invoke(submit, words)
    assert isinstance(refused.exception, SpecError) and "--exclude-slow" in str(refused.exception)
    assert not runs.folder.exists()


@pytest.mark.parametrize("host", ["", "-x", "a b", "/hosts", "a\nb", "n[", "n[1", "n1]", "$(id)", "n[a]", "é"])
def test_what_is_no_host_is_refused(host):
    with pytest.raises(SpecError, match="exclude"):
        QueueOptions(exclude=(host,))


@pytest.mark.parametrize("host", ["n1", "node-07.site.org", "n[1-3,5]", "rack[1-2]node[01-16]", "gpu_a", "a,b"])
def test_hosts_and_ranges_are_accepted(host):
    assert QueueOptions(exclude=(host,)).exclude == (host,)
