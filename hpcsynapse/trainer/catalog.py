"""What there is by name: literal tables that import nothing heavy, so that the command line can read them too."""

from __future__ import annotations

from dataclasses import dataclass

from hpcsynapse.trainer.plugins import Entry


@dataclass(frozen=True, slots=True)
class ModelEntry(Entry):
    """One row of the table of models, and where the model is described."""

    source: str = ""


@dataclass(frozen=True, slots=True)
class DataEntry(Entry):
    """One row of the table of data sets, and how many training samples there are, where that is known beforehand."""

    samples: int | None = None


_MODELS = "hpcsynapse.trainer.models"
MODELS: dict[str, ModelEntry] = {
    "simple-cnn": ModelEntry(
        f"{_MODELS}.simple_cnn",
        "SimpleCNN",
        "2 convolutions, 2 dense layers, 28x28 images",
        source="Raja 2019 (brain imaging), on MNIST",
    ),
    "unet": ModelEntry(
        f"{_MODELS}.unet",
        "UNet",
        "encoder and decoder of 4 blocks each, 97 channels of 192x192 to one",
        source="Raja 2019 (brain imaging); Ronneberger et al. 2015",
    ),
    "resnet56": ModelEntry(
        f"{_MODELS}.resnet_cifar",
        "resnet56",
        "residual network of 27 basic blocks, 32x32 images",
        source="He et al. 2015, section 4.2",
    ),
    "resnet83": ModelEntry(
        f"{_MODELS}.resnet_cifar",
        "resnet83",
        "residual network of 27 bottlenecks, 32x32 images",
        source="Yagües Gomà 2016 (MinoTauro)",
    ),
    "alexnet": ModelEntry(
        f"{_MODELS}.alexnet", "AlexNet", "5 convolutions, 3 dense layers", source="Krizhevsky 2014 (one tower)"
    ),
    "vgg16": ModelEntry(
        f"{_MODELS}.vgg", "vgg16", "13 convolutions, 3 dense layers", source="Simonyan and Zisserman 2014, D"
    ),
    "vgg19": ModelEntry(
        f"{_MODELS}.vgg", "vgg19", "16 convolutions, 3 dense layers", source="Simonyan and Zisserman 2014, E"
    ),
    "resnet50": ModelEntry(
        f"{_MODELS}.resnet", "resnet50", "residual network of 16 bottlenecks", source="He et al. 2015, table 1"
    ),
    "resnet152": ModelEntry(
        f"{_MODELS}.resnet", "resnet152", "residual network of 50 bottlenecks", source="He et al. 2015, table 1"
    ),
    "dualnet": ModelEntry(
        f"{_MODELS}.dualnet",
        "dualnet",
        "4 convolutions, 2 dense layers, to be cut in two",
        source="Dziwulski 2017 (ADMM), with widths of its own",
    ),
    "gpt": ModelEntry(
        f"{_MODELS}.gpt", "gpt", "transformer of 12 blocks that continues text", source="Radford et al. 2019 (GPT-2)"
    ),
    "retinanet": ModelEntry(
        f"{_MODELS}.retinanet.network",
        "RetinaNet",
        "feature pyramid on ResNet-50 that finds boxes in images",
        source="Lin et al. 2017; Phan Ngoc Lan 2019 (BK.Synapse)",
    ),
}

SEQUENTIAL = ("dualnet",)  # those that strategy admm can cut in two

_DATA = "hpcsynapse.trainer.data"
DATA: dict[str, DataEntry] = {
    "digits": DataEntry(
        f"{_DATA}.digits", "load", "1797 real digits that scikit-learn ships, enlarged to 28x28", samples=1437
    ),
    "cluttered-digits": DataEntry(
        f"{_DATA}.cluttered_digits",
        "load",
        "2874 of those digits turned, moved, covered in part and noisy",
        samples=2874,
    ),
    "cifar10": DataEntry(f"{_DATA}.cifar10", "load", "CIFAR-10 on disk, binary or Python version", samples=50_000),
    "mnist": DataEntry(f"{_DATA}.mnist", "load", "MNIST on disk, IDX files, gzip-compressed or not", samples=60_000),
    "npy": DataEntry(f"{_DATA}.npy", "load", "memory-mapped inputs.npy and targets.npy"),
    "images": DataEntry(f"{_DATA}.images", "load", "pictures in folders, one a class", extra="images"),
    "shards": DataEntry(
        f"{_DATA}.shards", "load", "pictures or arrays in tar files, as WebDataset writes them", extra="images"
    ),
    "hdf5": DataEntry(f"{_DATA}.hdf5", "load", "inputs and targets in an HDF5 file", extra="hdf5"),
    "tokens": DataEntry(f"{_DATA}.tokens", "load", "text as memory-mapped token numbers, train.bin and val.bin"),
    "synthetic": DataEntry(f"{_DATA}.synthetic", "load", "images of any shape, made from their number", samples=50_000),
}
