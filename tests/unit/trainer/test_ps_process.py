"""What surrounds a parameter server: its key, its address, who belongs to it, its records."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from hpcsynapse.errors import TrainError
from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.runs import records
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.secret import ensure_secret
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.names import SERVED
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import ServerOptions, TrainSpec
from hpcsynapse.timing import StepRecorder
from hpcsynapse.trainer.cluster import Cluster
from hpcsynapse.trainer.engines.alone import AloneEngine
from hpcsynapse.trainer.parameter_server.serve import check, listen
from hpcsynapse.trainer.strategies import strategy_class


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, JobSpec(name="run"))


def test_the_key_is_made_once_and_is_the_owners(run: RunDirectory) -> None:
    keys: list[bytes] = []
    threads = [threading.Thread(target=lambda: keys.append(ensure_secret(run))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(keys) == 8 and len(set(keys)) == 1 and len(keys[0]) == 32
    assert run.secret.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in run.path.glob(".secret*")] == [".secret"]


def test_a_key_that_others_may_read_is_refused(run: RunDirectory) -> None:
    ensure_secret(run)
    run.secret.chmod(0o640)
    with pytest.raises(TrainError, match="has mode 640: others may read it"):
        ensure_secret(run)


@pytest.mark.parametrize("content", [b"", b"no hex", b"ab" * 31])
def test_a_damaged_key_is_refused(run: RunDirectory, content: bytes) -> None:
    run.secret.write_bytes(content)
    run.secret.chmod(0o600)
    with pytest.raises(TrainError, match="is damaged"):
        ensure_secret(run)


def cluster(*workers: str) -> Cluster:
    return Cluster(servers=("a:1",), workers=workers, job="ps", index=0)


def spec(strategy: str, needed: int | None = None) -> JobSpec:
    many = ResourceRequest(ranks_per_node=4)
    return JobSpec(train=TrainSpec(strategy=strategy), ps=ServerOptions(needed=needed), resources=many)


def test_workers_of_a_server_are_ranks_or_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    four = cluster("a:2", "a:3", "b:2", "b:3")
    assert [check(spec(strategy), four) for strategy in SERVED] == [4, 4, 2]
    monkeypatch.setenv("HPCSYNAPSE_NODES", "4")  # several nodes on one machine
    assert check(spec("mixed"), four) == 4


def test_what_does_not_fit_is_said(run: RunDirectory) -> None:
    with pytest.raises(TrainError, match="strategy 'allreduce' has no parameter servers; use --strategy ps-async"):
        check(spec("allreduce"), cluster("a:2"))
    with pytest.raises(TrainError, match=r"ps\.needed = 3 exceeds the 2 workers"):
        check(spec("ps-sync", 3), cluster("a:2", "a:3"))
    identity = RankIdentity(world_size=2)
    engine = AloneEngine(identity.lockstep("rank"), None, 1, 1)  # type: ignore[arg-type]
    with pytest.raises(TrainError, match=r"ps\.needed = 3 exceeds the 2 workers"):
        strategy_class("ps-sync")(engine, spec("ps-sync", 3), identity).join(run, cluster("a:2", "a:3"))
    with pytest.raises(TrainError, match="needs parameter servers: start every process with --ps-hosts"):
        strategy_class("ps-async")(engine, spec("ps-async"), identity).join(run, None)


def test_a_server_listens_at_its_address() -> None:
    with listen("127.0.0.1:0") as first:
        port = first.getsockname()[1]
        with pytest.raises(TrainError, match=rf"cannot listen at 127\.0\.0\.1:{port}: .*in use"):
            listen(f"127.0.0.1:{port}")
    with listen("localhost:0") as named:
        assert named.getsockname()[0] == "127.0.0.1"
    with listen("a-name-that-may-mean-another-address-here:0") as everywhere:
        assert everywhere.getsockname()[0] == "0.0.0.0"
    if socket.has_ipv6:
        with listen("[::1]:0") as sixth:
            assert sixth.getsockname()[0] == "::1"


def test_a_second_life_keeps_the_records_of_the_first(tmp_path: Path) -> None:
    for steps in (3, 5, 2):
        with StepRecorder(tmp_path, rank=1, keep=True) as recorder:
            for _ in range(steps):
                recorder.begin()
                recorder.end(samples=1)
    assert [part.count for part in records.parts(tmp_path)] == [3, 5, 2]
    names = ["rank-00001.0+1.steps", "rank-00001.0+2.steps", "rank-00001.0.steps"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_records_of_servers_are_kept_apart(tmp_path: Path) -> None:
    for role, steps in (("worker", 3), ("ps", 5)):
        with StepRecorder(tmp_path, rank=0, role=role) as recorder:
            for _ in range(steps):
                recorder.begin()
                recorder.end(samples=1)
    for _ in range(2):  # before and after the merge
        counts = {role: [part.count for part in records.parts(tmp_path, role)] for role in ("worker", "ps", None)}
        assert (counts["worker"], counts["ps"], sorted(counts[None])) == ([3], [5], [3, 5])
        assert len(list(records.iterate(tmp_path))) == 3
        records.merge(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["merged.steps"]
