"""`hpcsynapse check`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from hpcsynapse.cli.options import SectionedCommand, description_options, json_option, load_description
from hpcsynapse.cli.terminal import LEVELS, coloured
from hpcsynapse.findings import Finding
from hpcsynapse.runs.find import runs_folder
from hpcsynapse.submission.resolve import choose_engine


@click.command(cls=SectionedCommand)
@json_option("print findings as JSON")
@description_options
def command(as_json: bool, **given: Any) -> None:
    """Look at everything that can be known before a run is queued; exit code 2 when something is wrong."""
    from hpcsynapse.submission.prepare import prepare

    runs = runs_folder(given["runs"])
    prepared = prepare(load_description(given), runs, ask_queue=True)
    findings = list(prepared.findings)
    if not prepared.spec.command:
        engine, why = choose_engine(prepared.spec)
        findings.append(Finding("ok", "engine", f"auto would take {engine}: {why}"))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        marks = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}
        for finding in findings:
            click.echo(f"{coloured(marks[finding.level], LEVELS[finding.level])}  {finding.where}: {finding.message}")
    if any(finding.level == "error" for finding in findings):
        click.get_current_context().exit(2)
