"""Commands on other machines by ssh: never a question to a person, always within a limit, words kept as they are."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from hpcsynapse.errors import CommandError
from hpcsynapse.job import supervise
from hpcsynapse.job.search_path import tool

# A host that is gone is noticed after a minute, by the last two.
_OPTIONS = ("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=15", "ServerAliveCountMax=4")
BEAT = 5.0  # seconds between signs of life to what runs on another host
# What belongs to one process or one machine and would mislead a process elsewhere.
_OWN = ("SSH_", "XDG_", "DBUS_", "BASH_FUNC_")
_OWN_NAMES = frozenset(
    {"CUDA_VISIBLE_DEVICES", "HOSTNAME", "HOST", "PWD", "OLDPWD", "SHLVL", "DISPLAY", "TMPDIR", "TERM", "_"}
    | {supervise.Above.JOB_PID}
)


def is_here(host: str) -> bool:
    """Tell whether a host is this machine; of two names one may lack the domain."""
    here = socket.gethostname()
    short = "." not in host or "." not in here
    return host in ("localhost", here) or (short and host.partition(".")[0] == here.partition(".")[0])


def words(host: str, argv: Sequence[str]) -> list[str]:
    """Return the argv that runs a command on a host, without ssh on this machine; the remote shell splits nothing."""
    if is_here(host):
        return list(argv)
    options = [word for option in _OPTIONS for word in ("-o", option)]
    return ["ssh", "-x", "-T", *options, "--", host, shlex.join(argv)]


def agent(verb: str) -> list[str]:
    """Return the argv of the tool that does something on a host: this Python, which must be there as well."""
    return tool("host-agent", verb)


def carried(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of a process's environment is meant for processes on other hosts, too."""
    return {name: value for name, value in environ.items() if name not in _OWN_NAMES and not name.startswith(_OWN)}


def line_of(told: Mapping[str, Any]) -> bytes:
    """Return what an agent is told as the line that it reads first."""
    return json.dumps(told).encode() + b"\n"


def start(host: str, verb: str, told: Mapping[str, Any], **more: Any) -> subprocess.Popen[bytes]:
    """Start an agent on a host and tell it what to do; it lives as long as its input is open and beats come."""
    child = _open(words(host, agent(verb)), stdin=subprocess.PIPE, start_new_session=True, **more)
    say(child, line_of(told))
    return child


def _open(command: list[str], **more: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, **more)
    except OSError as error:
        raise CommandError(f"cannot run {command[0]}: {error.strerror}", command=command) from None


def say(child: subprocess.Popen[bytes], data: bytes = b"\n") -> bool:
    """Write to an agent, a sign of life by default; False where nobody reads any more."""
    try:
        if child.stdin is not None and not child.stdin.closed:
            child.stdin.write(data)
            child.stdin.flush()
            return True
    except OSError:
        pass
    return False


def hang_up(child: subprocess.Popen[bytes]) -> None:
    """Close the input of an agent, which ends what it started and then itself."""
    if child.stdin is not None:
        with suppress(OSError):
            child.stdin.close()


def call(host: str, argv: Sequence[str], *, said: bytes = b"", limit: float = 25.0) -> str:
    """Run a command on a host and return what it prints.

    Raises CommandError with the host's name when ssh or the command fails or exceeds the limit in seconds.
    """
    command = words(host, argv)
    child = _open(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        stdout, stderr = child.communicate(said, timeout=limit)
    except subprocess.TimeoutExpired:
        supervise.send(child.pid, signal.SIGKILL)
        child.communicate()
        raise CommandError(f"host {host} did not answer within {limit:g} s", command=command) from None
    if child.returncode:
        lines = stderr.decode(errors="replace").strip().splitlines() or [f"exit code {child.returncode}"]
        raise CommandError(f"host {host}: {lines[-1]}", command=command, stderr=stderr.decode(errors="replace"))
    return stdout.decode(errors="replace")


def read_line() -> dict[str, Any]:
    """Return what this agent was told; nothing behind that line is taken from the input."""
    found = bytearray()
    while (one := os.read(0, 1)) not in (b"", b"\n"):
        found += one
    told: dict[str, Any] = json.loads(found)
    return told
