"""BSC's keywords (MinoTauro, CNAG, Altamira): what they ask for, and how a request is written with them.

Source: MinoTauro user guide, 2016; defaults are not documented, so everything is written out.
"""

from __future__ import annotations

from hpcsynapse.findings import Finding, at_line
from hpcsynapse.jobfiles.model import Request, Rule, Step
from hpcsynapse.jobfiles.values import clock, count, from_bsc, hms, memory, number, text, to_bsc, token, yes_no
from hpcsynapse.templating import keyword_value

# Node type -> cores and GPUs of a node.
NODE_TYPES = {"k80": (16, 4), "m2090": (12, 2)}


def _features(request: Request, value: str) -> str | None:
    request.features = tuple(value.replace("&", " ").replace(",", " ").split())
    return None


def _class(request: Request, value: str) -> str | None:
    if request.partition is None:
        return token("partition")(request, value)
    return token("qos")(request, value)


def _partition(request: Request, value: str) -> str | None:
    if request.partition is not None:  # the class, read before, is then a quality of service
        request.qos = request.partition
    return token("partition")(request, value)


def _node_usage(request: Request, value: str) -> str | None:
    request.exclusive = value.lower() in ("not_shared", "exclusive")
    return None


RULES: dict[str, Rule | None] = {
    "job_name": token("name"), "initialdir": text("workdir"), "output": text("output", from_bsc),
    "error": text("error", from_bsc), "input": text("input", from_bsc), "total_tasks": token("tasks", count),
    "tasks_per_node": token("tasks_per_node", count), "cpus_per_task": token("cpus", count),
    "gpus_per_node": token("gpus", number), "wall_clock_limit": token("seconds", clock), "features": _features,
    "class": _class, "partition": _partition, "account": token("account"), "account_no": token("account"),
    "reservation": token("reservation"), "requeue": token("requeue", yes_no), "array": token("array"),
    "memory": token("memory", memory), "node_usage": _node_usage, "comment": text("comment"),
    "job_type": lambda request, value: None,  # left over from LoadLeveler, of which the dialect grew
    **dict.fromkeys(("x11", "tracing", "nodeset", "queue", "notification", "environment", "scratch", "blocking",
                     "switches", "intel_opencl")),
}  # fmt: skip  # a table


def check(step: Step) -> list[Finding]:
    """Return what does not fit the node types that are known, and what is not said at all."""
    request, complaints = step.request, []
    for name, keyword in (("seconds", "wall_clock_limit"), ("tasks", "total_tasks")):
        if getattr(request, name) is None and keyword not in step.lines:
            complaints.append(at_line(1, keyword, "warning", "is not given, and its default is not documented"))
    kind = next((NODE_TYPES[one] for one in request.features if one in NODE_TYPES), None)
    for keyword, asked, limit in (
        ("cpus_per_task", (request.cpus or 1) * (request.tasks_per_node or 1), kind and kind[0]),
        ("gpus_per_node", request.gpus, kind and kind[1]),
    ):
        if asked and limit and asked > limit:
            line = step.lines[keyword].line if keyword in step.lines else 1
            complaints.append(at_line(line, keyword, "error", f"{asked} on a node that has {limit}"))
    if request.nodes is None and request.tasks:
        per_node = request.tasks_per_node or (kind[0] // request.cpus if kind and request.cpus else None)
        if per_node and (request.tasks_per_node or per_node == 1):
            request.nodes = -(-request.tasks // per_node)
    return complaints


def line(key: str, value: str) -> str:
    """Return one statement; raises RenderError for a value that it cannot hold."""
    return f"# @ {key} = {keyword_value(value)}"


def write(request: Request) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the statements of a request, and the fields that have no counterpart with the reason."""
    lost: list[tuple[str, str]] = []
    name = (request.name or "job").replace(" ", "_")

    def named(field: str, value: str | None, default: str) -> str:
        try:
            return to_bsc(value, name) if value else default
        except ValueError as error:
            lost.append((field, str(error)))
            return default

    output = named("output", request.output, f"{name}_%j.out")
    features = [*request.features, *([request.gpu_type] if request.gpu_type else [])]
    per_node = _tasks_of_a_node(request, lost)
    tasks = request.all_tasks or (request.nodes or 1) * (per_node or 1)
    seconds = hms(request.seconds) if request.seconds else None
    lines: list[tuple[str, object]] = [
        ("job_name", name),
        ("initialdir", request.workdir or "."),
        ("output", output),
        ("error", named("error", request.error, output)),
        ("input", named("input", request.input, "")),
        ("total_tasks", tasks),
        ("tasks_per_node", per_node),
        ("gpus_per_node", request.node_gpus),
        ("cpus_per_task", request.cpus or 1),
        ("wall_clock_limit", seconds),
        ("features", "&".join(features)),
        ("class", request.partition),
        ("account", request.account),
        ("reservation", request.reservation),
        ("array", request.array),
        ("node_usage", "not_shared" if request.exclusive else None),
        ("requeue", None if request.requeue is None else int(request.requeue)),
    ]
    lost += _without_keyword(request)
    return [(key, str(value)) for key, value in lines if value not in (None, "")], lost


def _tasks_of_a_node(request: Request, lost: list[tuple[str, str]]) -> int | None:
    """Return `tasks_per_node`, by which alone BSC's dialect counts nodes; None where the node type leaves no choice."""
    if request.tasks_per_node or request.geometry or not request.nodes:
        return request.tasks_per_node
    kind = next((NODE_TYPES[one] for one in request.features if one in NODE_TYPES), None)
    if request.tasks is None and request.node_tasks is None:
        return 1  # of a range of nodes, of which the fewest are taken
    if request.node_tasks is None:
        lost.append(("nodes", f"{request.tasks} tasks on {request.nodes} nodes: not the same number on each"))
    elif kind and request.cpus and kind[0] // request.cpus == request.node_tasks:
        return None
    return request.node_tasks


def _without_keyword(request: Request) -> list[tuple[str, str]]:
    """Return the fields that BSC's dialect cannot say, with the reason."""
    lost = [
        (name, "BSC's dialect has none") for name in ("qos", "mail_user", "mail", "comment") if getattr(request, name)
    ]
    if request.other_gres:
        lost.append(("other_gres", f"{', '.join(map(str, request.other_gres))}: BSC's dialect has none"))
    if request.node_memory is not None:
        lost.append(("memory", "memory follows the cores"))
    if request.seconds == 0:
        lost.append(("seconds", "no limit is meant, but the dialect's default is not documented: give one"))
    if request.node_gpus is None and (request.job_gpus or request.task_gpus):
        name = "job_gpus" if request.job_gpus else "task_gpus"
        lost.append((name, "GPUs are counted by node, and a number that is the same on each does not follow"))
    if request.gpu_kinds:
        lost.append(("gpu_kinds", "several kinds of GPUs on a node: their number is kept"))
    if request.copy_environment is False:
        lost.append(("export", "BSC's dialect passes the whole environment on"))
    if request.dependency:
        lost.append(("dependency", f"say it when you submit: mnsubmit -dep {request.dependency}"))
    if request.geometry:
        lost.append(("geometry", "tasks are dealt out evenly"))
    if request.max_nodes:
        lost.append(("nodes", f"a range of nodes: {request.nodes} are taken"))
    return lost
