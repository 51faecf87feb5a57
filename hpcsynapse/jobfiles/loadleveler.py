"""LoadLeveler's keywords: what they ask for, which may stand together, and how a request is written with them.

Source: IBM, "Using and Administering", chapter on job command file keywords.
"""

from __future__ import annotations

import re
from functools import partial

from hpcsynapse.findings import Finding, at_line
from hpcsynapse.jobfiles.model import Request, Rule, Step
from hpcsynapse.jobfiles.values import clock, count, from_macros, hms, memory, text, to_macros, token, yes_no
from hpcsynapse.templating import keyword_value

_FEATURE = re.compile(r'\(?\s*Feature\s*==\s*"([^"]*)"\s*\)?', re.IGNORECASE)
_RESOURCE = re.compile(r"([A-Za-z]+)\s*\(\s*([^)]*?)\s*\)")
_MAIL = {"always": ("ALL",), "complete": ("END", "FAIL"), "error": ("FAIL",), "start": ("BEGIN",), "never": ("NONE",)}
# Sets of keywords that LoadLeveler accepts together for parallel steps, and the form that `node` must have there.
_COMBINATIONS = (
    ({"total_tasks", "node"}, "one number"),
    ({"total_tasks", "blocking"}, ""),
    ({"tasks_per_node", "node"}, "any"),
    ({"task_geometry"}, ""),
    (set[str](), ""),
)
_NAMED = re.compile(r"\$\((\w+)\)")
_FILES = ("output", "error", "input")
_SIZE_KEYWORDS = {"total_tasks", "tasks_per_node", "node", "blocking", "task_geometry"}


def _node(request: Request, value: str) -> str | None:
    first, _, last = value.partition(",")
    request.nodes, request.max_nodes = count(first.strip()), count(last.strip()) if last.strip() else None
    if request.max_nodes and request.max_nodes < request.nodes:
        raise ValueError(f"{value!r}: the maximum is below the minimum")
    return None


def _geometry(request: Request, value: str) -> str | None:
    inner = re.fullmatch(r"\{\s*((?:\(\s*[0-9]{1,9}(?:\s*,\s*[0-9]{1,9})*\s*\)\s*)+)\}", value)
    if not inner:
        raise ValueError(f"{value[:60]!r} is no geometry; write {{(0,1) (2)}}, one group a node")
    groups = tuple(tuple(int(one) for one in group.split(",")) for group in re.findall(r"\(([^)]*)\)", inner[1]))
    ids = sorted(one for group in groups for one in group)
    if ids != list(range(len(ids))):
        raise ValueError(f"{value!r}: task ids must be unique and go from 0 to {len(ids) - 1}")
    request.geometry, request.nodes = groups, len(groups)
    return None


def _requirements(request: Request, value: str) -> str | None:
    features = _FEATURE.findall(value)
    rest = re.sub(r"[\s()&]", "", _FEATURE.sub("", value))
    if rest or not features:
        return f"only (Feature == ...) joined by && has a counterpart, not {value!r}"
    request.features = tuple(features)
    return None


def _resources(request: Request, value: str) -> str | None:
    other = []
    for name, amount in _RESOURCE.findall(value):
        if name.lower() == "consumablecpus":
            request.cpus = count(amount)
        elif name.lower() == "consumablememory":
            request.task_memory = memory(amount)
        else:
            other.append(name)
    if not _RESOURCE.search(value):
        raise ValueError(f"{value!r}: write ConsumableCpus(n) ConsumableMemory(n gb)")
    return f"{', '.join(other)} has no counterpart" if other else None


def _notification(request: Request, value: str) -> str | None:
    if value.lower() not in _MAIL:
        raise ValueError(f"{value!r} is not one of {', '.join(_MAIL)}")
    request.mail = _MAIL[value.lower()]
    return None


def _environment(request: Request, value: str) -> str | None:
    odd = []
    for item in (part.strip() for part in value.split(";")):
        name, found, content = item.partition("=")
        if item.upper() == "COPY_ALL":
            request.copy_environment = True
        elif found and re.fullmatch(r"[A-Za-z_]\w*", name.strip()):
            request.environment[name.strip()] = content.strip().strip('"')
        elif item and not item.startswith("$"):  # $VAR copies one variable, which others do anyway
            odd.append(item)
    return f"not understood: {'; '.join(odd)}" if odd else None


def _node_usage(request: Request, value: str) -> str | None:
    request.exclusive = value.lower() == "not_shared"
    return None


def _job_type(request: Request, value: str) -> str | None:
    if value.lower() not in ("serial", "parallel", "mpich", "bluegene"):
        raise ValueError(f"{value!r} is not one of serial, parallel, MPICH, bluegene")
    return None if value.lower() != "bluegene" else "Blue Gene has no counterpart"


RULES: dict[str, Rule | None] = {
    "job_name": token("name"), "step_name": token("step"), "initialdir": text("workdir"),
    "output": text("output", from_macros), "error": text("error", from_macros), "input": text("input", from_macros),
    "node": _node, "tasks_per_node": token("tasks_per_node", count), "total_tasks": token("tasks", count),
    "task_geometry": _geometry, "wall_clock_limit": token("seconds", clock), "class": token("partition"),
    "account_no": token("account"), "requirements": _requirements, "resources": _resources,
    "node_usage": _node_usage, "notification": _notification, "notify_user": token("mail_user"),
    "comment": text("comment"), "environment": _environment, "restart": token("requeue", yes_no),
    "dependency": text("dependency"), "job_type": _job_type, "executable": text("program"),
    "arguments": text("arguments"), "ll_res_id": token("reservation"),
    # Known, without a counterpart elsewhere.
    **dict.fromkeys((
        "blocking", "node_resources", "preferences", "group", "hold", "checkpoint", "ckpt_dir", "ckpt_file", "shell",
        "rset", "mcm_affinity_options", "task_affinity", "cpus_per_core", "parallel_threads", "user_priority",
        "startdate", "core_limit", "cpu_limit", "data_limit", "file_limit", "job_cpu_limit", "rss_limit",
        "stack_limit", "as_limit", "nproc_limit", "memlock_limit", "locks_limit", "nofile_limit", "large_page",
        "bulkxfer", "rcxtblocks", "coschedule", "restart_from_ckpt", "restart_on_same_nodes", "cluster_list",
        "cluster_input_file", "cluster_output_file", "cluster_option", "env_copy", "image_size", "max_processors",
        "min_processors", "parallel_path", "smt", "node_topology", "island_count", "energy_policy_tag",
        "minimize_time_to_solution", "max_perf_decrease_allowed", "topology_group", "metacluster_job", "dstg_node",
        "recurring", "host_file", "total_core_limit", "perf_variation_allowed", "adjust_wall_clock_limit",
        "bg_size", "bg_connection", "bg_connectivity", "bg_shape", "bg_rotate", "bg_partition", "bg_requirements",
        "bg_block", "network",
    )),
}  # fmt: skip  # a table


def _put_in_keywords(step: Step) -> None:
    """Put in the values of keywords that others name as variables, as in `# @ error = $(output)`."""
    request = step.request

    def value(own: str, match: re.Match[str]) -> str:
        name = match[1].lower()
        if name == own or name not in step.lines:
            return match[0]
        return getattr(request, name, None) or match[0] if name in _FILES else step.lines[name].value

    for field in ("step", "workdir", "program", "arguments", *_FILES, *_FILES):  # files may name one another
        if text := getattr(request, field):
            setattr(request, field, _NAMED.sub(partial(value, field), text))
    request.environment = {name: _NAMED.sub(partial(value, ""), text) for name, text in request.environment.items()}


def check(step: Step) -> list[Finding]:
    """Return what LoadLeveler would refuse about a step as a whole; keywords used as variables are put in first."""
    _put_in_keywords(step)
    given = _SIZE_KEYWORDS & set(step.lines)
    line = max((step.lines[name].line for name in given), default=step.end)
    step.request.copy_environment = bool(step.request.copy_environment)  # of itself LoadLeveler copies nothing
    complaints = []
    if not any(given == names for names, _ in _COMBINATIONS):
        valid = "; ".join(" + ".join(sorted(names)) for names, _ in _COMBINATIONS if names)
        message = f"{' + '.join(sorted(given))} is refused by LoadLeveler; valid are {valid}"
        complaints.append(at_line(line, "node", "error", message))
    elif "total_tasks" in given and step.request.max_nodes:
        message = "with total_tasks it must be one number, not a minimum and a maximum"
        complaints.append(at_line(step.lines["node"].line, "node", "error", message))
    blocking = step.lines.get("blocking")
    if blocking and blocking.value != "unlimited" and not blocking.value.isdigit():
        complaints.append(at_line(blocking.line, "blocking", "error", f"{blocking.value!r}: a number or unlimited"))
    return complaints


def _mail_events(request: Request, lost: list[tuple[str, str]]) -> str | None:
    """Return the word for the events that send mail; what LoadLeveler has no word for is lost."""
    mail = next((word for word, events in _MAIL.items() if set(events) == set(request.mail)), None)
    if request.mail and not mail:
        lost.append(("mail", f"{','.join(request.mail)}: LoadLeveler takes one of {', '.join(_MAIL)}"))
    return mail


def line(key: str, value: str) -> str:
    """Return one statement; raises RenderError for a value that it cannot hold."""
    return f"# @ {key} = {keyword_value(value, variables=key in (*_FILES, 'executable', 'arguments'))}"


def write(request: Request) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the statements of a request, and the fields that have no counterpart with the reason."""
    lost: list[tuple[str, str]] = []
    size = _size(request, lost)
    lines: list[tuple[str, object]] = [
        ("job_name", request.name and request.name.replace(" ", "_")),
        ("job_type", "parallel" if size else "serial"),
        *size,
        ("wall_clock_limit", _limit(request, lost)),
        ("requirements", _needed_features(request, lost)),
        ("resources", _consumed(request, lost)),
        ("node_usage", _usage(request)),
        ("class", request.partition),
        ("account_no", request.account),
        ("notification", _mail_events(request, lost)),
        ("notify_user", request.mail_user),
        ("comment", request.comment),
        ("restart", {True: "yes", False: "no", None: None}[request.requeue]),
        ("environment", _passed_on(request)),
        ("initialdir", request.workdir),
        ("executable", request.program),
        ("arguments", request.arguments if request.program else None),
        ("input", _with_macros("input", request.input, lost)),
        ("output", _with_macros("output", request.output, lost)),
        ("error", _with_macros("error", request.error or request.output, lost)),
    ]
    lost += [(name, "LoadLeveler has none") for name in ("qos", "reservation", "array") if getattr(request, name)]
    if request.dependency and not request.step:
        lost.append(("dependency", "LoadLeveler knows dependencies only between steps of one job"))
    elif request.step:
        lines += [("step_name", request.step), ("dependency", request.dependency)]
    return [(key, str(value)) for key, value in lines if value], lost


def _limit(request: Request, lost: list[tuple[str, str]]) -> str | None:
    if request.seconds == 0:
        lost.append(("seconds", "no limit is meant: the class's own holds"))
    return hms(request.seconds) if request.seconds else None


def _gpus(request: Request) -> str | None:
    """Return the field that asks for GPUs."""
    return next((name for name in ("gpus", "job_gpus", "task_gpus") if getattr(request, name)), None)


def _needed_features(request: Request, lost: list[tuple[str, str]]) -> str | None:
    """Return the features that nodes must have; GPUs that are counted, and other resources, are lost."""
    features = [*request.features, *([request.gpu_type] if request.gpu_type else [])]
    if gpus := _gpus(request):
        message = "LoadLeveler has no count of GPUs: " + (
            f"whole nodes with {' & '.join(features)} are asked for, however many those have"
            if features
            else "ask for nodes that have them by class or feature"
        )
        lost.append((gpus, message))
    if request.other_gres:
        lost.append(("other_gres", f"{', '.join(map(str, request.other_gres))}: LoadLeveler has none"))
    plain = [part for feature in features for part in feature.split("&")]
    if any(not re.fullmatch(r"[\w.-]+", part) for part in plain):
        lost.append(("features", f"{' & '.join(features)} is more than features joined by &"))
        return None
    return " && ".join(f'(Feature == "{part}")' for part in plain)


def _consumed(request: Request, lost: list[tuple[str, str]]) -> str:
    """Return the cores and the memory of a task."""
    tasks = request.tasks_per_node or (1 if request.nodes == 1 else None)
    per_task = request.task_memory or (request.memory // tasks if request.memory and tasks else None)
    if request.memory == 0:
        lost.append(("memory", "all the memory of a node comes with node_usage = not_shared"))
    elif request.memory is not None and per_task is None:
        lost.append(("memory", "LoadLeveler counts memory by task, and tasks of a node are not known"))
    cores = [f"ConsumableCpus({request.cpus})"] if request.cpus else []
    return " ".join(cores + ([f"ConsumableMemory({per_task} mb)"] if per_task else []))


def _usage(request: Request) -> str | None:
    """Return whether other jobs may share the nodes: LoadLeveler cannot divide GPUs among them."""
    return {True: "not_shared", False: "shared", None: None}[request.exclusive or (True if _gpus(request) else None)]


def _passed_on(request: Request) -> str:
    """Return the environment that the job gets."""
    names = [name for name in (request.export or "").split(",") if name.isidentifier()]
    return "; ".join(
        [
            *["COPY_ALL"] * (request.copy_environment is not False),
            *[f"${name}" for name in names if name not in ("ALL", "NONE", "NIL")],
            *[f"{name}={value}" for name, value in request.environment.items()],
        ]
    )


def _with_macros(name: str, value: str | None, lost: list[tuple[str, str]]) -> str | None:
    try:
        return None if value is None else to_macros(value)
    except ValueError as error:
        lost.append((name, str(error)))
        return None


def _size(request: Request, lost: list[tuple[str, str]]) -> list[tuple[str, object]]:
    if request.geometry:
        groups = " ".join(f"({','.join(str(one) for one in group)})" for group in request.geometry)
        return [("task_geometry", "{" + groups + "}")]
    if request.nodes and request.tasks_per_node:
        nodes = f"{request.nodes},{request.max_nodes}" if request.max_nodes else str(request.nodes)
        return [("node", nodes), ("tasks_per_node", request.tasks_per_node)]
    if request.nodes and request.max_nodes:
        lost.append(("nodes", "a range of nodes needs tasks_per_node; the minimum is taken"))
    if request.nodes:
        return [("node", request.nodes), ("total_tasks", request.tasks or request.nodes)]
    if request.tasks and request.tasks_per_node:
        return [("node", -(-request.tasks // request.tasks_per_node)), ("total_tasks", request.tasks)]
    tasks = request.tasks or request.tasks_per_node
    return [("total_tasks", tasks), ("blocking", "unlimited")] if tasks else []
