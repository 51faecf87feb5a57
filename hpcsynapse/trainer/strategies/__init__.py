"""Strategies by name: a literal table, imported on selection."""

from __future__ import annotations

from hpcsynapse.trainer.plugins import Entry, select
from hpcsynapse.trainer.strategies.base import Strategy

_PACKAGE = "hpcsynapse.trainer.strategies"
STRATEGIES: dict[str, Entry] = {
    "single": Entry(f"{_PACKAGE}.single", "Single", "one process; the baseline of every speedup"),
    "allreduce": Entry(f"{_PACKAGE}.allreduce", "AllReduce", "gradients averaged over all ranks before every update"),
    "allreduce-broadcast": Entry(
        f"{_PACKAGE}.allreduce_broadcast", "AllReduceBroadcast", "allreduce, and rank 0's parameters broadcast at times"
    ),
    "central": Entry(f"{_PACKAGE}.central", "Central", "gradients reduced to rank 0, updated there, then broadcast"),
    "sharded": Entry(f"{_PACKAGE}.sharded", "Sharded", "every rank holds a piece of the model and of the optimizer"),
    "pipeline": Entry(f"{_PACKAGE}.pipeline", "Pipeline", "a stage of the model a rank, micro-batches flow through"),
    "local-sgd": Entry(f"{_PACKAGE}.local_sgd", "LocalSGD", "parameters averaged every k steps"),
    "ps-async": Entry(f"{_PACKAGE}.ps_async", "PsAsync", "parameter servers apply every gradient at once"),
    "ps-sync": Entry(f"{_PACKAGE}.ps_sync", "PsSync", "parameter servers average m of n gradients"),
    "mixed": Entry(f"{_PACKAGE}.mixed", "Mixed", "all-reduce inside the node, parameter servers between nodes"),
    "admm": Entry(f"{_PACKAGE}.admm", "Admm", "one network cut in two, trained by alternation on two ranks"),
}


def strategy_class(name: str) -> type[Strategy]:
    """Return the class behind a name; raises TrainError for an unknown one."""
    found: type[Strategy] = select("strategy", STRATEGIES, name)
    return found
