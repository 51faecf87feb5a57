"""How the figures of a report were measured, as a paper has to say it, and what keeps them from standing in one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hpcsynapse.files import read_json
from hpcsynapse.report.describe import RunDescription, read_run_toml
from hpcsynapse.report.points import ScalingPoint
from hpcsynapse.report.scaling import Report
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.training import TrainSpec

# Flags of points that are no result yet, and what to do.
_CAVEATS = {
    "one-repeat": "One run at a number of ranks: an interval tells nothing of other runs; repeat the measurement.",
    "few-repeats": "Two runs at a number of ranks: an interval from two says almost nothing; make three or more.",
    "few-steps": "Few steps were measured: make the runs longer before the figures are published.",
    "unstable": "The step time had not settled: make the runs longer, or find out what disturbs them.",
}
_LONGEST = 12  # values that are listed
_FILES = 4  # files that are listed


def caveats(rows: Sequence[ScalingPoint]) -> list[str]:
    """Return in words which flags forbid to publish the figures as they are."""
    found = {flag for row in rows for flag in row.flags.split()}
    return [text for flag, text in _CAVEATS.items() if flag in found]


def how_measured(report: Report) -> list[tuple[str, str]]:
    """Return what is known of the runs behind a report: names and values; nothing for a table of figures."""
    runs = [one.run for every in report.compared for point in every.points for one in point.repeats]
    abouts = [run.about for run in runs]
    known = [_Known(run.source) for run in runs if isinstance(run.source, RunDirectory)]
    facts = (
        ("runs", _each(about.name for about in abouts)),
        ("measured on", _days(abouts)),
        ("cluster", _each(one.cluster for one in known)),
        ("hardware of a rank", _each([*(about.hardware for about in abouts), *(one.devices for one in known)])),
        ("nodes", _each(sorted({about.nodes for about in abouts}))),
        ("ranks", _each(sorted({about.ranks for about in abouts}))),
        ("threads of a rank", _each(about.threads for about in abouts)),
        ("software", _each([*_software(abouts), *(one.version for one in known)])),
        ("code", _each(one.code for one in known)),
        ("command", _each((one.command for one in known), _FILES)),
        ("batch of a rank", _each(one.trained("batch") for one in known)),
        ("learning rate", _each(one.trained("lr") for one in known)),
        ("optimizer", _each(about.optimizer for about in abouts)),
        ("epochs", _each(one.trained("epochs") for one in known)),
        ("described in", _each((one.description for one in known), _FILES)),
    )
    return [(name, text) for name, text in facts if text]


class _Known:
    """What the directory of a run tells of it."""

    def __init__(self, run: RunDirectory) -> None:
        self._run, self._table = run, read_run_toml(run.run_toml)
        self._submission = run.read_submission()

    @property
    def cluster(self) -> str:
        site, queue = self._table.get("site", {}), self._table.get("queue", {})
        name = str(site.get("name") or JobSpec().site.name)
        partition = queue.get("partition")
        return f"{name}, partition {partition}" if partition else name

    @property
    def devices(self) -> str:
        """The accelerators of ranks whose records do not name them, as the driver told before the first step."""
        placed = (read_json(self._run.placement) or {}).get("ranks", [])
        names = {str(one.get("device_name")) for one in placed if isinstance(one, dict) and one.get("device_name")}
        return ", ".join(sorted(names))

    @property
    def version(self) -> str:
        told = self._submission.get("version")
        return f"hpcsynapse {told}" if told else ""

    @property
    def code(self) -> str:
        told = self._submission.get("commit")
        return f"git commit {told} of {self._table.get('workdir') or 'the working directory'}" if told else ""

    @property
    def command(self) -> str:
        return " ".join(map(str, self._table.get("command", [])))

    @property
    def description(self) -> str:
        """The file that makes the run again: of its study, or its own."""
        study = self._run.path.parent.parent / "study.toml"
        return str(study if study.is_file() else self._run.run_toml)

    def trained(self, name: str) -> str:
        """Return a setting of the built-in trainer; empty for a user's own command."""
        if self._table.get("command"):
            return ""
        return str(self._table.get("train", {}).get(name, getattr(TrainSpec(), name)))


def _software(abouts: Iterable[RunDescription]) -> list[str]:
    return [f"{name} {version}" for about in abouts for name, version in about.software.items()]


def _days(abouts: Iterable[RunDescription]) -> str:
    begun = sorted(about.begun for about in abouts if about.begun)
    days = dict.fromkeys(time.strftime("%Y-%m-%d", time.localtime(moment)) for moment in begun)
    return " to ".join(dict.fromkeys([*days][:1] + [*days][-1:]))


def _each(texts: Iterable[Any], most: int = _LONGEST) -> str:
    found = list(dict.fromkeys(str(text) for text in texts if text))
    more = f" and {len(found) - most} others" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def title_of(names: Sequence[str]) -> str:
    """Return the title of a page about these runs."""
    return _each((Path(name).name or name for name in names), 3)
