"""What follows the end of a start: every case of the ladder, and its promises in a hundred thousand simulated runs."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field, replace

import pytest

from hpcsynapse.job.recovery import GAVE_UP, Action, Cause, Decision, End, Start, decide
from hpcsynapse.spec.survive import SurviveOptions

NODES = ("a", "b", "c")
OPTIONS = SurviveOptions(restarts=2, spares=1, min_nodes=1, requeues=1, chain_until_done=True, max_jobs=4)


def start(job: str = "1", mark: int = -1, cause: Cause | None = None, action: Action | None = None) -> Start:
    return Start(job=job, mark=mark, cause=cause, action=action)


def end(cause: Cause = Cause.FAILED, mark: int = 5, alive: tuple[str, ...] = NODES) -> End:
    return End(cause=cause, mark=mark, alive=alive)


def failed(job: str = "1", mark: int = -1, action: Action = Action.RESTART) -> Start:
    return start(job, mark, Cause.FAILED, action)


def test_the_rungs_in_their_order() -> None:
    assert decide(OPTIONS, 2, [start()], end()).hosts == ("a", "b")
    one_left = decide(OPTIONS, 2, [start()], end(alive=("c",)))
    assert (one_left.action, one_left.hosts) == (Action.RESTART, ("c",))
    assert "on 1 of 2 nodes" in one_left.reason
    assert decide(OPTIONS, 2, [start()], end(alive=())).action is Action.QUEUE
    spent = [failed(mark=1), failed(mark=2), start(mark=3)]
    assert decide(OPTIONS, 2, spent, end()).action is Action.QUEUE
    spent = [failed(mark=1, action=Action.QUEUE), start("2", mark=3)]
    assert decide(OPTIONS, 2, spent, end(alive=())).action is Action.END
    without = replace(OPTIONS, min_nodes=None)
    assert decide(without, 2, [start()], end(alive=("a",))).action is Action.QUEUE


@pytest.mark.parametrize("cause", [Cause.FINISHED, Cause.ASKED, Cause.TOLD])
def test_what_has_ended_for_good_never_starts_again(cause: Cause) -> None:
    """By enumeration of all options and of all that starts may have been."""
    counts = (0, 1, 3)
    for restarts, spares, requeues, chain in itertools.product(counts, (0, 1), counts, (False, True)):
        options = SurviveOptions(
            restarts=restarts or (1 if spares else 0), spares=spares, requeues=requeues, chain_until_done=chain
        )
        for before in range(3):
            starts = [failed(str(number), number) for number in range(before)] + [start("9", before)]
            assert decide(options, 2, starts, end(cause, 99)) == Decision(action=Action.END)


def test_nothing_that_was_not_asked_for() -> None:
    for cause in Cause:
        assert decide(SurviveOptions(), 2, [start()], end(cause)) == Decision(action=Action.END)
    assert decide(SurviveOptions(requeues=1), 2, [start()], end(Cause.TIME)).action is Action.END
    assert decide(SurviveOptions(chain_until_done=True), 2, [start()], end()).action is Action.END


@pytest.mark.parametrize("cause", [Cause.FAILED, Cause.TIME])
def test_three_starts_without_a_newer_checkpoint_are_enough(cause: Cause) -> None:
    options = replace(OPTIONS, restarts=9, requeues=9)
    starts = [failed(mark=3), failed(mark=5), failed(mark=5), start(mark=5)]
    given_up = decide(options, 2, starts, end(cause, 5))
    assert (given_up.action, given_up.code) == (Action.END, GAVE_UP)
    assert given_up.reason == "no progress: 3 starts in a row without a newer checkpoint"
    assert decide(options, 2, starts[1:], end(cause, 6)).action is not Action.END
    assert decide(options, 2, starts[2:], end(cause, 5)).action is not Action.END


def test_starts_that_the_queue_cut_short_do_not_count() -> None:
    starts = [start("1", 5, Cause.TOLD, Action.END) for _ in range(9)] + [start("2", 5)]
    assert decide(OPTIONS, 2, starts, end()).action is Action.RESTART


def test_a_chain_has_an_end() -> None:
    jobs = [start(str(number), number, Cause.TIME, Action.QUEUE) for number in range(3)]
    assert decide(OPTIONS, 2, jobs, end(Cause.TIME)).action is Action.QUEUE
    over = decide(OPTIONS, 2, [*jobs, start("3", 3)], end(Cause.TIME))
    assert over.action is Action.END and "4 jobs" in over.reason


@dataclass
class World:
    """A run, its queue and its machines by seed: every start makes some progress or none, and ends somehow."""

    seed: int
    starts: list[Start] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)  # jobs of the run that were ever queued
    over: Cause | None = None

    def __post_init__(self) -> None:
        self.dice = dice = random.Random(self.seed)
        spares, self.nodes = dice.choice((0, 0, 1, 2)), dice.randint(1, 4)
        self.options = SurviveOptions(
            restarts=dice.choice((1, 2, 5)) if spares else dice.choice((0, 1, 3)),
            spares=spares,
            requeues=dice.choice((0, 1, 3)),
            chain_until_done=dice.random() < 0.5,
            max_jobs=dice.choice((1, 3, 6)),
            no_progress=dice.choice((1, 3)),
        )
        self.total, self.mark = dice.choice((1, 20, 200)), -1
        # A run that crashes always, one on bad machines, one on good ones.
        self.progress, self.losses = dice.choice((0.0, 0.5, 1.0)), dice.choice((0.0, 0.1, 0.6))

    def live(self) -> None:
        """Go through the whole life of the run and check what is promised on the way."""
        self._new_job()
        while self.over is None:
            began = self.mark
            cause = self._start()
            decision = decide(self.options, self.nodes, self.starts, end(cause, self.mark, tuple(self.alive)))
            self.starts[-1] = replace(self.starts[-1], cause=cause, action=decision.action)
            self._check(cause, began, decision)
            if decision.action is Action.RESTART:
                self.starts.append(start(self.queued[-1], self.mark))
            elif decision.action is Action.QUEUE:
                self._new_job()
            else:
                self.over = cause

    def _new_job(self) -> None:
        self.queued.append(str(len(self.queued)))
        self.alive = [str(number) for number in range(self.nodes + self.options.spares)]
        self.starts.append(start(self.queued[-1], self.mark))

    def _start(self) -> Cause:
        dice = self.dice
        if dice.random() < self.progress:
            self.mark = min(self.total, max(self.mark, 0) + dice.randint(1, 9))
        if self.mark >= self.total:
            return Cause.FINISHED
        self.alive = [host for host in self.alive if dice.random() >= self.losses]
        return dice.choices([Cause.FAILED, Cause.TIME, Cause.TOLD, Cause.ASKED], [6, 3, 0.3, 0.3])[0]

    def _check(self, cause: Cause, began: int, decision: Decision) -> None:
        options = self.options
        assert len(self.starts) <= options.max_jobs * (1 + options.restart_limit), "bounded"
        assert len(self.queued) == len(set(self.queued)) <= options.max_jobs, "no job twice, no job too many"
        if cause in (Cause.FINISHED, Cause.ASKED, Cause.TOLD):
            assert decision.action is Action.END, "what has ended stays so"
        if decision.action is Action.RESTART:
            assert set(decision.hosts) <= set(self.alive), "never on a node that is lost"
            assert len(decision.hosts) == self.nodes or not options.moves
        last = [one.mark for one in self.starts[-options.no_progress :]]
        if len(last) == options.no_progress and min(last) == self.mark and cause in (Cause.FAILED, Cause.TIME):
            idle = [one for one in self.starts[-options.no_progress :] if one.cause is not Cause.TOLD]
            assert len(idle) < options.no_progress or decision.action is Action.END, "no progress, no start"
        assert self.mark >= began


@pytest.mark.slow
def test_a_hundred_thousand_runs() -> None:
    ends = dict.fromkeys(Cause, 0)
    for seed in range(100_000):
        world = World(seed)
        try:
            world.live()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        assert world.over is not None
        ends[world.over] += 1
    assert min(ends.values()) > 1000, f"the simulation reaches every end: {ends}"
