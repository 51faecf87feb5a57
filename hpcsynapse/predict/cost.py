"""What an exchange costs: alpha seconds a round and beta seconds for a whole model over one link.

    ring       2 (R-1) rounds, 2 (R-1)/R models     ring all-reduce: gloo, NCCL's rings, Horovod
    tree       2 log2 R rounds, 2 (R-1)/R models    recursive halving and doubling, NCCL's double trees
    binomial   2 log2 R rounds, 2 log2 R models     a reduction and a broadcast along binomial trees
    star       2 (R-1) rounds, 2 (R-1) models       one rank's link carries all: the closed form of `predict comms`
    servers    2 rounds, 2 max(1, R/p) models       p parameter servers that wait for R workers; the busier link counts
    queue      2 rounds, and a queue                R workers that never wait for one another at p servers

(Thakur, Rabenseifner and Gropp, Int. J. High Performance Computing Applications 19, 2005.) In the queue a push and a
pull occupy the servers for 2/p models, and a worker that computes for Z seconds in between finds others there before
it: the closed network of one queue and one delay, by the approximation of Bard and Schweitzer (Lazowska and others,
Quantitative System Performance, 1984, section 6.4), whose response time solves a quadratic equation.

Ranks are counted as what takes part: for `queue` of strategy mixed these are nodes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
COLLECTIVES = ("ring", "tree", "binomial", "star")  # that can be asked for in the place of a strategy's own
SERVERS, QUEUE = "servers", "queue"


def rounds(kind: str, ranks: Floats) -> Floats:
    """Return how often alpha is paid in a step; 0 for one rank, but for a worker of parameter servers."""
    if kind in (SERVERS, QUEUE):
        return np.full_like(ranks, 2.0)
    return np.asarray(2 * (ranks - 1) if kind in ("ring", "star") else 2 * np.ceil(np.log2(ranks)))


def volume(kind: str, ranks: Floats, servers: int = 1) -> Floats:
    """Return how many models pass the busiest link in a step; for `queue`: while no other worker is there."""
    if kind == SERVERS:
        return np.asarray(2 * np.maximum(1.0, ranks / servers))
    if kind == QUEUE:
        return np.full_like(ranks, 2 / servers)
    if kind in ("ring", "tree"):
        return np.asarray(2 * (ranks - 1) / ranks)
    return np.asarray(2 * np.ceil(np.log2(ranks)) if kind == "binomial" else 2 * (ranks - 1))


def transfer(kind: str, ranks: Floats, beta: Floats, think: Floats, servers: int = 1) -> tuple[Floats, Floats]:
    """Return the seconds that the busiest link takes, waiting included, and how they grow with beta.

    `beta` and `think` (what a worker does between two exchanges, s) need a shape that goes with that of `ranks`.
    """
    alone = volume(kind, ranks, servers)
    service = beta * alone
    if kind != QUEUE:
        return service, alone + 0 * service
    # With n workers R = D + D (n-1) R / (Z + R), from which R^2 + (Z - n D) R - D Z = 0.
    rest = ranks * service - think
    root = np.sqrt(rest**2 + 4 * service * think)
    growth = (ranks + np.where(root > 0, (ranks * rest + 2 * think) / np.where(root > 0, root, 1.0), 1.0)) / 2
    return (rest + root) / 2, growth * alone
