"""The state of a cut network as one checkpoint that any run of the whole model can load, and back."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpcsynapse.trainer.engines.base import Optimizer

_RATE = "lr_factor"  # of net1 alone, by its options


@dataclass(frozen=True, slots=True)
class Kept:
    """A state that was put together already, where a checkpoint takes a model or an optimizer."""

    state: dict[str, Any]

    def state_dict(self) -> dict[str, Any]:
        """Return it."""
        return self.state


def pack(content: Mapping[str, Any]) -> Tensor:
    """Return a table of states as a tensor of bytes."""
    file = io.BytesIO()
    torch.save(dict(content), file)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def unpack(message: Tensor) -> dict[str, Any]:
    """Return what was packed, in host memory; loading runs no code."""
    content: dict[str, Any] = torch.load(io.BytesIO(message.numpy().tobytes()), map_location="cpu", weights_only=True)
    return content


def join(first: dict[str, Any], second: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the optimizer's state of the whole from those of both halves, and what of the first lies outside it.

    The whole has one group of parameters, those of net1 before those of net2; net1's further groups, of its copy of
    net2's first layers, are the rest.
    """
    group = {key: value for key, value in first["param_groups"][0].items() if key != _RATE}
    count = len(group["params"])
    more = {key + count: value for key, value in second["state"].items()}
    own = {key: value for key, value in first["state"].items() if key < count}
    size = count + len(second["param_groups"][0]["params"])
    rest = {key - count: value for key, value in first["state"].items() if key >= count}
    return {"state": {**own, **more}, "param_groups": [{**group, "params": list(range(size))}]}, rest


def part(whole: dict[str, Any], optimizer: Optimizer, half: int, rest: Mapping[int, Any]) -> dict[str, Any]:
    """Return the state that one half's optimizer takes up from that of the whole, and from the rest for net1.

    Raises KeyError or ValueError when the whole has other parameters.
    """
    groups = optimizer.state_dict()["param_groups"]
    count, (group,) = len(groups[0]["params"]), whole["param_groups"]
    begin = len(group["params"]) - count if half else 0
    if begin < 0:
        raise ValueError(f"{len(group['params'])} parameters are fewer than the {count} of net{half + 1}")
    own = {key - begin: value for key, value in whole["state"].items() if begin <= key < begin + count}
    own |= {key + count: value for key, value in rest.items()}
    kept = {key: groups[0][key] for key in ("params", _RATE) if key in groups[0]}
    return {"state": own, "param_groups": [{**group, **kept}, *groups[1:]]}
