"""Everything that can be known about a job before it is queued."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse import devices, launchers, process, render, usercode_checks
from hpcsynapse.errors import CheckError, CommandError, HpcSynapseError
from hpcsynapse.jobfiles import reader
from hpcsynapse.launchers import LAUNCHERS
from hpcsynapse.schedulers import create
from hpcsynapse.spec import JobSpec
from hpcsynapse.units import parse_walltime
from hpcsynapse.usercode_checks import is_folder

_ENGINE_MODULES = {"ddp": "torch", "horovod": "horovod", "mpi": "mpi4py"}
_FILE_DATA = ("cifar10", "mnist", "npy")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `level` is ok, warning or error."""

    level: str
    subject: str
    message: str


def require(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, or raise CheckError with every error among them."""
    found = list(findings)
    errors = [finding for finding in found if finding.level == "error"]
    if errors:
        raise CheckError("\n".join(f"{finding.subject}: {finding.message}" for finding in errors))
    return found


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
    if spec.launch.launcher in ("torchrun", "greasy", "local"):
        return "ddp", f"{spec.launch.launcher} starts torch.distributed"
    if spec.launch.launcher in ("mpiexec", "poe") or (spec.launch.launcher, spec.queue.scheduler) == (
        "auto",
        "loadleveler",
    ):
        return "ddp", "MPI engines need the MPI library they were built for, which need not be that of this launcher"
    if launchers.foreign_python(spec):
        return "ddp", "what the Python of the ranks has installed is not known here"
    if not has_module("horovod"):
        return "ddp", "Horovod is not installed"
    if spec.queue.scheduler == "local" and not shutil.which("mpirun"):
        return "ddp", "Horovod is installed but mpirun is not"
    return "horovod", "Horovod is installed"


def run_checks(spec: JobSpec, runs: Path, *, ask_queue: bool = False) -> Iterator[Finding]:
    """Yield a finding for everything that is looked at; `ask_queue` also validates the job file with the queue."""
    yield from _resources(spec)
    yield from _site(spec)
    yield from _surroundings(spec)
    yield from _program(spec)
    yield from _launcher(spec)
    yield from _run_directory(spec, runs)
    yield from _job_file(spec, runs, ask_queue)


def _resources(spec: JobSpec) -> Iterator[Finding]:
    resources, name = spec.resources, spec.queue.scheduler
    asked = f"{resources.nodes} nodes x {resources.gpus} GPUs, {resources.world_size} ranks"
    if name != "local" or spec.launch.emulate:
        yield Finding("ok", "resources", asked)
        return
    found = devices.installed()
    if resources.nodes > 1 or resources.gpus > len(found):
        here = f"--nodes 1 --gpus {len(found)}" if found else "--nodes 1 --gpus 0 --ranks-per-node 2"
        yield Finding("error", "resources", (
            f"{asked} are asked for, but this machine (scheduler local) is one node with {len(found)} GPUs; "
            f"use {here}, or try the whole job out here on the CPU with --emulate"
        ))  # fmt: skip
    else:
        yield Finding("ok", "resources", asked)


def _site(spec: JobSpec) -> Iterator[Finding]:
    site, resources = spec.site, spec.resources
    limits = (
        ("nodes", spec.allocated_nodes, site.max_nodes), ("GPUs a node", resources.gpus, site.gpus_per_node),
        ("CPU cores a node", (resources.cpus or 1) * resources.local_size, site.cpus_per_node),
    )  # fmt: skip
    for what, asked, limit in limits:
        if limit is not None and asked > limit and not spec.launch.emulate:
            yield Finding("error", "site", f"{asked} {what} are asked for, {site.name or 'the site'} has {limit}")
    if site.max_time and resources.walltime > parse_walltime(site.max_time):
        yield Finding("error", "site", f"time {resources.time} exceeds the site's limit {site.max_time}")
    for name in site.required:
        if name != "time" and spec.queue.scheduler != "local" and not getattr(spec.queue, name, None):
            yield Finding("error", "site", f"{site.name or 'the site'} requires --{name.replace('_', '-')}")
    if resources.mem is not None and not site.accept_mem:
        yield Finding("warning", "site", f"mem {resources.mem} is left out: memory follows the cores here")


def _surroundings(spec: JobSpec) -> Iterator[Finding]:
    """Look for templates, virtual environment and environment modules, without which the job script ends at once."""
    templates, venv = spec.site.template_dir, spec.launch.venv
    if templates and not Path(templates).is_dir():
        yield Finding("error", "templates", f"folder {templates} does not exist")
    if venv and not Path(spec.workdir or ".", venv, "bin", "activate").is_file():
        yield Finding("error", "venv", f"{venv} is no virtual environment: it has no bin/activate")
    for module in spec.launch.modules:
        look = ["bash", "-c", 'type module && module is-avail "$1"', "bash", module]
        try:
            found = process.run(look, timeout=20).code == 0
        except CommandError:
            found = False
        if not found:
            yield Finding("warning", "modules", f"environment module {module!r} is not found here; the job needs it")


def _program(spec: JobSpec) -> Iterator[Finding]:
    if spec.command:
        yield from _command(spec)
        return
    train = spec.train
    yield from _targets(spec)
    yield from _halves(spec)
    yield from _data(spec)
    module = _ENGINE_MODULES[train.engine]
    if launchers.foreign_python(spec):
        yield Finding("warning", "engine", f"{train.engine}: cannot be looked for in another Python or container")
    elif not has_module("torch") or (spec.resources.world_size > 1 and not has_module(module)):
        missing = module if has_module("torch") else "torch"
        extra = {"torch": "train", "mpi4py": "mpi"}.get(missing, missing)
        yield Finding("error", "engine", f"{train.engine} needs {missing}; install hpcsynapse[{extra}]")
    else:
        yield Finding("ok", "engine", f"{train.engine}, strategy {train.strategy}")
        if spec.resources.gpus and not spec.launch.emulate and _torch_is_for_cpus():
            asked = f"{spec.resources.gpus} GPUs a node are asked for"
            yield Finding("warning", "engine", f"{asked}, but torch here is a CPU build: it would leave them idle")


def _targets(spec: JobSpec) -> Iterator[Finding]:
    """Look for model and data: a user's folder, a user's module, or a name of ours; no user's code is run."""
    foreign, known = launchers.foreign_python(spec), _known_names()
    val_loader = spec.train.data_args.get("val_loader") if is_folder(spec.train.data) else None
    for what, target in (("model", spec.train.model), ("data", spec.train.data), ("data", val_loader)):
        if target is None:
            continue
        module = str(target).partition(":")[0]
        if is_folder(str(target)) or target is val_loader:
            for problem in usercode_checks.problems(Path(str(target)), "model" if what == "model" else "loader"):
                yield Finding("warning" if foreign else "error", what, problem)
        elif ":" in target:
            if not foreign and not _module_source(spec, module):
                yield Finding("error", what, f"module {module!r} of {target!r} is not found")
        elif target not in known[what]:
            names = ", ".join(sorted(known[what]))
            yield Finding("error", what, f"{target!r} is not known; there are {names}, "
                                         "or package.module:attribute, a folder, or store:NAME")  # fmt: skip


def _torch_is_for_cpus() -> bool:
    """Read from torch's own version file, without importing it, whether it was built without CUDA and ROCm."""
    found = importlib.util.find_spec("torch")
    if found is None or not found.origin:
        return False
    try:
        text = Path(found.origin).with_name("version.py").read_text()
    except OSError:
        return False
    return all(re.search(rf"^{name}\b.*= None$", text, re.MULTILINE) for name in ("cuda", "hip"))


def _halves(spec: JobSpec) -> Iterator[Finding]:
    """Tell whether a model of ours can be cut in two; of a user's own only the trainer can see it."""
    from hpcsynapse.trainer.catalog import MODELS, SEQUENTIAL

    model = spec.train.model
    if spec.train.strategy == "admm" and model in MODELS and model not in SEQUENTIAL:
        yield Finding("error", "model", (
            f"strategy admm cuts a torch.nn.Sequential in two, and {model} is none; use --model "
            f"{' or '.join(SEQUENTIAL)}, or package.module:attribute of your own"
        ))  # fmt: skip


def _known_names() -> dict[str, frozenset[str]]:
    """Return the built-in names, from tables that import nothing heavy."""
    from hpcsynapse.trainer.catalog import DATA, MODELS

    return {"model": frozenset(MODELS), "data": frozenset(DATA)}


def _module_source(spec: JobSpec, module: str) -> bool:
    """Tell whether a user's module lies in the working directory or is installed; nothing is executed."""
    top = module.partition(".")[0]
    relative = Path(spec.workdir or ".", *module.split("."))
    return relative.with_suffix(".py").is_file() or (relative / "__init__.py").is_file() or has_module(top)


def _data(spec: JobSpec) -> Iterator[Finding]:
    train = spec.train
    val_path = train.data_args.get("val_path") if is_folder(train.data) else None
    for path in filter(None, (train.data_path, val_path)):
        if not Path(str(path)).is_dir():
            yield Finding("error", "data", f"folder {path} does not exist")
    if train.data in _FILE_DATA and not train.data_path:
        yield Finding("error", "data", f"{train.data} is read from files; say where with --data-path FOLDER")
    if spec.resources.cpus is not None and train.data_workers >= spec.resources.cpus:
        yield Finding("warning", "data", (
            f"{train.data_workers} processes prepare batches beside the rank itself, on --cpus {spec.resources.cpus}: "
            "they will wait for one another"
        ))  # fmt: skip


def _command(spec: JobSpec) -> Iterator[Finding]:
    """Look for the user's program and, behind an interpreter, for the script."""
    program, *arguments = spec.command
    there = bool(shutil.which(program, path=_job_path(spec))) or Path(spec.workdir or ".", program).is_file()
    if "/" in program:
        there = os.access(Path(spec.workdir or ".", program), os.X_OK)
    if not there and (spec.launch.container or spec.launch.modules or spec.launch.conda):
        yield Finding("warning", "command", f"{program!r} is not found here; it may be there in the job")
    elif not there:
        yield Finding("error", "command", f"program {program!r} is not found or not executable")
    script = next((word for word in arguments if not word.startswith("-")), None)
    if not Path(program).name.startswith(("python", "bash", "sh")) or not script or {"-c", "-m"} & set(arguments):
        return
    path = Path(spec.workdir or ".", script)
    if not path.is_file():
        yield Finding("error", "command", f"script {script!r} does not exist in {spec.workdir}")
    elif path.suffix == ".py":
        yield from _script(spec, path)


def _job_path(spec: JobSpec) -> str:
    bin_folder = f"{spec.launch.venv}/bin:" if spec.launch.venv else ""
    return bin_folder + os.environ.get("PATH", "")


def _script(spec: JobSpec, path: Path) -> Iterator[Finding]:
    """Compile a Python script without running it, and look for a known trap."""
    text = path.read_text(errors="replace")
    try:
        compile(text, str(path), "exec")
    except (SyntaxError, ValueError) as error:
        yield Finding("error", "command", f"{path}: {error}")
        return
    if "LOCAL_RANK" in text and "set_device" in text and spec.launch.pin == "visible" and spec.resources.gpus > 1:
        yield Finding("warning", "pin", (
            f"{path.name} seems to choose a device by LOCAL_RANK, but with --pin visible a rank sees only one, "
            "as device 0; submit with --pin local-rank"
        ))  # fmt: skip


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


def _job_file(spec: JobSpec, runs: Path, ask_queue: bool) -> Iterator[Finding]:
    """Render the job file, let bash parse it, and, when asked, the queue."""
    import tempfile

    try:
        text = render.render(spec, runs / (spec.name or "run"))
    except HpcSynapseError as error:
        yield Finding("error", "job file", str(error))
        return
    if not ask_queue:
        return
    scheduler = create(spec.queue.scheduler)
    with tempfile.TemporaryDirectory(prefix="hpcsynapse-") as folder:
        script = Path(folder) / scheduler.job_file
        script.write_text(text)
        if scheduler.name in ("loadleveler", "minotauro"):  # their commands cannot validate a file
            for complaint in reader.read(text.encode(), scheduler.name).errors:
                yield Finding("error", "job file", str(complaint))
        commands = [["bash", "-n", str(script)], scheduler.check_command(script)]
        for command in filter(None, commands):
            try:
                process.run_checked(command, timeout=60)
            except CommandError as error:
                yield Finding("error", "job file", str(error))
                return
    yield Finding("ok", "job file", f"{scheduler.name} accepts it" if commands[1] else "bash parses it")
