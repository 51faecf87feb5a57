"""What a queue refuses is answered with what it would take, in the queue's own names."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hpcsynapse.errors import CommandError
from hpcsynapse.schedulers import create
from hpcsynapse.schedulers.sinfo import COMMAND
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest

SINFO = """
debug*|up|8|gpu:4|1:00:00|n1
debug*|up|8|gpu:4|1:00:00|n2
short|up|16|(null)|2:00|n1
long|up|8|(null)|infinite|n1
"""
SPEC = JobSpec(resources=ResourceRequest(nodes=5, time="2h"), queue=QueueOptions(partition="short"))


def ask(command: Sequence[str]) -> str:
    if tuple(command) == COMMAND:
        return SINFO
    if command[0] == "sacctmgr":
        return "phys|normal,long\nbio|normal\nphys|\n"
    if "--format=%f" in command:
        return "a100,nvlink\n(null)\n"
    raise CommandError("not here", command=list(command))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("sbatch: error: invalid partition specified: gpu", "partitions here: debug (default, 01:00:00, 2 nodes, 8 "),
        (
            "Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
            "partition short (00:02:00, 1 node, 16 cores and 0 GPUs on each); asked for: 5 nodes",
        ),
        ("Batch job submission failed: Node count specification invalid", "--time 2h"),
        ("Invalid account or account/partition combination specified", "yours are: --account phys, bio"),
        ("Batch job submission failed: Invalid qos specification", "yours are: --qos normal, long"),
        ("Batch job submission failed: Invalid feature specification", "features here: a100, nvlink"),
    ],
)
def test_slurm_says_what_there_is(said: str, words: str) -> None:
    assert words in create("slurm").explain_refusal(said, SPEC, ask)


def test_what_is_not_known_or_gets_no_answer_adds_nothing() -> None:
    def silent(command: Sequence[str]) -> str:
        raise CommandError("no controller", command=list(command))

    assert create("slurm").explain_refusal("something else", SPEC, ask) == ""
    assert create("slurm").explain_refusal("invalid partition", SPEC, silent) == ""
    assert create("slurm").explain_refusal("invalid partition", SPEC, lambda _: "nothing\n") == ""
    assert create("loadleveler").explain_refusal("invalid partition", SPEC, ask) == ""
