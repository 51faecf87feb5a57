"""Where settings come from, last wins: defaults, site file, hpcsynapse.toml, the run's TOML, command line."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from hpcsynapse import fields
from hpcsynapse.errors import SiteError, SpecError
from hpcsynapse.spec import bksynapse
from hpcsynapse.spec.job import FORMAT, SECTIONS, JobSpec
from hpcsynapse.spec.site import site_path

PROJECT_FILE = "hpcsynapse.toml"
_TOP = ("name", "command", "workdir")
# These are merged by key; every other setting, lists too, is replaced as a whole by the later source.
_MERGED = ("env", "model_args", "data_args")


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a settings file; raises SpecError naming file and position."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path}: {fields.why_unreadable(error)}") from None


def read_description(path: Path) -> dict[str, Any]:
    """Return the tables of a run's own description: TOML, or a job of BK.Synapse (`.json`)."""
    return bksynapse.read(path) if path.suffix == ".json" else read_toml(path)


def check_names(table: Mapping[str, Any], source: str) -> None:
    """Refuse unknown sections and settings, all of them at once, naming the source and the nearest valid names."""
    if problems := list(_unknown(table)):
        raise SpecError("\n".join(f"{source}: {problem}" for problem in problems))


def _unknown(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        if key not in SECTIONS:
            if key not in _TOP:
                yield f"unknown setting {key}{fields.nearest(key, [*_TOP, *SECTIONS])}"
        elif not isinstance(value, Mapping):
            yield f"[{key}] must be a table of settings, not {fields.shown(value)}"
        else:
            names = list(fields.hints(SECTIONS[key]))
            for name in value:
                if name not in names:
                    near = fields.nearest(name, names) or f"; [{key}] has {', '.join(names)}"
                    yield f"unknown setting {key}.{name}{near}"


def _check_file(table: Mapping[str, Any], source: str) -> None:
    """Refuse what is wrong with the names and, each by itself, with the values of a file, all of it at once."""
    problems = list(_unknown(table))
    for section, kind in SECTIONS.items():
        given = table.get(section)
        known = fields.hints(kind)
        for name, value in given.items() if isinstance(given, Mapping) else ():
            if name in known:
                try:
                    fields.coerce(f"{section}.{name}", known[name], value)
                except SpecError as error:
                    problems.append(str(error))
    if problems:
        raise SpecError("\n".join(f"{source}: {problem}" for problem in problems))


def merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Lay the settings of a later source over earlier ones, in place."""
    for key, value in over.items():
        if key in SECTIONS:
            target = base.setdefault(key, {})
            for name, item in value.items():
                if name in _MERGED and isinstance(item, Mapping) and isinstance(target.get(name), Mapping):
                    target[name] = {**target[name], **item}
                else:
                    target[name] = item
        else:
            base[key] = value


def load(
    run_toml: Path | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    site: str | None = None,
    project: Path | None = None,
    beside: Collection[str] = (),
) -> JobSpec:
    """Return the description that all sources together give.

    A run.toml that hpcsynapse wrote (it has `format`) is complete: site and project files do not change it, so that
    submitting it again repeats the run. A `.json` file is a job of BK.Synapse. Tables of the file that are there
    `beside` the description are left to the caller. Raises SpecError naming the source of what is wrong.
    """
    tables: dict[str, Any] = {}
    own = read_description(run_toml) if run_toml else {}
    own = {name: table for name, table in own.items() if name not in beside}
    if "format" not in own:
        sources = [site_path(site), project or Path.cwd() / PROJECT_FILE]
        for path in sources:
            if path is None or not path.is_file():
                continue
            layer = read_toml(path)
            try:
                _check_file(layer, str(path))
            except SpecError as error:
                raise SiteError(str(error)) if path == sources[0] else error from None
            merge(tables, layer)
    if own.pop("format", FORMAT) != FORMAT:
        raise SpecError(f"{run_toml}: written by another release; this one reads format = {FORMAT}")
    _check_file(own, str(run_toml))
    merge(tables, own)
    check_names(options or {}, "command line")
    merge(tables, options or {})
    return JobSpec.from_dict(tables)


def parse_set(assignments: tuple[str, ...]) -> dict[str, Any]:
    """Return the tables that `--set section.key=value` (or `section.table.key=value`) stand for."""
    tables: dict[str, Any] = {}
    for text in assignments:
        path, found, value = text.partition("=")
        section, name, inner, kind = place_of(path.strip() if found else "", f"--set {text!r}")
        table = tables.setdefault(section, {})
        if inner:
            table.setdefault(name, {})[inner] = fields.from_text(path, kind, value)
        else:
            table[name] = fields.from_text(path, kind, value)
    return tables


def place_of(path: str, said: str, form: str = "section.key=value") -> tuple[str, str, str, Any]:
    """Return section, name, key inside a table ("" for none) and type of a setting, by its path.

    Raises SpecError that begins with what was `said` and tells the `form` to write.
    """
    section, _, rest = path.partition(".")
    name, _, inner = rest.partition(".")
    if section not in SECTIONS or not name:
        raise SpecError(f"{said}: write {form} with one of {', '.join(SECTIONS)}")
    hints = fields.hints(SECTIONS[section])
    if name not in hints:
        raise SpecError(f"{said}: unknown setting {section}.{name}{fields.nearest(name, hints)}")
    if not inner:
        return section, name, "", hints[name]
    kind = fields.base_type(hints[name])
    if get_origin(kind) is not dict:
        raise SpecError(f"{said}: {section}.{name} is not a table")
    return section, name, inner, get_args(kind)[1]
