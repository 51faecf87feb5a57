"""A job file in another dialect: the body stays, directives and variables are mapped, what is lost is listed."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hpcsynapse.errors import RenderError
from hpcsynapse.findings import Finding, at_line, by_line
from hpcsynapse.jobfiles.lines import is_keyword_line
from hpcsynapse.jobfiles.model import Directive, JobFile, Request, Step
from hpcsynapse.jobfiles.reader import DIALECTS
from hpcsynapse.jobfiles.variables import family, translate
from hpcsynapse.templating import shell_word

# Parts of statements that only say how something was written down that the request has as well.
_SUBMITTED = '"$PBS_O_WORKDIR"'  # where qsub was run, which is not where PBS starts a job
_NOTATIONS = ("-pe", "-l", "gpus")


@dataclass(frozen=True, slots=True)
class Converted:
    """One job file made from a step, or from all steps where the target has them; `step` is empty for the latter."""

    step: str
    text: str
    complaints: tuple[Finding, ...]


def convert(file: JobFile, target: str) -> list[Converted]:
    """Return the job in the target's dialect: one file, or one for each step where the target has no steps."""
    if target == "loadleveler" or len(file.steps) == 1:
        return [_write(file, file.steps, target)]
    return [_write(file, [step], target, number) for number, step in enumerate(file.steps)]


def _write(file: JobFile, steps: list[Step], target: str, number: int | None = None) -> Converted:
    complaints, directives = list[Finding](), list[str]()
    shebang, body = _body(file, steps[0].request, target)
    for step in steps:
        request = _foreign(file, step, target, number, complaints)
        request.shell = request.shell or _shell(shebang)
        directives += _directives(file, step, request, target, complaints)
    request = steps[0].request
    exported = target != "loadleveler" and not (target == "slurm" and request.export)
    prelude = _directory(request, target, body)
    prelude += [_export(name, value) for name, value in request.environment.items() if exported]
    made, lines = list[str](), [line for _, line in body]
    if family(file.dialect) != family(target):
        lines, made, lost = translate(body, family(file.dialect), family(target), request)
        complaints += lost
    lines = [_silent(line, target) for line in lines]
    text = "\n".join([shebang, *directives, *prelude, *made, *lines]) + "\n"
    step_name = "" if number is None else re.sub(r"[^\w.-]", "_", steps[0].request.step or str(number))
    return Converted(step_name, text, tuple(sorted(set(complaints), key=by_line)))


def _foreign(file: JobFile, step: Step, target: str, number: int | None, complaints: list[Finding]) -> Request:
    """Return the request without what only its own dialect can say."""
    request = replace(step.request)
    if file.dialect == target:
        return request
    for kind, text in request.own:
        if kind not in _NOTATIONS:
            source = step.sources[f"{kind} {text}"]
            complaints.append(at_line(source.line, source.key, "lost", f"{text!r} has no counterpart in {target}"))
    request.own, request.account_option = (), None
    if file.dialect != "loadleveler":
        return request
    if request.dependency:
        source = step.sources["dependency"]
        message = f"submit it when the other step has an id: --dependency=afterok:ID for {request.dependency}"
        complaints.append(at_line(source.line, source.key, "lost", message))
        request.dependency = None
    for name in ("output", "error", "input"):
        if text := getattr(request, name):
            text = text.replace("$(step_name)", request.step or "0")
            setattr(request, name, None if "$(" in text else text)
            if "$(" in text:
                source = step.sources[name]
                complaints.append(at_line(source.line, source.key, "lost", f"{text}: a variable without counterpart"))
    for name, text in request.environment.items():
        if "$(" in text:
            given = step.lines.get("environment") or Directive(step.end, "environment", "")
            message = f"{name}={text}: a variable without counterpart"
            complaints.append(at_line(given.line, given.key, "lost", message))
    request.environment = {name: text for name, text in request.environment.items() if "$(" not in text}
    if number is not None:
        request.name = f"{request.name or 'job'}.{request.step or number}"
    return request


def _directives(file: JobFile, step: Step, request: Request, target: str, complaints: list[Finding]) -> list[str]:
    statements, lost = DIALECTS[target].write(request)
    for name, reason in lost:
        source = step.sources.get(name) or step.sources.get("task_memory") or Directive(step.end, name, "")
        complaints.append(at_line(source.line, source.key, "lost", reason))
    for directive in step.without_meaning:
        if file.dialect == target:
            statements.append((directive.key, directive.value))
        elif directive.key != "queue":
            message = f"{directive.value!r} has no counterpart in {target}" if directive.value else "no counterpart"
            complaints.append(at_line(directive.line, directive.key, "lost", message))
    lines = []
    for key, value in statements:
        try:
            lines.append(DIALECTS[target].line(key, value))
        except RenderError as error:
            source = step.sources.get(key) or Directive(step.end, key, "")
            complaints.append(at_line(source.line, source.key, "lost", str(error)))
    return [*lines, "# @ queue"] if target == "loadleveler" else lines


def _export(name: str, value: str) -> str:
    """Return the line that sets a variable."""
    return f"export {name}={_word(value)}"


def _word(value: str) -> str:
    """Return a value as one word of the shell, without what no line can hold."""
    return shell_word("".join(one for one in value if one.isprintable()))


def _silent(line: str, target: str) -> str:
    """Return a line of the body so that the target takes it for a comment, where it would obey it."""
    is_own = getattr(DIALECTS[target], "is_directive", None)
    awake = is_own(line) if is_own else target != "slurm" and (is_keyword_line(line) or line.startswith("#SBATCH"))
    return "#" + line.lstrip() if awake else line


def _shell(shebang: str) -> str | None:
    """Return the shell that a first line names, for queues that do not look at that line."""
    match = re.fullmatch(r"#![ \t]*(/[\w./-]*sh)(?:[ \t].*)?", shebang)
    return match[1] if match else None


def _directory(request: Request, target: str, body: list[tuple[int, str]]) -> list[str]:
    """Return the line that goes to the job's directory, where no directive can say it."""
    home = request.home and request.workdir is None
    if target == "pbs" and not home:
        folder = request.workdir or "."
        return [f"cd {_word(folder) if folder != '.' else _SUBMITTED} || exit 1"]
    goes = any(re.match(r"\s*cd\s", line) for _, line in body)
    return ["cd || exit 1"] if home and not goes and target not in ("pbs", "gridengine") else []


def _body(file: JobFile, request: Request, target: str) -> tuple[str, list[tuple[int, str]]]:
    """Return the first line and what follows it; LoadLeveler may run another program in place of the file."""
    body = list(file.body)
    shebang = body.pop(0)[1] if body and body[0][1].startswith("#!") else f"#!{request.shell or '/bin/bash'}"
    if request.program and target != "loadleveler":
        body = [(0, f"exec {request.program} {request.arguments or ''}".rstrip())]
    return shebang, body
