"""The names that a description may use: queues, launchers, engines, strategies."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple


class Queue(NamedTuple):
    """A queue's row: where its adapter is, and which variables nobody else may set."""

    adapter: str  # module:class, imported when the queue is used
    summary: str
    variables: tuple[str, ...] = ()  # prefixes of those the queue sets in its jobs
    reach: tuple[str, ...] = ()  # of these, what only says how to reach the queue
    settings: tuple[str, ...] = ()  # of these, what a user's shell sets to choose among what the queue offers
    job_id: str = ""  # of these, the one that holds the id of a job
    gpus: tuple[str, ...] = ()  # of these, the lists of GPUs granted, where a site sets no CUDA_VISIBLE_DEVICES
    rank: Mapping[str, str] = MappingProxyType({})  # of these, what its launcher sets, see `job.discovery`


# One row a queue; the first that answers is the one that `auto` means.
QUEUES: dict[str, Queue] = {
    "slurm": Queue(
        "hpcsynapse.schedulers.slurm:Slurm",
        "Slurm through sbatch, squeue and scancel",
        variables=("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SQUEUE_", "SCANCEL_", "SINFO_", "SACCT_"),
        reach=("SLURM_CONF",),
        settings=("SLURM_MPI_TYPE", "SLURM_CLUSTERS"),
        job_id="SLURM_JOB_ID",
        gpus=("SLURM_STEP_GPUS", "SLURM_JOB_GPUS"),
        rank={
            "marker": "SLURM_STEP_NUM_TASKS",
            "rank": "SLURM_PROCID",
            "world_size": "SLURM_STEP_NUM_TASKS",
            "local_rank": "SLURM_LOCALID",
            "node_rank": "SLURM_NODEID",
        },
    ),
    "minotauro": Queue("hpcsynapse.schedulers.minotauro:MinoTauro", "BSC's dialect through mnsubmit, mnq and mncancel"),
    "loadleveler": Queue(
        "hpcsynapse.schedulers.loadleveler:LoadLeveler",
        "IBM LoadLeveler through llsubmit, llq and llcancel",
        variables=("LOADL_",),
        job_id="LOADL_STEP_ID",
    ),
    "gridengine": Queue(
        "hpcsynapse.schedulers.gridengine:GridEngine",
        "Grid Engine through qsub, qstat, qacct and qdel",
        variables=("SGE_", "JOB_ID", "PE_HOSTFILE", "NSLOTS", "NHOSTS", "NQUEUES"),
        reach=("SGE_ROOT", "SGE_CELL", "SGE_CLUSTER_NAME", "SGE_QMASTER_PORT", "SGE_EXECD_PORT", "SGE_ARCH"),
        job_id="JOB_ID",
        gpus=("SGE_HGR_gpu", "SGE_HGR_gpus", "SGE_HGR_ngpus"),
    ),
    "pbs": Queue(
        "hpcsynapse.schedulers.pbs:Pbs",
        "PBS Professional and OpenPBS through qsub, qstat and qdel",
        variables=("PBS_",),
        reach=("PBS_CONF_FILE", "PBS_EXEC", "PBS_SERVER", "PBS_DEFAULT"),
        job_id="PBS_JOBID",
    ),
    "torque": Queue("hpcsynapse.schedulers.pbs:Torque", "Torque through qsub, qstat and qdel"),
    "lsf": Queue(
        "hpcsynapse.schedulers.lsf:Lsf",
        "IBM Spectrum LSF through bsub, bjobs and bkill",
        variables=("LSB_", "LS_SUBCWD", "LS_JOBPID", "LSF_PM_", "BSUB_QUIET"),
        job_id="LSB_JOBID",
    ),
    "flux": Queue(
        "hpcsynapse.schedulers.flux:Flux",
        "Flux through flux batch, flux jobs and flux cancel",
        variables=("FLUX_",),
        reach=("FLUX_URI", "FLUX_CONF_DIR"),
        job_id="FLUX_ENCLOSING_ID",
    ),
    "hosts": Queue(
        "hpcsynapse.schedulers.hosts:Hosts",
        "a list of machines reached by ssh, without a queue",
        variables=("HPCSYNAPSE_HOSTS_",),
        job_id="HPCSYNAPSE_HOSTS_JOB",
    ),
    "local": Queue("hpcsynapse.schedulers.local:Local", "this machine, in the background"),
}
THIS_MACHINE = "local"  # the queue that is always there


class Choices(Collection[str]):
    """`auto` and the names of a table, rows that are added to it later among them."""

    def __init__(self, table: Mapping[str, object]) -> None:
        self._table = table

    def __iter__(self) -> Iterator[str]:
        yield from ("auto", *self._table)

    def __contains__(self, name: object) -> bool:
        return name == "auto" or name in self._table

    def __len__(self) -> int:
        return 1 + len(self._table)


def owned(name: str) -> bool:
    """Tell whether an environment variable is one that a queue sets in its jobs."""
    return any(name.startswith(queue.variables) for queue in QUEUES.values())


def reaches_queue(name: str) -> bool:
    """Tell whether a queue's variable only says how to reach the queue, so that its commands need it."""
    return any(name in queue.reach for queue in QUEUES.values())


def chosen_by_user(name: str) -> bool:
    """Tell whether a queue's variable is one by which a user's shell chooses among what the queue offers."""
    return any(name in queue.settings for queue in QUEUES.values())


def job_ids() -> list[str]:
    """Return the variables in which queues tell a process the id of its job."""
    return [queue.job_id for queue in QUEUES.values() if queue.job_id]


def granted_gpus() -> list[str]:
    """Return the variables in which queues list the GPUs that they have granted."""
    return [name for queue in QUEUES.values() for name in queue.gpus]


SCHEDULERS = Choices(QUEUES)
LAUNCHERS = ("auto", "srun", "mpirun", "mpiexec", "poe", "horovodrun", "torchrun", "greasy", "local")
ENGINES = ("auto", "horovod", "ddp", "mpi")
STRATEGIES = (
    "auto",
    "single",
    "allreduce",
    "allreduce-broadcast",
    "central",
    "sharded",
    "pipeline",
    "local-sgd",
    "ps-async",
    "ps-sync",
    "mixed",
    "admm",
)
# Strategies with parameter servers, and which of their ranks end and start again together.
LOCKSTEP = {"ps-async": "rank", "ps-sync": "rank", "mixed": "node"}
SERVED = tuple(LOCKSTEP)
# Strategies that torch.distributed alone can carry out.
DDP_ONLY = ("sharded", "pipeline")
# Strategies whose exchange may travel in 16 bits.
COMPRESSIBLE = ("allreduce", "allreduce-broadcast", "central", "local-sgd")
