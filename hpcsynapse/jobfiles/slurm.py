"""Options of sbatch in a job script: what they ask for, and how a request is written with them. Source: sbatch(1)."""

from __future__ import annotations

import re

from hpcsynapse.jobfiles.model import Complaint, Request, Rule, Step
from hpcsynapse.jobfiles.values import assign, count, hms, memory, seconds_of, token

_GRES = re.compile(r"gpu(?::(?P<type>[A-Za-z][\w.-]*))?(?::(?P<count>\d+))?")
_GPUS = re.compile(r"(?:(?P<type>[A-Za-z][\w.-]*):)?(?P<count>\d+)")
# Long names that take no value.
FLAGS = frozenset({
    "requeue", "no-requeue", "overcommit", "oversubscribe", "contiguous", "parsable", "test-only", "verbose", "quiet",
    "hold", "spread-job", "use-min-nodes", "wait", "ignore-pbs", "reboot",
})  # fmt: skip
SHORT = {
    "J": "job-name", "N": "nodes", "n": "ntasks", "c": "cpus-per-task", "t": "time", "p": "partition", "A": "account",
    "q": "qos", "C": "constraint", "o": "output", "e": "error", "i": "input", "D": "chdir", "d": "dependency",
    "a": "array", "G": "gpus", "w": "nodelist", "x": "exclude", "L": "licenses", "k": "no-kill", "H": "hold",
    "s": "oversubscribe", "O": "overcommit", "W": "wait", "m": "distribution", "F": "nodefile", "B": "extra-node-info",
    "S": "core-spec", "b": "begin",
}  # fmt: skip
# Options whose value may be left out.
OPTIONAL = frozenset({"exclusive", "no-kill", "nice", "propagate", "get-user-env", "kill-on-invalid-dep"})


def time_limit(value: str) -> int:
    """Return the seconds of minutes, minutes:seconds, h:m:s, days-hours, days-hours:minutes, days-hours:minutes:s."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", value)
    if not match:
        raise ValueError(f"{value!r} is not a time; write HH:MM:SS or D-HH:MM:SS")
    first, *rest = (int(part) for part in match.groups()[1:] if part is not None)
    if match[1] is not None:
        if first > 23:
            raise ValueError(f"{value!r}: behind days, hours go up to 23")
        day = [int(match[1]) * 24 + first, *rest]
        return seconds_of([*day, *[0] * (3 - len(day))], value)
    return seconds_of([first, *rest] if rest else [first, 0], value)


def _nodes(request: Request, value: str) -> str | None:
    first, _, last = value.partition("-")
    request.nodes, request.max_nodes = count(first), count(last) if last else None
    return None


def _gres(request: Request, value: str) -> str | None:
    other = []
    for item in value.split(","):
        match = _GRES.fullmatch(item.removeprefix("gres:"))
        if match:
            request.gpus, request.gpu_type = int(match["count"] or 1), match["type"]
        elif item != "none":
            other.append(item)
    return f"{','.join(other)} has no counterpart" if other else None


def _gpus_per_node(request: Request, value: str) -> str | None:
    match = _GPUS.fullmatch(value)
    if not match:
        raise ValueError(f"{value!r} is not [TYPE:]NUMBER")
    request.gpus, request.gpu_type = int(match["count"]), match["type"]
    return None


def _gpus(request: Request, value: str) -> str | None:
    _gpus_per_node(request, value)
    total, nodes = request.gpus or 0, request.nodes or 1
    if total % nodes:
        return f"{total} GPUs on {nodes} nodes are not a whole number each"
    request.gpus = total // nodes
    return None


def _exclusive(request: Request, value: str) -> str | None:
    request.exclusive = True
    return None


def _requeue(request: Request, value: str) -> str | None:
    request.requeue = True
    return None


def _no_requeue(request: Request, value: str) -> str | None:
    request.requeue = False
    return None


def _export(request: Request, value: str) -> str | None:
    for item in value.split(","):
        name, found, content = item.partition("=")
        if item in ("ALL", "NONE", "NIL"):
            request.copy_environment = item == "ALL"
        elif found and name.isidentifier():
            request.environment[name] = content
    return None


RULES: dict[str, Rule | None] = {
    "nodes": _nodes, "gres": _gres, "gpus-per-node": _gpus_per_node, "gpus": _gpus, "exclusive": _exclusive,
    "requeue": _requeue, "no-requeue": _no_requeue, "export": _export,
    "ntasks": token("tasks", count), "ntasks-per-node": token("tasks_per_node", count),
    "tasks-per-node": token("tasks_per_node", count), "cpus-per-task": token("cpus", count),
    "time": token("seconds", time_limit), "mem": token("memory", memory),
    "constraint": assign("features", lambda value: (value,)),
    "mail-type": assign("mail", lambda value: tuple(value.upper().split(","))),
    "job-name": assign("name"), "partition": assign("partition"), "account": assign("account"), "qos": assign("qos"),
    "reservation": assign("reservation"), "mail-user": assign("mail_user"), "comment": assign("comment"),
    "output": assign("output"), "error": assign("error"), "input": assign("input"), "chdir": assign("workdir"),
    "dependency": assign("dependency"), "array": assign("array"),
    # Known, without a counterpart elsewhere.
    **dict.fromkeys((
        "open-mode", "kill-on-invalid-dep", "mem-per-cpu", "mem-per-gpu", "gpus-per-task", "gpus-per-socket",
        "gpu-bind", "gpu-freq", "cpus-per-gpu", "ntasks-per-gpu", "ntasks-per-core", "ntasks-per-socket", "hint",
        "signal", "nodelist", "exclude", "licenses", "distribution", "threads-per-core", "cores-per-socket",
        "sockets-per-node", "mincpus", "tmp", "begin", "deadline", "time-min", "switches", "no-kill", "nice",
        "priority", "profile", "propagate", "oversubscribe", "overcommit", "contiguous", "core-spec", "wait",
        "cpu-freq", "mem-bind", "network", "power", "prefer", "reboot", "spread-job", "use-min-nodes", "uid", "gid",
        "wckey", "clusters", "cluster-constraint", "batch", "bb", "bbf", "container", "delay-boot", "export-file",
        "extra-node-info", "get-user-env", "hold", "ignore-pbs", "nodefile", "parsable", "quiet", "test-only",
        "thread-spec", "verbose", "wait-all-nodes", "wrap", "x11",
    )),
}  # fmt: skip


def check(step: Step) -> list[Complaint]:
    """Return nothing: sbatch itself judges (`sbatch --test-only`)."""
    return []


def options(words: list[str]) -> list[tuple[str, str, str | None]]:
    """Return (long name, value, complaint) for the options on one line; several may share it."""
    found: list[tuple[str, str, str | None]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            name, given, value = word[2:].partition("=")
        elif word.startswith("-") and len(word) > 1:
            name, value = SHORT.get(word[1], word[1]), word[2:].removeprefix("=")
            given = value
        else:
            found.append(("", word, "is not an option: a value with blanks needs quotes"))
            continue
        if name not in RULES:
            found.append((name, value, "sbatch has no such option"))
        if not given and name not in FLAGS and name not in OPTIONAL:
            if not rest or (rest[0].startswith("-") and name in RULES):
                found.append((name, "", "has no value"))
                continue
            value = rest.pop(0) if name in RULES or not rest[0].startswith("-") else ""
        if name in RULES:
            found.append((name, value, None))
    return found


def write(request: Request) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the options of a request, and the fields that have no counterpart with the reason."""
    lost: list[tuple[str, str]] = []
    nodes = f"{request.nodes}-{request.max_nodes}" if request.max_nodes else request.nodes
    kind = f"{request.gpu_type}:" if request.gpu_type else ""
    size = request.node_memory
    if request.geometry and len({len(group) for group in request.geometry}) > 1:
        lost.append(("geometry", "uneven groups need --distribution=arbitrary and SLURM_HOSTFILE; dealt out evenly"))
    if request.task_memory is not None and size is None:
        lost.append(("task_memory", "memory of a task, and the tasks of a node are not known"))
    tasks = request.all_tasks if request.geometry or not request.tasks_per_node else request.tasks
    workdir = None if request.workdir == "." else request.workdir
    values: list[tuple[str, object]] = [
        ("job-name", request.name), ("nodes", nodes), ("ntasks", tasks), ("ntasks-per-node", request.tasks_per_node),
        ("cpus-per-task", request.cpus), ("gres", f"gpu:{kind}{request.gpus}" if request.gpus else None),
        ("mem", None if size is None else f"{size}M" if size else "0"),
        ("time", hms(request.seconds) if request.seconds else None), ("partition", request.partition),
        ("account", request.account), ("qos", request.qos), ("constraint", "&".join(request.features)),
        ("reservation", request.reservation), ("dependency", request.dependency), ("array", request.array),
        ("mail-user", request.mail_user), ("mail-type", ",".join(request.mail)), ("comment", request.comment),
        ("chdir", workdir), ("input", request.input), ("output", request.output), ("error", request.error),
    ]  # fmt: skip
    flags = {"exclusive": request.exclusive, "requeue": request.requeue, "no-requeue": request.requeue is False}
    given = [(name, str(value)) for name, value in values if value not in (None, "")]
    return [*given, *[(name, "") for name, wanted in flags.items() if wanted]], lost
