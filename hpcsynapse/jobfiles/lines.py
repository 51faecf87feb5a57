"""From the bytes of a job file to its lines, and from lines to statements."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches

from hpcsynapse.findings import Finding, at_line
from hpcsynapse.jobfiles.model import Directive
from hpcsynapse.jobfiles.values import BLANKS

_KEYWORD_LINE = re.compile(r"[ \t]*#[ \t]*@[ \t]*(.*)")
_ASSIGNMENT = re.compile(r"([A-Za-z][\w.-]*)[ \t]*(=|[ \t]|$)[ \t]*(.*)")
SUBMIT = "sbatch"  # the command that most job files are for
_NODES = re.compile(r"^#SBATCH\s+(?:--nodes[= ]|-N\s*)(\d+)", re.MULTILINE)
# What sbatch takes for a plain comment though it was meant for it.
_NEARLY_SBATCH = re.compile(r"[ \t]*#[ \t]*S[A-Z]{4,6}[ \t]+-", re.IGNORECASE)
# Lines that other queues obey (LSF, PBS and Torque, Grid Engine, OAR, Cobalt, Moab, Fujitsu's, Flux).
# NEC's queue has lines that begin as those of PBS: options that PBS has not, and a limit of its own.
_NQSV = re.compile(r"#PBS\s+(?:.*\s)?(?:-b\s*[0-9]|-T\s*[a-z]|-l\s*[^#]*\belapstim_req=)")
NEC = "NEC's NQSV (no line of PBS)"
_FOREIGN = {
    "#SBATCH": "Slurm",
    "#BSUB": "LSF",
    "#PBS": "PBS",
    "#$ -": "Grid Engine",
    "#OAR": "OAR",
    "#COBALT": "Cobalt",
    "#MSUB": "Moab",
    "#PJM": "Fujitsu's TCS",
    "# flux:": "Flux",
    "#flux:": "Flux",
}
# Lines that a dialect's own reader takes, or says something of.
_READ = {"pbs": ("#PBS",), "lsf": ("#BSUB",), "gridengine": ("#$ -",)}
# A dash of typography where an option begins.
_ODD_DASH = re.compile(r"(?:^|\s)([\u2010-\u2015\u2212])\w")
# What the C library takes for blanks; a no-break space is none to sbatch.
_SPACE = " \t\n\v\f\r"


def decode(data: bytes) -> tuple[list[str], list[Finding]]:
    """Return the lines of a file in UTF-8 or Latin-1, with Unix, DOS or Mac line ends, and what is odd about them."""
    complaints = []
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        complaints.append(at_line(line, "", "warning", "bytes that are not UTF-8: read as Latin-1"))
        text = data.decode("latin-1")
    if text.startswith("\ufeff"):
        text = text[1:]
        message = "begins with a byte order mark, which hides the #! line; converting takes it out"
        complaints.append(at_line(1, "", "refused", message))
    if "\r" in text:
        line = text.count("\n", 0, text.index("\r")) + 1
        message = "has DOS line ends, which sbatch refuses and shells stumble over; converting takes them out"
        complaints.append(at_line(line, "", "refused", message))
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        complaints.append(at_line(line, "", "error", "has a NUL byte"))
        text = text.replace("\0", "")
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines, complaints


def is_keyword_line(line: str) -> bool:
    """Tell whether a line is `# @ ...`; `## @` and `##@` are switched off."""
    return _KEYWORD_LINE.match(line) is not None


def is_directive_line(line: str) -> bool:
    """Tell whether a line asks a queue for something."""
    return line.startswith("#SBATCH") or is_keyword_line(line)


def asked_nodes(text: str) -> str | None:
    """Return how many nodes the options of a job file ask for, where one says it in one number."""
    found = _NODES.search(text)
    return found[1] if found else None


def keyword_statements(lines: list[str], complaints: list[Finding], *, strict: bool) -> Iterator[tuple[Directive, int]]:
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
                complaints.append(at_line(index + 1, "", "error" if strict else "warning", message))
            yield Directive(index + 1, "", ""), last + 1
            continue
        key, separator, value = found[1].replace("-", "_").lower(), found[2], found[3].strip(BLANKS)
        if separator != "=" and key != "queue":
            level = "error" if strict else "warning"
            complaints.append(at_line(index + 1, key, level, f"has no '='; read as {key} = {value}"))
        if not value and key != "queue":
            complaints.append(at_line(index + 1, key, "error", "has no value"))
        yield Directive(index + 1, key, value), last + 1


def _continued(text: str, lines: list[str], index: int, complaints: list[Finding]) -> tuple[str, int]:
    """Return a statement with the lines it goes on to, and the index of the last of them."""
    last = index
    while text.rstrip(BLANKS).endswith("\\"):
        text = text.rstrip(BLANKS)[:-1].rstrip(BLANKS)
        if last + 1 >= len(lines) or is_keyword_line(lines[last + 1]):
            message = "ends with a backslash, but the next line is a statement of its own or missing"
            complaints.append(at_line(last + 1, "", "error", message))
            break
        last += 1
        text = f"{text} {lines[last].strip(BLANKS).lstrip('#').strip(BLANKS)}".rstrip(BLANKS)
    return text, last


def option_words(line: str) -> tuple[list[str], bool]:
    """Return the words of a #SBATCH line as Slurm splits them: quotes, backslashes, and `#` ends it (sbatch/opt.c).

    The second value tells whether such a `#` stood inside the last word. Raises ValueError when a quote is not closed.
    """
    words: list[str] = []
    current, started, quote, escaped, cut = "", False, "", False, False
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
        elif character in _SPACE:
            if started:
                words.append(current)
            current, started = "", False
        elif character == "#":
            cut = started
            break
        else:
            current, started = current + character, True
    if quote:
        raise ValueError(f"a {quote} is not closed")
    return ([*words, current] if started else words), cut


def foreign_directives(lines: list[str], dialect: str = SUBMIT) -> Iterator[tuple[int, str]]:
    """Yield the lines that another queue than that of a dialect would obey: number and name of the queue."""
    of_nec = any(map(_NQSV.match, lines))
    read = _READ.get(dialect, ("#SBATCH",))
    for number, line in enumerate(lines, 1):
        for prefix, queue in _FOREIGN.items():
            if not line.startswith(prefix):
                continue
            if of_nec and queue == "PBS":
                yield number, NEC
            elif prefix not in read:
                yield number, queue


def odd_dashes(lines: list[str]) -> Iterator[Finding]:
    """Yield a complaint for every command that has a dash of typography where an option begins."""
    for number, line in enumerate(lines, 1):
        first = number == 1 and line.startswith("#!")
        if (match := _ODD_DASH.search(line)) and (first or not line.lstrip().startswith("#")):
            message = f"{match[1]} (U+{ord(match[1]):04X}) is no minus sign, so that no option begins with it"
            yield at_line(number, "", "error" if first else "warning", message)


def _nearly_sbatch(line: str) -> bool:
    """Tell whether a comment was meant for sbatch: moved in, in small letters, or with letters exchanged."""
    match = _NEARLY_SBATCH.match(line)
    return match is not None and bool(get_close_matches(match[0].strip("# \t-").upper(), ["SBATCH"], cutoff=0.8))


def sbatch_lines(lines: list[str], complaints: list[Finding], first: int = 1) -> Iterator[tuple[int, list[str]]]:
    """Yield the words of each #SBATCH line before the first command, with its number; lines count from `first`."""
    command = 0
    for index, line in enumerate(lines, first):
        if line.startswith("#SBATCH"):
            if command:
                message = f"sbatch ignores it: the first command is in line {command}"
                complaints.append(at_line(index, line[7:].strip()[:60], "warning", message))
                continue
            try:
                words, cut = option_words(line[7:])
                if cut:
                    message = f"sbatch ends the line at a # outside quotes: {words[-1]} is what it reads"
                    complaints.append(at_line(index, "", "warning", message))
                yield index, words
            except ValueError as error:
                complaints.append(at_line(index, line[7:].strip()[:60], "error", str(error)))
        elif _nearly_sbatch(line):
            message = "sbatch ignores it: only #SBATCH, in capitals and at the very start, counts"
            complaints.append(at_line(index, "", "warning", message))
        elif line.strip() and not line.startswith("#") and not command:
            command = index
