"""Cutting a sequential network in two, in place: what a rank does not keep is let go of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

from torch import nn

from hpcsynapse.errors import TrainError
from hpcsynapse.fields import nearest


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a network: its name with dots, itself, and the Sequential that holds it under `key`."""

    name: str
    module: nn.Module
    parent: nn.Module
    key: str


@dataclass(frozen=True, slots=True)
class Cut:
    """A place at which a model can be cut: the layers in front of it (net1) and behind it (net2)."""

    model: nn.Sequential
    place: str
    halves: tuple[tuple[Layer, ...], tuple[Layer, ...]]

    def bridge(self) -> tuple[nn.Module, ...]:
        """Return the first layers of net2, up to the first one with parameters: what `distance` compares behind."""
        found = []
        for layer in self.halves[1]:
            found.append(layer.module)
            if any(True for _ in layer.module.parameters()):
                break
        return tuple(found)

    def keep(self, half: int) -> nn.Sequential:
        """Remove the layers of the other half from the model, in place, and return it.

        Parameters keep their names, so that the states of both halves together are that of the whole.
        """
        for layer in self.halves[1 - half]:
            layer.parent._modules.pop(layer.key, None)
        if half == 1:  # overwriting what came in would change what net1 is answered, and autograd refuses it
            overwrite_nothing(self.halves[1][0].module)
        return self.model


def find_cut(model: nn.Module, place: str | None) -> Cut:
    """Return the cut behind the layer of that name; without one the model's own attribute `cut` says where.

    Raises TrainError when the model is no nn.Sequential, has no such layer, or cannot be trained in two halves.
    """
    if not is_plain(model):
        raise TrainError(
            f"only a torch.nn.Sequential can be cut in two, and {type(model).__name__} is none; "
            "write the model as a Sequential of its parts, or use --model dualnet"
        )
    place = place or getattr(model, "cut", None)
    layers = list(iterate_layers(model))
    if not place:
        raise TrainError(f"{type(model).__name__} does not say where to cut it; choose a --cut of {_list(layers)}")
    last = max((index for index, layer in enumerate(layers) if f"{layer.name}.".startswith(f"{place}.")), default=-1)
    if last < 0:
        near = nearest(place, [layer.name for layer in layers])
        raise TrainError(f"{type(model).__name__} has no layer {place!r} to cut behind{near}; it has {_list(layers)}")
    cut = Cut(model, place, (tuple(layers[: last + 1]), tuple(layers[last + 1 :])))
    _check(cut)
    return cut


def is_plain(module: nn.Module) -> TypeGuard[nn.Sequential]:
    """Tell whether a module does nothing but apply its parts one after another."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def iterate_layers(network: nn.Module, prefix: str = "") -> Iterator[Layer]:
    """Yield all layers in order, those of nested Sequentials too."""
    for key, module in network._modules.items():
        if module is None:
            continue
        if is_plain(module):
            yield from iterate_layers(module, f"{prefix}{key}.")
        else:
            yield Layer(prefix + key, module, network, key)


def _list(layers: list[Layer]) -> str:
    return ", ".join(layer.name for layer in layers)


def _check(cut: Cut) -> None:
    trained: list[set[int]] = []
    for number, layers in enumerate(cut.halves, 1):
        found = {id(parameter) for layer in layers for parameter in layer.module.parameters()}
        if not any(parameter.requires_grad for layer in layers for parameter in layer.module.parameters()):
            raise TrainError(f"cut behind {cut.place!r}, net{number} has no parameter to train")
        trained.append(found)
    if trained[0] & trained[1]:
        raise TrainError(f"cut behind {cut.place!r}, both halves share parameters; cut where they do not")


def overwrite_nothing(module: nn.Module) -> None:
    """Make a layer (ReLU, dropout) leave its input as it is; what it computes is the same."""
    if getattr(module, "inplace", False):
        module.inplace = False  # type: ignore[assignment]
