"""`hpcsynapse init`."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import click

from hpcsynapse.errors import CommandError, SiteError

_GPU = re.compile(r"gpu:(?:(?P<type>[A-Za-z][\w.-]*):)?(?P<count>\d+)")


@click.command()
@click.option("--yes", is_flag=True, help="take what was found without asking")
@click.option("--out", metavar="FILE", help="where to write [the user's site file]")
@click.option("--force", is_flag=True, help="replace an existing file")
def command(yes: bool, out: str | None, force: bool) -> None:
    """Write a site file: look for Slurm, its partitions, nodes and GPUs, and ask for the rest."""
    import tomli_w

    from hpcsynapse.rundir import write_atomic
    from hpcsynapse.site import default_site_path
    from hpcsynapse.spec import JobSpec

    target = Path(out) if out else default_site_path()
    if target.exists() and not force:
        raise SiteError(f"{target} exists already; replace it with --force")
    tables = look()
    if not yes:
        tables = _ask(tables)
    JobSpec.from_dict(tables)  # refuses what submit would refuse later
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, tomli_w.dumps(tables))
    click.echo(f"wrote {target}")
    click.echo(target.read_text(), nl=False)


def look() -> dict[str, Any]:
    """Return the settings that this machine suggests: from sinfo where Slurm answers, else from the machine itself."""
    from hpcsynapse import devices, submission
    from hpcsynapse.settings import read_toml
    from hpcsynapse.site import shipped_sites

    found = submission.detect_scheduler()
    if found == "slurm":
        return _look_at_slurm()
    if found == "loadleveler":
        return read_toml(shipped_sites()["generic-loadleveler"])
    if found == "minotauro":
        return {"site": {"name": "BSC", "accept_mem": False}, "queue": {"scheduler": "minotauro"}}
    import os

    site: dict[str, Any] = {"name": "this machine", "max_nodes": 1, "cpus_per_node": os.cpu_count() or 1}
    site["gpus_per_node"] = len(devices.installed())
    return {"site": site, "queue": {"scheduler": "local"}}


def _look_at_slurm() -> dict[str, Any]:
    """Read the default partition's nodes: the commonest cores and GPUs, their number, and the time limit."""
    from hpcsynapse import process

    done = process.run_checked(["sinfo", "--noheader", "--Node", "--format=%P|%c|%G|%l|%N"], timeout=30)
    rows = [line.split("|") for line in done.stdout.splitlines() if line.count("|") == 4]
    if not rows:
        raise CommandError("sinfo lists no nodes", command=["sinfo"], stdout=done.stdout)
    defaults = [row for row in rows if row[0].strip().endswith("*")] or rows
    partition = defaults[0][0].strip()
    mine = [row for row in rows if row[0].strip() == partition]
    site: dict[str, Any] = {
        "name": _cluster_name(), "max_nodes": len({row[4] for row in mine}),
        "cpus_per_node": int(Counter(row[1].strip().rstrip("+") for row in mine).most_common(1)[0][0]),
    }  # fmt: skip
    gpu = _GPU.search(Counter(row[2].strip() for row in mine).most_common(1)[0][0])
    site["gpus_per_node"] = int(gpu["count"]) if gpu else 0
    limit = mine[0][3].strip()
    if limit not in ("infinite", "n/a"):
        site["max_time"] = limit if limit.count(":") == 2 else f"00:{limit}"
    queue = {"scheduler": "slurm", "partition": partition.rstrip("*")}
    return {"site": site, "queue": queue}


def _cluster_name() -> str:
    from hpcsynapse import process

    try:
        done = process.run(["scontrol", "show", "config"], timeout=30)
    except CommandError:
        return "slurm"
    match = re.search(r"^ClusterName\s*=\s*(\S+)", done.stdout, re.MULTILINE)
    return match[1] if match else "slurm"


def _ask(tables: dict[str, Any]) -> dict[str, Any]:
    """Let a person confirm or change what was found; an empty answer leaves a setting out."""
    questions = (
        ("site", "name", "Name of the cluster", str), ("site", "max_nodes", "Nodes of the largest job", int),
        ("site", "gpus_per_node", "GPUs of a node", int), ("site", "cpus_per_node", "CPU cores of a node", int),
        ("queue", "partition", "Partition to use", str), ("queue", "account", "Account to charge", str),
        ("queue", "qos", "Quality of service", str),
        ("site", "host_suffix", "Suffix of host names on the fast network (-ib0, i)", str),
    )  # fmt: skip
    for section, name, text, kind in questions:
        if tables["queue"].get("scheduler") == "local" and section == "queue":
            continue
        found = tables[section].get(name, "")
        answer = click.prompt(text, default=found, type=kind if found != "" else str, show_default=found != "")
        if answer != "":
            tables[section][name] = answer
    if shutil.which("module") is None and tables["queue"].get("scheduler") == "slurm":
        modules = click.prompt("Environment modules to load, separated by blanks", default="", show_default=False)
        if modules.strip():
            tables["launch"] = {"modules": modules.split()}
    return tables
