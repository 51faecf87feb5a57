"""From the bytes of a job file to its lines, and from lines to statements."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hpcsynapse.jobfiles.model import Complaint, Directive
from hpcsynapse.jobfiles.values import BLANKS

_KEYWORD_LINE = re.compile(r"[ \t]*#[ \t]*@[ \t]*(.*)")
_ASSIGNMENT = re.compile(r"([A-Za-z][\w.-]*)[ \t]*(=|[ \t]|$)[ \t]*(.*)")
# What sbatch takes for a plain comment though it was meant for it.
_NEARLY_SBATCH = re.compile(r"([ \t]+#[ \t]*|#[ \t]+)SBATCH[ \t]+-")


def decode(data: bytes) -> tuple[list[str], list[Complaint]]:
    """Return the lines of a file in UTF-8 or Latin-1, with Unix, DOS or Mac line ends, and what is odd about them."""
    complaints = []
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        complaints.append(Complaint(line, "", "warning", "bytes that are not UTF-8: read as Latin-1"))
        text = data.decode("latin-1")
    if text.startswith("\ufeff"):
        text = text[1:]
        complaints.append(Complaint(1, "", "warning", "begins with a byte order mark, which hides the #! line"))
    if "\r" in text:
        line = text.count("\n", 0, text.index("\r")) + 1
        complaints.append(Complaint(line, "", "warning", "has DOS line ends, which sbatch refuses"))
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        complaints.append(Complaint(line, "", "error", "has a NUL byte"))
        text = text.replace("\0", "")
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines, complaints


def is_keyword_line(line: str) -> bool:
    """Tell whether a line is `# @ ...`; `## @` and `##@` are switched off."""
    return _KEYWORD_LINE.match(line) is not None


def keyword_statements(
    lines: list[str], complaints: list[Complaint], *, strict: bool
) -> Iterator[tuple[Directive, int]]:  # fmt: skip
    """Yield the `# @` statements with the number of their last line; a backslash at the end continues one.

    With `strict` a missing `=` is an error, as it is to LoadLeveler.
    """
    skip = 0
    for index, line in enumerate(lines):
        match = _KEYWORD_LINE.match(line)
        if index < skip or not match:
            continue
        text, last = _continued(match[1], lines, index, complaints)
        skip = last + 1
        found = _ASSIGNMENT.fullmatch(text.strip(BLANKS))
        if not found:
            if text.strip(BLANKS):
                message = f"{text.strip(BLANKS)[:60]!r} is not a keyword and a value"
                complaints.append(Complaint(index + 1, "", "error" if strict else "warning", message))
            yield Directive(index + 1, "", ""), last + 1
            continue
        key, separator, value = found[1].replace("-", "_").lower(), found[2], found[3].strip(BLANKS)
        if separator != "=" and key != "queue":
            level = "error" if strict else "warning"
            complaints.append(Complaint(index + 1, key, level, f"has no '='; read as {key} = {value}"))
        if not value and key != "queue":
            complaints.append(Complaint(index + 1, key, "error", "has no value"))
        yield Directive(index + 1, key, value), last + 1


def _continued(text: str, lines: list[str], index: int, complaints: list[Complaint]) -> tuple[str, int]:
    """Return a statement with the lines it goes on to, and the index of the last of them."""
    last = index
    while text.rstrip(BLANKS).endswith("\\"):
        text = text.rstrip(BLANKS)[:-1].rstrip(BLANKS)
        if last + 1 >= len(lines) or is_keyword_line(lines[last + 1]):
            message = "ends with a backslash, but the next line is a statement of its own or missing"
            complaints.append(Complaint(last + 1, "", "error", message))
            break
        last += 1
        text = f"{text} {lines[last].strip(BLANKS).lstrip('#').strip(BLANKS)}".rstrip(BLANKS)
    return text, last


def option_words(line: str) -> list[str]:
    """Return the words of a #SBATCH line as Slurm splits them: quotes, backslashes, and `#` ends it (sbatch/opt.c).

    Raises ValueError when a quote is not closed.
    """
    words: list[str] = []
    current, started, quote, escaped = "", False, "", False
    for character in line:
        if escaped:
            current, escaped = current + character, False
        elif character == "\\" and quote != "'":
            escaped = started = True
        elif quote:
            if character == quote:
                quote = ""
            else:
                current += character
        elif character in "\"'":
            quote, started = character, True
        elif character.isspace():
            if started:
                words.append(current)
            current, started = "", False
        elif character == "#":
            break
        else:
            current, started = current + character, True
    if quote:
        raise ValueError(f"a {quote} is not closed")
    return [*words, current] if started else words


def sbatch_lines(lines: list[str], complaints: list[Complaint]) -> Iterator[tuple[int, list[str]]]:
    """Yield the words of each #SBATCH line before the first command, with its number."""
    command = 0
    for index, line in enumerate(lines, 1):
        if line.startswith("#SBATCH"):
            if command:
                message = f"sbatch ignores it: the first command is in line {command}"
                complaints.append(Complaint(index, line[7:].strip()[:60], "warning", message))
                continue
            try:
                yield index, option_words(line[7:])
            except ValueError as error:
                complaints.append(Complaint(index, line[7:].strip()[:60], "error", str(error)))
        elif _NEARLY_SBATCH.match(line):
            complaints.append(
                Complaint(index, "", "warning", "sbatch ignores it: only #SBATCH at the very start counts")
            )
        elif line.strip() and not line.startswith("#") and not command:
            command = index
