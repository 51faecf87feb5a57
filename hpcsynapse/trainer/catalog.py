"""What there is by name: literal tables that import nothing heavy, so that the command line can read them too."""

from __future__ import annotations

from hpcsynapse.trainer.plugins import Entry

_MODELS = "hpcsynapse.trainer.models"
MODELS: dict[str, Entry] = {
    "simple-cnn": Entry(f"{_MODELS}.simple_cnn", "SimpleCNN", "2 convolutions, 2 dense layers, 28x28 images"),
    "resnet56": Entry(f"{_MODELS}.resnet_cifar", "resnet56", "residual network of 27 basic blocks, 32x32 images"),
    "resnet83": Entry(f"{_MODELS}.resnet_cifar", "resnet83", "residual network of 27 bottlenecks, 32x32 images"),
    "dualnet": Entry(f"{_MODELS}.dualnet", "dualnet", "4 convolutions, 2 dense layers, to be cut in two"),
}

_DATA = "hpcsynapse.trainer.data"
DATA: dict[str, Entry] = {
    "digits": Entry(f"{_DATA}.digits", "load", "1797 real digits that scikit-learn ships, enlarged to 28x28"),
    "cifar10": Entry(f"{_DATA}.cifar10", "load", "CIFAR-10 on disk, binary or Python version"),
    "mnist": Entry(f"{_DATA}.mnist", "load", "MNIST on disk, IDX files, gzip-compressed or not"),
    "npy": Entry(f"{_DATA}.npy", "load", "memory-mapped inputs.npy and targets.npy"),
    "synthetic": Entry(f"{_DATA}.synthetic", "load", "images of any shape, made from their number"),
}
