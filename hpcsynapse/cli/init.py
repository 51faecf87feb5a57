"""`hpcsynapse init`."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hpcsynapse.errors import SiteError
from hpcsynapse.schedulers import create
from hpcsynapse.schedulers.base import Scheduler

# What a refusal of a queue says where an option is missing that it demands.
_DEMANDED = {"account": r"\b(account|project)", "qos": r"\bqos\b|quality of service"}


@click.command()
@click.option("--yes", is_flag=True, help="take what was found without asking")
@click.option("--show", is_flag=True, help="print what --yes would write, and write nothing")
@click.option("--partition", metavar="NAME", help="partition to describe and to use [the default one]")
@click.option("--account", metavar="NAME", help="account to charge")
@click.option("--qos", metavar="NAME", help="quality of service")
@click.option("--out", metavar="FILE", help="where to write [the user's site file]")
@click.option("--force", is_flag=True, help="replace an existing file")
def command(yes: bool, show: bool, out: str | None, force: bool, **options: str | None) -> None:
    """Write a site file: look for the queue here, its partitions, nodes and GPUs, and ask for the rest."""
    import tomli_w

    from hpcsynapse.files import write_atomic
    from hpcsynapse.spec.job import JobSpec
    from hpcsynapse.spec.site import default_site_path

    target = Path(out) if out else default_site_path()
    if target.is_dir():
        raise SiteError(f"{target} is a folder; name a file in it, e.g. --out {target / 'site.toml'}")
    if target.exists() and not (force or show):
        raise SiteError(f"{target} exists already; replace it with --force, or see what would be written with --show")
    tables = look({name: value for name, value in options.items() if value}, asks=not (yes or show))
    JobSpec.from_dict(tables)  # refuses what submit would refuse later
    if not show:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, tomli_w.dumps(tables))
        alone = create(tables["queue"]["scheduler"]).one_machine
        click.echo(f"wrote {target}{', for this machine alone' if alone else ''}")
        _say(_comes_before(target))
    click.echo(tomli_w.dumps(tables), nl=False)


def look(wanted: dict[str, str], asks: bool) -> dict[str, Any]:
    """Return the settings that this machine suggests, as the queue that answers here describes it.

    What somebody `wanted` ([queue] partition, account, qos) comes first; they are asked for the rest where `asks`.
    Raises SiteError for a partition that is not there, and for any of them where no queue answers.
    """
    from hpcsynapse.submission.detect import detect_scheduler, unanswered

    queue = create(detect_scheduler())
    if queue.one_machine:
        if wanted:
            raise SiteError(
                f"--{next(iter(wanted))}: no queue answers here; {'; '.join(unanswered()) or 'load its module'}"
            )
        return _this_machine(queue, unanswered(), asks)
    choices = queue.choices(_told)
    if asks and "partition" not in wanted and choices.get("partition"):
        wanted = {**wanted, "partition": _choose("partition", "Partition to use", choices, required=True)}
    tables, unsaid = queue.describe_site(_told, wanted.get("partition", ""))
    tables["queue"].update(wanted)
    if found := _module_init():
        tables["site"]["module_init"] = found
    _say(unsaid)
    if asks:
        tables = _ask(tables, choices)
    return _with_demanded(queue, tables, choices, asks)


def _told(command: Sequence[str]) -> str:
    from hpcsynapse.submission import commands

    return commands.run_checked(list(command), timeout=30).stdout


def _say(texts: Sequence[str]) -> None:
    for text in texts:
        click.echo(f"hpcsynapse: {text}", err=True)


def _comes_before(target: Path) -> list[str]:
    """Say that another site file than the one written is the one in use."""
    named = os.environ.get("HPCSYNAPSE_SITE")
    if not named or Path(named).expanduser().resolve() == target.resolve():
        return []
    return [f"HPCSYNAPSE_SITE={named} comes before this file: unset it, or name this file there"]


def _this_machine(queue: Scheduler, failed: Sequence[str], asks: bool) -> dict[str, Any]:
    """Return the tables for this machine alone, which nobody gets unawares where a queue's commands failed."""
    tables, unsaid = queue.describe_site(_told)
    advice = "make the queue's commands work here (load its module), then run hpcsynapse init --force"
    _say([*unsaid, *(f"{text}: this site file is for this machine alone; {advice}" for text in failed)])
    if failed and asks:
        click.confirm("Write a site file for this machine alone?", abort=True)
    return _ask(tables, {}) if asks else tables


def _with_demanded(
    queue: Scheduler, tables: dict[str, Any], choices: dict[str, list[str]], asks: bool
) -> dict[str, Any]:
    """Ask the queue whether it would take a small job, and add the options that it demands, or say what to give."""
    for name in (*_DEMANDED, ""):
        said = _refusal(queue, tables["queue"])
        missing = [
            one for one, words in _DEMANDED.items() if one not in tables["queue"] and re.search(words, said, re.I)
        ]
        if not missing or not name:
            break
        tables["site"]["required"] = list(dict.fromkeys([*tables["site"].get("required", ()), missing[0]]))
        known = choices.get(missing[0], [])
        if not asks and len(known) != 1:
            _say([_advice(missing[0], known, said)])
            return tables
        tables["queue"][missing[0]] = (
            _choose(missing[0], f"The queue demands: {missing[0]}", choices, True) if asks else known[0]
        )
    if said:
        _say([f"the queue would not take a small job with these settings: {said}"])
    return tables


def _advice(name: str, known: Sequence[str], said: str) -> str:
    yours = f"; yours: {', '.join(known)}" if known else ""
    return f"the queue demands --{name}: give it to hpcsynapse init or to each run{yours} (it says: {said})"


def _refusal(queue: Scheduler, options: dict[str, Any]) -> str:
    """Return what the queue says against a small job with these options; empty where it would take it."""
    from hpcsynapse.submission import commands

    given = {name: str(value) for name, value in options.items() if name in ("partition", *_DEMANDED)}
    trial = queue.trial_command(given)
    if trial is None:
        return ""
    done = commands.run(trial, timeout=30)
    return (done.stderr.strip() or done.stdout.strip() or "no message") if done.code else ""


def _choose(name: str, text: str, choices: dict[str, list[str]], required: bool = False) -> str:
    """Let a person give one setting; what is known to be there is named, the first is proposed if one is `required`."""
    known = choices.get(name, [])
    listed = f" ({', '.join(known)})" if known else ""
    default = known[0] if required and known else None if required else ""
    return str(click.prompt(text + listed, default=default, show_default=bool(default))).strip()


def _module_init() -> str | None:
    """Return the file that makes `module` known to bash, where this machine has one."""
    folders = (os.environ.get("LMOD_PKG"), os.environ.get("MODULESHOME"))
    files = [f"{folder}/init/bash" for folder in folders if folder and folder.startswith("/")]
    files += [f"/etc/profile.d/{name}.sh" for name in ("lmod", "z00_lmod", "modules")]
    return next((name for name in files if Path(name).is_file()), None)


def _ask_share(site: dict[str, Any]) -> None:
    """Ask how many of a node's cores go with each GPU; without a number they are divided by the ranks of a job."""
    gpus, cpus = site.get("gpus_per_node"), site.get("cpus_per_node")
    if isinstance(gpus, int) and isinstance(cpus, int) and gpus > 0:
        site["cpus_per_gpu"] = click.prompt(
            "CPU cores that go with each GPU", default=max(1, cpus // gpus), type=click.IntRange(1, cpus)
        )


def _ask_required(site: dict[str, Any]) -> None:
    """Ask which options the centre demands of every job, until all are options of a job."""
    from hpcsynapse.spec.site import SiteSpec

    def options(text: str) -> list[str]:
        found = text.replace(",", " ").replace("--", "").split()
        try:
            SiteSpec(required=tuple(found))
        except SiteError as error:
            raise click.BadParameter(str(error)) from None
        return found

    asked = "Options that every job must give (account, qos, time, ...)"
    if found := click.prompt(asked, default="", show_default=False, value_proc=options):
        site["required"] = found


def _ask(tables: dict[str, Any], choices: dict[str, list[str]]) -> dict[str, Any]:
    """Let a person confirm or change what was found; an empty answer leaves a setting out."""
    questions = (
        ("name", "Name of the cluster", str),
        ("max_nodes", "Nodes of the largest job", int),
        ("gpus_per_node", "GPUs of a node", int),
        ("cpus_per_node", "CPU cores of a node", int),
        ("host_suffix", "Suffix of host names on the fast network (-ib0, i)", str),
    )
    queue = create(tables["queue"]["scheduler"])
    for name, text, kind in questions:
        found = tables["site"].get(name, "")
        answer = click.prompt(text, default=found, type=kind if found != "" else str, show_default=found != "")
        if answer != "":
            tables["site"][name] = answer
        if name == "cpus_per_node":
            _ask_share(tables["site"])
    if queue.one_machine:
        return tables
    _ask_required(tables["site"])
    for name, text in (("account", "Account to charge"), ("qos", "Quality of service")):
        if name not in tables["queue"] and (answer := _choose(name, text, choices)):
            tables["queue"][name] = answer
    if shutil.which("module") is None and "launch" not in tables:
        modules = click.prompt("Environment modules to load, separated by blanks", default="", show_default=False)
        if modules.strip():
            tables["launch"] = {"modules": modules.split()}
    return tables
