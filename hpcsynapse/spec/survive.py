"""How a run comes back after a failure or its time limit: in its job, on other nodes of it, or by another job."""

from __future__ import annotations

from dataclasses import dataclass

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.fields import at_least, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SurviveOptions:
    """How a run comes back; each way is taken at most so many times, and only while there are newer checkpoints."""

    restarts: int | None = setting(
        None,
        "starts again in the same job after a rank or a node was lost, at most [0; 3 with --spares or --min-nodes]",
        check=at_least(0, 1000),
        option="job-restarts",
    )
    spares: int = setting(
        0, "nodes beside those of the ranks, which take the place of lost ones (srun)", check=at_least(0, 10_000)
    )
    min_nodes: int | None = setting(
        None, "go on with so few nodes where no more are left (srun, built-in trainer)", check=at_least(1, 100_000)
    )
    requeues: int = setting(0, "times that the run is queued again after a failure, at most", check=at_least(0, 1000))
    chain_until_done: bool = setting(
        False, "at its time limit the run is queued again, until it is done; sends --signal [USR1@120]"
    )
    max_jobs: int = setting(20, "jobs that a run may have in all, by itself", check=at_least(1, 10_000))
    no_progress: int = setting(
        3, "starts in a row without a newer checkpoint that end the run, with exit code 93", check=at_least(1, 1000)
    )

    def __post_init__(self) -> None:
        fields.validate("survive", self)
        if self.restarts == 0 and self.moves:
            raise SpecError("survive.restarts = 0, but spares and min_nodes are for starts again in the same job")

    @property
    def moves(self) -> bool:
        """Whether the ranks may start on other nodes of their job, or on fewer."""
        return bool(self.spares or self.min_nodes)

    @property
    def restart_limit(self) -> int:
        """Starts again in the same job, at most."""
        return self.restarts if self.restarts is not None else 3 if self.moves else 0

    @property
    def queues(self) -> bool:
        """Whether the run may be queued again by its own job."""
        return bool(self.requeues or self.chain_until_done)

    @property
    def active(self) -> bool:
        """Whether anything at all is done after a start has ended."""
        return bool(self.restart_limit) or self.queues
