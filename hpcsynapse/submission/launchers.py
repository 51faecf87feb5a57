"""What starts the ranks inside the allocation: each launcher wraps the argv of one rank, independent of the queue."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse.errors import SpecError
from hpcsynapse.job import search_path
from hpcsynapse.schedulers import create
from hpcsynapse.schedulers.base import Scheduler
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission import containers
from hpcsynapse.templating import Shell

RANK_SCRIPT = "rank.sh"  # in the run directory, for launchers that cannot be given arguments


@dataclass(frozen=True, slots=True)
class Launcher:
    """How ranks are started; `per_node` launchers take one queue task a node and start the ranks there themselves.

    `own_mpi`: they belong to an MPI library, which need not be the one that Horovod and mpi4py here were built for.
    What a launcher needs in the job script beforehand is its template below `launchers/`, if there is one.
    """

    wrap: Callable[[JobSpec, Path, Sequence[str], Scheduler], list[str]]
    summary: str
    starts_mpi: bool
    per_node: bool = False
    program: str | None = None
    own_mpi: bool = False
    has_daemons: bool = False  # starts one process a node through the queue, and the ranks below it
    starts_by_command: bool = True  # its command comes first and takes options of a site or a user
    kills_ranks: bool = False  # told to end, it kills its ranks at once or within seconds that are too few to save in
    brings_signals: bool = False  # what the queue sends to job steps reaches every rank, and the launcher outlives it


def job_python() -> list[str]:
    """Return the argv that runs `hpcsynapse.job` under this Python, deaf to modules in the working directory."""
    return search_path.tool()


def foreign_python(spec: JobSpec) -> bool:
    """Tell whether ranks run under another Python than this one."""
    launch = spec.launch
    return bool(launch.python or launch.venv or launch.conda or launch.container)


def job_tool(spec: JobSpec, *arguments: str) -> list[str]:
    """Return the argv that runs a tool of `hpcsynapse.job` on a compute node.

    Another interpreter finds the package at the end of its path, so that its own packages come first.
    """
    if not foreign_python(spec):
        return [*job_python(), *arguments]
    start = ["-E", "-c", search_path.LAST, search_path.package_parent()]
    return [spec.launch.python or "python3", *start, *arguments]


def rank_command(spec: JobSpec, run_dir: Path) -> list[str]:
    """Return the argv of one rank: the wrapper, then the user's command or the built-in trainer, in its container."""
    program = list(spec.command) or job_tool(spec, "train", str(run_dir))
    return [*containers.inside(spec, run_dir), *job_tool(spec, "rank", str(run_dir), "--", *program)]


def _srun(spec: JobSpec, run_dir: Path, rank: Sequence[str], queue: Scheduler) -> list[str]:
    """Srun: one task a rank. It no longer inherits --cpus-per-task (Slurm 22.05 release notes), so that is said."""
    resources = spec.resources
    needs_mpi = not spec.command and spec.train.engine in ("horovod", "mpi")
    kind = spec.site.srun_mpi or ("pmix" if needs_mpi else None)
    mpi = [f"--mpi={kind}"] if kind else []
    where = [f"--nodes={resources.nodes}", f"--ntasks={resources.world_size}"]
    if spec.survive.moves:  # on nodes that the job script names; the step before holds those that it lost for a while
        tasks = Shell(f'--ntasks="$((HPCSYNAPSE_USED_NODES * {resources.local_size}))"')
        nodes = (Shell('--nodes="$HPCSYNAPSE_USED_NODES"'), Shell('--nodelist="$hpcs_list"'))
        where = [*nodes, tasks, "--no-kill", "--overlap"]
    return [
        "srun",
        *where,
        f"--ntasks-per-node={resources.local_size}",
        *_step_options(spec, run_dir, spec.resources.cpus),
        *mpi,
        *rank,
    ]


def _step_options(spec: JobSpec, run_dir: Path, cpus: int | None) -> list[str]:
    cores = [f"--cpus-per-task={cpus}"] if cpus else []
    return ["--kill-on-bad-exit=1", *cores, *containers.step_options(spec, run_dir)]


# What ranks on other nodes need of the job script's environment, where the launcher does not pass all of it on.
_NEEDED = (
    "PATH",
    "LD_LIBRARY_PATH",
    "HPCSYNAPSE_RUN_DIR",
    "HPCSYNAPSE_ATTEMPT",
    "MASTER_ADDR",
    "MASTER_PORT",
    "HPCSYNAPSE_PEER",
    "OMP_NUM_THREADS",
)


def _mpirun(spec: JobSpec, run_dir: Path, rank: Sequence[str], queue: Scheduler) -> list[str]:
    """Open MPI's mpirun; without a binding of its own, since ranks have threads (mpirun(1)).

    Where the queue starts its daemons, they get the job's environment. Elsewhere ssh does: hosts and variables are
    named then.
    """
    return [*_by_mpirun(spec, queue, spec.resources.local_size), *rank]


def _by_mpirun(spec: JobSpec, queue: Scheduler, each: int) -> list[str]:
    """Return the words that start so many processes on each node through Open MPI."""
    total = spec.resources.world_size if queue.one_machine else spec.resources.nodes * each
    mapping = ["--oversubscribe"] if queue.one_machine else ["--map-by", f"ppr:{each}:node"]
    if not queue.slot_per_rank:  # mpirun would see one slot a node
        mapping.append("--oversubscribe")
    if not queue.tells_launchers:
        mapping += ["--host", Shell('"$HPCSYNAPSE_HOST_SLOTS"')]
        needed = (
            *_NEEDED,
            *queue.passes,
            *(["HPCSYNAPSE_LEFT_TO_SCRIPT"] if queue.end_signals else []),
            *sorted(spec.launch.env),
        )
        mapping += [word for name in needed for word in ("-x", name)]
    return ["mpirun", "-np", str(total), *mapping, "--bind-to", "none"]


def _mpiexec(spec: JobSpec, run_dir: Path, rank: Sequence[str], queue: Scheduler) -> list[str]:
    """MPICH's hydra with a host file made in the job; Debian calls it mpiexec.hydra where Open MPI has the plain name.

    Hydra would guess from the queue's variables how to reach other nodes (mpiexec -info); what works under the queue is
    said, and HYDRA_LAUNCHER, among the run's variables, says otherwise. Processes of this node are forked.
    """
    return [
        Shell('"$HPCSYNAPSE_MPIEXEC"'),
        "-f",
        Shell('"$HPCSYNAPSE_HOSTFILE"'),
        "-n",
        str(spec.resources.world_size),
        *rank,
    ]


def _poe(spec: JobSpec, run_dir: Path, rank: Sequence[str], queue: Scheduler) -> list[str]:
    """IBM's Parallel Operating Environment, which takes nodes and tasks from the queue (poe(1)).

    poe reads options of its own anywhere among a program's arguments, so it is given a script without any.
    """
    script = str(run_dir / RANK_SCRIPT)
    if shlex.quote(script) != script:
        raise SpecError(f"poe splits its arguments once more: the run's folder must have a plain name, not {script!r}")
    return ["poe", script]


def _horovodrun(spec: JobSpec, run_dir: Path, rank: Sequence[str], queue: Scheduler) -> list[str]:
    """Horovod's own launcher with its Gloo controller; other nodes are reached through ssh."""
    beside = Path(sys.executable).parent / "horovodrun"  # a virtual environment need not be on the job's PATH
    program = str(beside) if beside.exists() and not foreign_python(spec) else "horovodrun"
    return [
        program,
        "--gloo",
        "-np",
        str(spec.resources.world_size),
        "-H",
        Shell('"$HPCSYNAPSE_HOST_SLOTS"'),
        "--start-timeout",
        str(int(spec.launch.start_limit)),
        *rank,
    ]


def _torchrun(spec: JobSpec, run_dir: Path, rank: Sequence[str], queue: Scheduler) -> list[str]:
    """One torchrun agent a node; node rank is expanded inside the step, where it differs.

    The agent runs in the container, too, and starts its ranks there.
    """
    resources, inside = spec.resources, containers.inside(spec, run_dir)
    rank = rank[len(inside) :]
    agent = [
        *job_tool(spec, "torchrun"),
        f"--nnodes={resources.nodes}",
        f"--nproc-per-node={resources.local_size}",
        "--max-restarts=0",
        "--no-python",
    ]
    where = [Shell('--master-addr="$MASTER_ADDR"'), Shell('--master-port="$MASTER_PORT"')]
    if queue.one_machine:
        return [*inside, *agent, "--node-rank=0", *where, *rank]
    inner = 'agent=("${@:1:$1+1}"); exec "${agent[@]:1}" --node-rank="$node" "${@:$1+2}"'
    step, number = _on_each_node(spec, run_dir, queue)
    words = [*agent, *where]
    return [*step, *inside, "bash", "-c", f"{number}; {inner}", "torchrun", str(len(words)), *words, *rank]


def agents_by_mpirun(queue: Scheduler) -> bool:
    """Tell whether it takes Open MPI to start one torchrun on each node of this queue's jobs."""
    return not (queue.one_machine or queue.over_ssh or queue.has_steps)


def _on_each_node(spec: JobSpec, run_dir: Path, queue: Scheduler) -> tuple[list[str], str]:
    """Return the words that start one process on each node, and the shell text that puts its number into `node`."""
    if agents_by_mpirun(queue):  # whose ranks are no processes of MPI: they would be taken for the agent
        mine = "${!OMPI_COMM_WORLD_@} ${!OMPI_MCA_ess_@} ${!PMIX_@}"
        return _by_mpirun(spec, queue, 1), f"node=$OMPI_COMM_WORLD_RANK; unset {mine}"
    number = f"node=${queue.node_rank_variable}"
    if queue.over_ssh:
        return _on_each_host(), number
    resources = spec.resources
    options = [f"--nodes={resources.nodes}", f"--ntasks={resources.nodes}", "--ntasks-per-node=1"]
    cpus = resources.cpus and resources.cpus * resources.local_size
    return ["srun", *options, *_step_options(spec, run_dir, cpus)], number


def _local(spec: JobSpec, run_dir: Path, rank: Sequence[str], queue: Scheduler) -> list[str]:
    """Processes of this machine, or of every host of the job."""
    if queue.over_ssh:
        return [*_on_each_host(), *job_python(), "local-launch", str(spec.resources.local_size), *rank]
    return [*job_python(), "local-launch", str(spec.resources.world_size), *rank]


def _on_each_host() -> list[str]:
    """Return the words that start one program on every host of the job by ssh."""
    return [*job_python(), "each-host"]


def _greasy(spec: JobSpec, run_dir: Path, rank: Sequence[str], queue: Scheduler) -> list[str]:
    """A task list with one line a node, run by Greasy where it is installed, else by srun."""
    return [*job_python(), "greasy", str(run_dir), *rank]


LAUNCHERS: dict[str, Launcher] = {
    "srun": Launcher(
        _srun, "one task of a job step a rank", starts_mpi=True, program="srun", brings_signals=True, kills_ranks=True
    ),
    "mpirun": Launcher(_mpirun, "Open MPI", starts_mpi=True, program="mpirun", has_daemons=True, kills_ranks=True),
    "mpiexec": Launcher(
        _mpiexec,
        "MPICH's hydra",
        starts_mpi=True,
        program="mpiexec.hydra",
        own_mpi=True,
        has_daemons=True,
        kills_ranks=True,
    ),
    "poe": Launcher(_poe, "IBM's Parallel Environment", starts_mpi=True, program="poe", own_mpi=True, kills_ranks=True),
    "horovodrun": Launcher(_horovodrun, "Horovod over Gloo", starts_mpi=False, program="horovodrun", kills_ranks=True),
    "torchrun": Launcher(
        _torchrun, "one torchrun a node", starts_mpi=False, per_node=True, starts_by_command=False, kills_ranks=True
    ),
    "greasy": Launcher(
        _greasy, "a task list with one line a node", starts_mpi=False, per_node=True, starts_by_command=False
    ),
    "local": Launcher(
        _local, "processes of this machine, or of hosts reached by ssh", starts_mpi=False, starts_by_command=False
    ),
}


def launch_words(spec: JobSpec, run_dir: Path, packed: bool = False) -> list[str]:
    """Return the whole command line that starts all ranks; raises SpecError for a launcher this queue does not have.

    `packed` keeps job steps to those nodes that the job file was given, which may be some of the allocation's: they
    have no variable for that. The other launchers read the queue's.
    """
    queue, name = create(spec.queue.scheduler), spec.launch.launcher
    if name not in queue.launchers:
        possible = [other for other in LAUNCHERS if other in queue.launchers]
        raise SpecError(
            f"launch.launcher = {name!r} does not work under {queue.name}; use one of {', '.join(possible)}"
        )
    words = LAUNCHERS[name].wrap(spec, run_dir, rank_command(spec, run_dir), queue)
    if spec.launch.launcher_args and not LAUNCHERS[name].starts_by_command:
        raise SpecError(f"launch.launcher_args: {name} is no command that takes arguments; leave --launcher-arg out")
    words[1:1] = spec.launch.launcher_args
    if spec.launch.container and spec.launch.container_runtime == "pyxis" and words[0] != "srun":
        raise SpecError(
            f"launch.container_runtime = 'pyxis' is an option of srun; with --launcher {name} use apptainer"
        )
    if packed and words[0] == "srun":
        words[1:1] = [Shell(queue.step_hosts)]
    return words
