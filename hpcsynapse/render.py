"""Job files from templates: pure, strict about undefined names, and safe against every value."""

from __future__ import annotations

import re
import shlex
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from hpcsynapse import __version__, fields, launchers
from hpcsynapse.errors import RenderError, SpecError
from hpcsynapse.launchers import LAUNCHERS, Shell
from hpcsynapse.placement import Placement, task_geometry
from hpcsynapse.schedulers import create
from hpcsynapse.schedulers.base import Scheduler
from hpcsynapse.spec import JobSpec
from hpcsynapse.units import format_walltime, parse_mebibytes

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
        raise RenderError(f"{text!r} cannot be written behind a keyword: it is empty, begins or ends with a blank or "
                          "a quote, ends with a backslash, or has $( in it")  # fmt: skip
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
        raise RenderError(f"directive {text!r}: write an option of sbatch for this queue, such as --hint=nomultithread")
    separator = "=" if text.startswith("--") else " "
    option, found, rest = text.partition(separator)
    return option + found + (directive_value(rest) if found else "")


def prelude_line(value: object) -> str:
    """Return a line of the user's own shell; one that a queue would take for a directive is refused."""
    text = _checked(value)
    if re.match(r"\s*#\s*@|#SBATCH", text):
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
        loader=jinja2.FileSystemLoader(folders), undefined=jinja2.StrictUndefined, autoescape=False,  # noqa: S701
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    engine.filters.update(quote=shell_word, directive=directive_value, pattern_path=pattern_path,
                          extra_directive=extra_directive, prelude_line=prelude_line, keyword=keyword_value,
                          extra_keyword=extra_keyword)  # fmt: skip
    return engine


def render(spec: JobSpec, run_dir: Path, placement: Placement | None = None, packed: bool = False) -> str:
    """Return the job file of a resolved description whose files go to `run_dir`: same description, same bytes.

    `placement` is given only where ranks are dealt out unevenly; a `packed` job file may be run on some nodes of a
    larger allocation. Raises RenderError when the template asks for what does not exist or fails, SpecError when the
    queue lacks what is asked for or does not go with the launcher.
    """
    scheduler = create(spec.queue.scheduler)
    scheduler.refuse(spec)
    names = context(spec, run_dir, scheduler, packed)
    return fill(scheduler.template, spec.site.template_dir, **names, geometry=placement and task_geometry(placement))


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


def context(spec: JobSpec, run_dir: Path, scheduler: Scheduler, packed: bool = False) -> dict[str, Any]:
    """Return the names that templates see."""
    launcher = LAUNCHERS[spec.launch.launcher]
    resources = spec.resources
    cpus = resources.cpus
    per_task = cpus * resources.local_size if cpus and launcher.per_node else cpus
    node_cpus = (cpus or 1) * resources.local_size
    return {
        "version": __version__,
        "spec": spec,
        "name": spec.name,
        "run_dir": str(run_dir),
        "workdir": spec.workdir or str(run_dir),
        "resources": resources,
        "queue": spec.queue,
        "launch": spec.launch,
        "site": spec.site,
        "walltime": format_walltime(resources.walltime),
        "walltime_seconds": int(resources.walltime.total_seconds()),
        "memory_mib": None if resources.mem is None else parse_mebibytes(resources.mem),
        "tasks_per_node": 1 if launcher.per_node else resources.local_size,
        "cpus_per_task": per_task,
        "step_cpus": cpus if scheduler.name == "minotauro" and not launcher.per_node else per_task,
        "node_cpus": node_cpus,
        "whole_nodes": node_cpus * 2 > (spec.site.cpus_per_node or float("inf")),
        "features": scheduler.features(spec),
        "notification": scheduler.notification(spec),
        "threads": spec.threads,
        "attempt": attempt_expression(scheduler),
        "job_id": scheduler.job_id_variable,
        "launch_line": " ".join(shell_word(word) for word in launchers.launch_words(spec, run_dir, packed)),
        "port_line": tool("ports"),
        "ports_needed": _ports_needed(spec),
        "rank_line": " ".join(shell_word(word) for word in launchers.rank_command(spec, run_dir)),
        "hostlist_line": tool("hostlist"),
        "task_hosts_line": tool("task_hosts"),
        "merge_line": tool("records", str(run_dir / "timings")),
        "failure_line": tool("failure", str(run_dir)),
        "stop_signal": stop_signal(spec),
    }


def _ports_needed(spec: JobSpec) -> int:
    """Return how many ports a node needs from MASTER_PORT on: with servers, one for each process that runs there."""
    if not spec.served:
        return 1
    local, places = spec.resources.local_size, spec.ps.server_nodes or spec.resources.nodes
    of_a_node = local + -(-spec.ps.servers // places)
    return 1 + of_a_node * (spec.allocated_nodes if spec.queue.scheduler == "local" else 1)


def attempt_expression(scheduler: Scheduler) -> str:
    """Return the shell expression that names one start of the job; a requeued job starts again under the same id."""
    return scheduler.job_id_variable + scheduler.restart_suffix


def tool(module: str, *arguments: str) -> str:
    """Return the shell words that run a small module of this package in the job script, outside any container."""
    return " ".join(shell_word(word) for word in (sys.executable, "-m", f"hpcsynapse.{module}", *arguments))


def stop_signal(spec: JobSpec) -> dict[str, str] | None:
    """Return what `--signal` says, and the trap the script needs when the signal comes to the script itself.

    The built-in trainer is stopped through the stop file, which works under every launcher, so the signal is sent to
    the batch shell (`B:`); a user's program gets it itself unless `B:` is asked for.
    """
    text = spec.queue.signal
    if not text:
        return None
    prefix, _, rest = text.rpartition(":")
    if "B" not in prefix and not spec.command:
        prefix = "B" + prefix
    name = rest.partition("@")[0].removeprefix("SIG")
    return {"value": f"{prefix}:{rest}" if prefix else rest, "trap": name if "B" in prefix else ""}
