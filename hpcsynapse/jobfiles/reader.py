"""Reads job files of six dialects and says, by line and directive, what is wrong with them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from operator import attrgetter
from types import ModuleType

from hpcsynapse.fields import nearest
from hpcsynapse.findings import Finding, at_line, by_line
from hpcsynapse.jobfiles import gridengine, loadleveler, lsf, minotauro, pbs, slurm
from hpcsynapse.jobfiles import lines as text_lines
from hpcsynapse.jobfiles.model import Directive, JobFile, NoCounterpartError, Request, Step
from hpcsynapse.jobfiles.sbatch_options import options

DIALECTS: dict[str, ModuleType] = {
    "slurm": slurm,
    "pbs": pbs,
    "lsf": lsf,
    "gridengine": gridengine,
    "minotauro": minotauro,
    "loadleveler": loadleveler,
}
# How lines begin that tell of a queue whose files hold options of its submit command.
_OPTION_LINES = {"pbs": r"[ \t]*#PBS", "lsf": "#BSUB", "gridengine": r"#\$[ \t]*-[A-Za-z]"}
_BSC_ONLY = {"gpus_per_node", "cpus_per_task", "features"}
_QUEUE = re.compile(r"[ \t]*#[ \t]*@[ \t]*queue\b", re.IGNORECASE)
_FIELDS = tuple(item.name for item in dataclasses.fields(Request) if item.name != "environment")
_snapshot = attrgetter(*_FIELDS)
_OF_A_CENTRE = ("cri_",)  # keywords that a filter of the centre reads before LoadLeveler does
_AT_KEY = re.compile(r"[ \t]*#[ \t]*@[ \t]*([\w-]+)")


def read(data: bytes, dialect: str | None = None) -> JobFile:
    """Return what a job file asks for; whatever is odd about it is a complaint, never an exception."""
    lines, complaints = text_lines.decode(data)
    told, dialect = dialect, dialect or detect(lines)
    complaints += _around(lines, dialect, told is not None)
    steps, consumed = _reader(dialect)(lines, dialect, complaints)
    for step in steps:
        complaints += DIALECTS[dialect].check(step)
    body = [(number, line) for number, line in enumerate(lines, 1) if number not in consumed]
    return JobFile(dialect, steps, body, sorted(set(complaints), key=by_line))


def _reader(dialect: str) -> Callable[[list[str], str, list[Finding]], tuple[list[Step], set[int]]]:
    """Return what reads files of a dialect."""
    if dialect in _OPTION_LINES:
        return _read_options
    return _read_sbatch if dialect == "slurm" else _read_keywords


def _around(lines: list[str], dialect: str, told: bool) -> list[Finding]:
    """Return what is odd about a file apart from its own directives: first line, characters, another queue's lines."""
    complaints = [*text_lines.odd_dashes(lines)]
    is_own = getattr(DIALECTS[dialect], "is_directive", text_lines.is_directive_line)
    own = any(map(is_own, lines))
    foreign = next(text_lines.foreign_directives(lines, dialect), None)
    if foreign and (own or told) and foreign[1] != text_lines.NEC:
        number, queue = foreign
        also = "; sbatch obeys #PBS and #BSUB lines too, unless --ignore-pbs is given" if dialect == "slurm" else ""
        complaints.append(at_line(number, "", "warning", f"is a directive of {queue}, which is not read here{also}"))
    elif foreign:
        number, queue = foreign
        message = f"is a directive of {queue}: the file is for another queue than {', '.join(DIALECTS)}"
        complaints.append(at_line(number, "", "error", message))
    elif not own:
        complaints.append(at_line(1, "", "warning", "no directive of any queue is in the file"))
    if dialect == "slurm" and not foreign and not (lines and lines[0].startswith("#!")):
        message = "the first line does not begin with #!, without which sbatch refuses the file"
        complaints.append(at_line(1, "", "refused", message))
    return complaints


def detect(lines: list[str]) -> str:
    """Return the dialect a file is written in: by its keywords, by `# @ queue`, else by which lines there are more."""
    keys = {match[1].replace("-", "_").lower() for line in lines if (match := _AT_KEY.match(line))}
    if keys & _BSC_ONLY:
        return "minotauro"
    if "queue" in keys:
        return "loadleveler"
    sbatch = sum(line.startswith("#SBATCH") for line in lines)
    if not keys and not sbatch:
        others = {name: sum(bool(re.match(begin, line)) for line in lines) for name, begin in _OPTION_LINES.items()}
        return max(others, key=lambda name: others[name]) if any(others.values()) else "slurm"
    return "minotauro" if keys and len(keys) >= sbatch else "slurm"


def _read_sbatch(lines: list[str], dialect: str, complaints: list[Finding]) -> tuple[list[Step], set[int]]:
    step, consumed = Step(end=1), set()
    for number, words in text_lines.sbatch_lines(lines, complaints):
        consumed.add(number)
        _apply_options(step, number, words, complaints)
    return [step], consumed


def _apply_options(step: Step, number: int, words: list[str], complaints: list[Finding]) -> None:
    """Put the options of one #SBATCH line into a step's request; one that no rule knows is kept as it is."""
    for one in options(words):
        if one.message:
            complaints.append(at_line(number, one.name or one.value, one.level, one.message))
        if one.level == "error":
            continue
        directive = Directive(number, one.name, one.value)
        if one.name in slurm.RULES:
            _apply(step, directive, "slurm", complaints)
        else:
            step.without_meaning.append(directive)


def _read_options(lines: list[str], dialect: str, complaints: list[Finding]) -> tuple[list[Step], set[int]]:
    """Read the options of a queue's submit command; what no rule knows is kept as it is."""
    step, consumed = Step(end=1), set[int]()
    for directive, last in DIALECTS[dialect].directives(lines, complaints):
        consumed.update(range(directive.line, last + 1))
        if directive.key in DIALECTS[dialect].RULES:
            _apply(step, directive, dialect, complaints)
        elif directive.key:
            step.without_meaning.append(directive)
    return [step], consumed


def _read_keywords(lines: list[str], dialect: str, complaints: list[Finding]) -> tuple[list[Step], set[int]]:
    strict = dialect == "loadleveler"
    last_queue = max((number for number, line in enumerate(lines, 1) if _QUEUE.match(line)), default=0)
    steps, step, consumed = list[Step](), Step(), set[int]()
    for directive, last in text_lines.keyword_statements(lines, complaints, strict=strict):
        consumed.update(range(directive.line, last + 1))
        if strict and last_queue and directive.line > last_queue:
            message = f"is ignored: the last # @ queue is in line {last_queue}"
            complaints.append(at_line(directive.line, directive.key, "warning", message))
        elif strict and directive.key == "queue":
            step.end = directive.line
            steps.append(step)
            step = step.next()
        elif directive.key:
            _apply(step, directive, dialect, complaints)
    _mixed(step, lines, dialect, consumed, complaints)
    if not strict or not steps:
        step.end = max(consumed, default=1)
        steps.append(step)
    if strict and not last_queue:
        complaints.append(at_line(max(consumed, default=1), "queue", "error", "# @ queue is missing: no step ends"))
    return steps, consumed


def _mixed(step: Step, lines: list[str], dialect: str, consumed: set[int], complaints: list[Finding]) -> None:
    """Read #SBATCH lines among keywords: Slurm lies below BSC's dialect, but LoadLeveler takes them for comments."""
    for number, line in enumerate(lines, 1):
        if not line.startswith("#SBATCH"):
            continue
        consumed.add(number)
        if dialect == "loadleveler":
            complaints.append(at_line(number, line[7:].strip()[:60], "warning", "is a comment to LoadLeveler"))
            continue
        complaints.append(at_line(number, line[7:].strip()[:60], "warning", "an option of sbatch among keywords"))
        for _, words in text_lines.sbatch_lines([line], complaints, number):
            _apply_options(step, number, words, complaints)


def _apply(step: Step, directive: Directive, dialect: str, complaints: list[Finding]) -> None:
    """Put one statement into a step's request."""
    rules = DIALECTS[dialect].RULES
    key = directive.key if dialect in _OPTION_LINES else directive.key.partition(".")[0]
    if key.startswith(_OF_A_CENTRE) and dialect == "loadleveler":
        message = f"is no keyword of {dialect} itself; a centre that has its own may know it"
        complaints.append(at_line(directive.line, directive.key, "warning", message))
        step.without_meaning.append(directive)
        return
    if key not in rules:
        level = "warning" if dialect == "minotauro" else "error"
        message = f"is no keyword of {dialect}{nearest(key, rules)}"
        complaints.append(at_line(directive.line, directive.key, level, message))
        return
    before = step.lines.get(directive.key)
    adds = key in getattr(DIALECTS[dialect], "ADDING", ())
    if before and before.line > step.start and before.value != directive.value and not adds:
        message = f"was given in line {before.line} already; the later one counts"
        complaints.append(at_line(directive.line, directive.key, "warning", message))
    step.lines[directive.key] = directive
    rule = rules[key]
    if rule is None:
        step.without_meaning.append(directive)
        return
    if not directive.value and dialect in ("minotauro", "loadleveler"):
        return
    earlier, earlier_own = _snapshot(step.request), step.request.own
    try:
        odd = rule(step.request, directive.value)
    except NoCounterpartError:
        step.without_meaning.append(directive)
    except ValueError as error:
        complaints.append(at_line(directive.line, directive.key, "error", str(error)))
    else:
        if odd:
            complaints.append(at_line(directive.line, directive.key, "warning", odd))
        for name, before_it, value in zip(_FIELDS, earlier, _snapshot(step.request), strict=True):
            if before_it != value:
                step.sources[name] = directive
        for part in {*step.request.own} - {*earlier_own}:
            step.sources[" ".join(part)] = directive
