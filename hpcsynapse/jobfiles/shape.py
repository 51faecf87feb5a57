"""The nodes of a request as queues want them that count chunks or slots, each node alike; what is not alike is lost."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hpcsynapse.jobfiles.model import Request

Lost = list[tuple[str, str]]  # fields that have no counterpart, with the reason


def even_nodes(request: Request, queue: str, lost: Lost) -> tuple[int, int] | None:
    """Return the nodes and the tasks of each; None where only tasks are asked for, wherever they may be."""
    if request.max_nodes:
        lost.append(("nodes", f"a range of nodes: {request.nodes} are taken"))
    if request.geometry and len({len(group) for group in request.geometry}) > 1:
        lost.append(("geometry", "tasks are dealt out evenly"))
    nodes = request.nodes or request.all_nodes
    tasks = sum(map(len, request.geometry)) or request.tasks
    if not nodes:
        return None if (tasks or 1) > 1 and not request.tasks_per_node else (1, request.tasks_per_node or tasks or 1)
    if request.tasks_per_node:
        return nodes, request.tasks_per_node
    if tasks and tasks % nodes and not request.geometry:
        lost.append(("tasks", f"{tasks} tasks on {nodes} nodes: {queue} gives each node the same number"))
    return nodes, -(-(tasks or nodes) // nodes)


def gpus_of_a_node(request: Request, queue: str, lost: Lost) -> int | None:
    """Return the GPUs of each node; those of several kinds are counted together."""
    if request.gpu_kinds:
        lost.append(("gpu_kinds", "several kinds of GPUs on a node: their number is kept"))
    if request.other_gres:
        lost.append(("other_gres", f"{', '.join(map(str, request.other_gres))}: {queue} has none"))
    found = request.node_gpus
    if found is None and (request.job_gpus or request.task_gpus):
        name = "job_gpus" if request.job_gpus else "task_gpus"
        lost.append((name, f"{queue} counts GPUs by node, and a number that is the same on each does not follow"))
    return found or None


def kind_of_gpu(request: Request, queue: str, lost: Lost) -> str | None:
    """Return the kind of GPU where it is one word, which nothing else in the same directive can be taken for."""
    if request.gpu_type and not re.fullmatch(r"[A-Za-z0-9_.-]+", request.gpu_type):
        lost.append(("gpu_type", f"{request.gpu_type!r} cannot be asked of {queue}"))
        return None
    return request.gpu_type


def memory_of_a_node(request: Request, tasks: int, lost: Lost) -> int | None:
    """Return the MiB of each node; all of it is to be asked for by taking whole nodes."""
    if request.memory == 0:
        if not request.exclusive:
            lost.append(("memory", "all the memory of a node comes with whole nodes: ask for those"))
        return None
    if request.memory is None and request.task_memory is not None:
        return request.task_memory * tasks
    return request.memory


def limit(request: Request, lost: Lost) -> int | None:
    """Return the seconds of the time limit; that there is none cannot be said."""
    if request.seconds == 0:
        lost.append(("seconds", "no limit is meant: the queue's own holds"))
    return request.seconds or None


def plain_features(request: Request, queue: str, lost: Lost) -> list[str]:
    """Return the properties that all nodes must have, where they are words joined by &."""
    words = [word for feature in request.features for word in feature.split("&")]
    if any(not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", word) for word in words):
        lost.append(("features", f"{' & '.join(request.features)} is more than {queue} can be asked for"))
        return []
    return words


def job_name(request: Request, allowed: str, lost: Lost) -> str | None:
    """Return the name with an underscore for every character that is not `allowed` (a class of a pattern)."""
    if request.name is None:
        return None
    name = re.sub(rf"[^{allowed}]", "_", request.name, flags=re.ASCII)
    if name != request.name.replace(" ", "_"):
        lost.append(("name", f"{request.name!r} is written {name!r}"))
    return name


def mail_letters(request: Request, letters: Mapping[str, str], queue: str, lost: Lost) -> str:
    """Return the queue's letters for the events that send mail; those that it has no letter for are lost."""
    if unknown := [event for event in request.mail if event not in (*letters.values(), "ALL")]:
        lost.append(("mail", f"{','.join(unknown)}: {queue} knows {', '.join(letters.values())}"))
    wanted = {*letters.values()} - {"NONE"} if "ALL" in request.mail else {*request.mail}
    return "".join(letter for letter, event in letters.items() if event in wanted)


def file_name(request: Request, path: str) -> str:
    """Return a file's path as seen from where the job was submitted: Slurm's are relative to the job's directory."""
    folder = request.workdir
    return path if not folder or folder == "." or path.startswith("/") else f"{folder.rstrip('/')}/{path}"
