"""Grid Engine and its descendants: what the options of qsub ask for.

Manual pages: submit(1), sge_types(5), complex(5), sge_pe(5). It counts slots: how many of them a node gives is a matter
of the parallel environment, which the file only names. How a request is written is in `gridengine_write`.
"""

from __future__ import annotations

import re

from hpcsynapse.findings import Finding, at_line
from hpcsynapse.jobfiles import arrays
from hpcsynapse.jobfiles.gridengine_lines import directives as directives
from hpcsynapse.jobfiles.gridengine_lines import is_directive as is_directive
from hpcsynapse.jobfiles.gridengine_write import line as line
from hpcsynapse.jobfiles.gridengine_write import write as write
from hpcsynapse.jobfiles.model import NoCounterpartError, Request, Rule, Step
from hpcsynapse.jobfiles.values import assign, count, number

_MEMORY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([KMGTkmgt]?)")
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_GPUS = ("gpu", "gpus", "ngpus", "GPU", "gpu_card")  # names that sites gave them
_KINDS = ("gpu_type", "GPUtype", "gputype")
_SIZES = ("mem_free", "m_mem_free", "h_vmem", "tmem", "mf")
_NODE_UNITS = ("rt_F", "rt_AF", "f_node", "node_f")  # whole nodes at ABCI and TSUBAME
_ONE_HOST = re.compile(r"smp|shm|shared|omp|openmp|thread", re.IGNORECASE)
_BY_NAME = re.compile(r".*-([1-9][0-9]{0,4})")  # mpi-4: four slots on each node
_MAIL = {"b": "BEGIN", "e": "END", "a": "FAIL", "n": "NONE"}
# In file names qsub expands these (submit(1), -o).
_PATTERNS = {"JOB_ID": "%j", "JOB_NAME": "%x", "TASK_ID": "%a", "USER": "%u", "HOSTNAME": "%N"}


def time_limit(value: str) -> int:
    """Return the seconds of seconds or H:M:S, at some sites D:H:M:S; parts may be empty or large. INFINITY is 0."""
    if value.upper() == "INFINITY":
        return 0
    parts = value.split(":")
    if len(parts) not in (1, 3, 4) or not all(re.fullmatch(r"[0-9]{0,9}", part) for part in parts) or not any(parts):
        raise ValueError(f"{value[:60]!r} is not a time; write H:M:S or seconds")
    days, hours, minutes, seconds = ([0, 0, 0, 0] + [int(part or 0) for part in parts])[-4:]
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def memory(value: str) -> int:
    """Return the MiB of `4G`, `1.5G`; capital letters are powers of 1024, small ones of 1000, `GB` is refused."""
    match = _MEMORY.fullmatch(value)
    if not match:
        raise ValueError(f"{value[:60]!r} is not a size; qsub takes a number and K, M, G or T")
    return -(-int(float(match[1]) * _BYTES[match[2]]) // 2**20)


def _spread(request: Request, value: str) -> str | None:
    """Read a parallel environment and its slots; only its name may tell how many a node gives."""
    name, _, asked = value.rpartition(" ")
    slots = count(asked.split("-")[0])
    request.own = (*(one for one in request.own if one[0] != "-pe"), ("-pe", name))
    odd = "the fewest slots are taken" if "-" in asked else None
    request.nodes = request.tasks = request.tasks_per_node = request.cpus = None
    if (match := _BY_NAME.fullmatch(name)) and slots % int(match[1]) == 0:
        request.nodes, request.tasks_per_node = slots // int(match[1]), int(match[1])
        return odd
    if _ONE_HOST.search(name):
        request.nodes, request.tasks_per_node, request.cpus = 1, 1, slots
        return odd or "read as one task with all slots of one node"
    request.tasks = slots
    return odd or "how many of the slots a node gives is not in the file (qconf -sp tells): read as tasks"


def _unit(name: str) -> Rule:
    def rule(request: Request, value: str) -> str | None:
        request.nodes, request.tasks_per_node = count(value), 1
        request.own += (("-l", f"{name}={value}"),)
        return "read as whole nodes, as at the sites that have it"

    return rule


def _gpus(name: str) -> Rule:
    def rule(request: Request, value: str) -> str | None:
        request.gpus = number(value)
        request.own = (*(one for one in request.own if one[0] != "gpus"), *([("gpus", name)] if name != "gpu" else []))
        return "whether it counts for each slot, host or job is the site's: read as GPUs of each node"

    return rule


def _size(request: Request, value: str) -> str | None:
    request.task_memory = memory(value)
    return None


def _property(request: Request, value: str) -> str | None:
    if value in ("exclusive", "excl"):
        request.exclusive = True
    else:
        request.features += (value,)
    return None


def _tasks(request: Request, value: str) -> str | None:
    at_once = arrays.parse(request.array).at_once if request.array else None
    array = arrays.one_range(value, "qsub", 1)
    request.array = str(arrays.Array(array.ranges, at_once))
    return None


def _at_once(request: Request, value: str) -> str | None:
    ranges = arrays.parse(request.array or "1").ranges
    request.array = str(arrays.Array(ranges, count(value)))
    return None


def _held(request: Request, value: str) -> str | None:
    jobs = value.split(",")
    if not all(re.fullmatch(r"[0-9]{1,18}", job) for job in jobs):  # names
        raise NoCounterpartError
    request.dependency = ":".join(("afterany", *jobs))
    return None


def _mail(request: Request, value: str) -> str | None:
    letters = value.replace(",", "")
    if wrong := [letter for letter in letters if letter not in (*_MAIL, "s")]:
        raise ValueError(f"{value[:60]!r}: {wrong[0]!r} is not one of b, e, a, s, n")
    request.mail = tuple(_MAIL[letter] for letter in letters if letter in _MAIL)
    return None


def _file(name: str) -> Rule:
    def rule(request: Request, value: str) -> str | None:
        path = re.sub(r"^[\w.-]*:(?=[/$])", "", value).replace("%", "%%")
        path = re.sub(rf"\$({'|'.join(_PATTERNS)})", lambda match: _PATTERNS[match[1]], path)  # also in $JOB_ID_a
        if "$" in path:
            raise NoCounterpartError
        setattr(request, name, path)
        return None

    return rule


def _yes(name: str) -> Rule:
    def rule(request: Request, value: str) -> str | None:
        if value.lower() not in ("y", "yes", "n", "no"):
            raise ValueError(f"{value[:60]!r} is neither y nor n")
        setattr(request, name, value.lower().startswith("y"))
        return None

    return rule


def _account(option: str | None) -> Rule:
    def rule(request: Request, value: str) -> str | None:
        if option and request.account is not None:
            raise NoCounterpartError
        request.account, request.account_option = value, option
        return None

    return rule


def _directory(request: Request, value: str) -> str | None:
    request.workdir = value or "."
    return None


def _variables(request: Request, value: str) -> str | None:
    for item in value.split(","):
        name, found, content = item.partition("=")
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            return f"{item[:60]!r} is no variable"
        if found:
            request.environment[name] = content
        else:
            request.own += (("-v", name),)
    return None


def _all_variables(request: Request, value: str) -> str | None:
    request.copy_environment = True
    return None


def _context(request: Request, value: str) -> str | None:
    name, _, content = value.partition("=")
    if name != "comment":
        raise NoCounterpartError
    request.comment = content
    return None


RULES: dict[str, Rule | None] = {
    "-N": assign("name"),
    "-q": assign("partition"),
    "-A": _account(None),
    "-P": _account("-P"),
    "-g": _account("-g"),
    "-pe": _spread,
    "-l h_rt": assign("seconds", time_limit),
    **{f"-l {name}": _gpus(name) for name in _GPUS},
    **{f"-l {name}": assign("gpu_type") for name in _KINDS},
    **{f"-l {name}": _size for name in _SIZES},
    **{f"-l {name}": _unit(name) for name in _NODE_UNITS},
    "-l": _property,
    "-t": _tasks,
    "-tc": _at_once,
    "-hold_jid": _held,
    "-m": _mail,
    "-M": assign("mail_user"),
    "-o": _file("output"),
    "-e": _file("error"),
    "-i": _file("input"),
    "-j": _yes("joined"),
    "-r": _yes("requeue"),
    "-ar": assign("reservation"),
    "-cwd": _directory,
    "-wd": _directory,
    "-v": _variables,
    "-V": _all_variables,
    "-S": assign("shell"),
    "-ac": _context,
}

ADDING = frozenset({"-l"})  # whose later lines add to the earlier ones


def check(step: Step) -> list[Finding]:
    """Return what cannot be told of nodes, and fill in what the options mean together."""
    request, found = step.request, list[Finding]()
    if request.nodes is None and request.tasks is None and request.tasks_per_node is None and step.lines:
        request.nodes = request.tasks_per_node = 1
    if "-tc" in step.lines and "-t" not in step.lines:
        found.append(at_line(step.lines["-tc"].line, "-tc", "warning", "has no meaning without -t"))
        request.array = None
    if request.task_memory is not None and request.tasks_per_node == 1 and request.nodes == 1:
        request.memory, request.task_memory = request.task_memory * (request.cpus or 1), None  # it is counted by slot
    request.home = request.workdir is None
    request.copy_environment = bool(request.copy_environment)
    request.joined = bool(request.joined)
    return found
