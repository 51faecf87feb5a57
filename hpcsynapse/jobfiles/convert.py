"""A job file in another dialect: the body stays, directives and variables are mapped, what is lost is listed."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hpcsynapse.errors import RenderError
from hpcsynapse.findings import Finding, at_line, by_line
from hpcsynapse.jobfiles.lines import is_keyword_line
from hpcsynapse.jobfiles.model import Directive, JobFile, Request, Step
from hpcsynapse.jobfiles.reader import DIALECTS
from hpcsynapse.jobfiles.variables import translate
from hpcsynapse.templating import directive_value, keyword_value, shell_word


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
    for step in steps:
        request = _foreign(file, step, target, number, complaints)
        directives += _directives(file, step, request, target, complaints)
    request = steps[0].request
    shebang, body = _body(file, request, target)
    prelude = list[str]()
    if target == "minotauro" or (target == "slurm" and not request.export):
        prelude += [_export(name, value) for name, value in request.environment.items()]
    made, lines = list[str](), [line for _, line in body]
    if (file.dialect == "loadleveler") != (target == "loadleveler"):  # the others have Slurm's variables
        family = "loadleveler" if target == "loadleveler" else "slurm"
        lines, made, lost = translate(body, family, request)
        complaints += lost
    if target != "slurm":
        lines = ["#" + line.lstrip() if is_keyword_line(line) or line.startswith("#SBATCH") else line for line in lines]
    text = "\n".join([shebang, *directives, *prelude, *made, *lines]) + "\n"
    step_name = "" if number is None else re.sub(r"[^\w.-]", "_", steps[0].request.step or str(number))
    return Converted(step_name, text, tuple(sorted(set(complaints), key=by_line)))


def _foreign(file: JobFile, step: Step, target: str, number: int | None, complaints: list[Finding]) -> Request:
    """Return the request without what only its own dialect can say."""
    request = replace(step.request)
    if file.dialect != "loadleveler" or target == "loadleveler":
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
            lines.append(_line(key, value, target))
        except RenderError as error:
            source = step.sources.get(key) or Directive(step.end, key, "")
            complaints.append(at_line(source.line, source.key, "lost", str(error)))
    return [*lines, "# @ queue"] if target == "loadleveler" else lines


def _export(name: str, value: str) -> str:
    """Return the line that sets a variable."""
    return f"export {name}={shell_word(''.join(one for one in value if one.isprintable()))}"


def _line(key: str, value: str, target: str) -> str:
    """Return one directive; raises RenderError for a value that the target cannot hold."""
    if target == "slurm":
        return f"#SBATCH --{key}={directive_value(value)}" if value else f"#SBATCH --{key}"
    named = target == "loadleveler" and key in ("output", "error", "input", "executable", "arguments")
    return f"# @ {key} = {keyword_value(value, variables=named)}"


def _body(file: JobFile, request: Request, target: str) -> tuple[str, list[tuple[int, str]]]:
    """Return the first line and what follows it; LoadLeveler may run another program in place of the file."""
    body = list(file.body)
    shebang = body.pop(0)[1] if body and body[0][1].startswith("#!") else "#!/bin/bash"
    if request.program and target != "loadleveler":
        body = [(0, f"exec {request.program} {request.arguments or ''}".rstrip())]
    return shebang, body
