"""`hpcsynapse store`: models, loaders and data sets kept as folders with metadata."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcsynapse.cli.options import form_options, json_option
from hpcsynapse.writers import WRITERS

if TYPE_CHECKING:
    from hpcsynapse.usercode.intake import Limits
    from hpcsynapse.usercode.store import Entry

_KIND = click.Choice(["model", "dataset", "loader"])


def _store_option(function: Callable[..., Any]) -> Callable[..., Any]:
    text = "folder of the store [HPCSYNAPSE_STORE, else ./store]"
    return click.option("--store", "folder", metavar="DIR", help=text)(function)


@click.group()
def command() -> None:
    """Models, loaders and data sets as folders with metadata on the shared file system.

    \b
    hpcsynapse store add model my-model.zip
    hpcsynapse submit --model store:my-model --data store:my-loader --data-path store:receipts
    """


def _limit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how much is taken."""
    for option in (
        click.option("--max-ratio", metavar="X", type=click.FloatRange(1), default=200, show_default=True,
                     help="refuse archives that unpack to more than X bytes for one"),
        click.option("--max-files", metavar="N", type=click.IntRange(1), default=1_000_000, show_default=True,
                     help="refuse more files than this"),
        click.option("--max-size", metavar="SIZE", default="100G", show_default=True,
                     help="refuse more bytes than this"),
    ):  # fmt: skip  # a table
        function = option(function)
    return function


@command.command()
@click.argument("kind", type=_KIND)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", metavar="TEXT", help="name in the store [that of PATH]")
@click.option("--description", metavar="TEXT", default="", help="what it is")
@click.option(
    "--weights",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="weights of a model: model.pth, or an archive or folder of it",
)
@_limit_options
@json_option("print the entry as JSON")
@_store_option
def add(
    kind: str,
    path: Path,
    name: str | None,
    description: str,
    weights: Path | None,
    max_size: str,
    max_files: int,
    max_ratio: float,
    as_json: bool,
    folder: str | None,
) -> None:
    """Copy a folder, or unpack a zip archive, into the store.

    A model needs bks_model.py with class UserModel, a loader bks_dataset.py with class UserDataset; a data set is any
    folder. Code is checked for its syntax and not run. Links are refused.
    """
    from hpcsynapse.usercode import store

    place, limits = store.store_folder(folder), _limits(max_size, max_files, max_ratio)
    entry = store.add(place, kind, path, name=name, description=description, weights=weights, limits=limits)
    _print(entry, as_json)


@command.command()
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@_limit_options
@json_option("print the entry as JSON")
@_store_option
def weights(
    name: str, path: Path, max_size: str, max_files: int, max_ratio: float, as_json: bool, folder: str | None
) -> None:
    """Put weights beside the source of the stored model NAME, in place of those it may have.

    PATH is a file model.pth, or an archive or folder of it.
    """
    from hpcsynapse.usercode import store

    limits = _limits(max_size, max_files, max_ratio)
    _print(store.add_weights(store.store_folder(folder), name, path, limits), as_json)


def _limits(max_size: str, max_files: int, max_ratio: float) -> Limits:
    from hpcsynapse.units import parse_bytes
    from hpcsynapse.usercode.intake import Limits

    return Limits(size=parse_bytes(max_size), files=max_files, ratio=max_ratio)


def _print(entry: Entry, as_json: bool) -> None:
    click.echo(json.dumps(asdict(entry)) if as_json else f"{entry.kind} {entry.name}  {_facts(entry)}  {entry.path}")


@command.command("list")
@click.argument("kind", type=_KIND, required=False)
@form_options("csv", "json")
@_store_option
def list_entries(kind: str | None, form: str | None, folder: str | None) -> None:
    """List what the store holds, or one kind of it."""
    from hpcsynapse.usercode import store

    place = store.store_folder(folder)
    found = list(store.stored(place, kind))
    if form is not None:
        click.echo(WRITERS[form](found, store.COLUMNS), nl=False)
    elif not found:
        click.echo(f"nothing in {place}", err=True)
    else:
        width = max(len(entry.name) for entry in found)
        for entry in found:
            click.echo(f"{entry.kind:<7}  {entry.name:<{width}}  {_facts(entry)}  {entry.description}".rstrip())


@command.command()
@click.argument("kind", type=_KIND)
@click.argument("name")
@json_option("print everything known as JSON")
@_store_option
def show(kind: str, name: str, as_json: bool, folder: str | None) -> None:
    """Show all that is known of one entry."""
    from hpcsynapse.usercode import store

    facts = asdict(store.find(store.store_folder(folder), kind, name))
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    facts["added"] = _date(facts["added"])
    for key in store.COLUMNS:
        click.echo(f"{key:<11}  {facts[key]}".rstrip())


@command.command()
@click.argument("kind", type=_KIND)
@click.argument("name")
@_store_option
def remove(kind: str, name: str, folder: str | None) -> None:
    """Remove an entry; runs that still need it will fail."""
    from hpcsynapse.usercode import store

    entry = store.remove(store.store_folder(folder), kind, name)
    click.echo(f"removed {kind} {entry.name}  {_facts(entry)}")


def _facts(entry: Entry) -> str:
    from hpcsynapse.units import format_bytes

    files = "1 file" if entry.files == 1 else f"{entry.files} files"
    return f"{files}, {format_bytes(entry.size)}, added {_date(entry.added)} by {entry.user}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
