"""What is particular to one cluster: limits, dialect and defaults, kept in a TOML file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse import fields
from hpcsynapse.errors import SiteError
from hpcsynapse.fields import at_least, setting, word
from hpcsynapse.units import parse_walltime


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSpec:
    """Facts of a cluster that no job description should have to repeat."""

    name: str = setting("", "name of the cluster")
    max_nodes: int | None = setting(None, "nodes of the largest job", check=at_least(1))
    gpus_per_node: int | None = setting(None, "GPUs of a node", check=at_least(0, 64))
    cpus_per_node: int | None = setting(None, "CPU cores of a node", check=at_least(1, 4096))
    cpus_per_gpu: int | None = setting(None, "CPU cores that belong to a GPU", check=at_least(1, 1024))
    max_time: str | None = setting(None, "longest time limit")
    gpu_request: str = setting("gpus-per-node", "directive that asks for GPUs", choices=("gpus-per-node", "gres"))
    accept_mem: bool = setting(True, "whether the queue takes a memory request")
    required: tuple[str, ...] = setting((), "queue settings a job must give (account, qos, ...)", check=word)
    network: str | None = setting(None, "LoadLeveler: network.MPI, e.g. sn_all,not_shared,us", check=word)
    gpu_feature: str | None = setting(None, "LoadLeveler: feature that nodes with GPUs have", check=word)
    host_suffix: str = setting("", "appended to a host's name for the fast network, e.g. -ib0")
    interface: str | None = setting(
        None, "network interface that ranks use between nodes, e.g. ib0 [the one that leads there]", check=word
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
            word("site.host_suffix", "x" + self.host_suffix)
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
    return {path.stem: path for path in (Path(__file__).resolve().parent / "sites").glob("*.toml")}


def default_site_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where `init` writes the site file: below XDG_CONFIG_HOME or ~/.config."""
    config = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".config")
    return Path(config) / "hpcsynapse" / "site.toml"
