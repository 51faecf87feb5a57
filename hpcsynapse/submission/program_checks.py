"""Whether the program of the ranks, its model and its data can be there when the job starts."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from hpcsynapse.findings import Finding
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission import launchers
from hpcsynapse.submission.nested_launchers import nested_launcher
from hpcsynapse.submission.resolve import has_module
from hpcsynapse.submission.unstartable import beginning, is_job_file, mistaken_program
from hpcsynapse.units import counted
from hpcsynapse.usercode import checks as usercode_checks
from hpcsynapse.usercode.checks import is_folder

_ENGINE_MODULES = {"ddp": "torch", "horovod": "horovod", "mpi": "mpi4py"}
_DOS_LINE_ENDS = "has DOS line ends, which neither the kernel nor a shell takes; mend it with: sed -i 's/\\r$//' FILE"
# How scripts name their device by local rank: torch, Horovod, Jean Zay's idr_torch, srun, DDP's device_ids.
_LOCAL_DEVICE = re.compile(
    r"(set_device|device_ids|visible_devices|cuda:|gpus\[).*?(local_?rank|_LOCALID)|"
    r"(local_?rank|_LOCALID).*?(set_device|device_ids|cuda:)|"
    r"\bcuda\b[^\n]{0,60}rank(\(\))?\s*%\s*[0-9]|COMM_TYPE_SHARED.*?set_device|set_device.*?COMM_TYPE_SHARED",
    re.IGNORECASE | re.DOTALL,
)
_FILE_DATA = ("cifar10", "mnist", "npy", "images", "shards", "hdf5", "tokens")


def check_program(spec: JobSpec) -> Iterator[Finding]:
    """Look for what the ranks run: the user's command, or model, data and engine of the built-in trainer."""
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
        wanted = spec.resources.gpus and train.device != "cpu" and not spec.launch.emulate
        if wanted and _torch_is_for_cpus():
            yield Finding("error", "engine", (
                f"{counted(spec.resources.gpus, 'GPU')} on each node asked for, but torch here is a build for CPUs and "
                "would leave them idle; install one for CUDA, name its Python with --python, or say --device cpu"
            ))  # fmt: skip  # a long string


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
            yield Finding(
                "error",
                what,
                f"{target!r} is not known; there are {names}, or package.module:attribute, a folder, or store:NAME",
            )


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
        yield Finding(
            "error",
            "model",
            (
                f"strategy admm cuts a torch.nn.Sequential in two, and {model} is none; use --model "
                f"{' or '.join(SEQUENTIAL)}, or package.module:attribute of your own"
            ),
        )


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
        ))  # fmt: skip  # a long string


def _command(spec: JobSpec) -> Iterator[Finding]:
    """Look for the user's program and, behind an interpreter, for the script."""
    if mistaken := [*mistaken_program(spec), *nested_launcher(spec)]:
        yield from mistaken
        return
    program, *arguments = spec.command
    there = bool(shutil.which(program, path=_job_path(spec))) or Path(spec.workdir or ".", program).is_file()
    if "/" in program:
        there = os.access(Path(spec.workdir or ".", program), os.X_OK)
    if not there and (spec.launch.container or spec.launch.modules or spec.launch.conda):
        yield Finding("warning", "command", f"{program!r} is not found here; it may be there in the job")
    elif not there:
        yield Finding("error", "command", f"program {program!r} is not found or not executable")
    elif "/" in program:
        yield from _first_line(spec, program)
    script = next((word for word in arguments if not word.startswith("-")), None)
    if not Path(program).name.startswith(("python", "bash", "sh")) or not script or {"-c", "-m"} & set(arguments):
        return
    path = Path(spec.workdir or ".", script)
    if not path.is_file():
        yield Finding("error", "command", f"script {script!r} does not exist in {spec.workdir}")
    elif path.suffix == ".py":
        yield from _script(spec, path)
    elif not Path(program).name.startswith("python"):
        yield from _shell_script(script, beginning(path))


def _shell_script(script: str, text: bytes) -> Iterator[Finding]:
    if b"\r\n" in text:
        yield Finding("error", "command", f"{script}: {_DOS_LINE_ENDS}")
    if is_job_file(text):
        message = f"every rank runs {script}, whose lines to the queue are ignored; ask for nodes and so on by options"
        yield Finding("warning", "command", message)


def _first_line(spec: JobSpec, program: str) -> Iterator[Finding]:
    """Tell why the kernel cannot start a script by its first line, which names an interpreter (execve(2))."""
    line = beginning(Path(spec.workdir or ".", program)).partition(b"\n")[0]
    if line.startswith(b"\xef\xbb\xbf#!"):
        yield Finding("error", "command", f"{program}: begins with a byte order mark, which hides its #! line")
    elif line.startswith(b"#!") and line.endswith(b"\r"):
        yield Finding("error", "command", f"{program}: {_DOS_LINE_ENDS}")
    elif line.startswith(b"#!") and not spec.launch.container:
        interpreter = os.fsdecode((line[2:].split() or [b""])[0])
        if interpreter.startswith("/") and not Path(interpreter).exists():
            yield Finding("warning", "command", f"{program}: its interpreter {interpreter} does not exist here")


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
    if _LOCAL_DEVICE.search(text) and spec.pins_one_device and spec.resources.local_size > 1 < spec.resources.gpus:
        yield Finding(
            "warning",
            "pin",
            (
                f"{path.name} seems to choose a device by its local rank, but with --pin visible a rank sees only one, "
                "as device 0; submit with --pin local-rank"
            ),
        )
