"""Which class trains a half, by method; model and optimizer lose what belongs to the other half."""

from __future__ import annotations

from torch import nn

from hpcsynapse.spec.training import DualOptions, TrainSpec
from hpcsynapse.trainer.dual.cut import Cut
from hpcsynapse.trainer.dual.half import Marks
from hpcsynapse.trainer.dual.net1 import Matching, Net1, Regressing
from hpcsynapse.trainer.dual.net2 import Multiplying, Net2, Proposing, Showing
from hpcsynapse.trainer.engines.base import Optimizer
from hpcsynapse.trainer.objective import Objective


def make_first(cut: Cut, optimizer: Optimizer, clock: Marks, train: TrainSpec, options: DualOptions) -> Net1:
    """Return net1."""
    bridge, network = cut.bridge(), cut.keep(0)
    narrow(optimizer, network)
    if options.net1_lr is not None:  # the schedule of the run, from another rate
        for group in (optimizer.defaults, *optimizer.param_groups):
            group["lr_factor"] = options.net1_lr / train.lr if train.lr else 0.0
    match options.method:
        case "frozen":
            return Net1(network, optimizer, clock, train.clip_norm)
        case "distance":
            return Matching(network, optimizer, clock, train.clip_norm, options, bridge, train.seed)
    return Regressing(network, optimizer, clock, train.clip_norm, options)


def make_second(
    cut: Cut, optimizer: Optimizer, clock: Marks, train: TrainSpec, options: DualOptions, objective: Objective
) -> Net2:
    """Return net2."""
    bridge, network = cut.bridge(), cut.keep(1)
    narrow(optimizer, network)
    if options.method == "distance":
        return Showing(network, optimizer, clock, train.clip_norm, options, objective, bridge)
    kind = {"frozen": Net2, "admm": Multiplying}.get(options.method, Proposing)
    return kind(network, optimizer, clock, train.clip_norm, options, objective)


def narrow(optimizer: Optimizer, network: nn.Module) -> None:
    """Make an optimizer forget, in place, the parameters that are not in a network."""
    own = {id(parameter) for parameter in network.parameters()}
    for group in optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) in own]
