"""The program of a rank or a server while it runs: signals reach it, it is watched over, its end is put on record."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from hpcsynapse.files import write_json
from hpcsynapse.job import pulse
from hpcsynapse.job.supervise import GRACES, Above, Ending, descendants, end_with_parent, is_stopped, signal_name
from hpcsynapse.runs.directory import RunDirectory

NO_PROGRESS = 75  # EX_TEMPFAIL of sysexits.h: what made no progress ends with it; trying again may help
_INTERVAL = 1.0  # seconds between looks at the program
_MARGIN = 30.0  # seconds beyond its limit in which a program ends itself
_STACKS = 3.0  # seconds in which it writes where it hangs
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)


@dataclass
class Program:
    """One program of a run: that of a rank, or, with `rank` None, a parameter server.

    `limit` is for how long (s) those above it may be stopped, and, where it is `watched`, the program itself, its peers
    waiting for it: one of a user's own gives no signs of life, and may be stopped for ever.
    `notice_every` is how often (s) to look for the notice of a signal that the launcher would not bring to the ranks;
    0 for never.
    """

    run: RunDirectory
    rank: int | None
    attempt: str
    limit: float
    watched: bool = True
    notice_every: float = 0.0
    _child: subprocess.Popen[bytes] | None = None
    _told_to_end: bool = False
    _early: list[int] = field(default_factory=list)  # signals from before there is a program to pass them on to
    _noticed: set[str] = field(default_factory=set)
    _stopped_since: float | None = None
    _was_stopped: bool = False  # when it was told to end

    def execute(self, argv: Sequence[str], log_file: Path) -> int:
        """Run it with its output in a log; return its exit code, 128 + N where signal N ended it.

        SIGTERM is put on record at once, since the SIGKILL that may follow leaves no time for it.
        """
        self._awake, self._listener, self._above = pulse.Awake(_INTERVAL), pulse.Listener(), Above()
        for number in _FORWARDED:
            signal.signal(number, self._forward)
        for name in os.environ.get("HPCSYNAPSE_LEFT_TO_SCRIPT", "").split():
            # Sent by the queue to every process of a job: ignored here and by the program, the script acts on it.
            signal.signal(signal.Signals[f"SIG{name}"], signal.SIG_IGN)
        with log_file.open("ab", buffering=0) as log:
            with suppress(OSError):  # a full disk, or records that cannot be read, keep no program from its start
                self._tell_start(log)
            try:
                child = self._child = self._start(argv, log)
            except OSError as error:
                log.write(f"hpcsynapse: cannot start {argv[0]!r}: {error.strerror}\n".encode())
                code = 127 if isinstance(error, FileNotFoundError) else 126
                self.record(code, describe(code))
                return code
        for missed in self._early:
            self._forward(missed, None)
        reason = self._attend(child)
        return self._ended(child.returncode, reason)

    def _start(self, argv: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        environ, pipes = dict(os.environ), tuple[int, ...]()
        if self.watched:
            environ[pulse.VARIABLE], pipes = str(self._listener.writer), (self._listener.writer,)
        try:
            return subprocess.Popen(
                argv, env=environ, stdout=log, stderr=subprocess.STDOUT, preexec_fn=end_with_parent, pass_fds=pipes
            )
        finally:
            self._listener.begun()

    def _tell_start(self, log: IO[bytes]) -> None:
        """Write a line between what the starts of a run have printed; the first needs none."""
        number, now = len(list(self.run.evidence("").iterdir())), time.strftime("%Y-%m-%d %H:%M:%S")
        if number > 1 or log.tell():  # an earlier start may have printed nothing
            log.write(f"--- start {number}, job {self._job}, {now}\n".encode())

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        child = self._child
        if child is None:
            self._early.append(number)
            return
        if number == signal.SIGTERM and not self._told_to_end:
            self._told_to_end = True
            if self._stopped_since is not None:  # which is why the others fail, and the queue ends all of them
                self._was_stopped = True
                self.record(NO_PROGRESS, "stopped by a signal (SIGSTOP)", silent=True)
            else:
                self.record(128 + number, describe(128 + number), told_to_end=True)
        child.send_signal(number)

    def _attend(self, child: subprocess.Popen[bytes]) -> str:
        """Wait for the program; return why it had to be ended, empty where it ended by itself."""
        heard, looked = 0.0, 0.0
        while True:
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=_INTERVAL)
                self._listener.listen()
                return ""
            now = self._awake.look()
            heard = now if self._listener.listen() else heard
            if self.notice_every and now - looked >= self.notice_every:
                looked = now
                self._read_notice()
            self._above.keep_going(now, self.limit)
            if reason := self._lost(child.pid, now, heard):
                print(f"hpcsynapse: {self._name}: {reason}; ending it", file=sys.stderr, flush=True)
                self._end(child, told=self._above.gone)
                return reason

    @property
    def _job(self) -> str:
        """The job's id: a start is named by it, `.N` for a job that was queued again, `+N` for one more in the job."""
        name = self.attempt.partition("+")[0]
        return name.rpartition(".")[0] or name

    @property
    def _name(self) -> str:
        return "a parameter server" if self.rank is None else f"rank {self.rank}"

    def _read_notice(self) -> None:
        """Pass on each signal that a notice names, once; not what the queue itself has brought."""
        with suppress(OSError, KeyError):
            for name in set(self.run.signal_notice(self.attempt).read_text().split()) - self._noticed:
                self._noticed.add(name)
                number = signal.Signals[f"SIG{name.removeprefix('SIG')}"]
                if not (self._told_to_end and number == signal.SIGTERM):
                    self._forward(number, None)

    def _lost(self, pid: int, now: float, heard: float) -> str:
        """Return why the program is to be ended: alone, stopped, or without a sign of life for too long."""
        if self._above.gone:
            return f"{self._above.gone} is gone"
        if not self.watched or not is_stopped(pid):
            self._stopped_since = None
        elif self._stopped_since is None:
            self._stopped_since = now
        elif now - self._stopped_since > self.limit:
            return f"stopped by a signal (SIGSTOP) for {self.limit:g} s"
        allowed = self._listener.facts.get("limit")
        if isinstance(allowed, (int, float)) and now - heard > allowed + _MARGIN:
            return f"no sign of life for {now - heard:.0f} s"
        return ""

    def _end(self, child: subprocess.Popen[bytes], told: str) -> None:
        """End the program and all below it: one whose launcher is gone may save; one that hangs writes where."""
        everything, ending = descendants(child.pid), Ending(GRACES.program if told else _STACKS)
        self._told_to_end = self._told_to_end or bool(told)
        child.send_signal(signal.SIGTERM if told else signal.SIGQUIT)
        ending.begin()
        while not ending.over and child.poll() is None:
            time.sleep(0.05)
        for pid in everything if child.poll() is None else everything[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        child.wait()

    def _ended(self, returncode: int, reason: str) -> int:
        """Put the end on record, and return the exit code."""
        self._listener.close()
        facts = self._listener.facts
        if reason and not self._told_to_end:
            self.record(NO_PROGRESS, reason, silent=True)
            return NO_PROGRESS
        code = 128 - returncode if returncode < 0 else returncode
        if self._was_stopped:
            pass  # which is on record, and why the others ended
        elif code == NO_PROGRESS and "reason" in facts:
            self.record(code, str(facts["reason"]), waits=facts.get("waits") is True)
        elif code:
            self.record(code, reason or describe(code), told_to_end=self._told_to_end)
        elif self._told_to_end and self.rank is not None:
            with suppress(OSError):
                self.run.failure(self.attempt, self.rank).unlink(missing_ok=True)
        return code

    def record(self, code: int, reason: str, **more: bool) -> None:
        """Leave a record of the rank's failure; a server is started again, and missed by its workers otherwise."""
        if self.rank is not None:
            record_failure(self.run, self.attempt, self.rank, code, reason, **more)


def describe(code: int) -> str:
    """Return what an exit code says."""
    if name := signal_name(code):
        return f"killed by SIG{name}"
    return {NO_PROGRESS: "no progress within the wait limit", 127: "program not found"}.get(code, f"exit code {code}")


def record_failure(
    run: RunDirectory,
    attempt: str,
    rank: int,
    code: int,
    reason: str,
    *,
    told_to_end: bool = False,
    waits: bool = False,
    silent: bool = False,
) -> None:
    """Write how a rank ended: `told_to_end`, or because it waited for others in vain (`waits`), or by itself.

    `silent` is one that others waited for, whatever its log says: it was stopped, or gave no sign of life.
    """
    record = {
        "rank": rank,
        "host": socket.gethostname(),
        "code": code,
        "reason": reason,
        "time": time.time(),
        "told_to_end": told_to_end,
        "waits": waits,
        "silent": silent,
    }
    with suppress(OSError):  # a full disk must not end a program that was told to save
        write_json(run.failure(attempt, rank), record)
