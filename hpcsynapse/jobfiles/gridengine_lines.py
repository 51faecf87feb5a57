"""From the lines of a job file of Grid Engine to the options of qsub, one resource each. Source: submit(1)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hpcsynapse.findings import Finding, at_line
from hpcsynapse.jobfiles.model import Directive

_FLAGS = ("-cwd", "-V", "-h", "-notify", "-clear", "-soft", "-hard", "-verify", "-terse")
_VALUED = (
    "N q A P dept p js R S o e i j wd v r t tc M m a ac dc sc ar ckpt c C b binding cal display dl hold_jid "
    "hold_jid_ad jc jsv l masterq masterl mods now ot par shell sync w xd rou rdi pty adds clearp g jobsh tcon "
    "inherit noshell umask when"
)
_TAKE_A_VALUE = frozenset(f"-{name}" for name in _VALUED.split())


def is_directive(line: str) -> bool:
    """Tell whether qsub would read a line, wherever it stands; `# $` and what is moved in are comments."""
    return line.startswith("#$")


def directives(lines: list[str], complaints: list[Finding]) -> Iterator[tuple[Directive, int]]:
    """Yield the options of all such lines, each resource of `-l` apart; a key is empty where nothing was understood."""
    for number, line in enumerate(lines, 1):
        if not is_directive(line):
            continue
        yield Directive(number, "", ""), number
        words = _words(line[2:])
        while words:
            option = words.pop(0)
            if option in _FLAGS:
                yield Directive(number, option, ""), number
            elif option not in _TAKE_A_VALUE and option != "-pe":
                complaints.append(at_line(number, option, "error", "is no option of qsub, which reads every such line"))
            elif len(words) < 1 + (option == "-pe"):
                complaints.append(at_line(number, option, "error", "has no value"))
                words = []
            else:
                value = " ".join(words.pop(0) for _ in range(1 + (option == "-pe")))
                for one in _parts(number, option, value, complaints):
                    yield one, number


def _words(text: str) -> list[str]:
    """Return the words of a line: a quote takes all that is left of it, and `#` at the start of a word ends it."""
    found = list[str]()
    rest = text.strip(" \t")
    while rest and not rest.startswith("#"):
        if rest[0] in "\"'":
            return [*found, rest.replace('"', "").replace("'", "")]
        word, _, rest = rest.replace("\t", " ").partition(" ")
        found.append(word)
        rest = rest.strip(" ")
    return found


def _parts(number: int, option: str, value: str, complaints: list[Finding]) -> Iterator[Directive]:
    if option != "-l":
        yield Directive(number, option, value)
        return
    for part in value.split(","):
        name, _, content = part.partition("=")
        if re.fullmatch(r"[A-Za-z_][\w.-]*", name) and content.lower() in ("true", ""):
            yield Directive(number, option, name)  # a property of nodes
        elif re.fullmatch(r"[A-Za-z_][\w.-]*", name):
            yield Directive(number, f"{option} {name}", content)
        else:
            complaints.append(at_line(number, option, "error", f"{part[:60]!r} is not NAME=VALUE"))
