"""Lines that leave a record of how they ended: `bash DIR/node_K.sh` and `bash DIR/task.sh N`.

Greasy's exit code is 0 whatever happened, and its log calls a killed task completed; so what is believed is the file
that the line itself writes below DIR/results.
"""

from __future__ import annotations

import fcntl
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from hpcsynapse import __version__
from hpcsynapse.errors import RenderError, SpecError
from hpcsynapse.files import write_atomic
from hpcsynapse.greasy.tasks import LIST_NAME, Task, TaskList, format_task
from hpcsynapse.job.supervise import GRACES
from hpcsynapse.spec.launch import looks_secret
from hpcsynapse.templating import environment

_LINE = re.compile(r"bash (/[^\s'\"\\$`]*|'/[^'\"\\$`]*')(?: (\d+))?")
_NODE = re.compile(r"node_(\d+)\.sh")
_UNSAFE = re.compile(r"[\"'\\$`\x00-\x1f\x7f]|[@#]\]")
TABLE_NAME = "tasks.tsv"


def result_path(command: str) -> Path | None:
    """Return where a line records its end, or None for a line that records nothing."""
    match = _LINE.fullmatch(command)
    if not match:
        return None
    script = Path(match[1].strip("'"))
    if match[2] and script.name == "task.sh":
        return script.parent / "results" / f"task_{match[2]}.json"
    if not match[2] and (node := _NODE.fullmatch(script.name)):
        return script.parent / "results" / f"node_{node[1]}.json"
    return None


def log_path(result: Path) -> Path:
    """Return the log beside a record, which whoever runs the line holds locked."""
    return result.parents[1] / "logs" / f"{result.stem}.log"


def at_work(result: Path) -> bool:
    """Tell whether a line still runs, whatever has become of its run: the kernel frees the lock of what has died."""
    try:
        with log_path(result).open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such log, or a file system without locks
        pass
    return False


def is_node_script(command: str) -> bool:
    """Tell whether a line runs the script of one node."""
    match = _LINE.fullmatch(command)
    return bool(match and not match[2] and _NODE.fullmatch(match[1].strip("'").rpartition("/")[2]))


def line_folder(folder: Path) -> str:
    """Return a folder as the words of a line hold it under every engine of Greasy; raises SpecError."""
    path = str(folder)
    if match := _UNSAFE.search(path):
        raise SpecError(f"{path!r} contains {match[0]!r}, which a line of a task list cannot; choose another folder")
    if not path.startswith("/"):
        raise SpecError(f"{path!r} must be an absolute path")
    return path


def script_line(path: str, number: int | None = None) -> str:
    """Return the line that runs a script of a checked folder."""
    word = shlex.quote(path)
    return f"bash {word}" if number is None else f"bash {word} {number}"


def template(name: str, template_dir: str | None = None) -> jinja2.Template:
    """Return a template of templates/greasy; raises RenderError for one of a site's own that is not in order."""
    try:
        return environment(template_dir).get_template(f"greasy/{name}")
    except jinja2.TemplateSyntaxError as error:
        raise RenderError(f"template {error.name}, line {error.lineno}: {error.message}") from None


def write_script(path: Path, name: str, template_dir: str | None = None, **names: Any) -> None:
    """Write one script from its template; raises RenderError when that asks for what does not exist."""
    try:
        text = template(name, template_dir).render(version=__version__, **names)
    except jinja2.UndefinedError as error:
        raise RenderError(f"template greasy/{name}: {error.message}") from None
    write_atomic(path, text, private=any(map(looks_secret, names.get("env", ()))))


def write_recorded(
    folder: Path,
    tasks: TaskList,
    workdir: str,
    *,
    limit: int = 0,
    gpus: int | None = None,
    template_dir: str | None = None,
) -> TaskList:
    """Write a list whose lines run those of `tasks` through one script that records each; return the new list.

    However many tasks there are, this makes a handful of files: line N of tasks.tsv is what task.sh N runs. `gpus`
    gives each task one device of its node that no other task of the job there holds.
    """
    place = line_folder(folder)
    for name in ("results", "logs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_atomic(folder / TABLE_NAME, _table(tasks.tasks, workdir))
    write_script(
        folder / "task.sh",
        "task.sh.j2",
        template_dir,
        limit=limit,
        grace=int(GRACES.program),
        one_device=gpus is not None,
        gpus=gpus,
    )
    start = script_line(f"{place}/task.sh") + " "
    recorded = TaskList(
        tuple(Task(task.line, f"{start}{task.line}", task.after) for task in tasks.tasks), tasks.comments
    )
    write_atomic(folder / LIST_NAME, recorded.text())
    return recorded


def _table(tasks: Sequence[Task], workdir: str) -> str:
    """Return one line a line of the list: working directory, tab, command."""
    rows: list[str] = []
    for task in tasks:
        format_task(task)
        rows.extend("\n" for _ in range(task.line - len(rows) - 1))
        folder = str(Path(workdir, task.folder or ""))
        if "\t" in folder or not folder.isprintable():
            raise SpecError(f"line {task.line}: {folder!r} is not a folder that a task can run in")
        rows.append(f"{folder}\t{task.command}\n")
    return "".join(rows)


def commands(folder: Path) -> dict[int, str]:
    """Return what the lines of a folder's list really run."""
    try:
        rows = (folder / TABLE_NAME).read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        return {}
    return {line: row.partition("\t")[2] for line, row in enumerate(rows, 1) if row}


def clear_results(folder: Path) -> None:
    """Remove what an earlier run of a folder's list has left."""
    for name in ("results", "beats", "logs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("results", "logs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
