"""From the lines of a job file of PBS to the options of qsub, one resource each.

Source: PBS Professional Reference Guide, qsub; OpenPBS, src/cmds/qsub.c and check_job_script.c.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from hpcsynapse.findings import Finding, at_line
from hpcsynapse.jobfiles.model import Directive

_LINE = re.compile(r"[ \t]*#PBS(.*)")
_NEARLY = re.compile(r"[ \t]*#+[ \t]*(?:pbs|PBS)[ \t]+-\w")
_FLAGS = frozenset("hIVXzfnx")
_TAKE_A_VALUE = frozenset("aAcCdDeGjJkKlLmMNoOpPqrRStTuvwW")
_OF_TORQUE = frozenset("dtnwLKT")


def is_directive(line: str) -> bool:
    """Tell whether a line is one to PBS; `# PBS` and `##PBS` are comments."""
    return _LINE.match(line) is not None


def directives(lines: list[str], complaints: list[Finding]) -> Iterator[tuple[Directive, int]]:
    """Yield the options before the first command, each resource of `-l` apart, with the number of their last line.

    A key like `-l walltime` is an option and a resource; it is empty where nothing was understood. Of a resource that
    is given twice the first counts, as to qsub.
    """
    resources, command, skip = dict[str, Directive](), 0, 0
    for index, line in enumerate(lines):
        match = _LINE.match(line)
        if index < skip:
            continue
        if not match:
            if line.strip() and line.lstrip()[0] not in "#:" and not command:
                command = index + 1
            elif _NEARLY.match(line) and not command:
                message = "is a comment to qsub: a directive begins with #PBS, in capitals"
                complaints.append(at_line(index + 1, "", "warning", message))
            continue
        if command:
            message = f"qsub ignores it: the first command is in line {command}"
            complaints.append(at_line(index + 1, match[1].strip()[:60], "warning", message))
            continue
        text, last = _joined(match[1], lines, index)
        skip = last + 1
        yield Directive(index + 1, "", ""), last + 1
        for directive in _options(text, index + 1, complaints):
            before = resources.setdefault(directive.key, directive) if directive.key.startswith("-l ") else directive
            if before is directive:
                yield directive, last + 1
            elif before.value != directive.value:
                message = f"was given in line {before.line} already; of resources the first counts"
                complaints.append(at_line(index + 1, directive.key, "warning", message))


def _joined(text: str, lines: list[str], index: int) -> tuple[str, int]:
    """Return a directive with the lines that a backslash joins to it, as they are."""
    while text.endswith("\\") and index + 1 < len(lines):
        index += 1
        text = text[:-1] + lines[index]
    return text, index


def _options(text: str, number: int, complaints: list[Finding]) -> Iterator[Directive]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        complaints.append(at_line(number, text.strip()[:60], "error", str(error)))
        return
    while words:
        word = words.pop(0)
        letter = word[1:2]
        if word.startswith("#"):
            complaints.append(at_line(number, word, "error", "qsub refuses a comment behind a directive"))
            return
        if not word.startswith("-") or letter not in _FLAGS | _TAKE_A_VALUE:
            complaints.append(at_line(number, word, "error", "is no option of qsub"))
            continue
        if letter in _OF_TORQUE:
            message = "is an option of Torque; OpenPBS and PBS Professional refuse it"
            complaints.append(at_line(number, word[:2], "warning", message))
        if letter in _FLAGS:
            if word[2:]:
                words.insert(0, f"-{word[2:]}")
            yield Directive(number, f"-{letter}", "")
            continue
        if not word[2:] and not words:
            complaints.append(at_line(number, word, "error", "has no value"))
            return
        yield from _parts(number, f"-{letter}", word[2:] or words.pop(0), complaints)


def _parts(number: int, option: str, value: str, complaints: list[Finding]) -> Iterator[Directive]:
    """Yield one option, or the resources and attributes that it lists, each apart."""
    if "$" in value and option not in ("-v", "-A"):
        message = f"qsub expands no variables: {value} is taken as it stands"
        complaints.append(at_line(number, option, "warning", message))
    if option not in ("-l", "-W"):
        yield Directive(number, option, value)
        return
    for part in re.split(r",(?=[A-Za-z_]\w*=)" if option == "-W" else ",", value):
        name, _, content = part.partition("=")
        if re.fullmatch(r"[A-Za-z_][\w.]*", name.strip()):
            yield Directive(number, f"{option} {name.strip()}", content)
        else:
            complaints.append(at_line(number, option, "error", f"{part[:60]!r} is not NAME=VALUE"))
