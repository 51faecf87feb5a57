"""What is particular to one cluster: limits, dialect and defaults, kept in a TOML file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse import fields
from hpcsynapse.errors import SiteError, SpecError
from hpcsynapse.fields import at_least, setting, word
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.units import parse_walltime


def _check_required(name: str, value: str) -> None:
    options = [*fields.hints(QueueOptions), *fields.hints(ResourceRequest)]
    if value.replace("-", "_") not in options:
        raise SiteError(f"{name}: {value!r} is no option of a job{fields.nearest(value, options)}")


def _check_letter(name: str, value: str) -> None:
    if len(value) != 1 or not (value.isascii() and value.isalpha()):
        raise SpecError(f"{name} = {value!r} is not one letter")


def _check_environment(name: str, value: str) -> None:
    word(name, value.replace("{slots}", "1"))


def _check_path(name: str, value: str) -> None:
    if not value.startswith("/") or "," in value:
        raise SiteError(f"{name}: {value!r} must be an absolute path without commas")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSpec:
    """Facts of a cluster that no job description should have to repeat."""

    name: str = setting("", "name of the cluster")
    max_nodes: int | None = setting(None, "nodes of the largest job", check=at_least(1))
    gpus_per_node: int | None = setting(None, "GPUs of a node", check=at_least(0, 64))
    cpus_per_node: int | None = setting(None, "CPU cores of a node", check=at_least(1, 4096))
    cpus_per_gpu: int | None = setting(None, "CPU cores that belong to a GPU", check=at_least(1, 1024))
    max_time: str | None = setting(None, "longest time limit")
    gpu_request: str = setting(
        "gpus-per-node",
        "directive that asks for GPUs; none: the queue counts none, ranks use those of their nodes",
        choices=("gpus-per-node", "gres", "none"),
    )
    gpu_vendor: str = setting("nvidia", "maker of the GPUs, for containers", choices=("nvidia", "amd"))
    idle_minutes: int | None = setting(
        None, "minutes after which the site ends jobs whose GPUs are idle", check=at_least(1, 100_000)
    )
    accept_mem: bool = setting(True, "whether the queue takes a memory request")
    required: tuple[str, ...] = setting((), "options that a job must give (account, qos, ...)", check=_check_required)
    clusters: str | None = setting(None, "clusters of a federation that may take the job", check=word)
    export: str = setting("all", "what the job gets of the login shell's environment", choices=("all", "none"))
    module_init: str | None = setting(
        None, "file to source before `module`, e.g. /etc/profile.d/modules.sh", check=_check_path
    )
    container_binds: tuple[str, ...] = setting((), "folders mounted in every container", check=_check_path)
    network: str | None = setting(
        None, "keyword network.MPI, where a queue has it, e.g. sn_all,not_shared,us", check=word
    )
    gpu_feature: str | None = setting(None, "feature that nodes with GPUs have, for queues that count none", check=word)
    parallel_environment: str | None = setting(
        None,
        "environment that gives every node the same slots, for queues that have those; {slots} stands for their number",
        check=_check_environment,
    )
    node_unit: str | None = setting(
        None, "resource that stands for a whole node, where one is asked for instead of slots, e.g. rt_F", check=word
    )
    gpu_resource: str | None = setting(
        None, "name of the resource that counts GPUs, where sites name it [gpu, ngpus]", check=word
    )
    gpu_per: str = setting("node", "what the count of GPUs is for", choices=("node", "slot"))
    gpu_type_resource: str | None = setting(
        None, "name of the resource that tells the kind of GPU, where sites name it [gpu_type]", check=word
    )
    memory_resource: str | None = setting(None, "name of the resource that is memory, where sites name it", check=word)
    counted_per: str = setting(
        "node", "what resources are asked for, where a site counts them for the whole job", choices=("node", "job")
    )
    memory_per: str = setting("node", "what a request for memory is for, where sites differ", choices=("node", "slot"))
    account_option: str | None = setting(
        None, "letter of the option that names the account, where sites differ: A, P, G or g", check=_check_letter
    )
    host_suffix: str = setting("", "appended to a host's name for the fast network, e.g. -ib0")
    interface: str | None = setting(
        None, "network interface that ranks use between nodes, e.g. ib0 [the one that leads there]", check=word
    )
    share: str = setting(
        "private", "who may look into run directories, besides their owner", choices=("private", "group", "all")
    )
    port_base: int = setting(20000, "first port for rendezvous", check=at_least(1024, 60000))
    port_range: int = setting(10000, "number of ports from there", check=at_least(64, 64000))
    srun_mpi: str | None = setting(None, "srun --mpi=... [pmix for MPI engines, else the site's default]", check=word)
    template_dir: str | None = setting(None, "folder with templates that come before the built-in ones")

    def __post_init__(self) -> None:
        fields.validate("site", self)
        if self.max_time is not None:
            parse_walltime(self.max_time)
        if self.host_suffix:
            word(
                "site.host_suffix", self.host_suffix.lstrip("-")
            )  # which an option must not begin with, but a suffix may
        if self.port_base + self.port_range > 65536:
            raise SiteError(f"site.port_base = {self.port_base} + site.port_range = {self.port_range} exceeds 65536")


def site_path(explicit: str | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the site file in use: the one named (a path, or a site that is shipped), HPCSYNAPSE_SITE, or the user's.

    Raises SiteError when one is named and does not exist.
    """
    named = explicit or environ.get("HPCSYNAPSE_SITE")
    if named:
        path = Path(named).expanduser()
        if path.is_file():
            return path
        if found := shipped_sites().get(named):
            return found
        raise SiteError(
            f"site file {named!r} does not exist; write one with: hpcsynapse init, or use one of those that come "
            f"with hpcsynapse: {', '.join(sorted(shipped_sites()))}"
        )
    path = default_site_path(environ)
    return path if path.is_file() else None


def shipped_sites() -> dict[str, Path]:
    """Return the site files that come with the package, by name."""
    return {path.stem: path for path in (Path(__file__).resolve().parents[1] / "sites").glob("*.toml")}


def default_site_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where `init` writes the site file: below XDG_CONFIG_HOME or ~/.config."""
    config = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".config")
    return Path(config) / "hpcsynapse" / "site.toml"
