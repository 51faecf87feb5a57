"""`--help` is one screen of what most people need; nothing of the rest is lost."""

from __future__ import annotations

import itertools
import re

import click
import pytest
from click.testing import CliRunner

from hpcsynapse.cli.main import VERBS, cli, main
from hpcsynapse.cli.short_help import _AS_SUBMIT, _GENERAL, _LISTS, _SECTIONS
from hpcsynapse.cli.study import command as study
from hpcsynapse.cli.submit import command as submit


def shown(*words: str, columns: int = 110) -> str:
    done = CliRunner().invoke(cli, words, terminal_width=columns)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("verb", ["submit", "check", "render", "study"])
def test_help_is_short_and_says_where_the_rest_is(verb: str) -> None:
    text = shown(verb, "--help", columns=80)
    assert len(text.splitlines()) <= 45 and max(map(len, text.splitlines())) <= 80
    assert "--help-all" in text and "--help-on" in text
    assert "--epochs" in text and "--staleness-limit" not in text


def test_examples_come_before_the_options() -> None:
    for verb in ("submit", "study"):
        text = shown(verb, "--help")
        assert 0 < text.index(f"  hpcsynapse {verb} ") < text.index("Options:")


def test_everything_is_shown_by_help_all_and_by_section() -> None:
    options = {
        name for parameter in submit.params for name in parameter.opts if not getattr(parameter, "hidden", False)
    }
    text = shown("submit", "--help-all")
    missing = {name for name in options if name.startswith("--") and not re.search(rf"{name}\b", text)}
    assert not missing
    servers = shown("submit", "--help-on", "ps")
    assert "--staleness-limit" in servers and "--epochs" not in servers


@pytest.mark.parametrize(
    ("typed", "meant"), [("--node", "--nodes"), ("--epocs", "--epochs"), ("--ranks", "--ranks-per-node")]
)
def test_of_an_option_that_is_none_the_best_match_is_named(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["submit", typed, "2"])
    assert ended.value.code == 2
    assert f"Did you mean '{meant}'?" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [submit, study])
def test_the_usual_options_are_options(verb: click.Command) -> None:
    known = {name for parameter in verb.get_params(click.Context(verb)) for name in parameter.opts}
    rows = [*_GENERAL, *(_LISTS + _AS_SUBMIT if verb is study else itertools.chain(*_SECTIONS.values()))]
    assert {name for row in rows for name in row.options} <= known


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_one_style_and_true_defaults(verb: str) -> None:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None and VERBS[verb][1].endswith(".") and VERBS[verb][1][0].isupper()
    parts = [command]
    if isinstance(command, click.Group):
        context = click.Context(command)
        parts += [one for name in command.list_commands(context) if (one := command.get_command(context, name))]
    for parameter in (parameter for part in parts for parameter in part.params):
        text = getattr(parameter, "help", None) or ""
        assert not text.endswith("."), (verb, parameter.name)
        assert not re.match(r"(?!Python|Greasy|Nesterov)[A-Z][a-z]", text), (verb, parameter.name)
        assert "[None]" not in text or verb == "study", (verb, parameter.name)
