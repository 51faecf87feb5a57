"""The built-in RetinaNet as user code: a model of a folder, with arguments of its own."""

from hpcsynapse.trainer.models.retinanet.anchors import RATIOS
from hpcsynapse.trainer.models.retinanet.network import RetinaNet


class UserModel(RetinaNet):
    def __init__(self, backbone="resnet50", channels=256, depth=4, classes=1, colours=1, ratios=RATIOS):
        super().__init__((colours, 256, 192), classes, backbone, channels, depth, ratios)
