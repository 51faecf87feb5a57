"""Two runs that were given one port of one node: neither trains with ranks of the other."""

from __future__ import annotations

import os
import subprocess
import sys

from jobs import LIMIT, free_port

MEET = """
import torch
from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.trainer.engines.ddp import DdpEngine
engine = DdpEngine(RankIdentity.from_environ(), torch.device("cpu"), 60, 60)
engine.start()
total = torch.tensor([float(engine.rank + 1)])
engine.all_reduce(total)
print(total.item())
engine.close()
"""


def rank(run: str, number: int, port: int) -> subprocess.Popen[str]:
    environ = {
        **os.environ,
        "RANK": str(number),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": str(number),
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "HPCSYNAPSE_RUN_DIR": run,
        "HPCSYNAPSE_ATTEMPT": "7.0",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-c", MEET], env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_a_rank_of_another_run_is_refused_and_named() -> None:
    port = free_port()
    first = rank("/runs/a", 0, port)
    stranger = rank("/runs/b", 1, port)
    try:
        said = stranger.communicate(timeout=LIMIT)[1]
        assert stranger.returncode == 1
        assert f"rank 1 of /runs/b, start 7.0 found another run at 127.0.0.1:{port}: /runs/a, start 7.0" in said
        second = rank("/runs/a", 1, port)
        assert second.communicate(timeout=LIMIT)[0] == "3.0\n"
        assert first.communicate(timeout=LIMIT)[0] == "3.0\n"
    finally:
        for process in (first, stranger):
            process.kill()
            process.wait()
