"""What is trained, on what, and for how long: the first settings of the built-in trainer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from hpcsynapse.errors import SpecError
from hpcsynapse.fields import at_least, setting
from hpcsynapse.spec.names import ENGINES, STRATEGIES
from hpcsynapse.usercode.checks import is_folder

_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*|[a-z][a-z0-9-]*")


def _check_target(name: str, value: str) -> None:
    if not is_folder(value) and not _TARGET.fullmatch(value):
        raise SpecError(
            f"{name}: {value!r} is neither a known name, nor package.module:attribute, nor a folder (./{value}), "
            "nor an entry of the store (store:NAME)"
        )


def _check_stage(name: str, value: str) -> None:
    if not value.startswith(("/", "$")):
        raise SpecError(f"{name} = {value!r} must be an absolute path, or begin with a variable such as $TMPDIR")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkSettings:
    """What is trained by whom: strategy and engine, model, data, and how much of it."""

    strategy: str = setting("auto", "how ranks work together [allreduce; single for one rank]", choices=STRATEGIES)
    engine: str = setting("auto", "what moves the data [horovod where installed, else ddp]", choices=ENGINES)
    model: str = setting(
        "simple-cnn",
        "model name, package.module:attribute, folder with bks_model.py, or store:NAME",
        check=_check_target,
    )
    model_args: dict[str, Any] = setting({}, "arguments of the model")
    data: str = setting(
        "digits",
        "data set name, package.module:attribute, folder with bks_dataset.py, or store:NAME",
        check=_check_target,
    )
    data_path: str | None = setting(None, "folder with the data set's files, or store:NAME")
    data_args: dict[str, Any] = setting({}, "arguments of the data set")
    stage: str | None = setting(
        None, "copy data_path to this folder of every node first, e.g. '$TMPDIR'", check=_check_stage
    )
    data_workers: int = setting(
        0, "processes of a rank that prepare batches ahead of it, 0 = the rank itself", check=at_least(0, 256)
    )
    device: str = setting(
        "auto", "what ranks compute on [cuda where GPUs are asked for, else cpu]", choices=("auto", "cuda", "cpu")
    )
    sharding: str = setting(
        "auto", "how samples are dealt out [strided; npy: contiguous]", choices=("auto", "contiguous", "strided")
    )
    augment: bool = setting(False, "pad by 4, crop and flip at random")
    batch: int = setting(32, "samples a rank computes at once", check=at_least(1, 1_000_000))
    epochs: int = setting(20, "passes over the training data", check=at_least(1, 1_000_000))
    steps: int | None = setting(None, "end after this many steps, whatever the epochs", check=at_least(1, 10**9))
