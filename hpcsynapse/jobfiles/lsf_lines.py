"""From the lines of a job file of LSF to the options of bsub. Source: IBM documentation, LSF 10.1, bsub."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from hpcsynapse.fields import nearest
from hpcsynapse.findings import Finding, at_line
from hpcsynapse.jobfiles.model import Directive

_NEARLY = re.compile(r"[ \t]+#BSUB|#+[ \t]+BSUB[ \t]+-\w|#bsub[ \t]+-\w")
_FLAGS = ("-B", "-H", "-N", "-Ne", "-r", "-rn", "-x", "-K", "-I", "-Ip", "-Is", "-h", "-V", "-XF")
_VALUED = (
    "J n R gpu W We q P G sla sp app m U u o oo e eo i is cwd env wa wt Q w Jd M a b t E Ep C c D F S T v p Lp k L ext "
    "data datagrp nnodes alloc_flags core_isolation cn_mem cn_cu csm jsm smt stage step_cgroup ti tty Zs s g hostfile "
    "network outdir rnc ul us notify eptl ptl freq rcacct ar hl jobaff pack"
)
_TAKE_A_VALUE = frozenset(f"-{name}" for name in _VALUED.split())
_SECTION = re.compile(r"\s*(\w+)\s*\[([^\]]*)\]\s*")


def is_directive(line: str) -> bool:
    """Tell whether bsub would read a line of its standard input, wherever it stands."""
    return line.startswith("#BSUB")


def directives(lines: list[str], complaints: list[Finding]) -> Iterator[tuple[Directive, int]]:
    """Yield the options of all such lines, each section of `-R` apart; a key is empty where nothing was understood."""
    for number, line in enumerate(lines, 1):
        if not is_directive(line):
            if _NEARLY.match(line):
                message = "is a comment to bsub: a directive begins with #BSUB, in capitals and at the very start"
                complaints.append(at_line(number, "", "warning", message))
            continue
        yield Directive(number, "", ""), number
        try:
            words = shlex.split(line[5:], comments=True)
        except ValueError as error:
            complaints.append(at_line(number, line[5:].strip()[:60], "error", str(error)))
            continue
        while words:
            for one in _option(words, number, complaints):
                yield one, number


def _option(words: list[str], number: int, complaints: list[Finding]) -> list[Directive]:
    """Take the first option from the words, with its value."""
    word = words.pop(0)
    if word in _FLAGS:
        return [Directive(number, word, "")]
    attached = word not in _TAKE_A_VALUE and word[2:3].isdigit()  # -n4
    option, value = (word[:2], word[2:]) if attached else (word, "")
    if option not in _TAKE_A_VALUE or not word.startswith("-"):
        message = f"is no option of bsub{nearest(word, _TAKE_A_VALUE)}"
        complaints.append(at_line(number, word, "error", message))
        return []
    if not value and not words:
        complaints.append(at_line(number, option, "error", "has no value"))
        return []
    value = value or words.pop(0)
    if option == "-R":  # a string may go on without quotes: select [a] rusage [b]
        while words and not words[0].startswith("-"):
            value += f" {words.pop(0)}"
        return _sections(number, value)
    if "$" in value and option not in ("-Jd", "-env"):
        message = f"bsub expands no variables: {value} is taken as it stands"
        complaints.append(at_line(number, option, "warning", message))
    return [Directive(number, option, value)]


def _sections(number: int, value: str) -> list[Directive]:
    """Return each section of a resource string apart, as far as it consists of them."""
    if re.fullmatch(rf"(?:{_SECTION.pattern})+", value):
        return [Directive(number, f"-R {name}", text.strip()) for name, text in _SECTION.findall(value)]
    if re.fullmatch(r"\s*\w+\s*", value):  # a property alone
        return [Directive(number, "-R select", value.strip())]
    return [Directive(number, "-R", value)]
