"""What qconf and qhost tell of a cluster, as tables of a site file."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from typing import Any

from hpcsynapse.errors import CommandError, SiteError
from hpcsynapse.schedulers.base import Ask

_VALUE = re.compile(r"<(?:resource|host)value name='(\w+)'[^>]*>([^<]*)<")
_GPUS = ("gpu", "gpus", "ngpus", "GPU")


def describe(ask: Ask, partition: str) -> tuple[dict[str, Any], list[str]]:
    """Return the tables of a site file, for a queue where one is named, and what these cannot say.

    Raises CommandError where qconf does not answer, SiteError for a queue that it does not list.
    """
    queues = ask(["qconf", "-sql"]).split()
    if partition and partition not in queues:
        raise SiteError(f"queue {partition!r}: qconf lists {', '.join(queues)}")
    complexes = {line.split()[0] for line in ask(["qconf", "-sc"]).splitlines() if line.strip() and line[0] != "#"}
    gpu = next((name for name in _GPUS if name in complexes), None)
    hosts = _hosts(ask, gpu)
    site: dict[str, Any] = {"name": "Grid Engine", "max_nodes": len(hosts)}
    if hosts:
        (cpus, gpus), _ = Counter(hosts).most_common(1)[0]
        site |= {"cpus_per_node": cpus} | ({"gpus_per_node": gpus} if gpus else {})
    if gpu and gpu != "gpu":
        site["gpu_resource"] = gpu
    said = [] if gpu else ["no resource counts GPUs here: give site.gpu_resource where nodes have some"]
    environment, more = _environment(ask, queues if not partition else [partition])
    if environment:
        site["parallel_environment"] = environment
    queue = {"scheduler": "gridengine", **({"partition": partition} if partition else {})}
    return {"site": {key: value for key, value in site.items() if value}, "queue": queue}, [*said, *more]


def _hosts(ask: Ask, gpu: str | None) -> list[tuple[int, int]]:
    """Return processors and GPUs of every host that reports."""
    found = []
    for block in ask(["qhost", "-xml", *(["-F", gpu] if gpu else [])]).split("<host ")[1:]:
        values = dict(_VALUE.findall(block))
        if values.get("num_proc", "").isdigit():
            found.append((int(values["num_proc"]), int(float(values.get(gpu or "", "0") or 0))))
    return found


def _environment(ask: Ask, queues: list[str]) -> tuple[str, list[str]]:
    """Return the pattern of environments that give every node so many slots as their names say, else what to do."""
    rules = {}
    with suppress(CommandError):
        of_queues = {word for queue in queues for word in _list(ask(["qconf", "-sq", queue]), "pe_list")}
        for name in ask(["qconf", "-spl"]).split():
            if name in of_queues:
                rules[name] = next(iter(_list(ask(["qconf", "-sp", name]), "allocation_rule")), "")
    fixed = {name: rule for name, rule in rules.items() if rule.isdigit() and rule in name}
    patterns = Counter("{slots}".join(name.rsplit(rule, 1)) for name, rule in fixed.items())
    if patterns:
        return patterns.most_common(1)[0][0], []
    listed = ", ".join(f"{name} ({rule})" for name, rule in rules.items()) or "none"
    return "", [
        f"no parallel environment names the slots that it gives every node ({listed}): give "
        "site.parallel_environment yourself"
    ]


def _list(text: str, key: str) -> list[str]:
    """Return the words behind a key, which may go on over several lines."""
    match = re.search(rf"^{key}\s+(.*)$", re.sub(r"\\\n\s*", " ", text), re.MULTILINE)
    return re.split(r"[ ,]+", match[1].strip()) if match else []
