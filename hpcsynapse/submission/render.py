"""Job files from templates: pure, strict about undefined names, and safe against every value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpcsynapse import __version__
from hpcsynapse.errors import SpecError
from hpcsynapse.job.supervise import GRACES
from hpcsynapse.schedulers import create
from hpcsynapse.schedulers.base import Scheduler
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission import launchers
from hpcsynapse.submission.launchers import LAUNCHERS
from hpcsynapse.templating import fill, shell_word
from hpcsynapse.units import format_walltime, parse_mebibytes

_LEAD = 60  # seconds before the time limit, where --signal does not say (as sbatch has it)


def render(spec: JobSpec, run_dir: Path, packed: bool = False) -> str:
    """Return the job file of a resolved description whose files go to `run_dir`: same description, same bytes.

    A `packed` job file may be run on some nodes of a larger allocation. Raises RenderError when the template asks for
    what does not exist or fails, SpecError when the queue lacks what is asked for or does not go with the launcher.
    """
    scheduler = create(spec.queue.scheduler)
    scheduler.refuse(spec)
    if packed and (spec.survive.moves or spec.survive.queues):
        raise SpecError("survive: runs that share an allocation have no spare nodes and no job of their own")
    names = context(spec, run_dir, scheduler, packed)
    return fill(scheduler.template, spec.site.template_dir, **names)


def context(spec: JobSpec, run_dir: Path, scheduler: Scheduler, packed: bool = False) -> dict[str, Any]:
    """Return the names that templates see."""
    launcher = LAUNCHERS[spec.launch.launcher]
    resources = spec.resources
    cpus = resources.cpus
    per_task = cpus * resources.local_size if cpus and launcher.per_node else cpus
    node_cpus = (cpus or 1) * resources.local_size
    return {
        "version": __version__,
        "spec": spec,
        "name": spec.name,
        "run_dir": str(run_dir),
        "workdir": spec.workdir or str(run_dir),
        "resources": resources,
        "queue": spec.queue,
        "launch": spec.launch,
        "site": spec.site,
        "walltime": format_walltime(resources.walltime),
        "graces": GRACES,
        "walltime_seconds": int(resources.walltime.total_seconds()),
        "memory_mib": None if resources.mem is None else parse_mebibytes(resources.mem),
        "tasks_per_node": 1 if launcher.per_node else resources.local_size,
        "cpus_per_task": per_task,
        "step_cpus": node_cpus if cpus and launcher.has_daemons else per_task,
        "node_cpus": node_cpus,
        "whole_nodes": node_cpus * 2 > (spec.site.cpus_per_node or float("inf")),
        "features": scheduler.features(spec),
        "notification": scheduler.notification(spec),
        "one_machine": scheduler.one_machine,
        "slots": resources.world_size if scheduler.one_machine else resources.local_size,
        "tells_launchers": scheduler.tells_launchers,
        "hydra_launcher": scheduler.hydra_launcher,
        "agents_by_mpirun": launchers.agents_by_mpirun(scheduler),
        "threads": spec.threads,
        "owner": scheduler.owner_variable or scheduler.job_id_variable,
        "preempted": scheduler.preempted_command,
        "attempt": attempt_expression(scheduler),
        "job_id": scheduler.job_id_variable,
        "launch_line": " ".join(shell_word(word) for word in launchers.launch_words(spec, run_dir, packed)),
        "port_line": tool("ports"),
        "ports_needed": _ports_needed(spec, scheduler),
        "rank_line": " ".join(shell_word(word) for word in launchers.rank_command(spec, run_dir)),
        "hostlist_line": tool("hostlist"),
        "hosts_line": tool("hosts", scheduler.name),
        "merge_line": tool("merge-records", str(run_dir / "timings")),
        "failure_line": tool("exit-code", str(run_dir)),
        "recover_line": tool("recover", str(run_dir)),
        "recovers": spec.survive.active,
        "stop_signal": stop_signal(spec),
        "signals_early": scheduler.signals_early,
        "end_signals": " ".join(scheduler.end_signals),
        "kills_ranks": LAUNCHERS[spec.launch.launcher].kills_ranks,
        **scheduler.request(spec),
    }


def _ports_needed(spec: JobSpec, scheduler: Scheduler) -> int:
    """Return how many ports a node needs from MASTER_PORT on: with servers, one for each process that runs there."""
    if not spec.served:
        return 1
    local, places = spec.resources.local_size, spec.ps.server_nodes or spec.resources.nodes
    of_a_node = local + -(-spec.ps.servers // places)
    return 1 + of_a_node * (spec.allocated_nodes if scheduler.one_machine else 1)


def attempt_expression(scheduler: Scheduler) -> str:
    """Return the shell expression that names one start of the job; a requeued job starts again under the same id."""
    return scheduler.job_id_variable + scheduler.restart_suffix


def tool(name: str, *arguments: str) -> str:
    """Return the shell words that run a tool of `hpcsynapse.job` in the job script, outside any container."""
    return " ".join(shell_word(word) for word in (*launchers.job_python(), name, *arguments))


def _through_script(spec: JobSpec) -> bool:
    """Tell whether the script has to take a signal: its launcher brings none, or it decides whether the run goes on."""
    return spec.survive.chain_until_done or not LAUNCHERS[spec.launch.launcher].brings_signals


def stop_signal(spec: JobSpec) -> dict[str, Any] | None:
    """Return what `--signal` says, and the trap the script needs when the signal comes to the script itself.

    The built-in trainer is stopped through the stop file, which works under every launcher, so the signal is sent to
    the batch shell (`B:`). A user's program gets it itself unless `B:` is asked for; under launchers that would not
    bring it to every rank, or would die of it, the script takes it and the ranks' wrappers pass it on.
    """
    text = spec.queue.signal
    if not text:
        return None
    prefix, _, rest = text.rpartition(":")
    to_ranks = bool(spec.command) and "B" not in prefix and _through_script(spec)
    if "B" not in prefix and (not spec.command or to_ranks):
        prefix = "B" + prefix
    name, _, lead = rest.partition("@")
    name = name.removeprefix("SIG")
    return {
        "value": f"{prefix}:{rest}" if prefix else rest,
        "trap": name if "B" in prefix else "",
        "to_ranks": to_ranks,
        "name": name,
        "after": max(1, int(spec.resources.walltime.total_seconds()) - int(lead or _LEAD)),
    }
