"""Bytes that live at once, with known answers; the same on shapes alone as on real tensors."""

import itertools
import sys

import pytest
import torch
from torch import nn

from hpcsynapse.spec.training import DualOptions, TrainSpec
from hpcsynapse.trainer import models, optim
from hpcsynapse.trainer.dual import memory

pytestmark = pytest.mark.slow

PLAIN = TrainSpec(momentum=0.0)


def chain(*widths: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(one, two, bias=False) for one, two in itertools.pairwise(widths)))


def batch(size: int, width: int, classes: int = 2):
    return torch.empty(size, width, device="meta"), torch.empty(size, dtype=torch.int64, device="meta")


def test_tensors_are_counted_while_they_live_and_views_not_at_all() -> None:
    with memory.PeakBytes() as counter:
        kept = torch.zeros(100)  # 400 bytes
        assert counter.live == 400
        view = kept[10:].reshape(9, 10)
        assert counter.live == 400
        passing = view + 1  # 360 more
        assert counter.live == counter.peak == 760
        del passing
        assert (counter.live, counter.peak) == (400, 760)
        del kept, view
    assert counter.live == 0


def test_step_of_one_layer() -> None:
    """Most lives while the sum is made; the gradient comes when the output has gone."""
    layer, inputs = nn.Linear(4, 3, bias=False).to("meta"), torch.empty(5, 4, device="meta")
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)

    def step() -> None:
        optimizer.zero_grad()
        layer(inputs).sum().backward()
        optimizer.step()

    parameters, batch, output, loss = 12 * 4, 20 * 4, 15 * 4, 4
    assert memory.peak_bytes(step, [*layer.parameters(), inputs]) == parameters + batch + output + loss


def test_shapes_alone_tell_what_real_tensors_take() -> None:
    real = models.create("dualnet", {}, (1, 8, 8), 10)
    found = []
    for device in ("cpu", "meta"):
        model = memory.blueprint(real) if device == "meta" else real
        optimizer = optim.make_optimizer(TrainSpec(optimizer="adam"), model.parameters())
        inputs = torch.zeros(6, 1, 8, 8, device=device)
        labels = torch.zeros(6, dtype=torch.int64, device=device)

        def step(model=model, optimizer=optimizer, inputs=inputs, labels=labels) -> None:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()

        found.append(memory.peak_bytes(step, [*model.parameters(), inputs, labels]))
    assert found[0] == found[1]


def test_a_blueprint_takes_no_memory_and_leaves_the_model_alone() -> None:
    model = models.create("resnet56", {"n": 1}, (3, 8, 8), 10)
    plan = memory.blueprint(model)
    assert all(value.device.type == "meta" for value in (*plan.parameters(), *plan.buffers()))
    assert all(value.device.type == "cpu" for value in (*model.parameters(), *model.buffers()))


def test_parts_of_a_wide_network() -> None:
    """Where parameters are all that counts, each half takes its own, and momentum and gradient as much again."""
    plan, options = memory.blueprint(chain(100, 1000, 200, 2)), DualOptions(cut="0")
    single, first, second = (
        memory.part_bytes(plan, part, TrainSpec(), options, *batch(1, 100)) for part in memory.PARTS
    )
    assert single == pytest.approx(3 * 4 * (100_000 + 200_000 + 400), rel=0.02)
    assert first == pytest.approx(3 * 4 * 100_000, rel=0.02)
    assert second == pytest.approx(3 * 4 * 200_400, rel=0.02)


@pytest.mark.parametrize(
    "options",
    [
        DualOptions(),
        DualOptions(one_batch_late=True, int8_targets=True),
        DualOptions(method="frozen"),
        DualOptions(net1_steps=3, target_steps=3, net2_steps=2),
        DualOptions(method="admm"),
        DualOptions(method="distance"),
    ],
    ids=lambda options: options.label(),
)
def test_every_method_is_measured(options: DualOptions) -> None:
    plan = memory.blueprint(models.create("dualnet", {}, (1, 8, 8), 10))
    inputs, labels = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    found = memory.survey(plan, PLAIN, options, inputs, labels)
    assert found["batches"] == [4, 8]
    for part in memory.PARTS:
        low, high = found[part]
        assert 0 < low < high < 2 * low


def test_frozen_net1_needs_less_than_one_that_learns() -> None:
    plan = memory.blueprint(models.create("dualnet", {}, (1, 28, 28), 10))
    inputs = torch.empty(50, 1, 28, 28, device="meta"), torch.empty(50, dtype=torch.int64, device="meta")
    frozen, learning = (
        memory.part_bytes(plan, "net1", PLAIN, DualOptions(method=method), *inputs) for method in ("frozen", "proximal")
    )
    assert frozen < 0.6 * learning


@pytest.mark.parametrize("limit", [0, 99, 100, 1099, 1100, 54321, 10**6])
def test_largest_batch(limit: int) -> None:
    """With 100 bytes and 10 a sample."""
    assert memory.largest_batch(limit, lambda batch: 100 + 10 * batch) == max(0, (limit - 100) // 10)


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["memory", "--shape", "1,8,8", *words])
    memory.main()


@pytest.mark.slow
def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, "--limit", "16M")
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["part", "limit_bytes", "batch_50_bytes", "largest_batch"]
    assert [row[0] for row in rows[1:]] == ["single", "net1", "net2"]
    plan = memory.blueprint(models.create("dualnet", {}, (1, 8, 8), 10))
    for part, limit, fifty, largest in rows[1:]:
        found = [
            memory.part_bytes(
                plan,
                part,
                TrainSpec(),
                DualOptions(),
                torch.empty(size, 1, 8, 8, device="meta"),
                torch.empty(size, dtype=torch.int64, device="meta"),
            )
            for size in (50, int(largest), int(largest) + 1)
        ]
        assert found[0] == int(fifty) and found[1] <= int(limit) == 16 << 20 < found[2]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--limit", "lots"], "'lots' is not a size"),
        (["--limit", "1G", "--cut", "conv9"], "no layer 'conv9'"),
        (["--limit", "1G", "--model", "nothing"], "'nothing' is not known"),
    ],
)
def test_wrong_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words, text: str) -> None:
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, *words)
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert text in shown.err and "net1" not in shown.out
