"""What servers do with gradients: rules, staleness, versions, and workers that come and go."""

from __future__ import annotations

import random
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from ps_servers import KEY, LIMIT, Running, Vector, at_once, running, until

from hpcsynapse.errors import TrainError
from hpcsynapse.runs import records
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer.optim import make_optimizer
from hpcsynapse.trainer.parameter_server import frames, greeting, state
from hpcsynapse.trainer.parameter_server.connection import WorkerConnection
from hpcsynapse.trainer.parameter_server.frames import CHUNK, NOBODY, Frame, Kind, RefusedError
from hpcsynapse.trainer.parameter_server.layout import FlatModel, part
from hpcsynapse.trainer.parameter_server.members import Members
from hpcsynapse.trainer.parameter_server.servers import Answer, Servers

pytestmark = pytest.mark.slow


def push(joined: tuple[FlatModel, Servers], value: float | torch.Tensor, step: int = 0, rate: float = 1.0) -> Answer:
    flat, servers = joined
    np.frombuffer(flat.gradient, np.float32)[:] = value
    return servers.push(step, rate, 8)


@pytest.mark.parametrize(("elements", "servers"), [(10, 1), (10, 3), (7, 7), (1_000_003, 4)])
def test_parts_are_even_and_complete(elements: int, servers: int) -> None:
    parts = [part(elements, number, servers) for number in range(servers)]
    assert [number for one in parts for number in one] == list(range(elements))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("rule", ["sgd", "adam", "adadelta", "rmsprop"])
@pytest.mark.parametrize("servers", [1, 3])
def test_every_rule_is_that_of_one_optimizer(tmp_path: Path, rule: str, servers: int) -> None:
    """Cut into chunks and servers, with a rate that changes."""
    size = CHUNK // 4 * 2 + 12345
    settings = {"optimizer": rule, "momentum": 0.9, "weight_decay": 1e-3}
    expected = Vector(size)
    optimizer = make_optimizer(TrainSpec(**settings), expected.parameters())
    generator = torch.Generator().manual_seed(0)
    with running(tmp_path, servers, **settings) as run:
        joined = run.join(0, Vector(size))
        for step, rate in enumerate((0.1, 0.05, 0.2)):
            gradient = torch.randn(size, generator=generator)
            expected.weight.grad = gradient
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
            answer = push(joined, gradient, step, rate)
            assert (answer.step, answer.staleness, answer.dropped) == (step + 1, 0, False)
        torch.testing.assert_close(joined[0].vector, expected.weight.detach(), rtol=1e-5, atol=1e-6)
        assert torch.equal(joined[0].vector, run.values())


def test_staleness_counts_the_updates_of_others(tmp_path: Path) -> None:
    with running(tmp_path, servers=2, workers=2) as run:
        first, second = run.join(0, Vector(50)), run.join(1, Vector(50))
        assert [push(second, 0.0, step).staleness for step in range(3)] == [0, 0, 0]
        assert push(first, 0.0).staleness == 3
        assert push(second, 0.0, 3).staleness == 1
        assert push(second, 0.0, 4).staleness == 0
        run.servers[0].records.flush()
        found = {record[0]: record for header, record in records.iterate(tmp_path, "ps") if header["rank"] == 0}
        assert [found[version][11] for version in range(1, 7)] == [0, 0, 0, 3, 1, 0]
        assert {record[9] for record in found.values()} == {8}
    assert list(records.iterate(tmp_path)) == [], "workers' records are asked for by default"


def test_a_gradient_beyond_the_bound_is_dropped(tmp_path: Path) -> None:
    with running(tmp_path, workers=2, ps={"staleness_limit": 1}) as run:
        first, second = run.join(0, Vector(50)), run.join(1, Vector(50))
        push(second, 0.5)
        push(second, 0.5, 1)
        before = run.values().clone()
        answer = push(first, 100.0)
        assert (answer.staleness, answer.dropped, answer.step) == (2, True, 1)
        assert torch.equal(run.values(), before) and torch.equal(first[0].vector, before)
        assert (run.counts("dropped"), run.counts("applied")) == ([1, 0], [0, 2])
        assert push(first, 0.5, 1).staleness == 0


def test_the_rate_of_a_stale_gradient_is_divided(tmp_path: Path) -> None:
    with running(tmp_path, workers=2, ps={"staleness_lr": True}) as run:
        first, second = run.join(0, Vector(50)), run.join(1, Vector(50))
        for step in range(3):
            push(second, 0.0, step)
        before = run.values().clone()
        push(first, 1.0, rate=0.8)
        torch.testing.assert_close(run.values(), before - 0.2)


def test_a_gradient_that_breaks_off_stays_as_far_as_it_came(tmp_path: Path) -> None:
    size = CHUNK // 4 * 2
    with running(tmp_path, workers=2) as run:
        joined = run.join(0, Vector(size))
        before = run.values().clone()
        dying = run.greet(1, joined[0])
        ones = np.ones(CHUNK // 4 + 1000, np.float32).tobytes()
        frames.send(dying, Frame(Kind.PUSH, 4 * size, rate=0.5), ones)
        until(lambda: bool(run.values()[0] != before[0]))
        dying.close()
        until(lambda: run.counts("interrupted") == [0, 1])
        half = CHUNK // 4
        torch.testing.assert_close(run.values()[:half], before[:half] - 0.5)
        assert torch.equal(run.values()[half:], before[half:])
        assert push(joined, 0.0).staleness == 1


@pytest.mark.parametrize("strategy", ["ps-async", "ps-sync"])
def test_a_worker_that_does_not_read_holds_up_nobody(tmp_path: Path, strategy: str) -> None:
    size = 8_000_000  # more bytes than sockets hold
    with running(tmp_path, workers=2, strategy=strategy, ps={"needed": 1}) as run:
        joined = run.join(0, Vector(size))
        stuck = run.greet(1, joined[0])
        pushing = threading.Thread(target=_push_blindly, args=(stuck, size), daemon=True)
        pushing.start()
        until(lambda: run.servers[0].updates.version > 0)
        for step in range(3):
            push(joined, 0.0, step)
        stuck.shutdown(socket.SHUT_RDWR)
        pushing.join(LIMIT)


def _push_blindly(connection: socket.socket, size: int) -> None:
    with suppress(OSError):
        frames.send(connection, Frame(Kind.PUSH, 4 * size), bytes(4 * size))


def test_a_round_takes_the_mean_of_all(tmp_path: Path) -> None:
    with running(tmp_path, servers=2, workers=3, strategy="ps-sync") as run:
        joined = [run.join(worker, Vector(50)) for worker in range(3)]
        before = run.values().clone()
        answers = at_once(*(lambda pair=pair: push(*pair) for pair in zip(joined, (1.0, 2.0, 6.0), strict=True)))
        assert [(answer.step, answer.dropped) for answer in answers] == [(1, False)] * 3
        torch.testing.assert_close(run.values(), before - 3.0)
        for flat, _ in joined:
            assert torch.equal(flat.vector, run.values())


def test_a_late_gradient_is_dropped_and_its_worker_goes_on_with_the_others(tmp_path: Path) -> None:
    with running(tmp_path, workers=3, strategy="ps-sync", ps={"needed": 2}) as run:
        joined = [run.join(worker, Vector(50)) for worker in range(3)]
        for step in range(3):
            at_once(*(lambda one=one, step=step: push(one, 0.5, step) for one in joined[:2]))
        before = run.values().clone()
        late = push(joined[2], 100.0, 0)
        assert (late.dropped, late.step, late.staleness) == (True, 3, 3)
        assert torch.equal(run.values(), before) and torch.equal(joined[2][0].vector, before)
        assert (run.counts("applied"), run.counts("dropped")) == ([3, 3, 0], [0, 0, 1])
        answers = at_once(*(lambda one=one: push(one, 0.5, 3) for one in joined[1:]))
        assert [(answer.step, answer.dropped) for answer in answers] == [(4, False)] * 2


@pytest.mark.parametrize("needed", [1, 2])
def test_every_update_is_one_step_and_takes_m_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: int
) -> None:
    """Whichever thread is held up between any two instructions."""
    total, about, numbers = 300, WorkerConnection.about, random.Random(0)

    def held_up(visit: WorkerConnection, frame: Frame) -> Frame:
        time.sleep(0.002 if numbers.random() < 0.03 else 0.0)
        return about(visit, frame)

    monkeypatch.setattr(WorkerConnection, "about", held_up)
    with running(tmp_path, workers=4, strategy="ps-sync", ps={"needed": needed}) as run:
        joined = [run.join(worker, Vector(50)) for worker in range(4)]

        def work(flat: FlatModel, servers: Servers) -> None:
            step = 0
            while step < total:
                if numbers.random() < 0.2:
                    step = max(step, min(servers.pull().step, total - 1))
                step += max(1, servers.push(step, 1.0, 8).step - step)
            servers.done()

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            assert at_once(*(lambda pair=pair: work(*pair) for pair in joined)) == [None] * 4
        finally:
            sys.setswitchinterval(before)
        updates = run.servers[0].updates
        assert updates.version == updates.reached >= total
        assert needed * total <= sum(run.counts("applied")) <= needed * updates.version


def test_a_gradient_that_is_sent_again_counts_once(tmp_path: Path) -> None:
    """A worker is lost while its gradient waits; it comes back and sends that gradient again."""
    with running(tmp_path, workers=2, strategy="ps-sync") as run:
        first, second = run.join(0, Vector(50)), run.join(1, Vector(50))
        before = run.values().clone()
        dying = run.greet(1, second[0])  # takes the place of worker 1's connection
        frames.send(dying, Frame(Kind.PUSH, 200, step=0, rate=1.0), np.full(50, 100.0, np.float32).tobytes())
        given = run.servers[0].updates._given
        until(lambda: set(given) == {1})
        lost = given[1]
        dying.close()

        def last() -> Answer:
            until(lambda: given[1] is not lost)
            return push(first, 1.0)

        answers = at_once(lambda: push(second, 2.0), last)
        assert [answer.step for answer in answers] == [1, 1]
        assert run.counts("applied") == [1, 1]
        torch.testing.assert_close(run.values(), before - 1.5)


def test_too_few_workers_left_is_an_error_that_names_them(tmp_path: Path) -> None:
    with running(tmp_path, workers=3, strategy="ps-sync", ps={"needed": 2, "rejoin_limit": 1.0}) as run:
        first, second, third = (run.join(worker, Vector(50)) for worker in range(3))
        third[1].done()
        third[1].leave()
        assert run.servers[0].updates.problem == ""
        second[1]._links[0].close()
        updates = run.servers[0].updates

        def end() -> None:
            until(lambda: bool(updates.problem))
            updates.fail(updates.problem)

        result, _ = at_once(lambda: push(first, 1.0), end)
        assert isinstance(result, RefusedError)
        assert run.addresses[0] in str(result) and "workers 1 were lost" in str(result)


@pytest.mark.parametrize("done", [True, False])
def test_those_who_are_done_are_not_waited_for_and_one_who_stops_stops_all(tmp_path: Path, done: bool) -> None:
    with running(tmp_path, workers=3, strategy="ps-sync") as run:
        joined = [run.join(worker, Vector(50)) for worker in range(3)]
        before = run.values().clone()

        def leave() -> None:
            until(lambda: len(run.servers[0].updates._given) == 2)
            if done:
                joined[2][1].done()
            joined[2][1].leave()

        waiting = at_once(lambda: push(joined[0], 1.0), lambda: push(joined[1], 1.0), leave)
        assert [(answer.step, answer.stopping) for answer in waiting[:2]] == [(int(done), not done)] * 2
        torch.testing.assert_close(run.values(), before - 1.0 if done else before)


def test_the_chief_is_the_first_who_is_here(tmp_path: Path) -> None:
    with running(tmp_path, workers=3) as run:
        joined = {worker: run.join(worker, Vector(50))[1] for worker in (2, 1)}
        assert (joined[2].pull().chief, joined[2].pull().others) == (1, 2)
        joined[1]._links[0].close()
        until(lambda: joined[2].pull().chief == 2)
        joined[0] = run.join(0, Vector(50))[1]
        assert joined[2].pull().chief == 0
        assert (joined[0].done().others, joined[2].done().others) == (2, 1)


def test_members_are_given_up_after_a_limit() -> None:
    members = Members(3, start_limit=0.3, rejoin_limit=0.1)
    assert (members.chief, members.pending, members.nobody_came) == (NOBODY, [0, 1, 2], True)
    visit = members.join(1)
    assert (members.chief, members.missing, members.nobody_came) == (1, [0, 2], False)
    assert members.lose(1, visit) and not members.over
    time.sleep(0.15)
    assert members.pending == [0, 2], "those who never came have longer"
    time.sleep(0.2)
    assert members.pending == [] and members.over
    again = members.join(1)
    assert members.pending == [1] and not members.over
    assert not members.lose(1, visit), "an older connection of a worker that is back"
    members.finish(1, left=True)
    assert members.over and not members.lose(1, again)


def saved(run: Running) -> dict[str, object]:
    return run.servers[0].updates.save()


def test_state_is_taken_up_bit_by_bit(tmp_path: Path) -> None:
    size = CHUNK // 4 + 100
    gradients = [torch.randn(size, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    settings = {"optimizer": "adam", "weight_decay": 1e-3}
    with running(tmp_path, **settings) as run:
        joined = run.join(0, Vector(size))
        for step in range(2):
            push(joined, gradients[step], step, 0.1)
        state.save(tmp_path / "server.pt", saved(run))
        for step in range(2, 4):
            push(joined, gradients[step], step, 0.1)
        expected = run.values().clone()
    content = state.load(tmp_path / "server.pt")
    assert content is not None
    with running(tmp_path, **settings) as run:
        flat = FlatModel(Vector(size), run.train)
        run.servers[0].hold(size, flat.digest).restore(content)
        joined = run.join(0, Vector(size))
        for step in range(2, 4):
            push(joined, gradients[step], step, 0.1)
        assert torch.equal(run.values(), expected)
        assert run.servers[0].updates.version == 4


def test_state_of_another_model_and_damaged_state(tmp_path: Path) -> None:
    with running(tmp_path) as run:
        run.join(0, Vector(50))
        state.save(tmp_path / "server.pt", saved(run))
    content = state.load(tmp_path / "server.pt")
    with running(tmp_path) as run, pytest.raises(TrainError, match="another number of parameters"):
        run.servers[0].hold(60, b"").restore(content)
    (tmp_path / "server.pt").write_bytes((tmp_path / "server.pt").read_bytes()[:500])
    assert state.load(tmp_path / "server.pt") is None
    assert state.load(tmp_path / "absent.pt") is None


@pytest.mark.parametrize(("strategy", "lost"), [("ps-async", 1), ("ps-sync", 0)])
def test_a_connection_that_breaks_is_made_anew(tmp_path: Path, strategy: str, lost: int) -> None:
    """ps-async: the gradient is lost with it; ps-sync: it is sent again."""
    with running(tmp_path, servers=2, strategy=strategy) as run:
        joined = run.join(0, Vector(50))
        before = run.values().clone()
        joined[1]._links[1].connection.shutdown(socket.SHUT_RDWR)
        answer = push(joined, 1.0)
        assert answer.step == 1 and not answer.dropped
        assert joined[1].lost_gradients == lost
        expected = before - torch.cat([torch.ones(25), torch.zeros(25) if lost else torch.ones(25)])
        torch.testing.assert_close(run.values(), expected)
        assert torch.equal(joined[0].vector, run.values())
        assert push(joined, 1.0, 1).staleness == 0


def test_a_server_that_lost_everything_is_given_the_parameters_of_a_worker(tmp_path: Path) -> None:
    with running(tmp_path) as run:
        joined = run.join(0, Vector(50))
        push(joined, 0.5, 6)
        before = joined[0].vector.clone()
        run.servers[0].updates = None
        joined[1]._links[0].close()
        push(joined, 1.0, 7)  # lost
        assert torch.equal(run.values(), before)
        assert push(joined, 1.0, 8).step == 9
        assert run.servers[0].members.first_step == 7
        run.servers[0].updates = None
        joined[1]._links[0].close()
        joined[1].pull()
        assert run.servers[0].members.first_step == 9, "whatever it was asked for"


def test_it_is_given_those_of_a_worker_that_has_received_none(tmp_path: Path) -> None:
    """On a device that is not the CPU what is sent lies in a buffer of its own."""

    class Staged(FlatModel):
        _shared = False

        def __init__(self, size: int, train: TrainSpec) -> None:
            super().__init__(Vector(size), train)
            self._values = torch.zeros(size)

    with running(tmp_path, workers=2) as run:
        run.join(0, Vector(50))
        flat = Staged(50, run.train)
        joined = Servers(
            run.addresses,
            KEY,
            flat,
            1,
            2,
            repeat=False,
            start_limit=5.0,
            wait_limit=LIMIT,
            rejoin_limit=5.0,
            alive=lambda: None,
            over=lambda: False,
        )
        run.servers[0].updates = None
        joined._links[0].close()
        joined.pull()
        assert torch.equal(run.values(), Vector(50).weight.detach())


def test_no_server_is_an_error_that_names_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flat = FlatModel(Vector(50), TrainSpec())
        begun = time.monotonic()
        with pytest.raises(TrainError, match=f"no parameter server at {address} within 0.5 s: .*refused"):
            Servers(
                [address],
                b"k" * 32,
                flat,
                0,
                1,
                repeat=False,
                start_limit=0.5,
                wait_limit=5,
                rejoin_limit=5,
                alive=lambda: None,
                over=lambda: False,
            )
        assert time.monotonic() - begun < 15


def test_a_server_that_falls_silent_is_not_waited_for_without_limit() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def greet_and_fall_silent() -> None:
        kept = []
        while True:
            kept.append(listener.accept()[0])
            frames.prepare(kept[-1], LIMIT)
            greeting.answer(kept[-1], KEY).welcome(Frame(Kind.WELCOME))

    threading.Thread(target=greet_and_fall_silent, daemon=True).start()
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    signs: list[None] = []
    flat = FlatModel(Vector(50), TrainSpec())
    servers = Servers(
        [address],
        KEY,
        flat,
        0,
        1,
        repeat=False,
        start_limit=5,
        wait_limit=0.3,
        rejoin_limit=1.0,
        alive=lambda: signs.append(None),
        over=lambda: False,
    )
    begun = len(signs)
    with pytest.raises(TrainError, match=f"{address} was lost again and again"):
        servers.pull()
    assert len(signs) > begun, "the watchdog is told that waiting goes on"


def test_more_servers_than_parameters(tmp_path: Path) -> None:
    with running(tmp_path, servers=3) as run, pytest.raises(TrainError, match="2 parameters are too few for 3"):
        run.join(0, Vector(2))


def test_parameters_become_views_of_one_vector() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2))
    model[0].bias.requires_grad_(False)
    before = [parameter.clone() for parameter in model.parameters()]
    flat = FlatModel(model, TrainSpec())
    assert flat.elements == 6 + 4 + 6
    for parameter, value in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
    model(torch.randn(4, 3)).sum().backward()
    model[2].bias.grad = None
    flat.gather()
    expected = torch.cat(
        [
            model[0].weight.grad.reshape(-1),
            model[1].weight.grad,
            model[1].bias.grad,
            model[2].weight.grad.reshape(-1),
            torch.zeros(2),
        ]
    )
    assert bytes(flat.gradient) == expected.numpy().tobytes()
    np.frombuffer(flat.values, np.float32)[:] = 7.0
    flat.place()
    assert model[2].bias[1].item() == 7.0 and model[0].bias[0].item() != 7.0


def test_other_types_are_refused() -> None:
    with pytest.raises(TrainError, match=r"weight of .* is torch\.float64"):
        FlatModel(torch.nn.Linear(2, 2).double(), TrainSpec())
