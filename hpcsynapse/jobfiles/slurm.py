"""Options of sbatch in a job script: what they ask for, and how a request is written with them. Source: sbatch(1).

How options are split and abbreviated is in `sbatch_options`.
"""

from __future__ import annotations

import re

from hpcsynapse.findings import Finding, at_line
from hpcsynapse.jobfiles import gres
from hpcsynapse.jobfiles.gres import Gres
from hpcsynapse.jobfiles.model import NoCounterpartError, Request, Rule, Step
from hpcsynapse.jobfiles.values import assign, count, hms
from hpcsynapse.templating import directive_value

_MEMORY = re.compile(r"\s*([0-9]{1,12})(?:([kmgt])b?)?", re.IGNORECASE)
_KIBIBYTES = {"k": 1, "m": 2**10, "g": 2**20, "t": 2**30}
_TIME = re.compile(r"(?:([0-9]{1,7})-)?([0-9]{1,9})(?::([0-9]{1,9}))?(?::([0-9]{1,9}))?")
_UNLIMITED = ("infinite", "unlimited", "-1")
_MAIL = (
    "BEGIN",
    "END",
    "FAIL",
    "REQUEUE",
    "INVALID_DEPEND",
    "STAGE_OUT",
    "TIME_LIMIT",
    "TIME_LIMIT_90",
    "TIME_LIMIT_80",
    "TIME_LIMIT_50",
    "ARRAY_TASKS",
)
_MOST_GPUS = 2**16
# Options of plugins (SPANK) that many sites have: pyxis, shifter.
PLUGINS = (
    "container-image", "container-mounts", "container-workdir", "container-name", "container-save",
    "container-env", "container-mount-home", "no-container-mount-home", "container-remap-root",
    "no-container-remap-root", "container-entrypoint", "no-container-entrypoint", "container-entrypoint-log",
    "container-writable", "container-readonly", "image", "volume", "module", "entrypoint", "imagevolume",
)  # fmt: skip  # a table
# Options whose later lines add to the earlier ones; of all others the last counts.
ADDING = frozenset({"mail-type"})


def time_limit(value: str) -> int:
    """Return the seconds of minutes, minutes:seconds, h:m:s, days-hours, days-hours:minutes, days-hours:minutes:s.

    Any part may be large (00:90:00 is an hour and a half, as sbatch takes it); 0 stands for no limit.
    """
    if value.lower() in _UNLIMITED:
        return 0
    match = _TIME.fullmatch(value + "0" * value.endswith("-"))
    if not match:
        raise ValueError(f"{value[:60]!r} is not a time; write HH:MM:SS or D-HH:MM:SS")
    first, second, third = (int(part) if part else None for part in match.groups()[1:])
    if match[1] is not None or third is not None:
        return ((int(match[1] or 0) * 24 + (first or 0)) * 60 + (second or 0)) * 60 + (third or 0)
    return (first or 0) * 60 + (second or 0)


def memory(value: str) -> int:
    """Return the MiB of `512M`, `64G`, `2000` (MB); sbatch takes whole numbers only."""
    match = _MEMORY.fullmatch(value)
    if not match:
        raise ValueError(f"{value[:60]!r} is not a size; sbatch takes a whole number and K, M, G or T, as in 1536M")
    return -(-int(match[1]) * _KIBIBYTES[(match[2] or "m").lower()] // 2**10)


def _nodes(request: Request, value: str) -> str | None:
    parts = [_node_count(part) for part in value.strip().split("-", 1)]
    if parts[-1] < parts[0]:
        raise ValueError(f"{value!r}: the maximum is below the minimum")
    request.nodes, request.max_nodes = parts[0], parts[-1] if parts[-1] != parts[0] else None
    return None


def _node_count(value: str) -> int:
    factor = {"k": 1024, "m": 1024**2}.get(value[-1:].lower(), 1)
    return count(value if factor == 1 else value[:-1]) * factor


def _gres(request: Request, value: str) -> str | None:
    found = gres.parse_request(value)
    request.gpus = _put_kinds(request, [one for one in found if one.name == "gpu"]) if found or value else None
    request.other_gres, request.gpu_option = tuple(one for one in found if one.name != "gpu"), None
    return None


def _put_kinds(request: Request, gpus: list[Gres]) -> int:
    """Keep which kinds of GPUs are asked for, and return how many of all."""
    number = gres.total(gpus)
    if number > _MOST_GPUS:
        raise ValueError(f"{number} GPUs are too many: k, m, g are factors of 1024, and a kind needs a number")
    kinds = {one.kind for one in gpus}
    if len(kinds) > 1:
        request.gpu_type, request.gpu_kinds = None, tuple(gpus)
    elif kind := next(iter(kinds), None):
        request.gpu_type, request.gpu_kinds = kind, ()
    return number


def _gpus_per_node(request: Request, value: str) -> str | None:
    again = request.gpus is not None and request.gpu_option is None
    request.gpus, request.gpu_option = _put_kinds(request, gres.parse_gpus(value)), "gpus-per-node"
    return "GPUs of a node were asked for by --gres already; the later number is kept" if again else None


def _gpus(request: Request, value: str) -> str | None:
    request.job_gpus = _put_kinds(request, gres.parse_gpus(value))
    return None


def _gpus_per_task(request: Request, value: str) -> str | None:
    request.task_gpus = _put_kinds(request, gres.parse_gpus(value))
    return None


def _mail_type(request: Request, value: str) -> str | None:
    """Add events, as sbatch does with every further line; NONE among them makes a line say nothing."""
    events = value.upper().split(",")
    if wrong := [one for one in events if one not in (*_MAIL, "ALL", "NONE")]:
        raise ValueError(f"{wrong[0]!r} is not one of {', '.join((*_MAIL, 'ALL', 'NONE'))}")
    if "NONE" in events:
        request.mail = request.mail or ("NONE",)
    else:
        request.mail = tuple(dict.fromkeys([*(one for one in request.mail if one != "NONE"), *events]))
    return None


def _exclusive(request: Request, value: str) -> str | None:
    if value not in ("", "exclusive"):  # user, mcs, topo: less than whole nodes for this job alone
        raise NoCounterpartError
    request.exclusive = True
    return None


def _requeue(request: Request, value: str) -> str | None:
    request.requeue = True
    return None


def _no_requeue(request: Request, value: str) -> str | None:
    request.requeue = False
    return None


def _export(request: Request, value: str) -> str | None:
    request.export, names = value, value.split(",")
    request.environment = {}
    for item in names:
        name, found, content = item.partition("=")
        if found and name.isidentifier():
            request.environment[name] = content
    request.copy_environment = "ALL" in names
    return None


RULES: dict[str, Rule | None] = {
    "nodes": _nodes, "gres": _gres, "gpus-per-node": _gpus_per_node, "gpus": _gpus, "gpus-per-task": _gpus_per_task,
    "exclusive": _exclusive, "requeue": _requeue, "no-requeue": _no_requeue, "export": _export,
    "mail-type": _mail_type,
    "ntasks": assign("tasks", count), "ntasks-per-node": assign("tasks_per_node", count),
    "tasks-per-node": assign("tasks_per_node", count), "cpus-per-task": assign("cpus", count),
    "time": assign("seconds", time_limit), "mem": assign("memory", memory),
    "constraint": assign("features", lambda value: (value,)),
    "job-name": assign("name"), "partition": assign("partition"), "account": assign("account"), "qos": assign("qos"),
    "reservation": assign("reservation"), "mail-user": assign("mail_user"), "comment": assign("comment"),
    "output": assign("output"), "error": assign("error"), "input": assign("input"), "chdir": assign("workdir"),
    "dependency": assign("dependency"), "array": assign("array"),
    # Known, without a counterpart elsewhere.
    **dict.fromkeys((
        "open-mode", "kill-on-invalid-dep", "mem-per-cpu", "mem-per-gpu", "gpus-per-socket", "gpu-bind", "gpu-freq",
        "cpus-per-gpu", "ntasks-per-gpu", "ntasks-per-core", "ntasks-per-socket", "ntasks-per-tres", "hint", "signal",
        "nodelist", "exclude", "licenses", "distribution", "threads-per-core", "cores-per-socket", "sockets-per-node",
        "mincpus", "tmp", "begin", "deadline", "time-min", "switches", "no-kill", "nice", "priority", "profile",
        "propagate", "oversubscribe", "overcommit", "contiguous", "core-spec", "wait", "cpu-freq", "mem-bind",
        "network", "power", "prefer", "reboot", "spread-job", "use-min-nodes", "uid", "gid", "wckey", "clusters",
        "cluster", "cluster-constraint", "batch", "bb", "bbf", "container", "container-id", "context", "delay-boot",
        "export-file", "extra", "extra-node-info", "get-user-env", "gres-flags", "hold", "ignore-pbs", "mcs-label",
        "nodefile", "oom-kill-step", "parsable", "quiet", "resv-ports", "segment", "stepmgr", "test-only",
        "thread-spec", "tres-bind", "tres-per-task", "verbose", "wait-all-nodes", "wrap", "x11", "acctg-freq",
    )),
    **dict.fromkeys(PLUGINS),
}  # fmt: skip  # a table


def check(step: Step) -> list[Finding]:
    """Return what sbatch refuses about options together; on the whole it judges itself (`sbatch --test-only`)."""
    request = step.request
    if request.task_gpus and not (request.job_gpus or request.tasks or request.nodes or request.tasks_per_node):
        line = step.sources["task_gpus"].line
        return [at_line(line, "gpus-per-task", "error", "sbatch refuses it without --ntasks or --gpus")]
    return []


def _gpu_options(request: Request) -> list[tuple[str, str | None]]:
    """Return how GPUs are asked for, in the unit in which the request counts them: node, whole job or task."""

    def asked(number: int | None) -> str | None:
        if request.gpu_kinds or not number:
            return ",".join(str(one).removeprefix("gpu:") for one in request.gpu_kinds) if number else None
        return f"{request.gpu_type}:{number}" if request.gpu_type else str(number)

    of_a_node, as_gres = asked(request.gpus), request.gpu_option is None
    gpus = [f"gpu:{item}" for item in of_a_node.split(",")] if of_a_node and as_gres else []
    return [
        ("gres", ",".join([*gpus, *map(str, request.other_gres)])),
        ("gpus", asked(request.job_gpus)),
        ("gpus-per-node", None if as_gres else of_a_node),
        ("gpus-per-task", asked(request.task_gpus)),
    ]


def line(key: str, value: str) -> str:
    """Return one directive; raises RenderError for a value that it cannot hold."""
    return f"#SBATCH --{key}={directive_value(value)}" if value else f"#SBATCH --{key}"


def write(request: Request) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the options of a request, and the fields that have no counterpart with the reason."""
    lost: list[tuple[str, str]] = []
    nodes = f"{request.nodes}-{request.max_nodes}" if request.max_nodes else request.nodes
    size = request.node_memory
    if request.geometry and len({len(group) for group in request.geometry}) > 1:
        lost.append(("geometry", "uneven groups need --distribution=arbitrary and SLURM_HOSTFILE; dealt out evenly"))
    if request.task_memory is not None and size is None:
        lost.append(("task_memory", "memory of a task, and the tasks of a node are not known"))
    if request.copy_environment is False and request.export is None:
        lost.append(("export", "sbatch passes the whole environment on; --export=NONE keeps it from ranks as well"))
    tasks = request.all_tasks if request.geometry or not request.tasks_per_node else request.tasks
    workdir = None if request.workdir == "." else request.workdir
    values: list[tuple[str, object]] = [
        ("job-name", request.name), ("nodes", nodes), ("ntasks", tasks), ("ntasks-per-node", request.tasks_per_node),
        ("cpus-per-task", request.cpus), *_gpu_options(request),
        ("mem", None if size is None else f"{size}M" if size else "0"),
        ("time", None if request.seconds is None else hms(request.seconds) if request.seconds else "UNLIMITED"),
        ("partition", request.partition), ("account", request.account), ("qos", request.qos),
        ("constraint", "&".join(request.features)), ("reservation", request.reservation),
        ("dependency", request.dependency), ("array", request.array), ("export", request.export),
        ("mail-user", request.mail_user), ("mail-type", ",".join(request.mail)), ("comment", request.comment),
        ("chdir", workdir), ("input", request.input), ("output", request.output), ("error", request.error),
    ]  # fmt: skip  # a table
    flags = {"exclusive": request.exclusive, "requeue": request.requeue, "no-requeue": request.requeue is False}
    given = [(name, str(value)) for name, value in values if value not in (None, "")]
    return [*given, *[(name, "") for name, wanted in flags.items() if wanted]], lost
