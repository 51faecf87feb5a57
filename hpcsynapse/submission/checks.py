"""Everything that can be known about a job before it is queued."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from hpcsynapse.errors import CommandError, HpcSynapseError
from hpcsynapse.findings import Finding
from hpcsynapse.job import devices
from hpcsynapse.schedulers import create
from hpcsynapse.schedulers.base import Scheduler
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission import commands, containers, launchers
from hpcsynapse.submission.launchers import LAUNCHERS
from hpcsynapse.submission.program_checks import check_program
from hpcsynapse.submission.schedule_checks import check_schedule
from hpcsynapse.units import counted, parse_walltime

_NO_MODULE_COMMAND = 99
# As job scripts find it, see templates/shared.
_MODULE_LOOK = f"""
for file in "$LMOD_PKG/init/bash" "$MODULESHOME/init/bash" /etc/profile.d/{{lmod,z00_lmod,modules}}.sh; do
  type module > /dev/null 2>&1 || if [ -r "$file" ]; then . "$file"; fi
done
type module > /dev/null 2>&1 || exit {_NO_MODULE_COMMAND}
module is-avail "$1"
"""


def run_checks(spec: JobSpec, runs: Path) -> Iterator[Finding]:
    """Yield a finding for everything about a resolved description that is looked at; its job file comes later."""
    yield from _resources(spec)
    yield from _site(spec)
    yield from _surroundings(spec)
    yield from check_program(spec)
    yield from check_schedule(spec)
    yield from _launcher(spec)
    yield from _run_directory(spec, runs)


def _resources(spec: JobSpec) -> Iterator[Finding]:
    resources, queue = spec.resources, create(spec.queue.scheduler)
    size = f"{counted(resources.nodes, 'node')} x {counted(resources.gpus, 'GPU')}"
    asked = f"{size}, {counted(resources.world_size, 'rank')}"
    if not queue.one_machine or spec.launch.emulate:
        yield Finding("ok", "resources", asked)
        return
    found = devices.installed()
    if resources.nodes > 1 or resources.gpus > len(found):
        here = f"--nodes 1 --gpus {len(found)}" if found else "--nodes 1 --gpus 0 --ranks-per-node 2"
        yield Finding(
            "error",
            "resources",
            (
                f"{asked} are asked for, but this machine (scheduler {queue.name}) is one node with "
                f"{counted(len(found), 'GPU')}; use {here}, or try the whole job out here on the CPU with --emulate"
            ),
        )
    else:
        yield Finding("ok", "resources", asked)


def _site(spec: JobSpec) -> Iterator[Finding]:
    """Compare with what the site file says of the cluster."""
    for message in _beyond(spec):
        yield Finding("error", "site", f"{message} in its site file)")
    yield from _required(spec)
    yield from _idle(spec)
    if spec.resources.mem is not None and not spec.site.accept_mem:
        yield Finding("warning", "site", f"mem {spec.resources.mem} is left out: memory follows the cores here")


def _beyond(spec: JobSpec) -> Iterator[str]:
    """Yield which limits of the site a request exceeds, up to the setting that has the limit."""
    site, resources, each = spec.site, spec.resources, " on each node"
    name = site.name or "the site"
    limits = (
        ("node", "", spec.allocated_nodes, site.max_nodes, "max_nodes"),
        ("GPU", each, resources.gpus, site.gpus_per_node, "gpus_per_node"),
        ("CPU core", each, (resources.cpus or 1) * resources.local_size, site.cpus_per_node, "cpus_per_node"),
    )
    for what, where, asked, limit, key in limits:
        if limit is not None and asked > limit and not spec.launch.emulate:
            yield f"{counted(asked, what)}{where} asked for, {name} has {limit}{where} ({key}"
    if site.max_time and resources.walltime > parse_walltime(site.max_time):
        yield (
            f"time {resources.time} exceeds the limit of {name}, {site.max_time}; ask for no more, and go on with "
            "`hpcsynapse resume` (max_time"
        )


def _required(spec: JobSpec) -> Iterator[Finding]:
    """Look for the options that the site demands; a time limit has a default."""
    site = spec.site
    for name in site.required if not create(spec.queue.scheduler).one_machine else ():
        key = name.replace("-", "_")
        if not (getattr(spec.queue, key, None) or getattr(spec.resources, key, None)):
            yield Finding("error", "site", f"{site.name or 'the site'} requires --{key.replace('_', '-')}")


def _idle(spec: JobSpec) -> Iterator[Finding]:
    """Warn of waits during which the site would end the job for its idle GPUs."""
    minutes = spec.site.idle_minutes
    for name in ("start_limit", "wait_limit") if minutes and spec.resources.gpus else ():
        seconds = getattr(spec.launch, name)
        if minutes and seconds > minutes * 60:
            yield Finding("warning", "site", (
                f"launch.{name} = {seconds:g} s, but {spec.site.name or 'the site'} ends jobs whose GPUs are idle for "
                f"{minutes} minutes; use --{name.replace('_', '-')} {minutes * 60}"
            ))  # fmt: skip  # a long string


def _surroundings(spec: JobSpec) -> Iterator[Finding]:
    """Look for templates, virtual environment and environment modules, without which the job script ends at once."""
    for variable, name in create(spec.queue.scheduler).defaults.items():
        if os.environ.get(variable) and os.environ[variable] == getattr(spec.queue, name):
            yield Finding("warning", "environment", f"{name} {os.environ[variable]}, from {variable}")
    templates, venv = spec.site.template_dir, spec.launch.venv
    if templates and not Path(templates).is_dir():
        yield Finding("error", "templates", f"folder {templates} does not exist")
    if venv and not Path(spec.workdir or ".", venv, "bin", "activate").is_file():
        yield Finding("error", "venv", f"{venv} is no virtual environment: it has no bin/activate")
    yield from _image(spec)
    for module in spec.launch.modules:
        look = ["bash", "-c", _MODULE_LOOK, "bash", module]
        try:
            code = commands.run(look, timeout=20).code
        except CommandError:
            code = 1
        if code == _NO_MODULE_COMMAND:
            yield Finding("warning", "modules", (
                f"there is no command `module` here, which {module!r} needs; the job looks for it where LMOD_PKG and "
                "MODULESHOME point, and in /etc/profile.d"
            ))  # fmt: skip  # a long string
        elif code:
            yield Finding("warning", "modules", f"environment module {module!r} is not found here; the job needs it")


def _image(spec: JobSpec) -> Iterator[Finding]:
    """Look for a container's image, where it is a file or folder and not a name in a registry."""
    image = containers.image_file(spec)
    if image is None or image.exists():
        return
    if image.parent.is_dir():
        yield Finding("error", "container", f"there is no image {image}; a registry's is written docker://NAME:TAG")
    else:
        yield Finding("warning", "container", f"image {image} is not found here; the job needs it on its nodes")


def _launcher(spec: JobSpec) -> Iterator[Finding]:
    launcher = LAUNCHERS[spec.launch.launcher]
    try:
        launchers.launch_words(spec, Path("/"))
    except HpcSynapseError as error:
        yield Finding("error", "launcher", str(error))
        return
    if launcher.program and not shutil.which(launcher.program):
        bin_folder = Path(sys.executable).parent
        if spec.launch.modules or spec.launch.container or (bin_folder / launcher.program).exists():
            yield Finding("warning", "launcher", f"{launcher.program} is not on the PATH here")
        else:
            yield Finding("error", "launcher", f"{launcher.program} is not installed here; use another --launcher")
    if spec.launch.launcher == "horovodrun" and spec.resources.nodes > 1 and not spec.launch.emulate:
        yield Finding("warning", "launcher", "horovodrun reaches other nodes through ssh, which must work in the job")
    if not spec.command and spec.train.engine == "mpi" and spec.resources.world_size > 1 and not launcher.starts_mpi:
        yield Finding("error", "launcher", f"{spec.launch.launcher} starts no MPI, but the engine is mpi")
    yield Finding("ok", "launcher", f"{spec.launch.launcher}: {launcher.summary}")


def _run_directory(spec: JobSpec, runs: Path) -> Iterator[Finding]:
    existing = runs
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield Finding("error", "runs", f"{existing} cannot be written; choose another folder with --runs")
    else:
        yield Finding("ok", "runs", str(runs / (spec.name or "?")))


def check_job_file(spec: JobSpec, text: str, *, ask_queue: bool = False) -> Iterator[Finding]:
    """Yield what is wrong with a job file by its queue's rules; when asked, bash parses it and the queue judges it."""
    scheduler = create(spec.queue.scheduler)
    yield from scheduler.job_file_problems(text)
    if ask_queue:
        yield _validated(scheduler, spec, text)


def _validated(scheduler: Scheduler, spec: JobSpec, text: str) -> Finding:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="hpcsynapse-") as folder:
        script = Path(folder) / scheduler.job_file
        script.write_text(text)
        validators = [["bash", "-n", str(script)], scheduler.check_command(script)]
        for command in filter(None, validators):
            try:
                commands.run_checked(command, timeout=60)
            except CommandError as error:
                hint = scheduler.explain_refusal(str(error), spec, commands.ask)
                return Finding("error", "job file", "; ".join(filter(None, (str(error), hint))))
    return Finding("ok", "job file", f"{scheduler.name} accepts it" if validators[1] else "bash parses it")
