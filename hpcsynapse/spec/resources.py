"""What the queue is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.fields import at_least, setting, word
from hpcsynapse.units import parse_mebibytes, parse_walltime

_GPU_TYPE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+&-]*")


def _check_gpu_type(name: str, value: str) -> None:
    word(name, value)
    if not _GPU_TYPE.fullmatch(value):
        raise SpecError(f"{name}: {value!r} is not one kind of GPU; write for example h100, 2080ti or 1g.10gb")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequest:
    """What the queue is asked for; GPUs and ranks are counted per node, CPUs per rank."""

    nodes: int = setting(1, "number of nodes", check=at_least(1, 100_000))
    gpus: int = setting(0, "GPUs on each node", check=at_least(0, 64))
    ranks_per_node: int | None = setting(None, "ranks on each node [GPUs, else 1]", check=at_least(1, 1024))
    cpus: int | None = setting(None, "CPU cores for each rank [the site's share]", check=at_least(1, 1024))
    mem: str | None = setting(None, "memory of each node: 64G, 512M, 0 = all of it")
    time: str = setting("01:00:00", "time limit: HH:MM:SS, D-HH:MM:SS, 90m, 2h")
    gpu_type: str | None = setting(None, "kind of GPU, as the site names it", check=_check_gpu_type)
    exclusive: bool = setting(False, "take whole nodes")

    def __post_init__(self) -> None:
        fields.validate("resources", self)
        parse_walltime(self.time)
        if self.mem is not None:
            parse_mebibytes(self.mem)
        if self.gpu_type and not self.gpus:
            raise SpecError(f"resources.gpu_type = {self.gpu_type!r} but resources.gpus = 0; add --gpus N")
        if self.gpus and self.local_size % self.gpus and self.gpus % self.local_size:
            raise SpecError(
                f"resources.ranks_per_node = {self.ranks_per_node} and resources.gpus = {self.gpus} do not divide "
                "one another; use as many ranks as GPUs, or a multiple or divisor"
            )

    @property
    def local_size(self) -> int:
        """Ranks on each node."""
        return self.ranks_per_node or self.gpus or 1

    @property
    def world_size(self) -> int:
        """Ranks on all nodes together."""
        return self.nodes * self.local_size

    @property
    def walltime(self) -> timedelta:
        """The time limit."""
        return parse_walltime(self.time)
