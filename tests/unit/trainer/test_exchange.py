"""Flat buffers and numbers in 16 bits, without other ranks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hpcsynapse.trainer.engines.compression import HALVES, average, pack
from hpcsynapse.trainer.engines.ddp import bucket_size
from hpcsynapse.trainer.engines.flat import flat_gradients, flat_parameters


def summed(values: list[torch.Tensor], half: torch.dtype) -> torch.Tensor:
    """Return the mean over ranks as it comes out of a sum in 16 bits."""
    total = torch.zeros_like(values[0], dtype=half)
    for value in values:
        total += pack(value.clone(), len(values), half)
    return total.float()


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 1000])
def test_no_sum_overflows(ranks: int) -> None:
    values = torch.tensor([1e6, -1e6, float("inf"), 65504.0, 3.0, 0.0])
    found = summed([values] * ranks, torch.float16)
    assert torch.isfinite(found).all()
    assert (found[:4].abs() > 30_000).all()
    if ranks < 10:  # a sum is rounded once for every rank
        torch.testing.assert_close(found[4:], values[4:], rtol=0.01, atol=0.0)


def test_nan_is_not_hidden() -> None:
    for half in HALVES.values():
        assert pack(torch.tensor([float("nan")]), 2, half).isnan().all()


@pytest.mark.parametrize(("name", "digits"), [("fp16", 2**-11), ("bf16", 2**-8)])
def test_means_in_16_bits(name: str, digits: float) -> None:
    values = [torch.randn(1000, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    expected = (values[0] + values[1]) / 2
    limit = 1.5 * digits * (values[0].abs() + values[1].abs())
    assert ((summed(values, HALVES[name]) - expected).abs() <= limit).all()


def test_the_exchange_is_given_what_travels() -> None:
    seen: list[torch.Tensor] = []
    values = torch.tensor([1.0, 2.0])
    average(values, 2, seen.append, torch.float16)
    average(values, 2, seen.append)
    assert [tensor.dtype for tensor in seen] == [torch.float16, torch.float32]
    assert values.tolist() == [0.25, 0.5]


def mixed_model() -> nn.Module:
    """A model of two types and two memory layouts."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    return nn.ModuleDict({"a": convolution, "b": nn.Linear(5, 2).double(), "c": nn.Linear(3, 3)})


def test_parameters_become_views_of_one_buffer_a_type() -> None:
    model, expected = mixed_model(), mixed_model()
    buffers = flat_parameters(model.parameters())
    assert [(buffer.dtype, len(buffer)) for buffer in buffers] == [(torch.float32, 124), (torch.float64, 12)]
    for found, value in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(found, value)
        assert found.stride() == value.stride()
    for buffer in buffers:
        buffer.add_(1.0)
    model.load_state_dict({name: value + 2 for name, value in model.state_dict().items()})
    for found, value in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, value + 3)
    assert sum(float(buffer.sum()) for buffer in buffers) == pytest.approx(
        sum(float(value.detach().sum()) for value in model.parameters()), rel=1e-5
    )


def test_backward_adds_into_the_buffer() -> None:
    model = mixed_model()
    buffers = flat_gradients(model.parameters())
    sum(((parameter**2).sum() for parameter in model.parameters()), torch.zeros(())).backward()
    for parameter in model.parameters():
        torch.testing.assert_close(parameter.grad, 2 * parameter.detach())
    assert all(buffer.abs().min() > 0 for buffer in buffers)


def test_buckets_follow_the_size_of_the_model() -> None:
    sizes = [bucket_size(parameters * 4) for parameters in (1_000, 853_018, 25_557_032, 138_357_544)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 0.25 and sizes[-1] == 25.0
    assert bucket_size(853_018 * 4, nodes=1) == 25.0
