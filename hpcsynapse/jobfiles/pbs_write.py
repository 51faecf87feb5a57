"""How a request is written with options of qsub of PBS Professional and OpenPBS."""

from __future__ import annotations

from hpcsynapse.jobfiles import arrays, dependencies, shape
from hpcsynapse.jobfiles.model import Request
from hpcsynapse.jobfiles.shape import Lost
from hpcsynapse.jobfiles.values import hms, with_patterns
from hpcsynapse.templating import plain_word, shell_word

_MAIL = {"b": "BEGIN", "e": "END", "a": "FAIL", "n": "NONE"}
_PATTERNS = {"%a": "^array_index^", "%%": "%"}


def line(key: str, value: str) -> str:
    """Return one directive; raises RenderError for a value that it cannot hold."""
    option, _, resource = key.partition(" ")
    if resource:
        return f"#PBS {option} {resource}{'=' if value else ''}{plain_word(value) if value else ''}"
    if option == "-N":
        plain_word(value)
    return f"#PBS {option} {shell_word(value)}" if value else f"#PBS {option}"


def write(request: Request) -> tuple[list[tuple[str, str]], Lost]:
    """Return the options of a request, and the fields that have no counterpart with the reason."""
    lost: Lost = []
    seconds = shape.limit(request, lost)
    values: list[tuple[str, object]] = [
        ("-N", shape.job_name(request, "A-Za-z0-9_.+-", lost)),
        *_resources(request, lost),
        ("-l walltime", hms(seconds) if seconds else None),
        ("-q", request.partition),
        (request.account_option or "-A", request.account),
        ("-J", _tasks(request, lost)),
        ("-W depend", _waits(request, lost)),
        *(("-v", text) for kind, text in request.own if kind == "-v"),
        ("-M", request.mail_user),
        ("-m", shape.mail_letters(request, _MAIL, "PBS", lost)),
        ("-r", {True: "y", False: "n", None: None}[request.requeue]),
        *_files(request, lost),
    ]
    if request.copy_environment is not False:
        values.append(("-V", ""))
    lost += [(name, "PBS has none") for name in ("qos", "comment", "input") if getattr(request, name)]
    if request.reservation:
        lost.append(("reservation", f"PBS has queues for reservations: -q {request.reservation}"))
    return [(key, str(value)) for key, value in values if value or key == "-V"], lost


def _resources(request: Request, lost: Lost) -> list[tuple[str, str]]:
    """Return chunks of one node each, or of one task each where tasks may be anywhere."""
    nodes = shape.even_nodes(request, "PBS", lost)
    if nodes is None and not request.task_gpus:
        gpus = shape.gpus_of_a_node(request, "PBS", lost)
    elif nodes is None:
        gpus = request.task_gpus
    else:
        gpus = shape.gpus_of_a_node(request, "PBS", lost)
    number, tasks = nodes or (request.tasks or 1, 1)
    memory = shape.memory_of_a_node(request, tasks, lost)
    kind = shape.kind_of_gpu(request, "PBS", lost)
    chunk = [
        str(number),
        f"ncpus={(request.cpus or 1) * tasks}",
        f"mpiprocs={tasks}",
        *([f"ngpus={gpus}"] if gpus else []),
        *([f"gpu_type={kind}"] if kind else []),
        *([f"mem={memory}mb"] if memory else []),
        *(f"{one}=true" for one in shape.plain_features(request, "PBS", lost)),
        *(text for kind, text in request.own if kind == "chunk"),
    ]
    place = ("scatter" if nodes else "free") + (":exclhost" if request.exclusive else "")
    return [("-l select", ":".join(chunk)), ("-l place", place)]


def _tasks(request: Request, lost: Lost) -> str | None:
    """Return the array, of which qsub takes one range of several tasks."""
    try:
        array = arrays.one_range(request.array, "PBS", 0) if request.array else None
        if array and array.ranges[0][0] == array.ranges[0][1]:
            raise ValueError(f"{array}: PBS refuses an array of one task")
    except ValueError as error:
        lost.append(("array", str(error)))
        return None
    return str(array) if array else None


def _waits(request: Request, lost: Lost) -> str | None:
    """Return what the job waits for, which qsub writes as sbatch does."""
    try:
        return ",".join(
            ":".join((kind, *jobs)) for kind, jobs in dependencies.parse(request.dependency or "") if request.dependency
        )
    except ValueError as error:
        if request.dependency:
            lost.append(("dependency", str(error)))
        return None


def _files(request: Request, lost: Lost) -> list[tuple[str, str | None]]:
    """Return where the output goes: qsub expands no pattern but the number of an array's task."""
    known = {"%x": request.name, **_PATTERNS} if request.name else _PATTERNS
    found = list[tuple[str, str | None]]()
    for name, option, letter in (("output", "-o", "o"), ("error", "-e", "e")):
        path = getattr(request, name)
        try:
            found.append((option, shape.file_name(request, with_patterns(path, known)) if path else None))
        except ValueError as error:
            lost.append((name, f"{error} in PBS: NAME.{letter}ID, where the job was submitted, has it"))
    joined = request.joined is not False and request.error is None
    return [("-j", "oe" if joined else None), *found]
