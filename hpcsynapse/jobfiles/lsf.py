"""IBM Spectrum LSF: what the options of bsub ask for.

Source: IBM documentation, LSF 10.1, bsub and resource requirement strings. How a request is written is in `lsf_write`.
"""

from __future__ import annotations

import re

from hpcsynapse.findings import Finding, at_line
from hpcsynapse.jobfiles import arrays, dependencies
from hpcsynapse.jobfiles.lsf_lines import directives as directives
from hpcsynapse.jobfiles.lsf_lines import is_directive as is_directive
from hpcsynapse.jobfiles.lsf_write import line as line
from hpcsynapse.jobfiles.lsf_write import write as write
from hpcsynapse.jobfiles.model import NoCounterpartError, Request, Rule, Step
from hpcsynapse.jobfiles.values import assign, count, number

_MEMORY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?:([KMGT])B?)?", re.IGNORECASE)
_MEBIBYTES = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
_TIME = re.compile(r"(?:([0-9]{1,9}):)?([0-9]{1,9})")
_NAME = re.compile(r"([^\[\]%]*)(?:\[([^\[\]]+)\](%[0-9]+)?)?")
_USUAL = ("mode=shared", "j_exclusive=yes", "mps=no")  # of GPUs: as they are granted elsewhere


def _name(request: Request, value: str) -> str | None:
    match = _NAME.fullmatch(value)
    if not match:
        raise ValueError(f"{value[:60]!r} is no name; an array is NAME[1-10]%4")
    request.name = match[1] or None
    if match[2]:
        request.array = str(arrays.parse(match[2] + (match[3] or "")))
    return None


def _slots(request: Request, value: str) -> str | None:
    fewest, _, most = value.partition(",")
    request.tasks = count(fewest)
    return "a range of slots: the fewest are taken" if most and most != fewest else None


def _span(request: Request, value: str) -> str | None:
    name, _, content = value.replace(" ", "").partition("=")
    if name == "ptile" and content.isdigit():
        request.tasks_per_node = count(content)
    elif (name, content) == ("hosts", "1"):
        request.nodes = 1
    else:
        raise NoCounterpartError
    return None


def _affinity(request: Request, value: str) -> str | None:
    match = re.fullmatch(r"core\(([0-9]{1,6})[^()]*\)(.*)", value.replace(" ", ""))
    if not match:
        raise NoCounterpartError
    request.cpus = count(match[1])
    return f"{match[2]} is left out" if match[2] else None


def memory(value: str) -> tuple[int, str | None]:
    """Return the MiB of `64GB`, and what is odd: a bare number is in the unit of the site."""
    match = _MEMORY.fullmatch(value.strip())
    if not match:
        raise ValueError(f"{value[:60]!r} is not a size; write for example 64GB")
    odd = None if match[2] else "has no unit, which is the site's (LSF_UNIT_FOR_LIMITS): read as MB"
    return max(1, int(float(match[1]) * _MEBIBYTES[(match[2] or "M").upper()])), odd


def _usage(request: Request, value: str) -> str | None:
    said = list[str]()
    for part in value.split(","):
        name, _, content = part.strip().partition("=")
        if name == "mem":
            request.memory, odd = memory(content)
            said.append(odd or "whether memory counts for each slot, task or host is the site's: read as a host's")
        elif name in ("ngpus_excl_p", "ngpus_shared", "ngpus"):
            request.gpus = number(content)
        elif part.strip():
            request.own += (("rusage", part.strip()),)
    return "; ".join(said) or None


def _needed(request: Request, value: str) -> str | None:
    words = [word.strip() for word in value.split("&&")]
    if not all(re.fullmatch(r"[A-Za-z][\w.-]*", word) for word in words):
        raise NoCounterpartError
    request.features += tuple(words)
    return None


def _gpu(request: Request, value: str) -> str | None:
    request.own = tuple(one for one in request.own if one[0] != "gpu")
    request.gpus = 1  # the default, also of `-gpu -`
    for part in value.split(":") if value != "-" else []:
        name, _, content = part.partition("=")
        if name == "num" and content.endswith("/task"):
            request.task_gpus, request.gpus = number(content.removesuffix("/task")), None
        elif name == "num":
            request.gpus = number(content.removesuffix("/host"))
        elif name == "gmodel":
            request.gpu_type = content
        elif part not in _USUAL:
            request.own += (("gpu", part),)
    return None


def _limit(request: Request, value: str) -> str | None:
    text, slash, host = value.partition("/")
    match = _TIME.fullmatch(text)
    if not match:
        raise ValueError(f"{value[:60]!r} is not a time; write HOURS:MINUTES or minutes")
    request.seconds = (int(match[1] or 0) * 60 + int(match[2])) * 60
    return f"the host {host} whose speed is meant is left out" if slash else None


def _waits(request: Request, value: str) -> str | None:
    try:
        request.dependency = dependencies.from_condition(value)
    except ValueError:
        raise NoCounterpartError from None
    return None


def _file(name: str) -> Rule:
    def rule(request: Request, value: str) -> str | None:
        path = re.sub(r"%(?![JI])", "%%", value)
        setattr(request, name, path.replace("%J", "%j").replace("%I", "%a"))
        return None

    return rule


def _variables(request: Request, value: str) -> str | None:
    for item in value.split(","):
        name, found, content = item.strip().partition("=")
        if found and re.fullmatch(r"[A-Za-z_]\w*", name):
            request.environment[name] = content.strip("'")
        elif name == "none":
            request.copy_environment = False
        elif name == "all":
            request.copy_environment = True
    return None


def _flag(name: str, value: object) -> Rule:
    def rule(request: Request, text: str) -> str | None:
        setattr(request, name, value)
        return None

    return rule


def _mail(event: str) -> Rule:
    def rule(request: Request, value: str) -> str | None:
        request.mail = tuple(dict.fromkeys([*request.mail, event]))
        return None

    return rule


RULES: dict[str, Rule | None] = {
    "-J": _name,
    "-n": _slots,
    "-nnodes": assign("nodes", count),
    "-R span": _span,
    "-R affinity": _affinity,
    "-R rusage": _usage,
    "-R select": _needed,
    "-gpu": _gpu,
    "-M": None,
    "-W": _limit,
    "-q": assign("partition"),
    "-P": assign("account"),
    "-sla": assign("qos"),
    "-U": assign("reservation"),
    "-x": _flag("exclusive", True),
    "-u": assign("mail_user"),
    "-B": _mail("BEGIN"),
    "-N": _mail("END"),
    "-o": _file("output"),
    "-oo": _file("output"),
    "-e": _file("error"),
    "-eo": _file("error"),
    "-i": _file("input"),
    "-cwd": assign("workdir"),
    "-env": _variables,
    "-w": _waits,
    "-r": _flag("requeue", True),
    "-rn": _flag("requeue", False),
    "-Jd": assign("comment"),
}
ADDING = frozenset({"-R", "-R select", "-R rusage"})  # whose later lines add to the earlier ones


def check(step: Step) -> list[Finding]:
    """Return what does not fit together, and fill in what follows from slots and how they are spread."""
    request, found = step.request, list[Finding]()
    tasks, each = request.tasks, request.tasks_per_node
    if tasks and each:
        request.nodes = -(-tasks // each)
        if tasks % each == 0:
            request.tasks = None
        else:
            message = f"{tasks} slots are no whole number of nodes with {each} each"
            found.append(at_line(step.lines["-n"].line, "-n", "warning", message))
    elif request.nodes == 1 and tasks:
        request.tasks, request.tasks_per_node = None, tasks
    elif tasks is None and request.nodes is None and each is None and step.lines:
        request.nodes = request.tasks_per_node = 1
    if request.gpus is None and request.task_gpus is None and "-n" in step.lines and request.gpu_type:
        request.gpus = 1
    return found
