"""What a Greasy task list is: one line a task, whose number in the file is its id; written and read here.

Source: Greasy 2.2.3, its user guide, `src/abstractengine.cpp` and `src/greasytask.cpp`, and trials on Debian 12.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.findings import Finding, at_line
from hpcsynapse.greasy import grammar
from hpcsynapse.greasy.grammar import BLANKS, Reading, greasy_reads

LIST_NAME = "tasks.greasy"

_SIMPLE = re.compile(r"\[# ([1-9][0-9]{0,8}) #\] ([^\s\[\]#@](?:[^\[\]]*[^\s\[\]])?)")  # most lines that wait at all
_SHORT = 30_000  # characters that are fewer than LONGEST_COMMAND bytes in any case
_REFUSED = ("#", "[#", "[@")
_HEAD = re.compile(r"[ \t]*\[([#@])")
_TOKEN = re.compile(r"([1-9][0-9]*) *- *([1-9][0-9]*)|-?[1-9][0-9]*")
_ODD = re.compile(r"[^!-~ ]")  # what looks like a blank, or like nothing


@dataclass(frozen=True, slots=True)
class Task:
    """One line that runs something: its number, what it waits for, where it runs and its command."""

    line: int
    command: str
    after: tuple[int, ...] = ()
    folder: str | None = None

    def __post_init__(self) -> None:
        if self.after and not all(0 < number < self.line for number in self.after):
            raise SpecError(f"line {self.line}: waits for {self.after}, but only earlier lines can be waited for")


@dataclass(frozen=True, slots=True)
class TaskList:
    """Tasks by rising line number, and the comments between them."""

    tasks: tuple[Task, ...]
    comments: tuple[tuple[int, str], ...] = ()

    def text(self) -> str:
        """Return the file; lines that hold neither a task nor a comment are blank.

        Raises SpecError for what Greasy would read otherwise than it is written.
        """
        rows = {number: f"# {comment}" if comment else "#" for number, comment in self.comments}
        rows.update((task.line, format_task(task)) for task in self.tasks)
        if len(rows) != len(self.tasks) + len(self.comments):
            raise SpecError("two entries of a task list have the same line number")
        for number, comment in self.comments:
            fields.one_line(f"comment in line {number}", comment)
        return "".join(rows.get(number, "") + "\n" for number in range(1, max(rows, default=0) + 1))


def format_task(task: Task) -> str:
    """Return the line of one task; raises SpecError for a command or a folder that Greasy would cut."""
    command = task.command
    if not command.isprintable():
        fields.one_line(f"line {task.line}", command.replace("\t", " "))
    if command != command.strip() or not command or command.startswith(_REFUSED) or command.endswith("\\"):
        raise SpecError(
            f"line {task.line}: {command!r} is not a command that a list can hold: it is empty, begins with a blank, "
            "'#', '[#' or '[@', or ends with a blank or a backslash"
        )
    if len(command.encode(errors="surrogateescape")) > grammar.LONGEST_COMMAND:
        raise SpecError(
            f"line {task.line}: the command is longer than the {grammar.LONGEST_COMMAND} bytes that a "
            "program can be given in one word"
        )
    after = format_dependencies(task.after)
    head = f"[# {after} #] " if task.after else ""
    if task.folder is not None:
        fields.one_line(f"line {task.line}", task.folder)
        if not task.folder or task.folder != task.folder.strip() or "@]" in task.folder or "#]" in task.folder:
            raise SpecError(f"line {task.line}: {task.folder!r} is not a folder that a list can hold")
        head += f"[@ {task.folder} @] "
    if greasy_reads(head + command) != Reading(command, task.folder, after or None):
        raise SpecError(f"line {task.line}: {command!r} contains '@]' or '#]', at which Greasy would cut it")
    return head + command


def format_dependencies(after: Sequence[int]) -> str:
    """Return line numbers as Greasy takes them, runs of neighbours as ranges."""
    if len(after) < 2:
        return str(after[0]) if after else ""
    parts: list[str] = []
    first = last = -1
    for number in sorted(set(after)):
        if number != last + 1 or first < 0:
            if first >= 0:
                parts.append(_range(first, last))
            first = number
        last = number
    return ", ".join([*parts, _range(first, last)] if first >= 0 else parts)


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}" if last > first + 1 else f"{first}, {last}"


def parse(text: str) -> tuple[TaskList, list[Finding]]:
    """Return the tasks of a list and everything about its form that Greasy would not take as it was meant.

    A line with a problem of form is still a task as far as it can be read, so that others may refer to it.
    """
    tasks: list[Task] = []
    comments: list[tuple[int, str]] = []
    problems: list[Finding] = []
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip(BLANKS)
        if not stripped:
            continue
        plain = line.isprintable() and len(line) < _SHORT
        if stripped[0] == "#":
            comments.append((number, stripped[1:].strip()))
        elif plain and stripped[0] != "[" and "]" not in line:
            tasks.append(Task(number, stripped))
        elif plain and (match := _SIMPLE.fullmatch(line)) and 0 < int(match[1]) < number:
            tasks.append(Task(number, match[2], (int(match[1]),)))
        else:
            tasks.append(_parse_task(number, line, problems))
    return TaskList(tuple(tasks), tuple(comments)), problems


def _parse_task(number: int, line: str, problems: list[Finding]) -> Task:
    wrong = list(_characters(number, line))
    line = line.replace("\r", "").replace("\0", "").removeprefix("\ufeff")
    rest = line
    found: dict[str, str] = {}
    while (match := _HEAD.match(rest)) and match[1] not in found:
        inside, closed, behind = rest[match.end() :].partition(match[1] + "]")
        if not closed:
            wrong.append(at_line(number, "", "error", f"'[{match[1]}' is not closed by '{match[1]}]'"))
            break
        found[match[1]], rest = inside.strip(" " if match[1] == "#" else BLANKS), behind
    command, folder = rest.strip(BLANKS), found.get("@")
    wrong += _parts(number, command, folder)
    after = _dependencies(number, found["#"], wrong) if "#" in found else ()
    if not wrong and greasy_reads(line) != Reading(command, folder, found.get("#")):
        mark = "@]" if "@]" in rest else "#]"
        message = f"the command contains {mark!r}: Greasy matches up to the last one of a line and would cut it"
        wrong.append(at_line(number, "", "error", f"{message}; put the command into a script"))
    problems += wrong
    return Task(number, command, after, folder or None)


def _characters(number: int, line: str) -> Iterator[Finding]:
    """Yield what an editor or another system has left in a line, invisible as a rule."""
    if "\r" in line:
        yield at_line(number, "", "error", "a carriage return would become part of the command (dos2unix)")
    if "\0" in line:
        yield at_line(number, "", "error", "a NUL byte, at which Greasy cuts the line")
    first = line.lstrip(BLANKS)[:1]
    if first == "\ufeff" or (first != "\r" and grammar.odd_blank(first)):
        yield at_line(
            number, "", "error", f"{grammar.describe(first)} at the begin of the line would become part of the command"
        )


def _parts(number: int, command: str, folder: str | None) -> Iterator[Finding]:
    """Yield what is missing from a line, or too long."""
    if not command:
        yield at_line(number, "", "error", "there is no command")
    elif command[0] == "#":
        yield at_line(number, "", "error", "there is only a comment where the command should be: nothing would run")
    if len(command) > _SHORT and len(command.encode(errors="surrogateescape")) > grammar.LONGEST_COMMAND:
        yield at_line(
            number,
            "",
            "error",
            f"the command is longer than the {grammar.LONGEST_COMMAND} bytes that a "
            "program can be given in one word; put it into a script",
        )
    if folder == "":
        yield at_line(number, "", "error", "the working directory is empty")


def _dependencies(number: int, text: str, problems: list[Finding]) -> tuple[int, ...]:
    """Return the lines that a list of dependencies names; what crashes Greasy or drops the task is an error."""
    after: set[int] = set()
    if not text:
        return ()
    if odd := _ODD.search(text):
        what = f"{grammar.describe(odd[0])} among the dependencies: Greasy leaves the task out"
        problems.append(at_line(number, "", "error", what))
        text = _ODD.sub(" ", text)
    for token in (part.strip(" ") for part in text.split(",")):
        match = _TOKEN.fullmatch(token)
        if not token:
            message = "an empty dependency: Greasy drops the task without a word"
        elif not match:
            message = f"dependency {token!r} is neither n nor -n nor a-b: Greasy leaves the task out"
        else:
            message = _add(number, token, match, after)
        if message:
            problems.append(at_line(number, "", "error", message))
    return tuple(sorted(after))


def _add(number: int, token: str, match: re.Match[str], after: set[int]) -> str:
    """Add the lines of one token that lie before this one; return what is wrong with it, or nothing."""
    if match[1] is not None:
        first, last = sorted((int(match[1][:10]), int(match[2][:10])))  # Greasy takes both orders
    else:
        value = int(token[:11])
        first = last = number + value if token[0] == "-" else value
    if first <= number <= last:
        return f"dependency {token} names the task itself, which crashes Greasy"
    if first < 1:
        return f"dependency {token} lies before line 1, which crashes Greasy"
    if last > number:
        return f"dependency {token} lies ahead; only earlier lines can be waited for"
    after.update(range(first, last + 1))
    return ""


def read(path: Path) -> str:
    """Return the text of a list or a log, undecodable bytes kept; raises SpecError when it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from None


def load(path: Path) -> TaskList:
    """Return the tasks of a file; raises SpecError with every line that is not in order."""
    tasks, problems = parse(read(path))
    wrong = [f"{path}: {one}" for one in [*problems, *missing(tasks)] if one.level == "error"]
    if wrong:
        raise SpecError("\n".join(wrong))
    return tasks


def missing(tasks: TaskList) -> Iterable[Finding]:
    """Yield the dependencies that name a line without a task."""
    there = {task.line for task in tasks.tasks}
    for task in tasks.tasks:
        if task.after and (lost := [number for number in task.after if number not in there]):
            what = ", ".join(str(number) for number in lost[:5])
            yield at_line(task.line, "", "error", f"waits for line {what}, where there is no task (blank or comment)")
