"""Options of submit, render and check, made from the fields of the description so that none is declared twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, get_origin

import click

from hpcsynapse import fields, settings
from hpcsynapse.errors import SpecError
from hpcsynapse.spec import SECTIONS, JobSpec

Function = Callable[..., Any]
_TITLES = {
    "resources": "Resources", "queue": "Queue", "launch": "Launch", "train": "Built-in trainer",
    "exchange": "Exchange between ranks", "ps": "Parameter servers", "dual": "Dual nets",
}  # fmt: skip


def runs_option(function: Function) -> Function:
    """Add `--runs`."""
    return click.option("--runs", metavar="DIR", help="folder of all runs [HPCSYNAPSE_RUNS, else ./runs]")(function)


class SectionedCommand(click.Command):
    """A command whose help shows the options under the sections of the description."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write general options first, then one block a section."""
        blocks: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and isinstance(parameter, click.Option):
                section = (parameter.name or "").partition("__")[0]
                blocks.setdefault(_TITLES.get(section, "Options"), []).append(record)
        for title, records in blocks.items():
            with formatter.section(title):
                formatter.write_dl(records)


def description_options(function: Function, without: Collection[tuple[str, str]] = ()) -> Function:
    """Add RUN.toml, `-- COMMAND ...` and an option for every setting of the description but those `without`."""
    decorators: list[Callable[[Function], Function]] = [
        click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[RUN.toml|config.json] [-- COMMAND ...]"),
        click.option("--name", metavar="TEXT", help="name of the run [generated]"),
        click.option("--site", metavar="FILE|NAME", help="site file or shipped site [the user's file]"),
        click.option("--template-dir", metavar="DIR", help="folder with templates of your own"),
        click.option("--set", "assignments", multiple=True, metavar="section.key=value", help="any setting"),
        runs_option,
    ]
    for section in _TITLES:
        for item in dataclasses.fields(SECTIONS[section]):
            if (section, item.name) not in without:
                decorators.append(_option(section, item))
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


def _option(section: str, item: dataclasses.Field[Any]) -> Callable[[Function], Function]:
    """Return the click option of one field; its value is None or empty unless typed."""
    kind = fields.base_type(fields.hints(SECTIONS[section])[item.name])
    name = (item.metadata.get("option") or item.name).replace("_", "-")
    text = item.metadata.get("help", "")
    destination = f"{section}__{item.name}"
    if get_origin(kind) is dict:
        return click.option(f"--{name}", destination, multiple=True, metavar="KEY=VALUE", help=text)
    if get_origin(kind) is tuple:
        element = int if kind == tuple[int, ...] else str
        return click.option(f"--{name}", destination, multiple=True, type=element, help=text)
    default = item.default
    if default not in (None, "", ()) and kind is not bool and "[" not in text:
        text = f"{text} [{default}]"
    if kind is bool:
        return click.option(f"--{name}/--no-{name}", destination, default=None, help=text)
    choices = item.metadata.get("choices")
    return click.option(f"--{name}", destination, type=click.Choice(choices) if choices else kind, help=text)


def load_description(given: dict[str, Any], beside: Collection[str] = ()) -> JobSpec:
    """Return the description from all sources and the parsed options, without tables `beside` it; raises SpecError."""
    run_toml, command = split_words(given["words"])
    tables = settings.parse_set(given["assignments"])
    typed: dict[str, Any] = {section: {} for section in SECTIONS}
    for key, value in given.items():
        section, found, name = key.partition("__")
        if not found or value is None or value == ():
            continue
        is_table = get_origin(fields.base_type(fields.hints(SECTIONS[section])[name])) is dict
        typed[section][name] = _pairs(name, value) if is_table else list(value) if isinstance(value, tuple) else value
    if typed["launch"].get("emulate"):  # typed for this once: queue and launcher of the site file do not matter
        typed["queue"].setdefault("scheduler", "local")
        typed["launch"].setdefault("launcher", "auto")
    if given["template_dir"]:
        typed["site"]["template_dir"] = str(Path(given["template_dir"]).expanduser().resolve())
    settings.merge(tables, {section: table for section, table in typed.items() if table})
    if given["name"]:
        tables["name"] = given["name"]
    if command:
        tables["command"] = command
    return settings.load(run_toml, tables, site=given["site"], beside=beside)


def split_words(words: Iterable[str]) -> tuple[Path | None, list[str]]:
    """Return the run's description and the command; click has removed a leading `--` only when nothing came before."""
    rest = list(words)
    run_toml = None
    if rest and rest[0].endswith((".toml", ".json")):
        run_toml = Path(rest.pop(0))
    if rest and rest[0] == "--":
        rest.pop(0)
    return run_toml, rest


def _pairs(name: str, texts: Iterable[str]) -> dict[str, Any]:
    pairs = {}
    for text in texts:
        key, found, value = text.partition("=")
        if not found:
            raise SpecError(f"--{name.replace('_', '-')} {text!r}: write KEY=VALUE")
        pairs[key] = value if name == "env" else fields.from_text(f"{name}.{key}", Any, value)
    return pairs
