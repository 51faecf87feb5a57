"""The pages of a run or a study as one file: the same modules and answers, put inside; it asks nobody for anything.

Browsers load no modules from file://, so they become functions of one script, which the page's policy names by its
check sum: no other script can run in it.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_args
from urllib.parse import urlencode

from hpcsynapse.errors import HpcSynapseError
from hpcsynapse.files import read_json
from hpcsynapse.serve import catalog, detail, logs, nodes, reports, steps
from hpcsynapse.serve.index import RunIndex
from hpcsynapse.serve.routes import RunList
from hpcsynapse.serve.schema import plain
from hpcsynapse.serve.static_files import static_files

MOST_BYTES = 5_000_000
_MOST_LOGS, _LOG_BYTES = 8, 1 << 15  # of a run
_DIGITS = 6  # that count
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./([\w-]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (async function|function|const|class) (\w+)", re.MULTILINE)
_PATH = re.compile(r"(?<![\w/.])~?(?:/[\w.@+,=:-]+)+/?")


@dataclass
class Snapshot:
    """Answers by the path that the page asks for, errors likewise, and the pages that it offers."""

    title: str
    pages: list[tuple[str, str, str]]
    answers: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    made: float = field(default_factory=time.time)
    ended: bool = False  # it is renewed no more

    def take(self, route: str, ask: Callable[[], Any], **parameters: str) -> None:
        """Keep an answer, or what kept it from being given."""
        query = urlencode(parameters)
        path = f"api/v1/{route}?{query}" if query else f"api/v1/{route}"
        try:
            self.answers[path] = _rounded(plain(ask()))
        except HpcSynapseError as error:
            self.errors[path] = str(error)

    def without_logs(self) -> None:
        """Leave out logs, description and job file, which may say anything."""
        for path in [path for path in self.answers if path.startswith(("api/v1/log?", "api/v1/text?"))]:
            del self.answers[path]
        for path, answer in self.answers.items():
            if path.startswith("api/v1/logs?"):
                answer.clear()
            elif path.startswith("api/v1/run?") and answer["failure"]:
                answer["failure"]["log"] = []
            for one in answer["ranks"] if path.startswith("api/v1/placement?") else ():
                one["device_uuid"] = ""

    def fit(self) -> None:
        """Leave out what there is no room for: pictures of other measures, logs, pictures of ranks, then curves."""
        for kind in (r"steps\?.*measure=(?!before)", r"(log|text)\?", r"steps\?", r"curve\?"):
            if sum(len(json.dumps(answer)) for answer in self.answers.values()) < MOST_BYTES * 0.9:
                return
            for path in [path for path in self.answers if re.match(f"api/v1/{kind}", path)]:
                del self.answers[path]
                self.errors[path] = "there was no room for it in this file"


@dataclass(frozen=True)
class Beside:
    """The data file beside a page, the secret by which the page may load it, and how often it does so in seconds."""

    file: str
    nonce: str
    every: float


def of_run(index: RunIndex, name: str) -> Snapshot:
    """Return the page of one run."""
    found = Snapshot(name, [(name, f"#/run?{urlencode({'name': name})}", "run"), ("Help", "#/help", "help")])
    _take_run(found, index, name, with_logs=True)
    _take_list(found, index, [name])
    return found


def of_study(index: RunIndex, name: str) -> Snapshot:
    """Return the pages of a study and of its runs."""
    address = f"#/studies?{urlencode({'name': name})}"
    found = Snapshot(
        name, [(f"Study {name}", address, "studies"), ("Runs", "#/runs", "runs"), ("Help", "#/help", "help")]
    )
    names = [row.name for row in index.listed() if row.study == name]
    for one in names:
        _take_run(found, index, one, with_logs=len(names) <= _MOST_LOGS)
    _take_list(found, index, names)
    found.take("studies", lambda: [one for one in catalog.studies(index) if one.name == name])
    found.take("report", lambda: reports.report(index, [name]), name=name)
    found.take("predictions", lambda: reports.predictions(index, [name]), name=name)
    return found


def _take_list(found: Snapshot, index: RunIndex, names: list[str]) -> None:
    rows = [row for row in index.listed() if row.name in names]
    found.take("runs", lambda: RunList(str(index.folder), index.changed, 0, rows, []))


def _take_run(found: Snapshot, index: RunIndex, name: str, with_logs: bool) -> None:
    found.take("run", lambda: detail.detail(index, name), name=name)
    found.take("curve", lambda: steps.curve(index, name), name=name)
    for measure in get_args(steps.Measure):
        found.take("steps", partial(steps.heat_map, index, name, measure), name=name, measure=measure)
    found.take("stragglers", lambda: reports.stragglers(index, name), name=name)
    found.take("placement", lambda: detail.placement(index, name), name=name)
    found.take("nodes", lambda: nodes.nodes(index, name), name=name)
    found.take("history", lambda: nodes.history(index, name), name=name)
    found.take("text", lambda: detail.text(index, name), name=name)
    detailed = found.answers.get(f"api/v1/run?{urlencode({'name': name})}")
    if detailed is None:
        return  # removed at this moment
    listed = logs.logs(index, name) if with_logs else []
    failed = detailed["failure"]
    first = f"rank-{failed['rank']:05d}" if failed else ""
    kept = sorted(listed, key=lambda one: one.log != first)[:_MOST_LOGS]
    found.take("logs", lambda: [one for one in listed if one in kept], name=name)
    for one in kept:
        found.take("log", partial(logs.log, index, name, one.log, length=_LOG_BYTES), name=name, log=one.log)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) and abs(value) < 1e8 else value
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def anonymous(found: Snapshot, index: RunIndex) -> Snapshot:
    """Return a snapshot without logs, hosts, users and paths; hosts are numbered."""
    found.without_logs()
    hosts, users = _hosts(found, index), _users(index)
    words = {host: f"node-{number}" for number, host in enumerate(sorted(hosts), 1)} | dict.fromkeys(users, "user")
    longest = sorted(words, key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])" for word in longest) or r"(?!)")

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return pattern.sub(lambda match: words[match[0]], _PATH.sub("(path)", value))
        if isinstance(value, dict):
            return {clean(key): clean(item) for key, item in value.items()}
        return [clean(item) for item in value] if isinstance(value, list) else value

    asked = {path: clean(answer) for path, answer in found.answers.items()}
    errors = {path: clean(text) for path, text in found.errors.items()}
    return Snapshot(found.title, found.pages, asked, errors, found.made)


def _hosts(found: Snapshot, index: RunIndex) -> set[str]:
    hosts = {os.uname().nodename}
    for path, answer in found.answers.items():
        if path.startswith("api/v1/placement?"):
            hosts |= {one["host"] for one in answer["ranks"]}
        elif path.startswith("api/v1/history?"):
            hosts |= {one["node"] for one in answer}
        elif path.startswith("api/v1/steps?"):
            hosts |= set(answer["hosts"])
        elif path.startswith("api/v1/run?"):
            hosts |= {answer["failure"]["host"]} if answer["failure"] else set()
    for run in _runs(index):
        hosts.add(str(run.read_submission().get("host") or ""))
        hosts |= {str((read_json(path) or {}).get("host", "")) for path in run.evidence("").glob("*/rank-*.json")}
    return {one for host in hosts for one in (host, host.partition(".")[0]) if one}


def _users(index: RunIndex) -> set[str]:
    users = {str(run.read_submission().get("user") or "") for run in _runs(index)}
    with suppress(KeyError, OSError):  # a user number without a name
        users.add(getpass.getuser())
    return users - {""}


def _runs(index: RunIndex) -> Iterator[Any]:
    return (index.find(row.name) for row in index.listed())


def to_json(found: Snapshot) -> str:
    """Return the data of a page in ASCII, without what would end a script element."""
    found.fit()
    return json.dumps(vars(found), separators=(",", ":")).replace("<", "\\u003c")


def to_html(found: Snapshot, beside: Beside | None = None) -> str:
    """Return the file; it shows what it holds without a server, and asks for nothing but the data file beside it."""
    files = {name: content.decode() for name, (_, content) in static_files().items()}
    script, style = _script(files), files["page.css"]
    nonce = f" 'nonce-{beside.nonce}'" if beside else ""
    policy = (
        f"default-src 'none'; script-src '{_sum(script)}'{nonce}; style-src '{_sum(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    data = f'{to_json(found)[:-1]},"beside":{json.dumps(vars(beside) if beside else None)}}}'
    icon = base64.b64encode(files["icon.svg"].encode()).decode()
    page = files["index.html"]
    for before, after in (
        (
            '<meta charset="utf-8">',
            f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">',
        ),
        ('href="icon.svg"', f'href="data:image/svg+xml;base64,{icon}"'),
        ('<link rel="stylesheet" href="page.css">', f"<style>{style}</style>"),
        ('<script type="module" src="main.js"></script>\n', ""),
        (
            "</body>",
            f'<script type="application/json" id="snapshot">{data}</script>\n<script>{script}</script>\n</body>',
        ),
    ):
        page = page.replace(before, after, 1)
    return page


def _sum(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _script(files: dict[str, str]) -> str:
    """Return all modules as one script: each a function that returns what it exports, those it imports before it."""
    done: dict[str, str] = {}

    def add(name: str) -> None:
        text = files[f"{name}.js"]
        for _, other in _IMPORT.findall(text):
            if other not in done:
                add(other)
        names = ", ".join(match[1] for match in _EXPORT.findall(text))
        body = _EXPORT.sub(r"\1 \2", _IMPORT.sub(r'const \1 = modules["\2"];\n', text))
        done[name] = f'modules["{name}"] = (() => {{\n{body}\nreturn {{ {names} }};\n}})();\n'

    add("main")
    return '"use strict";\nconst modules = {};\n' + "".join(done.values())
