"""Options of submit, render and check, made from the fields of the description so that none is declared twice."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, get_origin

import click

from hpcsynapse import fields
from hpcsynapse.cli.short_help import sections
from hpcsynapse.errors import SpecError
from hpcsynapse.spec import settings
from hpcsynapse.spec.job import SECTIONS, JobSpec
from hpcsynapse.spec.names import THIS_MACHINE

Function = Callable[..., Any]
_TITLES = {
    "resources": "Resources",
    "queue": "Queue",
    "launch": "Launch",
    "train": "Built-in trainer",
    "exchange": "Exchange between ranks",
    "ps": "Parameter servers",
    "dual": "Dual nets",
    "telemetry": "Telemetry",
    "survive": "Coming back",
}


_FORMS = {
    "csv": "CSV with all columns in full precision",
    "json": "the same as JSON",
    "markdown": "a Markdown table, rounded",
    "latex": "a LaTeX table (package booktabs), rounded",
}


def runs_option(function: Function) -> Function:
    """Add `--runs`."""
    return click.option("--runs", metavar="DIR", help="folder of all runs [HPCSYNAPSE_RUNS, else ./runs]")(function)


def form_options(*forms: str, **texts: str) -> Callable[[Function], Function]:
    """Add an option for every form; the command gets the one that was given as `form`, else None.

    `texts` are help texts of its own. Two of them at once are refused.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            asked = [form for form in forms if given.pop(f"as_{form}")]
            if len(asked) > 1:
                raise SpecError(f"--{asked[0]} and --{asked[1]} are two forms of the same; give one of them")
            return function(*args, form=asked[0] if asked else None, **given)

        for form in reversed(forms):
            text = texts.get(form) or _FORMS[form]
            call = click.option(f"--{form}", f"as_{form}", is_flag=True, help=text)(call)
        return call

    return decorate


def json_option(text: str) -> Callable[[Function], Function]:
    """Add `--json` to a command that has no other form; it gets it as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=text)


# Of the options of no section, those that `--help` leaves to `--help-all`, or tells in a line of its own.
_RARE = ("template_dir", "exclude_slow", "assignments", "name", "site", "runs", "help", "help_all", "help_on")
_SAMPLE = "telemetry__sample"  # `--no-sample` is a value of it
_BESIDE = {"study": "Lists and limits of a study"}  # titles of sections that are no part of a description


class SectionedCommand(click.Command):
    """A command whose help is one screen of what most people need; `--help-all` and `--help-on SECTION` show the rest.

    Options are shown under the sections of the description that they are settings of.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options with those that ask for more help."""

        def show(ctx: click.Context, _option: click.Parameter, asked: bool | str | None) -> None:
            if asked:
                click.echo(self._page(ctx, None if asked is True else str(asked)), color=ctx.color)
                ctx.exit()

        more: dict[str, Any] = {"is_eager": True, "expose_value": False, "callback": show}
        return [
            *super().get_params(ctx),
            click.Option(["--help-all"], is_flag=True, help="show all options", **more),
            click.Option(
                ["--help-on"], type=click.Choice(tuple(_TITLES)), help="show the options of a section", **more
            ),
        ]

    def _page(self, ctx: click.Context, section: str | None) -> str:
        formatter = ctx.make_formatter()
        self.format_usage(ctx, formatter)
        for name, records in self._blocks(ctx).items():
            if section in (None, name):
                with formatter.section(_title(name)):
                    formatter.write_dl([record for _, record in records])
        return formatter.getvalue().rstrip()

    def _blocks(self, ctx: click.Context) -> dict[str, list[tuple[str, tuple[str, str]]]]:
        """Return by section the names and help of its options; those of none come first."""
        blocks: dict[str, list[tuple[str, tuple[str, str]]]] = {"": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and isinstance(parameter, click.Option):
                section, _, name = (parameter.name or "").rpartition("__")
                blocks.setdefault(section, []).append((name, record))
        return blocks

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what most people need: the options of this command alone, then those that all have in common."""
        blocks = self._blocks(ctx)
        own = [record for name, record in blocks[""] if name not in _RARE]
        known = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        for heading, lines in sections(known, lists="study" in blocks):
            with formatter.section(heading or "Options"):
                formatter.write_dl([*([] if heading else own), *lines], col_max=44)


def _title(section: str) -> str:
    return _TITLES.get(section) or _BESIDE.get(section) or "Options"


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
    decorators.append(
        click.option("--no-sample", _SAMPLE, flag_value=0.0, type=float, help="do not look at nodes' load")
    )
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
    if default not in (None, "", (), False) and "[" not in text:
        text = f"{text} [{'yes' if default is True else f'{default:g}' if isinstance(default, float) else default}]"
    if kind is bool:
        return click.option(f"--{name}/--no-{name}", destination, default=None, help=text)
    choices = item.metadata.get("choices")
    type_ = click.Choice(tuple(choices)) if choices else kind
    metavar = None if choices else {int: "N", float: "X"}.get(kind)
    return click.option(f"--{name}", destination, type=type_, metavar=metavar, help=text)


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
        typed["queue"].setdefault("scheduler", THIS_MACHINE)
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
