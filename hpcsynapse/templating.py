"""The template engine: strict about undefined names, and filters that keep every value in its place."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from hpcsynapse import fields
from hpcsynapse.errors import RenderError, SpecError


class Shell(str):
    """A trusted piece of shell that is written as it is; every other word is quoted."""

    __slots__ = ()


_UNPLAIN = re.compile(r"[^A-Za-z0-9_.,:=+/@%-]")


def builtin_templates() -> Path:
    """Return the templates shipped with the package: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


def shell_word(value: object) -> str:
    """Quote a value so that bash reads it as exactly one word; `Shell` pieces are written as they are.

    Raises RenderError for control characters, which no quoting keeps on one line.
    """
    text = _checked(value)
    return str(value) if isinstance(value, Shell) else shlex.quote(text)


def directive_value(value: object) -> str:
    """Quote a value so that sbatch reads it as one argument of one directive.

    sbatch splits a directive at blanks, ends it at `#`, and inside double quotes honours `\\` before `"` and `\\`
    (Slurm 22.05, tried with `scontrol show job`); a backslash outside quotes does not keep a blank.
    """
    text = _checked(value)
    if text and not _UNPLAIN.search(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def pattern_path(value: object) -> str:
    """Escape a path for --output: sbatch expands `%` in file names, `%%` is one of them (sbatch(1)).

    A backslash turns that expansion off and is dropped, unless it is doubled (sbatch(1); Slurm 22.05, tried).
    """
    text = str(value)
    return directive_value(text.replace("\\", "\\\\") if "\\" in text else text.replace("%", "%%"))


def keyword_value(value: object, *, variables: bool = False) -> str:
    """Return a value as LoadLeveler and BSC's dialect read it: the line from behind `=` on, without any quoting.

    Raises RenderError for what would not be read back as it is: blanks or quotes at an end, a backslash at the end
    (the next line would belong to it), an empty value, and `$(` unless LoadLeveler's own `variables` are meant.
    """
    text = _checked(value)
    if not text or text != text.strip() or text[0] in "\"'" or text[-1] in "\"'\\" or ("$(" in text and not variables):
        raise RenderError(
            f"{text!r} cannot be written behind a keyword: it is empty, begins or ends with a blank or "
            "a quote, ends with a backslash, or has $( in it"
        )
    return text


def extra_keyword(value: object) -> str:
    """Return a line `keyword = value` that the user wrote whole."""
    key, found, rest = _checked(value).partition(" = ")
    if not found or key.startswith("-") or key.lower() == "queue":
        raise RenderError(f"directive {value!r}: write keyword = value for this queue")
    return f"{key} = {keyword_value(rest)}"


def extra_directive(value: object) -> str:
    """Escape the value of a directive the user wrote whole (`--hint=nomultithread`, `-C fast`)."""
    text = _checked(value)
    if not text.startswith("-"):
        raise RenderError(f"directive {text!r}: write an option for this queue, such as --hint=nomultithread")
    separator = "=" if text.startswith("--") else " "
    option, found, rest = text.partition(separator)
    return option + found + (directive_value(rest) if found else "")


_PLAIN_WORD = re.compile(r"[A-Za-z0-9_.@+:%/=,\[\]()&|*!~^-]+")


def plain_word(value: object) -> str:
    """Return a value for queues whose quoting holds no blank safely: one word of plain characters; raises RenderError.

    Such directives are cut at blanks, and what a quote does there differs from queue to queue.
    """
    text = _checked(value)
    if not _PLAIN_WORD.fullmatch(text):
        raise RenderError(f"{text!r} cannot be written in a directive of this queue: it is not one plain word")
    return text


def whole_option(value: object) -> str:
    """Return an option that the user wrote whole, such as `-l gpu=2`, as it is; raises RenderError for others."""
    text = _checked(value)
    if not text.startswith("-") or "#" in text:
        raise RenderError(f"directive {text!r}: write an option for this queue, such as -l name=value")
    return text


def prelude_line(value: object) -> str:
    """Return a line of the user's own shell; one that any queue would take for a directive is refused."""
    text = _checked(value)
    if re.match(r"\s*#\s*@|#[A-Z]+\b|#\$", text):
        raise RenderError(f"prelude {text!r} would be read as a directive; write it with --directive")
    return text


def _checked(value: object) -> str:
    text = str(value)
    try:
        fields.one_line("value", text)
    except SpecError as error:
        raise RenderError(str(error)) from None
    return text


@cache
def environment(template_dir: str | None) -> jinja2.Environment:
    """Return the template engine: the site's own folder before the built-in one, undefined names are errors."""
    folders = [*([template_dir] if template_dir else []), str(builtin_templates())]
    # No HTML is made: autoescape would damage shell text. The filters below are what keeps values in their place.
    engine = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    engine.filters.update(
        quote=shell_word,
        directive=directive_value,
        pattern_path=pattern_path,
        extra_directive=extra_directive,
        prelude_line=prelude_line,
        keyword=keyword_value,
        extra_keyword=extra_keyword,
        plain=plain_word,
        whole_option=whole_option,
    )
    return engine


def fill(template: str, template_dir: str | None, **names: Any) -> str:
    """Return the text of a template: the site's own, if it has one of that name; raises RenderError."""
    try:
        return environment(template_dir).get_template(template).render(names)
    except jinja2.TemplateNotFound as error:
        raise RenderError(f"template {error.name!r} is neither in the site's folder nor built in") from None
    except jinja2.TemplateSyntaxError as error:
        raise RenderError(f"template {error.name}, line {error.lineno}: {error.message}") from None
    except jinja2.UndefinedError as error:
        raise RenderError(f"template {template}: {error.message}") from None
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:  # of a site's own
        raise RenderError(f"template {template}: {type(error).__name__}: {error}") from None
