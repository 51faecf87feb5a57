"""What starts the ranks inside the allocation: each launcher wraps the argv of one rank, independent of the queue."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse.errors import SpecError
from hpcsynapse.spec import JobSpec

RANK_SCRIPT = "rank.sh"  # in the run directory, for launchers that cannot be given arguments


class Shell(str):
    """A trusted piece of shell that is written as it is; every other word is quoted."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Launcher:
    """How ranks are started; `per_node` launchers take one queue task a node and start the ranks there themselves."""

    wrap: Callable[[JobSpec, Path, Sequence[str]], list[str]]
    summary: str
    schedulers: tuple[str, ...]
    starts_mpi: bool
    per_node: bool = False
    program: str | None = None


def package_parent() -> Path:
    """Return the folder that holds this package, for interpreters that do not have it installed."""
    return Path(__file__).resolve().parent.parent


def foreign_python(spec: JobSpec) -> bool:
    """Tell whether ranks run under another Python than this one."""
    launch = spec.launch
    return bool(launch.python or launch.venv or launch.conda or launch.container)


def python_module(spec: JobSpec, module: str, *arguments: str) -> list[str]:
    """Return the argv that runs a module of this package on a compute node.

    Another interpreter finds the package at the end of its path, so that its own packages come first.
    """
    if not foreign_python(spec):
        return [sys.executable, "-m", module, *arguments]
    start = f"import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module({module!r}, None, '__main__', True)"
    return [spec.launch.python or "python3", "-c", start, str(package_parent()), *arguments]


def rank_command(spec: JobSpec, run_dir: Path) -> list[str]:
    """Return the argv of one rank: the wrapper, then the user's command or the built-in trainer, in its container."""
    program = list(spec.command) or python_module(spec, "hpcsynapse.trainer.run", str(run_dir))
    return [*_container(spec, run_dir), *python_module(spec, "hpcsynapse.rank", str(run_dir), "--", *program)]


def _container(spec: JobSpec, run_dir: Path) -> list[str]:
    launch = spec.launch
    if not launch.container or launch.container_runtime == "pyxis":
        return []
    binds = [str(run_dir), str(package_parent()), *launch.container_mounts]
    gpu = ["--nv"] if spec.resources.gpus else []
    return [launch.container_runtime, "exec", *gpu, *[word for bind in binds for word in ("--bind", bind)],
            launch.container]  # fmt: skip


def _srun(spec: JobSpec, run_dir: Path, rank: Sequence[str]) -> list[str]:
    """Srun: one task a rank. It no longer inherits --cpus-per-task (Slurm 22.05 release notes), so that is said."""
    resources = spec.resources
    needs_mpi = not spec.command and spec.train.engine in ("horovod", "mpi")
    kind = spec.site.srun_mpi or ("pmix" if needs_mpi else None)
    mpi = [f"--mpi={kind}"] if kind else []
    return ["srun", f"--nodes={resources.nodes}", f"--ntasks={resources.world_size}",
            f"--ntasks-per-node={resources.local_size}", *_srun_common(spec, run_dir, spec.resources.cpus), *mpi,
            *rank]  # fmt: skip


def _srun_common(spec: JobSpec, run_dir: Path, cpus: int | None) -> list[str]:
    launch = spec.launch
    words = ["--kill-on-bad-exit=1", *([f"--cpus-per-task={cpus}"] if cpus else [])]
    if launch.container and launch.container_runtime == "pyxis":
        words.append(f"--container-image={launch.container}")
        mounts = [f"{path}:{path}" for path in (str(run_dir), str(package_parent()))] + list(launch.container_mounts)
        words.append(f"--container-mounts={','.join(mounts)}")
    return words


# What ranks on other nodes need of the job script's environment, where the launcher does not pass all of it on.
_NEEDED = ("PATH", "LD_LIBRARY_PATH", "HPCSYNAPSE_RUN_DIR", "HPCSYNAPSE_ATTEMPT", "MASTER_ADDR", "MASTER_PORT",
           "HPCSYNAPSE_PEER", "OMP_NUM_THREADS")  # fmt: skip


def _mpirun(spec: JobSpec, run_dir: Path, rank: Sequence[str]) -> list[str]:
    """Open MPI's mpirun; without a binding of its own, since ranks have threads (mpirun(1)).

    Under Slurm it starts its daemons through srun, which passes the job's environment on: no -x is needed. Under
    LoadLeveler it does so through ssh, and newer ones no longer read LOADL_HOSTFILE: hosts and variables are named.
    """
    local = spec.queue.scheduler == "local"
    mapping = ["--oversubscribe"] if local else ["--map-by", f"ppr:{spec.resources.local_size}:node"]
    if spec.queue.scheduler == "minotauro":  # one queue task a node, so mpirun sees one slot a node
        mapping.append("--oversubscribe")
    if spec.queue.scheduler == "loadleveler":
        mapping += ["--host", Shell('"$HPCSYNAPSE_HOST_SLOTS"')]
        mapping += [word for name in (*_NEEDED, *sorted(spec.launch.env)) for word in ("-x", name)]
    return ["mpirun", "-np", str(spec.resources.world_size), *mapping, "--bind-to", "none", *rank]


def _mpiexec(spec: JobSpec, run_dir: Path, rank: Sequence[str]) -> list[str]:
    """MPICH's hydra with a host file made in the job; Debian calls it mpiexec.hydra where Open MPI has the plain name.

    Hydra would guess how to reach other nodes from LOADL_* or SLURM_* (mpiexec -info); ssh is what works everywhere,
    and HYDRA_LAUNCHER, among the run's variables, says otherwise. Processes of this node are forked.
    """
    return [Shell('"$HPCSYNAPSE_MPIEXEC"'), "-f", Shell('"$HPCSYNAPSE_HOSTFILE"'), "-n",
            str(spec.resources.world_size), *rank]  # fmt: skip


def _poe(spec: JobSpec, run_dir: Path, rank: Sequence[str]) -> list[str]:
    """IBM's Parallel Operating Environment, which takes nodes and tasks from LoadLeveler (poe(1)).

    poe reads options of its own anywhere among a program's arguments, so it is given a script without any.
    """
    script = str(run_dir / RANK_SCRIPT)
    if shlex.quote(script) != script:
        raise SpecError(f"poe splits its arguments once more: the run's folder must have a plain name, not {script!r}")
    return ["poe", script]


def _horovodrun(spec: JobSpec, run_dir: Path, rank: Sequence[str]) -> list[str]:
    """Horovod's own launcher with its Gloo controller; other nodes are reached through ssh."""
    beside = Path(sys.executable).parent / "horovodrun"  # a virtual environment need not be on the job's PATH
    program = str(beside) if beside.exists() and not foreign_python(spec) else "horovodrun"
    return [program, "--gloo", "-np", str(spec.resources.world_size), "-H", Shell('"$HPCSYNAPSE_HOST_SLOTS"'),
            "--start-timeout", str(int(spec.launch.start_limit)), *rank]  # fmt: skip


def _torchrun(spec: JobSpec, run_dir: Path, rank: Sequence[str]) -> list[str]:
    """One torchrun agent a node; node rank is expanded inside the step, where it differs."""
    resources = spec.resources
    agent = [*python_module_of_torch(spec), f"--nnodes={resources.nodes}", f"--nproc-per-node={resources.local_size}",
             "--max-restarts=0", "--no-python"]  # fmt: skip
    where = [Shell('--master-addr="$MASTER_ADDR"'), Shell('--master-port="$MASTER_PORT"')]
    if spec.queue.scheduler == "local":
        return [*agent, "--node-rank=0", *where, *rank]
    cpus = spec.resources.cpus and spec.resources.cpus * resources.local_size
    step = ["srun", f"--nodes={resources.nodes}", f"--ntasks={resources.nodes}", "--ntasks-per-node=1",
            *_srun_common(spec, run_dir, cpus)]  # fmt: skip
    inner = 'node=$SLURM_NODEID; agent=("${@:1:$1+1}"); exec "${agent[@]:1}" --node-rank="$node" "${@:$1+2}"'
    words = [*agent, *where]
    return [*step, "bash", "-c", inner, "torchrun", str(len(words)), *words, *rank]


def python_module_of_torch(spec: JobSpec) -> list[str]:
    """Return the argv of torchrun under the Python of the ranks."""
    python = (spec.launch.python or "python3") if foreign_python(spec) else sys.executable
    return [python, "-m", "torch.distributed.run"]


def _local(spec: JobSpec, run_dir: Path, rank: Sequence[str]) -> list[str]:
    """Processes of this machine."""
    return [sys.executable, "-m", "hpcsynapse.local_launcher", str(spec.resources.world_size), *rank]


def _greasy(spec: JobSpec, run_dir: Path, rank: Sequence[str]) -> list[str]:
    """A task list with one line a node, run by Greasy where it is installed, else by srun."""
    if spec.launch.container and spec.launch.container_runtime == "pyxis":
        raise SpecError("launch.container_runtime = 'pyxis' is an option of srun; with --launcher greasy use apptainer")
    return [sys.executable, "-m", "hpcsynapse.greasy.launch", str(run_dir), *rank]


_SLURM = ("slurm", "minotauro")  # BSC's dialect is a way to write jobs for Slurm
_ALL = (*_SLURM, "loadleveler", "local")

LAUNCHERS: dict[str, Launcher] = {
    "srun": Launcher(_srun, "one Slurm task a rank", _SLURM, starts_mpi=True, program="srun"),
    "mpirun": Launcher(_mpirun, "Open MPI", _ALL, starts_mpi=True, program="mpirun"),
    "mpiexec": Launcher(_mpiexec, "MPICH's hydra", _ALL, starts_mpi=True, program="mpiexec.hydra"),
    "poe": Launcher(_poe, "IBM's Parallel Environment", ("loadleveler",), starts_mpi=True, program="poe"),
    "horovodrun": Launcher(
        _horovodrun, "Horovod over Gloo", _ALL, starts_mpi=False, per_node=False, program="horovodrun"
    ),
    "torchrun": Launcher(_torchrun, "one torchrun a node", (*_SLURM, "local"), starts_mpi=False, per_node=True),
    "greasy": Launcher(_greasy, "a task list with one line a node", _ALL, starts_mpi=False, per_node=True),
    "local": Launcher(_local, "processes of this machine", ("local",), starts_mpi=False),
}


def choose(spec: JobSpec) -> str:
    """Return the launcher that `auto` means: MPI engines need one that starts MPI."""
    if spec.served:
        return "greasy"
    if spec.queue.scheduler in _SLURM:
        return "srun"
    if spec.queue.scheduler == "loadleveler":
        return "poe" if shutil.which("poe") else "mpiexec"
    mpi = not spec.command and spec.train.engine in ("horovod", "mpi") and spec.resources.world_size > 1
    return "mpirun" if mpi else "local"


def launch_words(spec: JobSpec, run_dir: Path, packed: bool = False) -> list[str]:
    """Return the whole command line that starts all ranks; raises SpecError for a launcher this queue does not have.

    `packed` keeps srun to the nodes of SLURM_JOB_NODELIST, which may be some of the allocation's: it has no variable of
    its own for that. The other launchers read that one.
    """
    launcher = LAUNCHERS[spec.launch.launcher]
    if spec.queue.scheduler not in launcher.schedulers:
        possible = [name for name, one in LAUNCHERS.items() if spec.queue.scheduler in one.schedulers]
        raise SpecError(
            f"launch.launcher = {spec.launch.launcher!r} does not work under {spec.queue.scheduler}; "
            f"use one of {', '.join(possible)}"
        )
    words = launcher.wrap(spec, run_dir, rank_command(spec, run_dir))
    if packed and words[0] == "srun":
        words[1:1] = [Shell('--nodelist="$SLURM_JOB_NODELIST"')]
    return words
