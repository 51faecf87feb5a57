"""A run as its queue will get it: resolved, its job file rendered once, and everything looked at beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hpcsynapse.errors import HpcSynapseError
from hpcsynapse.findings import Finding
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.schedulers import create
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission import checks
from hpcsynapse.submission.render import render
from hpcsynapse.submission.resolve import resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A resolved description, the folder of its run, its job file (or why there is none), and what checks say."""

    spec: JobSpec
    path: Path
    rendered: str | HpcSynapseError
    findings: tuple[Finding, ...] = ()
    packed: bool = False

    @property
    def job_file(self) -> str:
        """The text of the job file; raises what kept it from being rendered."""
        if isinstance(self.rendered, HpcSynapseError):
            raise self.rendered
        return self.rendered

    def at(self, path: Path) -> Prepared:
        """Return the same for a run of the name and in the place of `path`, which the job file holds."""
        if path == self.path:
            return self
        spec = replace(self.spec, name=path.name)
        return replace(self, spec=spec, path=path, rendered=render(spec, path, packed=self.packed))

    def write(self) -> tuple[RunDirectory, Path]:
        """Make the run directory and return it with its job file; raises SpecError, with nothing written."""
        name = create(self.spec.queue.scheduler).job_file
        run = RunDirectory.create(self.path.parent, self.spec, {name: self.job_file})
        return run, run.job_script(name)


def prepare(
    description: JobSpec, runs: Path, *, name: str | None = None, packed: bool = False, ask_queue: bool = False
) -> Prepared:
    """Return a description as it will be submitted, every `auto` decided; what is wrong is among the findings.

    The run's name is `name`, whatever is there already, else one that is free in `runs`. A `packed` job file may be run
    on some nodes of a larger allocation. `ask_queue` lets bash and the queue look at the job file, too.
    """
    spec = resolve(description, runs)
    spec = replace(spec, name=name or spec.name)
    path = runs / str(spec.name)
    findings = list(checks.run_checks(spec, runs))
    if ask_queue:
        findings += create(spec.queue.scheduler).look_at_nodes(spec, runs)
    rendered: str | HpcSynapseError
    try:
        rendered = render(spec, path, packed=packed)
        findings += checks.check_job_file(spec, rendered, ask_queue=ask_queue)
    except HpcSynapseError as error:
        rendered = error
        if str(error) not in [finding.message for finding in findings]:
            findings.append(Finding("error", "job file", str(error)))
    return Prepared(spec=spec, path=path, rendered=rendered, findings=tuple(findings), packed=packed)


def told(findings: Iterable[Finding], levels: tuple[str, ...] = ("warning",)) -> Iterator[str]:
    """Yield the findings of these levels as lines for people."""
    for finding in findings:
        if finding.level in levels:
            yield f"{finding.where}: {finding.message}"
