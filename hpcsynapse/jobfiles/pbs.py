"""PBS Professional, OpenPBS and Torque: what the options of qsub ask for.

Manuals: PBS Professional Reference Guide, qsub and pbs_resources(7B); Torque's pbs_resources(7B). How a file's lines
become options is in `pbs_lines`, how a request is written in `pbs_write`.
"""

from __future__ import annotations

import re

from hpcsynapse.findings import Finding, at_line
from hpcsynapse.jobfiles import arrays, dependencies
from hpcsynapse.jobfiles.model import NoCounterpartError, Request, Rule, Step
from hpcsynapse.jobfiles.pbs_lines import directives as directives
from hpcsynapse.jobfiles.pbs_lines import is_directive as is_directive
from hpcsynapse.jobfiles.pbs_write import line as line
from hpcsynapse.jobfiles.pbs_write import write as write
from hpcsynapse.jobfiles.values import assign, count, number, yes_no

_TIME = re.compile(r"(?:([0-9]{1,9}):)?(?:([0-9]{1,9}):)?([0-9]{1,12})(?:\.[0-9]{1,9})?")
_MEMORY = re.compile(r"([0-9]{1,15})([kmgtp]?)b?", re.IGNORECASE)
_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
_GPUS = ("ngpus", "gpus", "gpu", "naccelerators")
_KINDS = ("gpu_type", "gpu_model", "gputype", "accelerator_model")  # names that sites gave the kind of GPU
_MAIL = {"b": "BEGIN", "e": "END", "a": "FAIL", "n": "NONE"}  # also j, p, f: of subjobs, of Torque
_MODES = ("exclusive_process", "exclusive_thread", "shared", "default", "reseterr")  # of Torque's GPUs


def _walltime(request: Request, value: str) -> str | None:
    match = _TIME.fullmatch(value)
    if value and not match:
        raise ValueError(f"{value[:60]!r} is not a time; write HH:MM:SS or seconds")
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    if match and match[1] and not match[2]:  # one colon: minutes and seconds
        hours, minutes = 0, hours
    request.seconds = (hours * 60 + minutes) * 60 + seconds
    return None


def memory(value: str) -> int:
    """Return the MiB of `64gb`, `2000mb`; a bare number is in bytes, and parts of a unit are refused by qsub."""
    match = _MEMORY.fullmatch(value)
    if not match:
        raise ValueError(f"{value[:60]!r} is not a size; qsub takes a whole number and b, kb, mb, gb or tb")
    return -(-int(match[1]) * _BYTES[match[2].lower()] // 2**20)


def _chunk(request: Request, value: str, nodes: str, parts: list[str]) -> str | None:
    """Put one kind of chunk into the request: so many, each with these resources."""
    if "+" in value or not re.fullmatch(r"[0-9]{1,9}", nodes):  # unlike chunks, or hosts by name
        raise NoCounterpartError
    request.nodes, cores = count(nodes), 0
    request.features = ()
    request.tasks_per_node, request.own = 1, tuple(one for one in request.own if one[0] != "chunk")
    for part in filter(None, parts):
        name, _, content = part.partition("=")
        if content.lower() == "true" or not content:
            request.features += () if name in _MODES else (name,)
        elif name == "ncpus":
            cores = count(content)
        elif name in ("mpiprocs", "ppn"):
            request.tasks_per_node = number(content) or 1
        elif name in _GPUS:
            request.gpus = number(content)
        elif name == "mem":
            request.memory = memory(content)
        elif name in _KINDS:
            request.gpu_type = content
        else:
            request.own += (("chunk", part),)
    request.cpus = max(1, cores // request.tasks_per_node) if cores else None
    left_over = cores % request.tasks_per_node if cores else 0
    return f"{cores} cores are no whole number for each of {request.tasks_per_node} ranks" if left_over else None


def _select(request: Request, value: str) -> str | None:
    first, *parts = value.split(":")
    return _chunk(request, value, *((first, parts) if "=" not in first else ("1", [first, *parts])))


def _nodes(request: Request, value: str) -> str | None:
    first, *parts = value.split(":")
    return _chunk(request, value, first, parts)


def _place(request: Request, value: str) -> str | None:
    arrangement, *sharing = value.split(":")
    if arrangement not in ("scatter", "free", "pack") or len(sharing) > 1:
        raise NoCounterpartError
    if sharing and sharing[0] in ("excl", "exclhost"):
        request.exclusive = True
    elif sharing and sharing[0] != "shared":
        raise NoCounterpartError
    return None


def _array(request: Request, value: str) -> str | None:
    array = arrays.one_range(value, "qsub", 0)
    if array.ranges[0][0] == array.ranges[0][1]:
        raise ValueError(f"{value!r}: qsub refuses an array of one task")
    request.array = str(array)
    return None


def _torque_array(request: Request, value: str) -> str | None:
    request.array = str(arrays.parse(value))
    return None


def _depend(request: Request, value: str) -> str | None:
    jobs = re.sub(r"\.[\w.-]+", "", value).replace("afteranyarray", "afterany").replace("afterokarray", "afterok")
    try:
        dependencies.parse(jobs.replace("[]", ""))
    except ValueError:
        raise NoCounterpartError from None
    request.dependency = jobs.replace("[]", "")
    return None


def _mail(request: Request, value: str) -> str | None:
    if wrong := [letter for letter in value if letter not in (*_MAIL, "j", "p", "f")]:
        raise ValueError(f"{value[:60]!r}: {wrong[0]!r} is not one of a, b, e, n")
    request.mail = tuple(_MAIL[letter] for letter in value if letter in _MAIL)
    return None


def _join(request: Request, value: str) -> str | None:
    if value not in ("oe", "eo", "n"):
        raise ValueError(f"{value[:60]!r} is not one of oe, eo, n")
    if value == "eo":
        raise NoCounterpartError
    request.joined = value == "oe"
    return None


def _file(name: str) -> Rule:
    def rule(request: Request, value: str) -> str | None:
        path = re.sub(r"^[\w.-]*:(?=/)", "", value)
        setattr(request, name, path.replace("%", "%%").replace("^array_index^", "%a"))
        return "the host before the path is left out" if path != value else None

    return rule


def _project(request: Request, value: str) -> str | None:
    if request.account is not None:
        raise NoCounterpartError
    request.account, request.account_option = value, "-P"
    return None


def _account(request: Request, value: str) -> str | None:
    request.account, request.account_option = value, None
    return None


def _directory(request: Request, value: str) -> str | None:
    request.workdir = value or "."
    return None


def _variables(request: Request, value: str) -> str | None:
    for item in re.findall(r"""((?:[^,'"]|'[^']*'|"[^"]*")+)""", value):
        name, found, content = item.partition("=")
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            return f"{item[:60]!r} is no variable"
        if found:
            request.environment[name] = content.strip("'\"")
        else:
            request.own += (("-v", name),)
    return None


def _all_variables(request: Request, value: str) -> str | None:
    request.copy_environment = True
    return None


RULES: dict[str, Rule | None] = {
    "-N": assign("name"),
    "-q": assign("partition"),
    "-A": _account,
    "-P": _project,
    "-m": _mail,
    "-M": assign("mail_user"),
    "-o": _file("output"),
    "-e": _file("error"),
    "-j": _join,
    "-J": _array,
    "-t": _torque_array,
    "-d": _directory,
    "-r": assign("requeue", lambda value: yes_no({"y": "yes", "n": "no"}.get(value, value))),
    "-v": _variables,
    "-V": _all_variables,
    "-S": assign("shell"),
    "-l walltime": _walltime,
    "-l select": _select,
    "-l nodes": _nodes,
    "-l place": _place,
    "-l wd": _directory,
    "-l ncpus": assign("cpus", count),
    "-l mem": assign("memory", memory),
    "-W depend": _depend,
    **{f"-l {name}": assign("gpus", number) for name in _GPUS},
    **dict.fromkeys([f"-{letter}" for letter in "acCDGhIkKLnpRTuwXzfx"]),  # without a counterpart elsewhere
}


def check(step: Step) -> list[Finding]:
    """Return what qsub refuses about resources together, and fill in what they mean together."""
    request, lines, found = step.request, step.lines, list[Finding]()
    chunks = next((lines[name] for name in ("-l select", "-l nodes") if name in lines), None)
    if "-l select" in lines and "-l nodes" in lines:
        found.append(at_line(lines["-l nodes"].line, "-l nodes", "error", "qsub refuses it beside select"))
    of_the_job = [lines[name] for name in ("-l ncpus", "-l mem", *(f"-l {one}" for one in _GPUS)) if name in lines]
    for one in of_the_job:
        if "-l select" in lines:
            found.append(
                at_line(one.line, one.key, "error", "qsub refuses it beside select: it belongs into the chunk")
            )
    if "-l place" in lines and "-l select" not in lines:
        found.append(at_line(lines["-l place"].line, "-l place", "error", "qsub refuses it without select"))
    if chunks is None and of_the_job:
        request.nodes = request.tasks_per_node = 1
        if "-l ncpus" in lines:
            message = "read as one node; where a site counts for the whole job, give the nodes yourself"
            found.append(at_line(lines["-l ncpus"].line, "-l ncpus", "warning", message))
    elif "-l mem" in lines and request.memory and request.nodes:
        request.memory = -(-request.memory // request.nodes)
    found += _placed(step)
    request.home = request.workdir is None
    request.copy_environment = bool(request.copy_environment)
    request.joined = bool(request.joined)
    return found


def _placed(step: Step) -> list[Finding]:
    """Read chunks as what they are where they are placed otherwise than one on each host."""
    request, place = step.request, step.lines.get("-l place")
    chunks = step.lines.get("-l select")
    if not chunks or not request.nodes or request.nodes == 1:
        return []
    arrangement = place.value.split(":")[0] if place else ""
    if arrangement == "free" and request.tasks_per_node == 1:
        request.tasks, request.nodes, request.tasks_per_node = request.nodes, None, None
        request.task_gpus, request.gpus = request.gpus, None
        request.task_memory, request.memory = request.memory, None
        step.sources |= dict.fromkeys(("tasks", "task_gpus", "task_memory"), chunks)
    elif arrangement != "scatter":
        message = "chunks may lie on one host unless place=scatter is asked for; read as nodes"
        return [at_line(chunks.line, chunks.key, "warning", message)]
    return []
