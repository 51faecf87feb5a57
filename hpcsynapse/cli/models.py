"""`hpcsynapse models`: the built-in models with their size and cost."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from hpcsynapse.errors import SpecError
from hpcsynapse.fields import nearest

if TYPE_CHECKING:
    from hpcsynapse.trainer.models.survey import ModelCost

COLUMNS = ("name", "input", "classes", "parameters", "bytes", "flops", "source")
_HEADINGS = ("model", "input", "classes", "parameters", "MiB", "MFLOPs", "source")


@click.command()
@click.argument("names", metavar="[NAME ...]", nargs=-1)
@click.option("--csv", "form", flag_value="csv", help="CSV, unrounded.")
@click.option("--json", "form", flag_value="json", help="The same as a JSON list.")
def command(names: tuple[str, ...], form: str | None) -> None:
    """List the built-in models, or those named: parameters, bytes and FLOPs of one sample's forward pass.

    Bytes are those of the parameters as 32-bit floats: what an exchange of all gradients moves. FLOPs are those of
    convolutions and matrix products as torch counts them, a multiply-add as two. A model with a variant for small
    images (train.model_args.small, or by itself where a side is below 64) is listed with its size for CIFAR-10 too.
    """
    costs = _survey(names)
    write = {"csv": _write_csv, "json": _write_json, None: _write_text}[form]
    write(costs)


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


def _write_csv(costs: Sequence[ModelCost]) -> None:
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(cost) for cost in costs)


def _write_json(costs: Sequence[ModelCost]) -> None:
    click.echo(json.dumps([asdict(cost) for cost in costs], indent=1))


def _write_text(costs: Sequence[ModelCost]) -> None:
    rows = [_HEADINGS, *(_cells(cost) for cost in costs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *numbers, source in rows:
        right = (number.rjust(width) for number, width in zip(numbers, widths[1:-1], strict=True))
        click.echo("  ".join((name.ljust(widths[0]), *right, source)))


def _cells(cost: ModelCost) -> tuple[str, ...]:
    return (
        cost.name, cost.input, str(cost.classes), f"{cost.parameters:,}", f"{cost.bytes / 2**20:,.2f}",
        f"{cost.flops / 1e6:,.2f}", cost.source,
    )  # fmt: skip
