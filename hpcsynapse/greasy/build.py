"""Lists with roles: one line a node, whose script starts that node's parameter servers and workers.

After the scripts of the MinoTauro thesis (Yagües Gomà 2016): hosts with the suffix of the fast network, one port a
process, every worker behind its own CUDA_VISIBLE_DEVICES, flags --ps_hosts --worker_hosts --job_name --task_index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse import fields
from hpcsynapse.errors import PlacementError, SpecError
from hpcsynapse.fields import at_least, setting
from hpcsynapse.files import write_atomic, write_json
from hpcsynapse.greasy.recorded import clear_results, line_folder, script_line, template, write_script
from hpcsynapse.greasy.tasks import LIST_NAME, Task, TaskList
from hpcsynapse.job import placement
from hpcsynapse.job.node_process import LONGEST_WORD
from hpcsynapse.job.placement import RankPlacement
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.submission.render import tool

_SET_BY_NODES = ("HPCSYNAPSE_TASK", "HPCSYNAPSE_ROLE", "HPCSYNAPSE_CLUSTER")


def _env_name(name: str, key: str) -> None:
    fields.env_name(name, key)
    if key in ("CUDA_VISIBLE_DEVICES", "TF_CONFIG") or key.startswith(_SET_BY_NODES):
        raise SpecError(f"{name}: {key} is set by the node scripts and cannot be given")


@dataclass(frozen=True, slots=True, kw_only=True)
class RolesRequest:
    """What runs on the nodes; workers and GPUs are counted per node."""

    command: tuple[str, ...]
    workdir: str
    workers: int = setting(1, "workers on each node", check=at_least(1, 1024))
    gpus: int = setting(0, "GPUs granted on each node", check=at_least(0, 64))
    gpus_per_worker: int = setting(0, "GPUs that a worker sees; 0 = one", check=at_least(0, 64))
    devices: tuple[int, ...] = ()  # those of a node's GPUs that are dealt out, by number; none = all
    server_nodes: int = setting(0, "last nodes that hold parameter servers and no workers", check=at_least(0, 1024))
    ps: int | None = setting(None, "parameter servers in total, on the first nodes", check=at_least(0, 100_000))
    ps_per_node: int = setting(0, "parameter servers on each node", check=at_least(0, 1024))
    host_suffix: str = setting("", "appended to host names for the fast network")
    port: int = setting(2220, "first port on each node", check=at_least(1024, 65535))
    flags: bool = setting(True, "append the flags of roles to the command")
    ranks: bool = setting(False, "workers are ranks of one training: told so, and given all devices")
    together: str = setting("world", "ranks that end and start again together", choices=("world", "node", "rank"))
    restarts: int = setting(0, "times that a lost process is started again", check=at_least(0, 100))
    limit: int = setting(0, "seconds for the whole list", check=at_least(0))
    patience: int = setting(300, "seconds without a word from a node", check=at_least(5))
    env: dict[str, str] = setting({}, "environment of every process", check=_env_name)
    prelude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        fields.validate("greasy", self)
        if not self.command or not self.command[0]:
            raise SpecError("greasy build: which program? Give it behind --")
        if self.ps is not None and self.ps_per_node:
            raise SpecError(f"greasy: ps = {self.ps} in total and ps_per_node = {self.ps_per_node} exclude one another")
        if self.host_suffix:
            fields.word("greasy.host_suffix", "x" + self.host_suffix)
        self._check_devices()

    def _check_devices(self) -> None:
        found, each = len(self.usable), self.gpus_per_worker
        if len(set(self.devices)) < len(self.devices) or any(not 0 <= one < self.gpus for one in self.devices):
            named = ",".join(map(str, self.devices))
            raise SpecError(f"greasy: devices {named} must be different numbers below gpus = {self.gpus}")
        if each and self.workers * each > found:
            raise SpecError(f"greasy: {self.workers} workers of {each} GPUs on a node need more than its {found}")
        if not each and found and self.workers % found and found % self.workers:
            raise SpecError(f"greasy: {self.workers} workers and {found} GPUs on a node do not divide one another")

    @property
    def usable(self) -> tuple[int, ...]:
        """The devices that are dealt out to workers, as numbers of what is granted on a node."""
        return self.devices or tuple(range(self.gpus))

    def devices_of(self, local: int) -> tuple[int, ...]:
        """Return the devices of a node's worker; without `gpus_per_worker` one, which neighbours share if need be."""
        if each := self.gpus_per_worker:
            return self.usable[local * each : (local + 1) * each]
        first = local * len(self.usable) // self.workers
        return self.usable[first : first + 1]


@dataclass(frozen=True, slots=True)
class Node:
    """One line of the list, and the processes of its node."""

    number: int
    host: str
    processes: tuple[RankPlacement, ...]


def lay_out(request: RolesRequest, hosts: Sequence[str]) -> list[Node]:
    """Return what runs where: workers in blocks node after node, servers on the last nodes or on those of the workers.

    Raises SpecError when ports run out or no node is left for workers.
    """
    workers = len(hosts) - request.server_nodes
    if workers < 1:
        raise SpecError(f"greasy: {request.server_nodes} of {len(hosts)} nodes are for servers, none is left")
    resources = ResourceRequest(nodes=workers, ranks_per_node=request.workers)
    total = request.ps if request.ps is not None else request.ps_per_node * (request.server_nodes or len(hosts))
    if total < request.server_nodes:
        raise SpecError(f"greasy: {total} servers are too few for {request.server_nodes} nodes of their own")
    try:
        placed = placement.lay_out(
            resources, hosts, servers=total, server_nodes=request.server_nodes, port=request.port
        )
    except PlacementError as error:
        raise SpecError(f"greasy: {error}") from None
    return [Node(number, host, placed.on_node(number)) for number, host in enumerate(hosts)]


def addresses(nodes: Sequence[Node], role: str, suffix: str) -> list[str]:
    """Return host:port of every process of a role, by index; the address on this machine has no suffix."""
    return [
        f"{node.host}{'' if node.host == 'localhost' else suffix}:{process.port}"
        for node in nodes
        for process in node.processes
        if process.role == role
    ]


def write_roles(folder: Path, request: RolesRequest, hosts: Sequence[str], template_dir: str | None = None) -> TaskList:
    """Write the scripts of all nodes and the list that runs them; return the list.

    Raises SpecError when the program cannot be told of so many hosts, or when the folder's name does not fit in a
    line. What an earlier build of the folder has left is removed.
    """
    place = line_folder(folder)
    nodes = lay_out(request, hosts)
    servers = addresses(nodes, "ps", request.host_suffix)
    workers = addresses(nodes, "worker", request.host_suffix)
    if request.flags and max(len(",".join(workers)), len(",".join(servers))) > LONGEST_WORD:
        raise SpecError(
            f"greasy: {len(workers)} workers are too many to be named in one word of a command line; use --no-flags: "
            "the program then reads the addresses from the file that HPCSYNAPSE_CLUSTER names"
        )
    folder.mkdir(parents=True, exist_ok=True)
    clear_results(folder)
    for old in folder.glob("node_*.sh"):
        old.unlink()
    write_json(folder / "cluster.json", {"ps": servers, "worker": workers})
    write_json(
        folder / "roles.json",
        {
            "command": request.command,
            "workdir": request.workdir,
            "nodes": len(nodes),
            "gpus": request.gpus,
            "flags": request.flags,
            "ranks": len(workers) if request.ranks else 0,
            "together": request.together if request.ranks else "rank",
            "restarts": request.restarts,
            "limit": request.limit,
            "patience": request.patience,
        },
    )
    write_script(
        folder / "roles.sh",
        "roles.sh.j2",
        template_dir,
        env=request.env,
        prelude=request.prelude,
        node_line=tool("node"),
    )
    script = template("node.sh.j2", template_dir)
    for node in nodes:
        words = [_word(request, process) for process in node.processes]
        (folder / f"node_{node.number}.sh").write_text(script.render(node=node, nodes=len(nodes), words=words))
    tasks = TaskList(tuple(Task(node.number + 1, script_line(f"{place}/node_{node.number}.sh")) for node in nodes))
    write_atomic(folder / LIST_NAME, tasks.text())
    return tasks


def _word(request: RolesRequest, process: RankPlacement) -> str:
    """Return role:index:devices, by which the script of a node names a process."""
    devices = ",".join(map(str, request.devices_of(process.local_rank))) or "none"
    if process.role == "ps":
        devices = "none"
    elif request.ranks:
        devices = "granted"
    return f"{process.role}:{process.task_index}:{devices}"
