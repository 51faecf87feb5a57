"""Commands that are launchers themselves: every rank would start them, and with them all ranks over again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from hpcsynapse.findings import Finding
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.units import counted

_OF_A_NODE = ("torchrun", "accelerate launch", "deepspeed")
_NODE_MODULES = (
    "torch.distributed.run",
    "torch.distributed.launch",
    "accelerate.commands.launch",
    "deepspeed.launcher.runner",
)
_OF_A_JOB = re.compile(r"srun|orterun|mpirun|mpiexec|mpi(run|exec)[._].*|horovodrun|prun|jsrun|aprun|ibrun")
_NODES_TOLD = re.compile(
    r"--?(nnodes|num_machines|machine_rank|node_rank|rdzv|hostfile|config_file|standalone)", re.ASCII
)
_PREFIXES = ("env", "nice", "time", "nohup", "stdbuf", "numactl", "timeout", "exec")
_PREFIX_WORD = re.compile(r"-.*|[A-Za-z_]\w*=.*|[0-9.]+[smhd]?")


def nested_launcher(spec: JobSpec) -> Iterator[Finding]:
    """Yield an error where the ranks' command is a launcher that would start the whole job once in every rank."""
    words = _without_prefix(spec.command)
    ranks, each = spec.resources.world_size, spec.resources.local_size
    if (name := _node_launcher(words)) and each > 1:
        why = f"starts the processes of a node, and would be started by each of the {each} ranks of a node"
    elif name and spec.resources.nodes > 1 and not _tells_nodes(spec, words):
        why = f"without --nnodes starts processes on its own node only: {spec.resources.nodes} nodes would train apart"
    elif not name and words and ranks > 1 and _OF_A_JOB.fullmatch(name := Path(words[0]).name):
        why = f"starts ranks, and would be started by each of the {counted(ranks, 'rank')}"
    else:
        return
    also = ", with --launcher torchrun if that is to start them" if name == "torchrun" else ""
    write = f"hpcsynapse submit ... -- {_started(words, name)}"
    yield Finding("error", "command", f"{name} {why}; hpcsynapse starts the ranks itself{also}; write: {write}")


def _without_prefix(command: Sequence[str]) -> list[str]:
    """Return a command without `env A=1`, `nice -n 5` and the like in front of it."""
    words = list(command)
    while words and Path(words[0]).name in _PREFIXES:
        words.pop(0)
        while words and _PREFIX_WORD.fullmatch(words[0]):
            words.pop(0)
    return words


def _node_launcher(words: Sequence[str]) -> str:
    """Return the name of the launcher of one node's processes that a command is, or nothing."""
    if not words:
        return ""
    program = Path(words[0]).name
    if program.startswith("python") and "-m" in words[1:-1]:
        place = words.index("-m")
        plain = all(word.startswith("-") for word in words[1:place])
        return words[place + 1] if plain and words[place + 1] in _NODE_MODULES else ""
    return next((name for name in _OF_A_NODE if [program, *words[1:]][: len(name.split())] == name.split()), "")


def _tells_nodes(spec: JobSpec, words: Sequence[str]) -> bool:
    """Tell whether a launcher of a node is told of the others, by an option or a variable (torchrun reads PET_*)."""
    return any(map(_NODES_TOLD.match, words)) or any(name.startswith("PET_") for name in spec.launch.env)


def _started(words: Sequence[str], name: str) -> str:
    """Return what a launcher starts, as a command of its own, or PROGRAM where that is not clear."""
    behind = words[words.index(name) + 1 :] if name in words else words[len(name.split()) :]
    for place, word in enumerate(behind):
        if word in ("-m", "--module"):
            return f"python -m {shlex.join(behind[place + 1 :])}"
        if word.endswith(".py"):
            before = behind[place - 1] if place else ""
            return f"{before if Path(before).name.startswith('python') else 'python'} {shlex.join(behind[place:])}"
        if re.match(r"(python|bash|sh\b)", Path(word).name):
            return shlex.join(behind[place:])
    return "PROGRAM"
