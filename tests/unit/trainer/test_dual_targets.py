"""The formulas of the dual nets: known answers, and the error of int8 messages."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hpcsynapse.trainer.dual import targets
from hpcsynapse.trainer.dual.multipliers import Multipliers

A = torch.tensor([[1.0, 2.0], [3.0, -4.0]])


def test_one_whole_step_is_the_gradient_over_beta() -> None:
    slope = torch.tensor([[2.0, 0.0], [-1.0, 4.0]])
    found = targets.descend(A, slope, pytest.fail, steps=1, rate=1.0, beta=4.0)
    torch.testing.assert_close(found, A - slope / 4)


def test_many_steps_find_the_proximal_point() -> None:
    """c(z) = 1/2 ||z - t||^2 has it at (t + beta (a + u)) / (1 + beta)."""
    wanted, multiplier, beta = torch.tensor([[5.0, 5.0], [0.0, 0.0]]), torch.full((2, 2), 0.5), 3.0
    found = targets.descend(A, A - wanted, lambda z: z - wanted, steps=200, rate=0.5, beta=beta, multiplier=multiplier)
    torch.testing.assert_close(found, (wanted + beta * (A + multiplier)) / (1 + beta))


def test_multiplier_adds_up_what_is_left() -> None:
    before, target = torch.ones(2, 2), torch.zeros(2, 2)
    torch.testing.assert_close(targets.next_multiplier(before, A, target, 1.0), A + 1)
    torch.testing.assert_close(targets.next_multiplier(before, A, target, 0.5), (A + 1) / 2)


def test_regression_has_the_loss_and_gradient_of_its_formula() -> None:
    difference, beta = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), 0.5
    output = torch.tensor([[0.0, 1.0], [2.0, 2.0]], requires_grad=True)
    expected = 0.5 * beta * (output - (A + difference)).square().sum(dim=1).mean()
    expected.backward()
    loss, gradient = targets.regression(output, A, difference.clone(), beta)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, output.grad)


@pytest.mark.parametrize(("norm", "divisor"), [("none", 1.0), ("one", 5.0), ("both", 13.0)])
def test_distances(norm: str, divisor: float) -> None:
    own, other = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 12.0]])
    expected = 0.5 * (9 + 64) / divisor
    assert float(targets.distance(own, other, norm)) == pytest.approx(expected)


@pytest.mark.parametrize("norm", ["one", "both"])
def test_normalised_distances_are_per_sample_as_the_source_wrote_them(norm: str) -> None:
    """Equations 9.4, whose norm is a constant of the sample without gradient, and 9.3, whose norm has one."""
    numbers = torch.Generator().manual_seed(0)
    own, other = (torch.randn(4, 3, 2, generator=numbers) * torch.tensor([1, 10, 100, 0.1]).view(4, 1, 1) for _ in "ab")
    own.requires_grad_()
    targets.distance(own, other, norm).backward()
    for number in range(4):
        a, b = own.detach()[number].clone().requires_grad_(), other[number]
        size = a.detach().square().sum() if norm == "one" else a.square().sum() + b.square().sum()
        ((a - b).square().sum() / size.sqrt() / (2 * 4)).backward()
        torch.testing.assert_close(own.grad[number], a.grad)


def test_distance_of_nothing_is_nothing() -> None:
    own = torch.zeros(2, 3, requires_grad=True)
    for norm in ("none", "one", "both"):
        assert float(targets.distance(own, torch.zeros(2, 3), norm).detach()) == 0


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float32, (3, 2, 5), elements=st.floats(-1e6, 1e6, width=32)))
def test_int8_is_off_by_half_a_unit_at_most(values: np.ndarray) -> None:
    difference = torch.from_numpy(values)
    message = targets.encode(difference)
    assert message.dtype == torch.int8 and message.shape == (3, 4 + 10)
    found = targets.decode(message, difference)
    assert found.shape == difference.shape
    unit = difference.abs().amax(dim=(1, 2)) / 127
    assert ((found - difference).abs().amax(dim=(1, 2)) <= 0.5001 * unit + 1e-30).all()


def test_int8_tells_of_values_that_are_no_numbers() -> None:
    difference = torch.tensor([[1.0, float("nan")], [1.0, 2.0], [float("inf"), 0.0]])
    found = targets.decode(targets.encode(difference), difference)
    assert not found[0].isfinite().all() and not found[2].isfinite().all()
    assert found[1].isfinite().all()


def test_multipliers_are_kept_by_sample() -> None:
    kept = Multipliers()
    assert not kept.take([5, 7], A).any()
    kept.put([5, 7], A)
    torch.testing.assert_close(kept.take([7, 6, 5], torch.zeros(3, 2)), torch.stack([A[1], torch.zeros(2), A[0]]))
    again = Multipliers()
    again.load(kept.state(), torch.device("cpu"))
    torch.testing.assert_close(again.take([5, 7], A), A)
    assert Multipliers().state() == {}
