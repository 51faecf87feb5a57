"""`hpcsynapse check`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from hpcsynapse.cli.options import SectionedCommand, description_options, load_description


@click.command(cls=SectionedCommand)
@click.option("--json", "as_json", is_flag=True, help="print findings as JSON")
@description_options
def command(as_json: bool, **given: Any) -> None:
    """Look at everything that can be known before a run is queued; exit code 2 when something is wrong."""
    from hpcsynapse import checks, submission

    runs = submission.runs_folder(given["runs"])
    spec = submission.resolve(load_description(given), runs)
    findings = list(checks.run_checks(spec, runs, ask_queue=True))
    if not spec.command:
        engine, why = checks.choose_engine(spec)
        findings.append(checks.Finding("ok", "engine", f"auto would take {engine}: {why}"))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        marks = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}
        for finding in findings:
            click.echo(f"{marks[finding.level]}  {finding.subject}: {finding.message}")
    if any(finding.level == "error" for finding in findings):
        click.get_current_context().exit(2)
