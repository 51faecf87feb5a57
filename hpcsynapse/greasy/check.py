"""Finds in a task list, before it is run, what Greasy would crash on, drop, cut or run otherwise than it looks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from hpcsynapse.greasy.recorded import is_node_script
from hpcsynapse.greasy.tasks import Problem, Task, TaskList, missing, parse

ENGINES = ("any", "basic-srun", "basic-ssh", "mpi")

# Single quotes, escaped characters, double quotes, comments: what is inside is no syntax of the outer shell.
_QUOTED = re.compile(r"'[^']*'|\\.|\"(?:\\.|[^\"\\])*\"|(?<=\s)#.*", re.DOTALL)
_INSTEAD = {"\\": "e", "#": ""}
_SPECIAL = re.compile(r"[^A-Za-z0-9_./:,+%@ -]")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_ARRAY = re.compile(r"(?:^|[\s;&|])[A-Za-z_][A-Za-z0-9_]*\+?=\(|\$\{[A-Za-z_][A-Za-z0-9_]*\[")
_TEST = re.compile(r"(?:^|[\s;&|!(])\[\[\s")
_OPERATOR = re.compile(r"&&|\|\||[;|]")
_BACKGROUND = re.compile(r"(?<![&>|<])&(?![&>])")
_BASHISM = re.compile(r"[<>]\(|<<<|&>|>&(?![0-9-])|\|&")
_BUILTINS = frozenset(
    {"cd", "export", "source", ".", "if", "for", "while", "until", "case", "{", "(", "!", "set", "ulimit", "unset",
     "eval", "exec", "alias", "trap", ":", "umask"}
)  # fmt: skip
_ENDLESS = re.compile(r"(?:^|\s)(?:sleep\s+inf(?:inity)?|tail\s+(?:\S+\s+)*-[fF]|yes)(?:\s|$)")
_ROLE = re.compile(r"--job[_-]name[= ](\w+)")
_TELLING = re.compile(r"sleep|tail|yes| -|^(?:cd|export|source|\.|if|for|while|until|case|set|exec|trap|:) ")


def check_text(text: str, engine: str = "any", workers: int | None = None) -> list[Problem]:
    """Return every error and warning of a list by line, for one engine or for all that there are.

    `workers` also checks the one promise about places: with at most that many tasks, and none that waits, task i
    starts on node i.
    """
    tasks, problems = parse(text)
    problems += missing(tasks)
    problems += places(tasks, workers)
    for task in tasks.tasks:
        if _SPECIAL.search(task.command) or _TELLING.search(task.command):
            problems += _command(task, engine)
        if task.folder is not None:
            problems += _folder(task)
    if not tasks.tasks:
        problems.append(Problem(1, "error", "there is no task in the list"))
    return sorted(problems, key=lambda problem: (problem.line, problem.level))


def places(tasks: TaskList, workers: int | None) -> Iterator[Problem]:
    """Yield what keeps node scripts from starting on their own nodes."""
    bound = [task for task in tasks.tasks if is_node_script(task.command)]
    if not bound:
        return
    for task in bound:
        if task.after:
            yield Problem(task.line, "error", "a node script must not wait for other tasks: only the first tasks of "
                          "a list start on the nodes in their order")  # fmt: skip
    free = [task for task in tasks.tasks if not task.after]
    for place, task in enumerate(free):
        if not is_node_script(task.command) and any(one.line > task.line for one in bound):
            yield Problem(task.line, "error", "this task takes the place of a node script that follows it")
        elif workers is not None and place >= workers and is_node_script(task.command):
            yield Problem(task.line, "error", f"node script number {place + 1}, but {workers} workers: it would start "
                          "on the node that is free first, not on its own")  # fmt: skip


def _folder(task: Task) -> Iterator[Problem]:
    folder = task.folder or ""
    if _SPECIAL.search(folder) or " " in folder:
        yield Problem(task.line, "error", f"working directory {folder!r}: Greasy passes it to `cd` without quotes")
    elif not folder.startswith("/"):
        yield Problem(task.line, "warning", f"working directory {folder!r} is relative to where Greasy is started")


def _command(task: Task, engine: str) -> Iterator[Problem]:
    line, command = task.line, task.command
    if command.endswith("\\"):
        yield Problem(line, "error", "a list knows no continuation: the backslash at the end does not join the lines")
        command = command.rstrip("\\")
    bare = _QUOTED.sub(lambda match: _INSTEAD.get(match[0][0], "q"), command)
    if "'" in bare or '"' in bare:
        yield Problem(line, "error", "a quote is not closed")
    if _TEST.search(bare) or _ARRAY.search(bare):
        yield Problem(line, "error", "[[ ]] and arrays are not known to /bin/sh, which runs the line; "
                      "put the command into a script and write: bash /path/script.sh")  # fmt: skip
    elif _BASHISM.search(bare):
        yield Problem(line, "warning", "process substitution, here-strings and &> are bash, but /bin/sh runs the line")
    if bare.startswith(("[#", "[@")):
        yield Problem(line, "error", "a second '[#' or '[@' would become part of the command")
    yield from _endless(line, bare)
    if engine in ("any", "basic-srun"):
        yield from _under_srun(line, bare)
    if engine in ("any", "basic-ssh"):
        yield from _under_ssh(line, command, bare)
    if _BACKGROUND.search(bare) and engine not in ("any", "basic-srun"):
        yield Problem(line, "warning", "the exit code is that of the last command alone, and what runs in the "
                      "background outlives the task; start and await them in a script")  # fmt: skip


def _endless(line: int, bare: str) -> Iterator[Problem]:
    roles = _ROLE.findall(bare)
    if roles and all(role in ("ps", "server") for role in roles):
        yield Problem(line, "error", "a parameter server alone never ends and would hold the allocation until its "
                      "limit; build makes node scripts that stop it")  # fmt: skip
    if _ENDLESS.search(bare):
        yield Problem(line, "error", "this command never ends and would hold the allocation until its limit")
    if bare.rstrip().endswith("&") and not bare.rstrip().endswith("&&"):
        yield Problem(line, "error", "the task ends at once, while its command goes on in the background")


def _under_srun(line: int, bare: str) -> Iterator[Problem]:
    """Basic with srun runs `srun -n 1 -N 1 -w NODE LINE` (src/basicengine.cpp)."""
    if _ASSIGNMENT.match(bare):
        yield Problem(line, "error", "srun takes VAR=value for the program's name (exit code 127); "
                      "write: env VAR=value command")  # fmt: skip
    elif bare.split(" ", 1)[0] in _BUILTINS or bare.startswith(("(", "{")):
        yield Problem(line, "error", f"{bare.split(' ', 1)[0]!r} is a word of the shell, which srun cannot start")
    if _BACKGROUND.search(bare) or _OPERATOR.search(bare):
        yield Problem(line, "error", "only the first of several commands runs under srun, the others on the node of "
                      "Greasy itself; put them into a script and write: bash /path/script.sh")  # fmt: skip


def _under_ssh(line: int, command: str, bare: str) -> Iterator[Problem]:
    """Basic with ssh runs `ssh -q NODE "LINE"` (src/basicengine.cpp)."""
    if '"' in command:
        yield Problem(line, "error", 'ssh is given the line in double quotes, which a " inside would end')
    if "$" in command or "`" in command:
        yield Problem(line, "error" if "`" in command or "$(" in command else "warning",
                      "under ssh, $ and ` are expanded on the node of Greasy itself")  # fmt: skip


def split(problems: Sequence[Problem]) -> tuple[list[Problem], list[Problem]]:
    """Return errors and warnings."""
    return [one for one in problems if one.level == "error"], [one for one in problems if one.level != "error"]
