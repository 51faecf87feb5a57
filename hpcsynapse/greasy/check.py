"""Finds in a task list, before it is run, what Greasy would crash on, drop, cut or run otherwise than it looks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from hpcsynapse.findings import Finding, at_line
from hpcsynapse.greasy import grammar
from hpcsynapse.greasy.recorded import is_node_script
from hpcsynapse.greasy.tasks import Task, TaskList, missing, parse
from hpcsynapse.schedulers import srun

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
# Words of POSIX sh and of bash that are no programs, or programs without effect on the shell that follows, and the
# functions that sites define. Source: dash(1), bash(1); echo, test, [, printf, kill, pwd, true, false are programs too.
_BUILTINS = frozenset(
    {".", ":", "!", "{", "(", "alias", "bg", "break", "builtin", "caller", "case", "cd", "command", "continue",
     "coproc", "declare", "dirs", "disown", "do", "done", "elif", "else", "enable", "esac", "eval", "exec",
     "exit", "export", "fc", "fg", "fi", "for", "function", "getopts", "hash", "help", "history", "if", "jobs",
     "let", "local", "logout", "mapfile", "ml", "module", "popd", "pushd", "read", "readarray", "readonly",
     "return", "select", "set", "shift", "shopt", "source", "suspend", "then", "times", "trap", "type",
     "typeset", "ulimit", "umask", "unalias", "unset", "until", "wait", "while"}
)  # fmt: skip  # a table
# What a step has of its own, and what differs between nodes.
_OF_STEP = re.compile(rf"\$\{{?({srun.SET_IN_STEPS}|CUDA_VISIBLE_DEVICES|HOSTNAME|TMPDIR)\b")
_OF_NODE = re.compile(r"(?:\$\(|`)\s*(hostname|uname|nproc|nvidia-smi|ip|ifconfig|lscpu|free|df)\b")
_ENDLESS = re.compile(r"(?:^|\s)(?:sleep\s+inf(?:inity)?|tail\s+(?:\S+\s+)*-[fF]|yes)(?:\s|$)")
_ROLE = re.compile(r"--job[_-]name[= ](\w+)")
_TELLING = re.compile(r"sleep|tail|yes| -")


def check_text(text: str, engine: str = "any", workers: int | None = None) -> list[Finding]:
    """Return every error and warning of a list by line, for one engine or for all that there are.

    `workers` also checks the one promise about places: with at most that many tasks, and none that waits, task i
    starts on node i.
    """
    tasks, problems = parse(text)
    problems += missing(tasks)
    problems += places(tasks, workers)
    for task in tasks.tasks:
        command = task.command
        if _SPECIAL.search(command) or _TELLING.search(command) or command.split(" ", 1)[0] in _BUILTINS:
            problems += _command(task, engine)
        if engine in ("any", "mpi"):
            problems += _under_mpi(task)
        if task.folder is not None:
            problems += _folder(task)
    if not tasks.tasks:
        problems.append(at_line(1, "", "error", "there is no task in the list"))
    return sorted(problems, key=lambda problem: (problem.line, problem.level))


def places(tasks: TaskList, workers: int | None) -> Iterator[Finding]:
    """Yield what keeps node scripts from starting on their own nodes."""
    bound = [task for task in tasks.tasks if is_node_script(task.command)]
    if not bound:
        return
    for task in bound:
        if task.after:
            yield at_line(
                task.line,
                "",
                "error",
                "a node script must not wait for other tasks: only the first tasks "
                "of a list start on the nodes in their order",
            )
    free = [task for task in tasks.tasks if not task.after]
    for place, task in enumerate(free):
        if not is_node_script(task.command) and any(one.line > task.line for one in bound):
            yield at_line(task.line, "", "error", "this task takes the place of a node script that follows it")
        elif workers is not None and place >= workers and is_node_script(task.command):
            yield at_line(
                task.line,
                "",
                "error",
                f"node script number {place + 1}, but {workers} workers: it would "
                "start on the node that is free first, not on its own",
            )


def _folder(task: Task) -> Iterator[Finding]:
    folder = task.folder or ""
    if _SPECIAL.search(folder) or " " in folder:
        yield at_line(task.line, "", "error", f"working directory {folder!r}: Greasy passes it to `cd` without quotes")
    elif not folder.startswith("/"):
        yield at_line(task.line, "", "warning", f"working directory {folder!r} is relative to where Greasy is started")


def _command(task: Task, engine: str) -> Iterator[Finding]:
    line, command = task.line, task.command
    if command.endswith("\\"):
        yield at_line(
            line, "", "error", "a list knows no continuation: the backslash at the end does not join the lines"
        )
        command = command.rstrip("\\")
    bare = _QUOTED.sub(lambda match: _INSTEAD.get(match[0][0], "q"), command)
    if "'" in bare or '"' in bare:
        yield at_line(line, "", "error", "a quote is not closed")
    if _TEST.search(bare) or _ARRAY.search(bare):
        yield at_line(
            line,
            "",
            "error",
            "[[ ]] and arrays are not known to /bin/sh, which runs the line; "
            "put the command into a script and write: bash /path/script.sh",
        )
    elif _BASHISM.search(bare):
        yield at_line(
            line, "", "warning", "process substitution, here-strings and &> are bash, but /bin/sh runs the line"
        )
    if bare.startswith(("[#", "[@")):
        yield at_line(line, "", "error", "a second '[#' or '[@' would become part of the command")
    if odd := grammar.odd_blank(bare):
        yield at_line(line, "", "error", f"{grammar.describe(odd)} is no blank for the shell but part of a word")
    yield from _endless(line, bare)
    if engine in ("any", "basic-srun"):
        yield from _under_srun(line, bare)
        yield from _before_srun(line, command)
    if engine in ("any", "basic-ssh"):
        yield from _under_ssh(line, command, bare)
    if _BACKGROUND.search(bare) and engine not in ("any", "basic-srun"):
        yield at_line(
            line,
            "",
            "warning",
            "the exit code is that of the last command alone, and what runs in the "
            "background outlives the task; start and await them in a script",
        )


def _endless(line: int, bare: str) -> Iterator[Finding]:
    roles = _ROLE.findall(bare)
    if roles and all(role in ("ps", "server") for role in roles):
        yield at_line(
            line,
            "",
            "error",
            "a parameter server alone never ends and would hold the allocation until its "
            "limit; build makes node scripts that stop it",
        )
    if _ENDLESS.search(bare):
        yield at_line(line, "", "error", "this command never ends and would hold the allocation until its limit")
    if bare.rstrip().endswith("&") and not bare.rstrip().endswith("&&"):
        yield at_line(line, "", "error", "the task ends at once, while its command goes on in the background")


def _under_srun(line: int, bare: str) -> Iterator[Finding]:
    """Basic with srun runs `srun -n 1 -N 1 -w NODE LINE` (src/basicengine.cpp)."""
    if _ASSIGNMENT.match(bare):
        yield at_line(
            line,
            "",
            "error",
            "srun takes VAR=value for the program's name (exit code 127); write: env VAR=value command",
        )
    elif (first := re.split(r"[\s;&|]", bare, maxsplit=1)[0]) in _BUILTINS or bare.startswith(("(", "{")):
        yield at_line(line, "", "error", f"{first!r} is a word of the shell, which srun cannot start")
    if _BACKGROUND.search(bare) or _OPERATOR.search(re.sub(r"\s*;\s*$", "", bare)):
        yield at_line(
            line,
            "",
            "error",
            "only the first of several commands runs under srun, the others on the node "
            "of Greasy itself; put them into a script and write: bash /path/script.sh",
        )


def _before_srun(line: int, command: str) -> Iterator[Finding]:
    """Yield what the shell replaces on the node of Greasy, before srun leads to another (src/basicengine.cpp)."""
    seen = _QUOTED.sub(lambda match: match[0] if match[0][0] == '"' else _INSTEAD.get(match[0][0], "q"), command)
    where = "under srun, %s is replaced on the node of Greasy itself, before srun starts anything"
    if found := _OF_STEP.search(seen):
        yield at_line(line, "", "error", f"{where % ('$' + found[1])}; write: sh -c '...'")
    elif found := _OF_NODE.search(seen):
        yield at_line(line, "", "error", f"{where % f'$({found[1]})'}; write: sh -c '...'")
    elif "$(" in seen or "`" in seen:
        yield at_line(line, "", "warning", where % "$(...)")


def _under_mpi(task: Task) -> Iterator[Finding]:
    """Mpi tells a command from its length by the size of the message, which is that of an int (src/mpiengine.cpp)."""
    if task.folder is None and len(task.command.encode(errors="surrogateescape")) == 3:
        yield at_line(
            task.line,
            "",
            "error",
            f"the MPI engine takes a command of three characters for a number and hangs; write: env {task.command}",
        )


def _under_ssh(line: int, command: str, bare: str) -> Iterator[Finding]:
    """Basic with ssh runs `ssh -q NODE "LINE"` (src/basicengine.cpp)."""
    if '"' in command:
        yield at_line(line, "", "error", 'ssh is given the line in double quotes, which a " inside would end')
    if "$" in command or "`" in command:
        yield at_line(
            line,
            "",
            "error" if "`" in command or "$(" in command else "warning",
            "under ssh, $ and ` are expanded on the node of Greasy itself",
        )


def split(problems: Sequence[Finding]) -> tuple[list[Finding], list[Finding]]:
    """Return errors and warnings."""
    return [one for one in problems if one.level == "error"], [one for one in problems if one.level != "error"]
