"""What there is beside runs: studies, sites, queues with templates, the store; and what sets runs apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hpcsynapse.errors import SpecError
from hpcsynapse.serve.index import RunIndex
from hpcsynapse.serve.tables import TableColumn
from hpcsynapse.submission.status import as_text

_MOST_COMPARED = 50


@dataclass(frozen=True, slots=True)
class Study:
    """A study: how many runs belong to it, how many are in which state, and when one changed last (Unix time)."""

    name: str
    size: int
    states: dict[str, int]
    since: float | None


@dataclass(frozen=True, slots=True)
class Site:
    """A site file that comes with hpcsynapse, or the user's own."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class JobTemplate:
    """A queue that job files are rendered for, and the file that they are rendered from."""

    queue: str
    summary: str
    template: str
    text: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A model, loader or data set of the store."""

    kind: str
    name: str
    size: int
    files: int
    added: float
    user: str
    sha256: str
    description: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The settings in which runs differ, by name, with the value of every run; `same` others are equal in all."""

    runs: list[str]
    settings: list[TableColumn]
    values: list[list[str]]
    same: int


def studies(index: RunIndex) -> list[Study]:
    """Return the studies of the folder, and in which states their runs are."""
    found = index.studies()
    rows = index.listed()
    answer = []
    for name, study in found.items():
        own = [row for row in rows if row.study == name]
        states = Counter(str(row.state) for row in own)
        since = max((row.since for row in own if row.since is not None), default=None)
        answer.append(Study(name, study.size, dict(states), since))
    return sorted(answer, key=lambda one: -(one.since or 0.0))


def sites(_index: RunIndex) -> list[Site]:
    """Return the site files that come with hpcsynapse."""
    from hpcsynapse.spec.site import shipped_sites

    return [Site(name, path.read_text("utf-8")) for name, path in sorted(shipped_sites().items())]


def templates(_index: RunIndex) -> list[JobTemplate]:
    """Return the queues that there are job files for, and their templates."""
    from hpcsynapse.schedulers import SCHEDULERS, create
    from hpcsynapse.spec.names import QUEUES
    from hpcsynapse.templating import builtin_templates

    found = []
    for queue in SCHEDULERS:
        template = create(queue).template
        text = (builtin_templates() / template).read_text("utf-8")
        found.append(JobTemplate(queue, QUEUES[queue].summary, template, text))
    return found


def store(_index: RunIndex) -> list[Stored]:
    """Return what the store holds."""
    from hpcsynapse.usercode.store import store_folder, stored

    return [
        Stored(
            kind=one.kind,
            name=as_text(one.name),
            size=one.size,
            files=one.files,
            added=one.added,
            user=as_text(one.user),
            sha256=one.sha256,
            description=as_text(one.description),
        )
        for one in stored(store_folder())
    ]


def compare(index: RunIndex, name: list[str]) -> Comparison:
    """Return in which settings runs differ."""
    from hpcsynapse.report.varied import differing, settings_of

    if not 1 < len(name) <= _MOST_COMPARED:
        raise SpecError(f"give from two to {_MOST_COMPARED} runs to compare, not {len(name)}")
    runs = [index.find(one) for one in name]
    settings = [settings_of(run.load_spec().to_dict(), run.path) for run in runs]
    names = list(dict.fromkeys(key for one in settings for key in one))
    changed = set(differing(settings))
    told = [key for key in names if key in changed or len({one.get(key) for one in settings}) > 1]
    return Comparison(
        runs=name,
        settings=[TableColumn(key, key, "", False) for key in told],
        values=[[as_text(str(one.get(key, "")))[:300] for key in told] for one in settings],
        same=len(names) - len(told),
    )
