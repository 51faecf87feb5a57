"""`hpcsynapse models`: the built-in models with their size and cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hpcsynapse.cli.tables import Output, table_options
from hpcsynapse.errors import SpecError
from hpcsynapse.fields import nearest

if TYPE_CHECKING:
    from hpcsynapse.trainer.models.survey import ModelCost


@click.command()
@click.argument("names", metavar="[NAME ...]", nargs=-1)
@table_options
def command(names: tuple[str, ...], output: Output) -> None:
    """List the built-in models, or those named: parameters, bytes and FLOPs of one sample's forward pass.

    Bytes are those of the parameters as 32-bit floats: what an exchange of all gradients moves. FLOPs are those of
    convolutions and matrix products as torch counts them, a multiply-add as two. A model with a variant for small
    images (train.model_args.small, or by itself where a side is below 64) is listed with its size for CIFAR-10 too.
    """
    costs = _survey(names)
    from hpcsynapse.trainer.models.survey import COLUMNS

    output.table(costs, COLUMNS)


def _survey(names: Sequence[str]) -> list[ModelCost]:
    from hpcsynapse.trainer.catalog import MODELS

    for name in names:
        if name not in MODELS:
            raise SpecError(f"model {name!r} is not known{nearest(name, MODELS)}; known are {', '.join(MODELS)}")
    try:
        from hpcsynapse.trainer.models.survey import survey
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "torch":
            raise
        raise SpecError(
            "models are measured by torch, which is not installed; pip install 'hpcsynapse[train]'"
        ) from None
    return [cost for name in dict.fromkeys(names or MODELS) for cost in survey(name)]
