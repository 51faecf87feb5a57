"""The process of a job on its first host: takes the GPUs of all hosts, runs the job script, and sees to its end.

`python -m hpcsynapse.job hosts-keeper SCRIPT`. While another job has the GPUs it waits. The locks of this host
are held by the script as well; those of other hosts by agents that end when this process, or its host, is gone.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hpcsynapse.errors import HpcSynapseError, PlacementError
from hpcsynapse.files import write_json
from hpcsynapse.job import device_locks, ssh, supervise
from hpcsynapse.job.devices import BY_NODE
from hpcsynapse.job.each_host import HOSTS
from hpcsynapse.job.host_agent import BUSY, JOB, end_all_of, first_line
from hpcsynapse.job.program import record_failure
from hpcsynapse.job.supervise import GRACES, Stopping
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.schedulers.hosts import usable

WAITS = "hpcs-waits"
NAME = "HPCSYNAPSE_HOSTS_NAME"  # of the first host, as the list has it
_ANSWER = 60.0  # seconds in which an agent must answer
_PAUSE = 2.0  # seconds between attempts to get the GPUs


@dataclass(slots=True)
class Held:
    """The GPUs of a job's hosts, and who holds them: sockets of this process and agents on other hosts."""

    devices: dict[str, list[str]] = field(default_factory=dict)
    sockets: list[socket.socket] = field(default_factory=list)
    agents: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def beat(self) -> str:
        """Give the agents a sign of life; return a host whose agent has ended, empty while all are there."""
        gone = [host for host, agent in self.agents.items() if not ssh.say(agent) or agent.poll() is not None]
        return next(iter(gone), "")

    def release(self) -> None:
        """Let go of everything; agents first end what the job has left running on their hosts."""
        for claim in self.sockets:
            claim.close()
        for agent in self.agents.values():
            ssh.hang_up(agent)
        limit = time.monotonic() + GRACES.queue
        for agent in self.agents.values():
            with suppress(subprocess.TimeoutExpired):
                agent.wait(max(0.1, limit - time.monotonic()))
            supervise.send(agent.pid, signal.SIGKILL)


@dataclass(slots=True)
class Keeper:
    """One job."""

    run: RunDirectory
    script: str
    hosts: list[str]
    job: str
    begun: float = field(default_factory=time.time)

    def main(self) -> int:
        """Take the GPUs, run the script, release them; return the exit code of the script."""
        with Stopping(GRACES.limit) as stopping:
            try:
                held = self._take(stopping)
                if held is None:
                    return 128 + stopping.signal
                try:
                    return self._run(held, stopping)
                finally:
                    end_all_of(self.job)
                    held.release()
            except HpcSynapseError as error:
                self._fail(0, str(error))
                return 1

    @staticmethod
    def _show(waits: bool) -> None:
        """Say in this process's name, which `status` reads, whether the job still waits for its GPUs."""
        with suppress(OSError):
            Path("/proc/self/comm").write_text(WAITS if waits else "hpcsynapse")

    def _take(self, stopping: Stopping) -> Held | None:
        """Wait until the GPUs of all hosts are ours, all of them or none; None when told to end before."""
        spec = self.run.load_spec()
        gpus, slots, told = (0 if spec.launch.emulate else spec.resources.gpus), usable(spec), False
        while not stopping.signal:
            held = Held()
            if all(self._take_one(held, host, gpus, slots.get(host)) for host in sorted(self.hosts)):
                self._show(waits=False)
                return held
            held.release()
            self._show(waits=True)
            if not told:
                told = True
                print(f"hpcsynapse: waits for {gpus} free GPUs on {', '.join(self.hosts)}", flush=True)
            time.sleep(_PAUSE + random.random() * _PAUSE)  # noqa: S311  # so that two jobs do not keep step
        return None

    def _take_one(self, held: Held, host: str, gpus: int, slots: int | None) -> bool:
        if host == self.hosts[0]:
            present = device_locks.present(slots)
            held.devices[host], claims = device_locks.take(present, gpus)
            held.sockets += claims
            self._enough(host, len(present), gpus)
            return len(held.devices[host]) == gpus
        told = {"job": self.job, "gpus": gpus, "slots": slots}
        agent = held.agents[host] = ssh.start(host, "hold", told, stdout=subprocess.PIPE)
        answer = first_line(agent, _ANSWER)
        if answer is None:
            held.release()
            raise PlacementError(f"host {host} does not answer through ssh from {self.hosts[0]}; see logs/job.log")
        self._enough(host, int(answer["present"]), gpus)
        held.devices[host] = list(answer["devices"])
        return len(held.devices[host]) == gpus and agent.poll() != BUSY

    def _enough(self, host: str, present: int, gpus: int) -> None:
        if present < gpus:
            raise PlacementError(f"host {host} has {present} GPUs, {gpus} are asked for")

    def _run(self, held: Held, stopping: Stopping) -> int:
        environ = {**os.environ, JOB: self.job}
        if any(held.devices.values()):
            environ[BY_NODE] = ";".join(",".join(held.devices[host]) for host in self.hosts)
        descriptors = [claim.fileno() for claim in held.sockets]
        child = subprocess.Popen(
            ["/bin/bash", self.script],
            env=environ,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=descriptors,
            preexec_fn=lambda: supervise.end_with_parent(signal.SIGTERM),
        )
        beaten = time.monotonic()
        while child.poll() is None:
            if time.monotonic() - beaten > ssh.BEAT:
                beaten = time.monotonic()
                if (lost := held.beat()) and not stopping.begun:
                    self._lost(lost, stopping)
            stopping.tell([child.pid], first_only=True)
            time.sleep(0.05)
        if not self.run.exit.exists():
            self._write_exit(supervise.exit_code(child.returncode))
        return supervise.exit_code(child.returncode)

    def _lost(self, host: str, stopping: Stopping) -> None:
        reason = f"host {host} no longer answers"
        print(f"hpcsynapse: {reason}; ending the job", flush=True)
        rank = self.hosts.index(host) * self.run.load_spec().resources.local_size
        record_failure(self.run, self._attempt, rank, 1, reason)
        stopping.begin()

    @property
    def _attempt(self) -> str:
        return self.job.replace(":", "-")  # as the job script has it

    def _fail(self, rank: int, reason: str) -> None:
        """Leave word of a job whose script was never started."""
        print(f"hpcsynapse: {reason}", flush=True)
        self.run.evidence(self._attempt).mkdir(parents=True, exist_ok=True)
        record_failure(self.run, self._attempt, rank, 1, reason)
        self._write_exit(1)

    def _write_exit(self, code: int) -> None:
        times = {"start": self.begun, "time": time.time()}
        write_json(self.run.exit, {"exit_code": code, **times, "attempt": self._attempt, "signal": "", "disk": ""})


def main(arguments: Sequence[str]) -> int:
    """Keep the job of one script."""
    name, hosts = os.environ[NAME], os.environ[HOSTS].split()
    job = f"{name}:{os.getpid()}:{supervise.start_ticks(os.getpid())}"
    return Keeper(RunDirectory(Path(arguments[0]).parent), arguments[0], hosts, job).main()
