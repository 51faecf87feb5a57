"""central, allreduce-broadcast, local-sgd and compressed gradients, on every engine with 2 and 4 ranks.

All cases of one engine and number of ranks are trained by the same processes (lockstep_ranks.py), over TCP, so that the
bytes which the records tell can be compared with what the algorithms send.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import lockstep_ranks
import numpy as np
import pytest
import torch
from jobs import HERE, LIMIT, Starter, need
from torch import Tensor
from torch.nn.functional import cross_entropy

from hpcsynapse import timing
from hpcsynapse.runs import records
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer.optim import make_optimizer

STEPS = 10
SGD = {"lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4, "clip_norm": 1.8}
PLAIN = {"lr": 0.02, "momentum": 0.0}
LARS = {"optimizer": "lars", "lr": 20.0, "momentum": 0.9, "weight_decay": 0.01, "decay_norms": False}
NORM = {"model": ["resnet56", {"n": 1}]}  # has buffers
WORLDS = [("ddp", 2), ("ddp", 4), ("mpi", 2), ("mpi", 4), ("horovod", 2), ("horovod", 4)]
REFUSED = [("horovod", "central"), ("horovod", "bf16")]  # on submission, see test_exchange_options.py
TCP = {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "tcp,self", "OMPI_MCA_btl_tcp_if_include": "lo"}


def case(
    name: str, strategy: str, train: dict[str, Any] = SGD, more: dict[str, Any] | None = None, **exchange: Any
) -> dict[str, Any]:
    return {
        "name": name,
        "train": {"strategy": strategy, **train},
        "exchange": exchange,
        "steps": STEPS,
        **(more or {}),
    }


def cases(engine: str, ranks: int) -> list[dict[str, Any]]:
    found = [
        case("allreduce", "allreduce"),
        case("broadcast", "allreduce-broadcast", broadcast_every=3),
        case("fp16", "allreduce", compression="fp16"),
        case("accumulated", "allreduce", {**SGD, "accumulate": 2}),
        case("local-1", "local-sgd", PLAIN, average_every=1),
        case("local-3", "local-sgd", average_every=3),
    ]
    if engine != "horovod":
        found += [case("central", "central"), case("bf16", "allreduce", compression="bf16")]
    if ranks == 4:
        return found
    found += [
        case("accumulated-broadcast", "allreduce-broadcast", {**SGD, "accumulate": 4}, broadcast_every=3),
        case("accumulated-local", "local-sgd", {**PLAIN, "accumulate": 2}, average_every=1),
        case("layerwise", "allreduce", LARS),
        case("scaled", "allreduce", {**SGD, "precision": "fp16"}),
        case("saved-scaled", "allreduce", {**SGD, "precision": "fp16"}, {"save": 4}),
        case("resumed-scaled", "allreduce", {**SGD, "precision": "fp16"}, {"resume": "saved-scaled"}),
        case("half", "allreduce", {**SGD, "precision": "bf16", "accumulate": 2}),
    ]
    if engine != "horovod":
        found += [
            case("accumulated-central", "central", {**SGD, "accumulate": 2}),
            case("layer-central", "central", LARS),
        ]
    adam = {"optimizer": "adam", "lr": 0.001}
    found += [
        case("drifted", "allreduce", more={"drift": 2, **NORM}),
        case("drifted-broadcast", "allreduce-broadcast", more={"drift": 2, **NORM}, broadcast_every=5),
        case(
            "drifted-whole",
            "allreduce-broadcast",
            more={"drift": 2, **NORM},
            broadcast_every=5,
            broadcast_optimizer=True,
        ),
        case("local-3-fp16", "local-sgd", average_every=3, compression="fp16"),
        case("local-3-validated", "local-sgd", more={"evaluate": 4}, average_every=3),
        case("local-3-late", "local-sgd", average_every=3, synchronous_steps=4),
        case("saved-local", "local-sgd", more={"save": 4}, average_every=3),
        case("resumed-local", "local-sgd", more={"resume": "saved-local"}, average_every=3),
    ]
    if engine != "horovod":
        found += [
            case("saved-central", "central", adam, {"save": 4}),
            case("resumed-central", "central", adam, {"resume": "saved-central"}),
            case("central-fp16", "central", compression="fp16"),
        ]
    if engine != "mpi":
        found += [
            case("overlapped", "local-sgd", average_every=3, overlap=True),
            case("overlapped-fp16", "local-sgd", average_every=3, overlap=True, compression="fp16"),
            case("overlapped-validated", "local-sgd", more={"evaluate": 4}, average_every=3, overlap=True),
            case("saved-overlapped", "local-sgd", more={"save": 4}, average_every=3, overlap=True),
            case("resumed-overlapped", "local-sgd", more={"resume": "saved-overlapped"}, average_every=3, overlap=True),
        ]
    if engine == "ddp":
        found += [
            case("powersgd", "allreduce", compression="powersgd", synchronous_steps=4),
            case("saved-early", "local-sgd", more={"save": 1}, synchronous_steps=4, compression="fp16"),
        ]
    return found


@dataclass(frozen=True)
class World:
    """What the ranks of one engine left."""

    folder: Path
    engine: str
    ranks: int

    def parameters(self, name: str) -> Tensor:
        """Return rank 0's parameters at the end of a case."""
        vector: Tensor = torch.load(self.folder / name / "model.pt", weights_only=True)
        return vector

    def each(self, name: str, what: str) -> list[Any]:
        """Return what every rank noted."""
        return [json.loads((self.folder / name / f"rank-{rank}.json").read_text())[what] for rank in range(self.ranks)]

    def same(self, name: str, what: str = "parameters") -> list[bool]:
        """Return after which steps all ranks held the same bits."""
        return [len(set(sums)) == 1 for sums in zip(*self.each(name, what), strict=True)]

    def sent(self, name: str) -> list[float]:
        """Return what each rank sent in a step on average, in sizes of the model (4 bytes an element)."""
        found = {}
        for part in records.parts(self.folder / name / "timings"):
            table = np.frombuffer(part.read(), dtype=[(field, kind) for field, kind, _ in timing.FIELDS])
            table = table[(table["flags"] & timing.PAUSE) == 0]
            assert len(table) == STEPS
            found[part.header["rank"]] = float(table["sent"].sum()) / 4 / SIZE / STEPS
        return [found[rank] for rank in range(self.ranks)]


WORLD_LIMIT = 4 * LIMIT  # seconds: one job makes the trainings of all cases, on two cores that others may use too
Worlds = Callable[[str, int], World]


@pytest.fixture(scope="module")
def worlds(references: Starter) -> Worlds:
    """Return the world of an engine and a number of ranks; it is run when a test first asks for it."""

    @cache
    def run(engine: str, ranks: int) -> World:
        need(engine)
        made = references.create(f"{engine}-{ranks}", ranks)
        (made.path / "cases.json").write_text(json.dumps(cases(engine, ranks)))
        program = [str(HERE / "lockstep_ranks.py"), str(made.path), engine]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in TCP.items():
                patch.setenv(name, value)
            references.start(made, ranks, "" if engine == "ddp" else "mpirun", program).succeed(WORLD_LIMIT)
        return World(made.path, engine, ranks)

    return run


class Replica:
    """One rank of a training that the tests work out by themselves, in this process."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.model = lockstep_ranks.new_model()
        self.clip = settings.get("clip_norm")
        rates = {key: value for key, value in settings.items() if key != "clip_norm"}
        self.optimizer = torch.optim.SGD(self.model.parameters(), **rates)

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        self.optimizer.zero_grad()
        cross_entropy(self.model(inputs), targets).backward()
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()

    @property
    def vector(self) -> Tensor:
        return torch.nn.utils.parameters_to_vector(self.model.parameters()).detach().clone()

    @vector.setter
    def vector(self, value: Tensor) -> None:
        torch.nn.utils.vector_to_parameters(value.clone(), self.model.parameters())


START = Replica(PLAIN).vector
SIZE = len(START)


@cache
def single(momentum: bool) -> Tensor:
    """Return the parameters of one process that takes the whole batch."""
    replica = Replica(SGD if momentum else PLAIN)
    for step in range(STEPS):
        replica.step(*lockstep_ranks.global_batch(step))
    return replica.vector


@cache
def simulated(ranks: int, every: int, overlap: bool) -> Tensor:
    """Return the parameters of local SGD, worked out one rank after the other."""
    replicas = [Replica(SGD) for _ in range(ranks)]
    snapshots: list[Tensor] = []

    def correct() -> None:
        for replica, snapshot in zip(replicas, snapshots, strict=False):
            replica.vector = replica.vector + torch.stack(snapshots).mean(0) - snapshot

    for step in range(1, STEPS + 1):
        for rank, replica in enumerate(replicas):
            replica.step(*(part[rank::ranks] for part in lockstep_ranks.global_batch(step - 1)))
        if step % every == 0:
            correct()
            snapshots = [replica.vector for replica in replicas]
            if not overlap:
                correct()
                snapshots = []
    correct()
    return torch.stack([replica.vector for replica in replicas]).mean(0)


def distance(found: Tensor, expected: Tensor) -> float:
    """Return how far two trainings ended apart, relative to the way that one has gone."""
    return float((found - expected).norm() / (expected - START).norm())


@pytest.mark.parametrize(
    ("engine", "ranks", "name"),
    [(*world, name) for world in WORLDS for name in ("central", "broadcast") if (world[0], name) not in REFUSED],
)
def test_parameters_are_those_of_single(worlds: Worlds, engine: str, ranks: int, name: str) -> None:
    world = worlds(engine, ranks)
    assert distance(world.parameters(name), single(momentum=True)) < 1e-4
    assert world.same(name) == [True] * STEPS


@pytest.mark.parametrize(("engine", "ranks"), [world for world in WORLDS if world[0] != "horovod"])
def test_central_keeps_optimizer_state_on_rank_0_alone(worlds: Worlds, engine: str, ranks: int) -> None:
    assert worlds(engine, ranks).each("central", "state") == [8] + [0] * (ranks - 1)
    if ranks == 2:
        assert worlds(engine, ranks).each("resumed-central", "state") == [24, 0]


@pytest.mark.parametrize("engine", ["ddp", "mpi", "horovod"])
def test_a_broadcast_ends_what_a_rank_has_drifted_by(worlds: Worlds, engine: str) -> None:
    """Rank 1's parameters and momentum are changed after step 2; the broadcast belongs to steps 4 and 9."""
    world = worlds(engine, 2)
    before, after = [True, True, True, False], [False] * 4
    assert world.same("drifted") == [*before, False, *after, False]
    assert world.same("drifted-broadcast") == [*before, True, *after, True]
    assert world.same("drifted-whole") == [*before, True, True, True, True, True, True]
    # Statistics of batch norm are a rank's own, but for the moment after a broadcast.
    assert world.same("drifted-broadcast", "buffers") == [False, False, False, False, True, *after, True]


@pytest.mark.parametrize(
    ("engine", "ranks", "half"),
    [(*world, half) for world in WORLDS for half in ("fp16", "bf16") if (world[0], half) not in REFUSED],
)
def test_half_as_many_bytes_for_nearly_the_same_parameters(worlds: Worlds, engine: str, ranks: int, half: str) -> None:
    world = worlds(engine, ranks)
    assert 1e-5 < distance(world.parameters(half), single(momentum=True)) < 0.02
    assert world.same(half) == [True] * STEPS
    assert sum(world.sent(half)) == pytest.approx(sum(world.sent("allreduce")) / 2, rel=0.02)


@pytest.mark.parametrize(("engine", "ranks"), WORLDS)
def test_accumulated_gradients_are_those_of_one_large_batch(worlds: Worlds, engine: str, ranks: int) -> None:
    world = worlds(engine, ranks)
    names = ["accumulated", *(["accumulated-broadcast"] if ranks == 2 else [])]
    names += ["accumulated-central"] if ranks == 2 and engine != "horovod" else []
    for name in names:
        assert distance(world.parameters(name), single(momentum=True)) < 1e-4
        assert world.same(name) == [True] * STEPS
    assert sum(world.sent("accumulated")) == pytest.approx(sum(world.sent("allreduce")), rel=0.02)  # not once a part
    if ranks == 2:
        assert distance(world.parameters("accumulated-local"), single(momentum=False)) < 1e-4


@cache
def single_layerwise() -> Tensor:
    """Return the parameters of one process under LARS; the rule itself has tests of its own."""
    replica = Replica(PLAIN)
    replica.optimizer = make_optimizer(TrainSpec(**LARS), replica.model.parameters())
    for step in range(STEPS):
        replica.step(*lockstep_ranks.global_batch(step))
    return replica.vector


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        ("ddp", "layerwise"),
        ("mpi", "layerwise"),
        ("horovod", "layerwise"),
        ("ddp", "layer-central"),
        ("mpi", "layer-central"),
    ],
)
def test_layerwise_rates_see_the_averaged_gradient(worlds: Worlds, engine: str, name: str) -> None:
    world = worlds(engine, 2)
    assert distance(world.parameters(name), single_layerwise()) < 1e-4
    assert world.same(name) == [True] * STEPS


@pytest.mark.parametrize("engine", ["ddp", "mpi", "horovod"])
def test_half_precision_on_every_engine(worlds: Worlds, engine: str) -> None:
    world = worlds(engine, 2)
    for name, limit in (("half", 0.1), ("scaled", 0.02)):
        assert 1e-6 < distance(world.parameters(name), single(momentum=True)) < limit
        assert world.same(name) == [True] * STEPS
    assert world.each("resumed-scaled", "end") == world.each("saved-scaled", "end") == world.each("scaled", "end")


def test_powersgd_begins_after_the_synchronous_steps(worlds: Worlds) -> None:
    world = worlds("ddp", 2)
    whole, compressed = (world.each(name, "parameters")[0] for name in ("allreduce", "powersgd"))
    assert [one == other for one, other in zip(whole, compressed, strict=True)] == [True] * 4 + [False] * 6
    assert world.same("powersgd") == [True] * STEPS
    assert distance(world.parameters("powersgd"), single(momentum=True)) < 0.4
    # 4 whole steps of 10, then a column and a row of each matrix.
    assert sum(world.sent("powersgd")) == pytest.approx(0.4 * sum(world.sent("allreduce")), rel=0.05)


@pytest.mark.parametrize(
    ("engine", "ranks", "name", "expected"),
    [
        ("ddp", ranks, name, expected)
        for ranks in (2, 4)
        for name, expected in (
            ("allreduce", 2 * (ranks - 1)),
            ("central", 2 * (ranks - 1)),
            ("broadcast", (2 + 3 / STEPS) * (ranks - 1)),
        )
    ]
    + [("mpi", ranks, "central", 2 * (ranks - 1)) for ranks in (2, 4)],
)
def test_bytes_sent_are_those_of_the_closed_forms(
    worlds: Worlds, engine: str, ranks: int, name: str, expected: float
) -> None:
    """In sizes of the model, a step, over all ranks; 3 of 10 steps broadcast; 2 % allow for control messages."""
    sent = worlds(engine, ranks).sent(name)
    assert sum(sent) == pytest.approx(expected, rel=0.02)
    if name == "allreduce":  # a ring: every rank alike
        assert sent == pytest.approx([2 * (ranks - 1) / ranks] * ranks, rel=0.02)


@pytest.mark.parametrize(("engine", "ranks"), WORLDS)
def test_local_sgd_averages_every_k_steps(worlds: Worlds, engine: str, ranks: int) -> None:
    world = worlds(engine, ranks)
    assert distance(world.parameters("local-1"), single(momentum=False)) < 1e-4
    assert world.same("local-1") == [True] * STEPS
    expected = simulated(ranks, 3, overlap=False)
    assert distance(world.parameters("local-3"), expected) < 1e-4
    assert world.same("local-3") == [step % 3 == 0 for step in range(1, STEPS + 1)]
    assert len(set(world.each("local-3", "end"))) == 1
    assert sum(world.sent("local-3")) == pytest.approx(0.3 * sum(world.sent("allreduce")), rel=0.03)


@pytest.mark.parametrize("engine", ["ddp", "mpi", "horovod"])
def test_differences_of_parameters_in_16_bits(worlds: Worlds, engine: str) -> None:
    world = worlds(engine, 2)
    assert 1e-6 < distance(world.parameters("local-3-fp16"), simulated(2, 3, overlap=False)) < 0.01
    assert world.same("local-3-fp16") == world.same("local-3")
    assert sum(world.sent("local-3-fp16")) == pytest.approx(sum(world.sent("local-3")) / 2, rel=0.03)


@pytest.mark.parametrize("engine", ["ddp", "horovod"])
def test_overlapped_local_sgd(worlds: Worlds, engine: str) -> None:
    """A snapshot's correction is added k steps later; the end is the mean of all ranks."""
    world = worlds(engine, 2)
    expected = simulated(2, 3, overlap=True)
    assert (
        distance(world.parameters("overlapped"), expected) < 1e-4 < distance(expected, simulated(2, 3, overlap=False))
    )
    assert 1e-6 < distance(world.parameters("overlapped-fp16"), expected) < 0.01
    assert world.same("overlapped") == [False] * STEPS
    assert len(set(world.each("overlapped", "end"))) == 1


@pytest.mark.parametrize("engine", ["ddp", "mpi", "horovod"])
def test_local_sgd_after_synchronous_steps(worlds: Worlds, engine: str) -> None:
    world = worlds(engine, 2)
    late, synchronous = (world.each(name, "parameters")[0] for name in ("local-3-late", "allreduce"))
    assert late[:4] == synchronous[:4]
    assert world.same("local-3-late") == [True] * 4 + [False, True, False, False, True, False]


def test_a_checkpoint_before_local_steps_changes_nothing(worlds: Worlds) -> None:
    """All ranks hold the same then; a difference to the beginning, in 16 bits, would lose digits of the training."""
    world = worlds("ddp", 2)
    saved, plain = (world.each(name, "parameters")[0] for name in ("saved-early", "fp16"))
    assert saved[:4] == plain[:4]
    assert world.same("saved-early")[:4] == [True] * 4


@pytest.mark.parametrize(
    ("engine", "name"),
    [("ddp", "local-3"), ("mpi", "local-3"), ("horovod", "local-3"), ("ddp", "overlapped"), ("horovod", "overlapped")],
)
def test_validation_leaves_local_training_as_it_was(worlds: Worlds, engine: str, name: str) -> None:
    world = worlds(engine, 2)
    assert world.each(f"{name}-validated", "parameters") == world.each(name, "parameters")


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        ("ddp", "central"),
        ("mpi", "central"),
        ("ddp", "local"),
        ("mpi", "local"),
        ("horovod", "local"),
        ("ddp", "overlapped"),
        ("horovod", "overlapped"),
    ],
)
def test_a_resumed_run_is_the_run_that_was_not_interrupted(worlds: Worlds, engine: str, name: str) -> None:
    world = worlds(engine, 2)
    whole, resumed = (world.each(f"{kind}-{name}", "parameters") for kind in ("saved", "resumed"))
    assert [sums[5:] for sums in whole] == resumed
    assert world.each(f"saved-{name}", "end") == world.each(f"resumed-{name}", "end")
