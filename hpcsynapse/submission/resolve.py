"""Every `auto` of a description decided, every default of the site filled in: the one place where that happens."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcsynapse.schedulers import create
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.names import THIS_MACHINE
from hpcsynapse.submission import launchers
from hpcsynapse.submission.detect import detect_scheduler
from hpcsynapse.submission.launchers import LAUNCHERS
from hpcsynapse.usercode import store
from hpcsynapse.usercode.checks import FOLDER_ARGUMENTS, is_folder, label

_LEAD = 120  # seconds before the time limit


def has_module(name: str) -> bool:
    """Tell whether this Python could import a module, without importing it."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def choose_engine(spec: JobSpec) -> tuple[str, str]:
    """Return the engine that `auto` means here, and why."""
    if spec.resources.world_size == 1:
        return "ddp", "one rank needs none"
    if spec.served:
        return "ddp", "parameter servers speak TCP themselves; ddp averages inside a node"
    if spec.launch.launcher == "horovodrun":
        return "horovod", "horovodrun starts Horovod"
    if why := next(spec.exchange.conflicts(spec.train.strategy, "horovod"), None):
        return "ddp", why
    if spec.train.strategy == "admm":
        return "ddp", "the halves of dual nets send to one another, which Horovod does not offer"
    queue = create(spec.queue.scheduler)
    launcher = spec.launch.launcher
    if launcher != "auto" and not LAUNCHERS[launcher].starts_mpi:
        return "ddp", f"{launcher} starts torch.distributed"
    if all(LAUNCHERS[name].own_mpi for name in (queue.preferred if launcher == "auto" else (launcher,))):
        return "ddp", "MPI engines need the MPI library they were built for, which need not be that of this launcher"
    if launchers.foreign_python(spec):
        return "ddp", "what the Python of the ranks has installed is not known here"
    if not has_module("horovod"):
        return "ddp", "Horovod is not installed"
    if queue.one_machine and not shutil.which("mpirun"):
        return "ddp", "Horovod is installed but mpirun is not"
    return "horovod", "Horovod is installed"


def choose_launcher(spec: JobSpec) -> str:
    """Return the launcher that `auto` means: of those its queue prefers, the first that is here and fits.

    MPI engines need one that starts MPI. Where none is here the last is taken: a login node need not have it.
    """
    if spec.served:
        return "greasy"
    mpi = not spec.command and spec.train.engine in ("horovod", "mpi") and spec.resources.world_size > 1
    fitting = [name for name in create(spec.queue.scheduler).preferred if LAUNCHERS[name].starts_mpi or not mpi]
    return next((name for name in fitting if _is_here(LAUNCHERS[name].program)), fitting[-1])


def _is_here(program: str | None) -> bool:
    return program is None or shutil.which(program) is not None


def with_queue(spec: JobSpec) -> JobSpec:
    """Return the description with its queue decided; raises SubmitError for one that does not answer."""
    if spec.queue.scheduler != "auto":
        return spec
    return spec.with_("queue", scheduler=THIS_MACHINE if spec.launch.emulate else detect_scheduler())


def resolve(spec: JobSpec, runs: Path) -> JobSpec:
    """Return the description with every `auto` decided and every default of the site filled in."""
    spec = with_queue(spec)
    spec = _resolve_training(_from_environment(create(spec.queue.scheduler).complete(spec)))
    if spec.survive.chain_until_done and not spec.queue.signal:
        spec = spec.with_("queue", signal=_signal_before_the_end(spec))
    if spec.launch.launcher == "auto":
        spec = spec.with_("launch", launcher=choose_launcher(spec))
    if spec.resources.ranks_per_node is None:
        spec = spec.with_("resources", ranks_per_node=spec.resources.local_size)
    if spec.resources.cpus is None and (cpus := _site_cpus(spec)):
        spec = spec.with_("resources", cpus=cpus)
    spec = replace(spec, name=free_name(spec, runs), workdir=spec.workdir or str(Path.cwd()))
    if spec.site.template_dir:
        spec = spec.with_("site", template_dir=str(Path(spec.site.template_dir).expanduser().resolve()))
    changed = _absolute_paths(spec)
    return spec.with_("train", **changed) if changed else spec


def _signal_before_the_end(spec: JobSpec) -> str:
    """Return `--signal` for a run that goes on in another job: two minutes before the end, of short jobs a quarter."""
    lead = min(_LEAD, int(spec.resources.walltime.total_seconds()) // 4)
    ending = create(spec.queue.scheduler).end_signals
    return f"{next(name for name in ('USR1', 'USR2', 'HUP') if name not in ending)}@{lead}"


def _absolute_paths(spec: JobSpec) -> dict[str, Any]:
    """Return the settings of training that name folders, as absolute paths; entries of the store become theirs."""
    train, base = spec.train, spec.workdir or "."
    changed: dict[str, Any] = {}
    if is_folder(train.model):
        changed["model"] = store.locate(train.model, "model", base)
    if train.data_path:
        changed["data_path"] = store.locate(train.data_path, "dataset", base)
    if is_folder(train.data):
        changed["data"] = store.locate(train.data, "loader", base)
        kinds = dict(zip(FOLDER_ARGUMENTS, ("dataset", "loader"), strict=True))
        named = {name: value for name, value in train.data_args.items() if name in kinds and isinstance(value, str)}
        located = {name: store.locate(value, kinds[name], base) for name, value in named.items()}
        changed["data_args"] = {**train.data_args, **located}
    return changed


def _from_environment(spec: JobSpec) -> JobSpec:
    """Return the description with what the user's environment tells the queue, where nothing else says it."""
    for variable, name in create(spec.queue.scheduler).defaults.items():
        if os.environ.get(variable) and getattr(spec.queue, name) is None:
            spec = spec.with_("queue", **{name: os.environ[variable]})
    return spec


def _resolve_training(spec: JobSpec) -> JobSpec:
    if spec.command:
        return spec
    train, world = spec.train, spec.resources.world_size
    if train.strategy == "auto":
        spec = spec.with_("train", strategy="single" if world == 1 else "allreduce")
    if train.engine == "auto":
        spec = spec.with_("train", engine=choose_engine(spec)[0])
    if train.sharding == "auto":
        spec = spec.with_("train", sharding="contiguous" if train.data == "npy" else "strided")
    return spec


def _site_cpus(spec: JobSpec) -> int | None:
    """Return a rank's share of the node: the site's cores per GPU, or the node's cores by ranks."""
    site, resources = spec.site, spec.resources
    if site.cpus_per_gpu and resources.gpus:
        return max(1, site.cpus_per_gpu * resources.gpus // resources.local_size)
    if site.cpus_per_node and (resources.exclusive or resources.gpus == site.gpus_per_node):
        return max(1, site.cpus_per_node // resources.local_size)
    return None


def free_name(spec: JobSpec, runs: Path) -> str:
    """Return the name asked for, or a telling one; numbered when a run of that name exists."""
    resources = spec.resources
    what = Path(spec.command[0]).name if spec.command else label(spec.train.model).replace(":", "-")
    what = "".join(character if character.isalnum() or character in "._-" else "-" for character in what)
    what = what.encode("ascii", "ignore").decode().lstrip("._-")[:30] or "run"
    base = spec.name or f"{what}-{resources.nodes}x{resources.local_size}-{time.strftime('%Y%m%d-%H%M%S')}"
    name, number = base, 1
    while (runs / name).exists():
        number += 1
        name = f"{base[:56]}-{number}"
    return name
