"""How a request is written with options of LSF's bsub."""

from __future__ import annotations

import re

from hpcsynapse.errors import RenderError
from hpcsynapse.jobfiles import arrays, dependencies, shape
from hpcsynapse.jobfiles.model import Request
from hpcsynapse.jobfiles.shape import Lost
from hpcsynapse.jobfiles.values import with_patterns
from hpcsynapse.templating import shell_word

_MAIL = {"B": "BEGIN", "N": "END"}
_PATTERNS = {"%j": "%J", "%J": "%J", "%A": "%J", "%a": "%I", "%%": "%"}


def line(key: str, value: str) -> str:
    """Return one directive, quoted as a shell would want it; raises RenderError for a value that it cannot hold."""
    option, _, section = key.partition(" ")
    if not value:
        return f"#BSUB {option}"
    text = f"{section}[{value}]" if section else value
    if section and re.search(r"[\[\]]", value):
        raise RenderError(f"{value!r} cannot be written in a section of -R")
    word = shell_word(text)
    return f"#BSUB {option} " + (f'"{text}"' if word != text and not re.search(r'["$`\\!]', text) else word)


def write(request: Request) -> tuple[list[tuple[str, str]], Lost]:
    """Return the options of a request, and the fields that have no counterpart with the reason."""
    lost: Lost = []
    values: list[tuple[str, object]] = [
        ("-J", _name(request, lost)),
        *_slots(request, lost),
        ("-W", _minutes(request, lost)),
        ("-q", request.partition),
        ("-P", request.account),
        ("-sla", request.qos),
        ("-U", request.reservation),
        ("-w", _condition(request, lost)),
        ("-u", request.mail_user),
        ("-Jd", request.comment),
        ("-cwd", None if request.workdir == "." else request.workdir),
        ("-env", "none" if request.copy_environment is False else None),
        *_files(request, lost),
    ]
    events = {*request.mail} & {"BEGIN", "ALL"}, {*request.mail} & {"END", "FAIL", "ALL"}
    flags = {
        "-x": request.exclusive,
        "-r": request.requeue,
        "-rn": request.requeue is False,
        "-B": events[0],
        "-N": events[1],
    }
    if unknown := [one for one in request.mail if one not in (*_MAIL.values(), "FAIL", "ALL", "NONE")]:
        lost.append(("mail", f"{','.join(unknown)}: LSF knows the beginning and the end"))
    given = [(key, str(value)) for key, value in values if value]
    return [*given, *[(name, "") for name, wanted in flags.items() if wanted]], lost


def _name(request: Request, lost: Lost) -> str | None:
    """Return the name, with the numbers of an array's tasks in brackets."""
    name = shape.job_name(request, r"\w.+@=:,-", lost)
    try:
        array = arrays.parse(request.array) if request.array else None
        if array and array.ranges[0][0] < 1:
            raise ValueError(f"{array}: LSF counts from 1")
    except ValueError as error:
        lost.append(("array", str(error)))
        return name
    if not array:
        return name
    numbers, percent, at_once = str(array).partition("%")
    return f"{name or 'job'}[{numbers}]{percent}{at_once}"


def _slots(request: Request, lost: Lost) -> list[tuple[str, object]]:
    """Return the slots, one for each task, how they are spread, and what hosts must have."""
    nodes = shape.even_nodes(request, "LSF", lost)
    gpus = request.task_gpus if nodes is None else shape.gpus_of_a_node(request, "LSF", lost)
    number, tasks = nodes or (1, request.tasks or 1)
    size = shape.memory_of_a_node(request, tasks, lost)
    rusage = [f"mem={size}MB"] if size else []
    rusage += [text for kind, text in request.own if kind == "rusage"]
    features = shape.plain_features(request, "LSF", lost)
    found: list[tuple[str, object]] = [("-n", number * tasks)]
    if nodes:
        found.append(("-R span", f"ptile={tasks}"))
    return [
        *found,
        ("-R affinity", f"core({request.cpus})" if request.cpus and request.cpus > 1 else None),
        ("-R rusage", ",".join(rusage)),
        ("-R select", "&&".join(features)),
        ("-gpu", _gpu(request, gpus, "/task" if nodes is None else "", shape.kind_of_gpu(request, "LSF", lost))),
    ]


def _gpu(request: Request, gpus: int | None, unit: str, kind: str | None) -> str | None:
    """Return the GPUs, which no other job may use meanwhile unless the file said otherwise."""
    if not gpus:
        return None
    own = [text for kind, text in request.own if kind == "gpu"]
    names = {text.partition("=")[0] for text in own}
    usual = [text for text in ("mode=shared", "j_exclusive=yes") if text.partition("=")[0] not in names]
    return ":".join([f"num={gpus}{unit}", *usual, *([f"gmodel={kind}"] if kind else []), *own])


def _minutes(request: Request, lost: Lost) -> str | None:
    """Return hours and minutes: LSF counts no seconds."""
    seconds = shape.limit(request, lost)
    if seconds is None:
        return None
    if seconds % 60:
        lost.append(("seconds", "LSF counts minutes: rounded up"))
    minutes = -(-seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02}"


def _condition(request: Request, lost: Lost) -> str | None:
    try:
        return dependencies.to_condition(request.dependency) if request.dependency else None
    except ValueError as error:
        lost.append(("dependency", str(error)))
        return None


def _files(request: Request, lost: Lost) -> list[tuple[str, str | None]]:
    """Return where input comes from and output goes; the name of the job is written out."""
    known = {**_PATTERNS, **({"%x": request.name} if request.name else {})}
    found = list[tuple[str, str | None]]()
    for name, option in (("input", "-i"), ("output", "-o"), ("error", "-e")):
        path = getattr(request, name)
        try:
            found.append((option, shape.file_name(request, with_patterns(path, known)) if path else None))
        except ValueError as error:
            lost.append((name, f"{error} in LSF"))
    return found
