"""Processes of the trainer, forked from one that has loaded everything: importing torch takes seconds, a fork none.

They are processes like any other: with their own command line, environment and log, and they can be killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Forge:
    """Starts processes through a helper, which reads one request a line."""

    def __init__(self) -> None:
        self._helper = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def start(self, arguments: list[str], environment: dict[str, str], log: Path) -> Process:
        """Run `python -m hpcsynapse.job train ARGUMENTS`; output goes to the end of the log."""
        return Process(self, self.ask(arguments=arguments, environment=environment, log=str(log)))

    def ask(self, **request: Any) -> Any:
        assert self._helper.stdin is not None and self._helper.stdout is not None
        self._helper.stdin.write((json.dumps(request) + "\n").encode())
        self._helper.stdin.flush()
        return json.loads(self._helper.stdout.readline())

    def close(self) -> None:
        assert self._helper.stdin is not None
        self._helper.stdin.close()
        self._helper.wait(30)


class Process:
    """One process; like subprocess.Popen as far as it goes."""

    def __init__(self, forge: Forge, pid: int) -> None:
        self.pid, self._forge, self._code = pid, forge, None

    def poll(self) -> int | None:
        """Return the exit code (-9 when killed), or None while it runs."""
        if self._code is None:
            self._code = self._forge.ask(poll=self.pid)
        return self._code

    def wait(self, limit: float) -> int:
        end = time.monotonic() + limit
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise TimeoutError
            time.sleep(0.01)
        return code

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _load() -> None:
    """Import what a process of the trainer imports, without starting a thread."""
    import torch

    from hpcsynapse.trainer import run, strategies  # noqa: F401
    from hpcsynapse.trainer.data import digits, synthetic  # noqa: F401
    from hpcsynapse.trainer.engines import alone, ddp  # noqa: F401
    from hpcsynapse.trainer.models import resnet_cifar, simple_cnn  # noqa: F401
    from hpcsynapse.trainer.parameter_server import serve  # noqa: F401
    from hpcsynapse.trainer.strategies import mixed, ps_async, ps_sync, single  # noqa: F401

    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)  # imports half of torch again


def _become(arguments: list[str], environment: dict[str, str], log: str) -> None:
    """Be the process that was asked for, until its end."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, descriptor), (2, descriptor)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [word for word in environment.get("PYTHONPATH", "").split(":") if word]

    from hpcsynapse.trainer import run

    run._leave(run.main(arguments))


def main() -> None:
    _load()
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
            continue
        pid = os.fork()
        if not pid:
            try:
                _become(**request)
            finally:
                os._exit(99)
        print(pid, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
