"""A model as hpcsynapse and BK.Synapse take it: class UserModel with its loss and, if wanted, its metrics.

hpcsynapse submit --model examples/user_code/model --data examples/user_code/loader
"""

from layers import block, head
from torch import argmax, nn
from torch.nn.functional import cross_entropy


class UserModel(nn.Sequential):
    def __init__(self, width=8):
        super().__init__(block(1, width), block(width, 2 * width), head(2 * width, classes=10))

    def loss(self, output, target):
        return cross_entropy(output, target)

    def metrics(self, output, target):
        return {"accuracy": (argmax(output, dim=1) == target).float().mean().item()}
