"""How ranks are started, pinned to devices, and what surrounds them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.fields import at_least, setting, word
from hpcsynapse.spec.names import LAUNCHERS, owned

# Variables that belong to the launcher, as others do to the queue, and would misplace ranks; and the job script's own.
_RESERVED = re.compile(
    r"(PMIX?|OMPI_COMM|HPCSYNAPSE)_.*|MP_CHILD|MP_PROCS|MPI_LOCALRANKID|"
    r"RANK|LOCAL_RANK|WORLD_SIZE|CUDA_VISIBLE_DEVICES|"
    r"hpcs_.*|IFS|SECONDS|EPOCHREALTIME|BASHOPTS|SHELLOPTS|BASHPID|PPID|UID|EUID"
)
_SECRET = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)
# Lines after which `module load` finds other modules (module(1)).
_MODULE_PATH = re.compile(r"\s*((module|ml)\s+(use|unuse)\b|export\s+MODULEPATH=|MODULEPATH=)")


def looks_secret(name: str) -> bool:
    """Tell whether a variable of this name holds what nobody but its user should read."""
    return _SECRET.search(name) is not None


def _check_env(name: str, key: str) -> None:
    fields.env_name(name, key)
    if owned(key) or _RESERVED.fullmatch(key):
        raise SpecError(f"{name}: {key} belongs to the queue, the launcher or the job script and cannot be given")


def _check_argument(name: str, value: str) -> None:
    if value.startswith("-"):
        raise SpecError(f"{name}: {value!r} begins with a dash and would be read as an option")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOptions:
    """How ranks are started, pinned to devices, and what surrounds them."""

    launcher: str = setting("auto", "what starts the ranks", choices=LAUNCHERS)
    launcher_args: tuple[str, ...] = setting(
        (),
        "argument for the launcher's own command, --launcher-arg=-v (repeatable; not for local, greasy, torchrun)",
        option="launcher-arg",
    )
    pin: str = setting(
        "auto",
        "visible: a rank sees its own device; local-rank: sees all of its node, uses its own; none: as the queue "
        "leaves it [visible; local-rank for your own program]",
        choices=("auto", "visible", "local-rank", "none"),
    )
    share_devices: bool = setting(False, "allow several ranks on one device or core")
    emulate: bool = setting(False, "run all ranks of a larger request here on the CPU (scheduler local)")
    record: str = setting(
        "auto",
        "auto: the steps of your own program are recorded though it knows nothing of it (PyTorch); off: they are not",
        choices=("auto", "off"),
    )
    samples_per_step: int | None = setting(
        None, "samples of a rank's step, where your own program has no DataLoader [seen]", check=at_least(1, 10**9)
    )
    set_device: bool = setting(True, "a rank that sees several devices begins with its own, until it chooses another")
    same_device: str = setting(
        "warn",
        "ranks of your own program that make their steps on one device without --share-devices: warn; end the run",
        choices=("warn", "end"),
    )
    modules: tuple[str, ...] = setting((), "environment module to load (repeatable)", check=word, option="module")
    venv: str | None = setting(None, "virtual environment to activate", check=_check_argument)
    conda: str | None = setting(None, "conda environment to activate", check=_check_argument)
    env: dict[str, str] = setting({}, "KEY=VALUE for the job's environment (repeatable)", check=_check_env)
    prelude: tuple[str, ...] = setting(
        (), "shell line before the ranks start; `module use` comes before the modules (repeatable)"
    )
    container: str | None = setting(None, "container image", check=_check_argument)
    container_runtime: str = setting("apptainer", "how it is run", choices=("apptainer", "singularity", "pyxis"))
    container_mounts: tuple[str, ...] = setting(
        (), "host:container folder to mount (repeatable)", option="container-mount", check=_check_argument
    )
    python: str | None = setting(
        None, "Python on the compute nodes [this one; python3 with venv, conda or container]", check=_check_argument
    )
    threads: int | None = setting(None, "threads of each rank [its CPUs, else 1]", check=at_least(1, 1024))
    start_limit: float = setting(300.0, "seconds within which all ranks must have started", check=at_least(1, 86400))
    wait_limit: float = setting(
        300.0, "seconds without progress after which a rank ends the job", check=at_least(1, 86400)
    )

    @property
    def has_secrets(self) -> bool:
        """Whether what is written of these options is for their user alone: a variable looks like a secret."""
        return any(map(looks_secret, self.env))

    def __post_init__(self) -> None:
        fields.validate("launch", self)
        if self.venv and self.conda:
            raise SpecError(f"launch.venv = {self.venv!r} and launch.conda = {self.conda!r} exclude one another")
        if self.container_mounts and not self.container:
            raise SpecError("launch.container_mounts is given but launch.container is not")

    @property
    def module_paths(self) -> tuple[str, ...]:
        """Lines of the prelude that say where modules are looked for: they come before `module load`."""
        return tuple(line for line in self.prelude if _MODULE_PATH.match(line))
