"""The process of one parameter server: from its address to its end, with its state saved on the way."""

from __future__ import annotations

import ipaddress
import logging
import os
import resource
import signal
import socket
import time
from contextlib import suppress
from types import FrameType
from typing import Any

import torch

from hpcsynapse.errors import TrainError
from hpcsynapse.job.supervise import GRACES
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.secret import ensure_secret
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.names import LOCKSTEP
from hpcsynapse.timing import StepRecorder
from hpcsynapse.trainer.cluster import Cluster
from hpcsynapse.trainer.parameter_server import state
from hpcsynapse.trainer.parameter_server.members import Members
from hpcsynapse.trainer.parameter_server.server import SPARE, Plan, Server
from hpcsynapse.trainer.parameter_server.server_records import COUNTS, ServerRecords
from hpcsynapse.trainer.traffic import Traffic

_LOOK = 0.5  # seconds between looks at who is there
_FAREWELL = 5.0  # seconds for workers to be told why the run ends
_FILES = 100  # descriptors beside those of connections
_SLACK = 10.0  # seconds that a worker's silence may outlast its own limit
_log = logging.getLogger(__name__)


def serve(run: RunDirectory, spec: JobSpec, cluster: Cluster) -> int:
    """Serve one part of the parameters until all workers have left or are given up, and return the exit code.

    SIGTERM and SIGUSR1 save at once and end the process as soon as the workers have left, or after GRACES.farewell
    seconds (code 143). Raises TrainError when nobody comes, when all are lost, or when an update can no longer be made.
    """
    torch.set_num_threads(1)  # every connection has a thread of its own
    workers = check(spec, cluster)
    allow_connections(2 * workers + SPARE)
    listener = listen(cluster.servers[cluster.index])
    several = _several_hosts(cluster)
    about = {
        "strategy": spec.train.strategy,
        "servers": len(cluster.servers),
        "workers": workers,
        "traffic": "tcp, to and from other hosts" if several else "tcp",
    }
    with StepRecorder(run.timings, rank=cluster.index, role="ps", warmup=0, keep=True, **about) as recorder:
        records = ServerRecords(recorder, Traffic(between_hosts=several), workers)
        members = Members(workers, spec.launch.start_limit, spec.ps.rejoin_limit)
        plan = Plan(
            train=spec.train,
            options=spec.ps,
            server=cluster.index,
            servers=len(cluster.servers),
            workers=workers,
            idle_limit=spec.launch.wait_limit + _SLACK,
        )
        server = Server(listener, ensure_secret(run), plan, members, records)
        process = _Process(run, server, cluster.servers[cluster.index], spec.ps.server_save_seconds)
        if spec.train.resume:
            process.restore()
        server.start()
        try:
            return process.watch()
        finally:
            server.close()
            process.close()


def check(spec: JobSpec, cluster: Cluster) -> int:
    """Return how many workers the servers of a run have: ranks, or nodes; raises TrainError for what does not fit."""
    strategy, needed = spec.train.strategy, spec.ps.needed
    if strategy not in LOCKSTEP:
        raise TrainError(f"strategy {strategy!r} has no parameter servers; use --strategy {', '.join(LOCKSTEP)}")
    workers = len(cluster.workers)
    if LOCKSTEP[strategy] == "node":
        hosts = {address.rpartition(":")[0] for address in cluster.workers}
        # Emulated nodes share a host.
        workers = int(os.environ.get("HPCSYNAPSE_NODES") or max(len(hosts), spec.resources.nodes))
    if strategy == "ps-sync" and needed is not None and needed > workers:
        raise TrainError(f"ps.needed = {needed} exceeds the {workers} workers")
    return workers


def listen(address: str) -> socket.socket:
    """Return a socket that listens at host:port; raises TrainError when another process has the port.

    A name may stand for another address here than elsewhere (Debian: 127.0.1.1), so with a name all are listened at.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        ipaddress.ip_address(host)
    except ValueError:
        host = "127.0.0.1" if host == "localhost" else ""
    try:
        return socket.create_server((host, int(port)), family=family, backlog=1024)
    except OSError as error:
        raise TrainError(f"a parameter server cannot listen at {address}: {error.strerror or error}") from error


def allow_connections(count: int) -> None:
    """Raise this process's limit of open files to what so many connections take, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _FILES
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if possible < wanted:
        _log.warning("at most %d files may be open here (ulimit -Hn); %d connections may need %d", hard, count, wanted)
    if soft != resource.RLIM_INFINITY and soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))


def _several_hosts(cluster: Cluster) -> bool:
    return len({address.rpartition(":")[0] for address in (*cluster.servers, *cluster.workers)}) > 1


class _Process:
    """Watches over a server: saves its state, and ends it."""

    def __init__(self, run: RunDirectory, server: Server, address: str, every: float) -> None:
        self._run, self._server, self._address, self._every = run, server, address, every
        self._members, self._records = server.members, server.records
        self._attempt = os.environ.get("HPCSYNAPSE_ATTEMPT", "0")
        self._path = run.server_state(server.plan.server)
        self._began = self._saved = time.monotonic()
        self._told_to_end, self._finished = 0.0, 0
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        # No more than that: an event's lock may be held by the code that a signal interrupts.
        self._told_to_end = self._told_to_end or time.monotonic()

    def restore(self) -> None:
        """Take up saved state, if there is any; raises TrainError when it is of another cluster."""
        content, plan = state.load(self._path), self._server.plan
        if content is None:
            return
        try:
            for name, now in (("server", plan.server), ("servers", plan.servers), ("workers", plan.workers)):
                if content[name] != now:
                    raise TrainError(f"{name} = {content[name]} there, {now} now")
            self._server.hold(content["elements"], bytes.fromhex(content["digest"])).restore(content)
            self._records.restore(content["counts"])
            self._members.restore(content["steps"], content["left"], content["attempt"] == self._attempt)
            self._members.first_step = content["first_step"]
        except (TrainError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise TrainError(
                f"the state in {self._path} does not fit this run; take another run name, or --set train.resume=false: "
                f"{error}"
            ) from error
        _log.info("took up the state after update %d", content["version"])

    def watch(self) -> int:
        """Return when the work is over, with the exit code; raises TrainError when it failed."""
        members = self._members
        while not members.over:
            self._server.changed.wait(min(_LOOK, self._every))
            self._server.changed.clear()
            self._look()
            since = time.monotonic() - self._told_to_end if self._told_to_end else 0.0
            if since and not members.over and (not members.here or since > GRACES.farewell):
                _log.warning("told to end while workers %s had steps to make", members.pending)
                return 143
        if not members.finished:
            raise TrainError(f"all workers were lost, and none returned within {members.rejoin_limit:g} s")
        if self._attempt != "0":  # started by a job, whose late workers would wait for a server in vain
            with suppress(OSError):
                self._run.servers_over(self._attempt).touch()
        return 0

    def _look(self) -> None:
        """Raise TrainError when the run cannot go on, and save when that is due or a worker has finished."""
        members, updates, now = self._members, self._server.updates, time.monotonic()
        if members.nobody_came and now - self._began > members.start_limit:
            raise TrainError(f"no worker came to {self._address} within {members.start_limit:g} s")
        if updates is not None and (problem := updates.problem):
            updates.fail(problem)
            while members.here and time.monotonic() < now + _FAREWELL:
                time.sleep(0.05)
            raise TrainError(problem)
        finished = len(members.finished)
        if finished != self._finished or self._told_to_end > self._saved or now - self._saved > self._every:
            self._finished = finished
            self.save()

    def close(self) -> None:
        """Save for the last time and say what has been done."""
        self.save()
        counts = self._records.save()
        _log.info("gradients: %s", ", ".join(f"{sum(counts[name])} {name}" for name in COUNTS))

    def save(self) -> None:
        """Write the state and the counts; a folder that cannot be written is told, and tried again later."""
        self._saved = time.monotonic()
        try:
            self._records.flush()
            if self._server.updates is not None and self._server.updates.filled:
                state.save(self._path, self._content(self._server.updates.save()))
                self._write_counts()
        except OSError as error:
            _log.warning("the state cannot be saved: %s", error)

    def _content(self, content: dict[str, Any]) -> dict[str, Any]:
        plan, (elements, digest) = self._server.plan, self._server.model
        return {
            **content,
            **self._members.save(),
            "server": plan.server,
            "servers": plan.servers,
            "workers": plan.workers,
            "elements": elements,
            "digest": digest.hex(),
            "counts": self._records.save(),
            "attempt": self._attempt,
            "first_step": self._members.first_step,
        }

    def _write_counts(self) -> None:
        plan, updates = self._server.plan, self._server.updates
        about = {"server": plan.server, "address": self._address, "updates": updates.version if updates else 0}
        self._records.write(self._run.server_counts(plan.server), about, self._members.save()["steps"])
