"""How a request is written with options of Grid Engine's qsub."""

from __future__ import annotations

import re

from hpcsynapse.errors import RenderError
from hpcsynapse.jobfiles import arrays, dependencies, shape
from hpcsynapse.jobfiles.model import Request
from hpcsynapse.jobfiles.shape import Lost
from hpcsynapse.jobfiles.values import hms, with_patterns
from hpcsynapse.templating import shell_word

_QUEUE = "Grid Engine"
_MAIL = {"b": "BEGIN", "e": "END", "a": "FAIL", "n": "NONE"}
_PATTERNS = {
    "%j": "$JOB_ID",
    "%J": "$JOB_ID",
    "%A": "$JOB_ID",
    "%a": "$TASK_ID",
    "%x": "$JOB_NAME",
    "%u": "$USER",
    "%N": "$HOSTNAME",
    "%%": "%",
}


def line(key: str, value: str) -> str:
    """Return one directive; raises RenderError for a value that it cannot hold.

    Words are cut at blanks, a quote takes the rest of the line, and what a quote or a backslash in it does is not told.
    """
    shell_word(value)  # raises for what no line holds
    option, _, resource = key.partition(" ")
    if re.search(r"""["'#\\]""", value) or value != value.strip() or (resource and re.search(r"[\s,]", value)):
        raise RenderError(f"{value!r} cannot be written in a directive of {_QUEUE}")
    if resource:
        return f"#$ {option} {resource}={value}"
    if not value:
        return f"#$ {option}"
    return f'#$ {option} "{value}"' if re.search(r"\s", value) and option != "-pe" else f"#$ {option} {value}"


def write(request: Request) -> tuple[list[tuple[str, str]], Lost]:
    """Return the options of a request, and the fields that have no counterpart with the reason."""
    lost: Lost = []
    slots = _spread(request, lost)
    seconds = shape.limit(request, lost)
    values: list[tuple[str, object]] = [
        ("-N", _name(request, lost)),
        ("-S", request.shell),
        *slots,
        ("-l h_rt", hms(seconds) if seconds else None),
        *[("-l", f"{one}=true") for one in shape.plain_features(request, _QUEUE, lost)],
        ("-l", "exclusive=true" if request.exclusive else None),
        ("-q", request.partition),
        (request.account_option or "-A", request.account),
        *_array(request, lost),
        ("-hold_jid", _held(request, lost)),
        *[("-v", text) for kind, text in request.own if kind == "-v"],
        ("-ar", request.reservation),
        ("-M", request.mail_user),
        ("-m", shape.mail_letters(request, _MAIL, _QUEUE, lost)),
        ("-r", {True: "y", False: "n", None: None}[request.requeue]),
        ("-ac", f"comment={request.comment}" if request.comment else None),
        ("-wd", None if request.workdir == "." else request.workdir),
        *_files(request, lost),
    ]
    flags = {"-V": request.copy_environment is not False, "-cwd": not request.home and request.workdir in (None, ".")}
    if request.qos:
        lost.append(("qos", f"{_QUEUE} has none"))
    given = [(key, str(value)) for key, value in values if value]
    return [*given, *[(name, "") for name, wanted in flags.items() if wanted]], lost


def _name(request: Request, lost: Lost) -> str | None:
    """Return the name, which must not begin with a digit."""
    name = shape.job_name(request, r"\w.,+=-", lost)
    return f"j{name}" if name and name[0].isdigit() else name


def _spread(request: Request, lost: Lost) -> list[tuple[str, object]]:
    """Return the slots, and resources of each: a parallel environment must give every node its number of them."""
    units = [text.partition("=") for kind, text in request.own if kind == "-l"]
    nodes = None if units else shape.even_nodes(request, _QUEUE, lost)
    number, tasks = nodes or (request.tasks or request.nodes or 1, 1)
    each = tasks * (request.cpus or 1)
    named = next((text for kind, text in request.own if kind == "-pe"), None)
    if nodes and not named and number * each > 1:
        lost.append(("nodes", f"choose a parallel environment that gives every node {each} slots (qconf -spl, -sp)"))
    if nodes and tasks > 1 and (request.cpus or 1) > 1:
        lost.append(("cpus", f"slots are counted, not tasks: start {tasks} on each node yourself"))
    gpus = shape.gpus_of_a_node(request, _QUEUE, lost)
    size = shape.memory_of_a_node(request, tasks, lost)
    return [
        ("-pe", None if units or (number * each == 1 and not named) else f"{named or f'mpi-{each}'} {number * each}"),
        *[(f"-l {name}", text) for name, _, text in units],
        ("-l " + next((text for kind, text in request.own if kind == "gpus"), "gpu"), gpus),
        ("-l gpu_type", shape.kind_of_gpu(request, _QUEUE, lost)),
        ("-l mem_free", f"{max(1, size // each)}M" if size else None),
    ]


def _array(request: Request, lost: Lost) -> list[tuple[str, object]]:
    """Return the range of an array's tasks, and how many of them run at a time."""
    try:
        array = arrays.one_range(request.array, _QUEUE, 1) if request.array else None
    except ValueError as error:
        lost.append(("array", str(error)))
        array = None
    return [("-t", arrays.Array(array.ranges)), ("-tc", array.at_once)] if array else []


def _held(request: Request, lost: Lost) -> str | None:
    """Return the jobs whose end is waited for; how they end makes no difference to Grid Engine."""
    try:
        waits = dependencies.parse(request.dependency) if request.dependency else []
    except ValueError as error:
        lost.append(("dependency", str(error)))
        return None
    if kinds := [kind for kind, _ in waits if kind != "afterany"]:
        lost.append(("dependency", f"{kinds[0]}: {_QUEUE} waits for the other job's end, however it ends"))
    return ",".join(job for kind, jobs in waits if kind != "after" for job in jobs) or None


def _files(request: Request, lost: Lost) -> list[tuple[str, object]]:
    """Return where input comes from and output goes."""
    found = list[tuple[str, object]]()
    for name, option in (("input", "-i"), ("output", "-o"), ("error", "-e")):
        path = getattr(request, name)
        try:
            found.append((option, with_patterns(path, _PATTERNS) if path else None))
        except ValueError as error:
            lost.append((name, f"{error} in {_QUEUE}"))
    joined = request.joined is not False and request.error is None
    return [*found, ("-j", "y" if joined else None)]
