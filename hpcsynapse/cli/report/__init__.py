"""`hpcsynapse report`: a group of reports, each a module that is imported when it is used; scaling is the default."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from hpcsynapse.runs.find import runs_folder

# report -> (what it is given, what it says); the module is hpcsynapse.cli.report.REPORT and exports `command`.
REPORTS = {
    "scaling": ("RUN...", "step time, speedup, efficiency: the default"),
    "why": ("RUN...", "where time went, in parts that add up"),
    "lost": ("RUN...", "node-hours by use, and what each interruption cost"),
    "utilisation": ("RUN...", "cores, memory, GPUs and network of every node"),
    "stragglers": ("RUN...", "which ranks were slow, and in what"),
    "hosts": ("[RUN...]", "which hosts were slow, else of the last 30 days"),
    "traffic": ("RUN...", "bytes that every node sent and received"),
    "target": ("ACCURACY RUN...", "samples and time until it, or 'METRIC>=X', was reached"),
    "against": ("NAME RUN...", "published figures beside the scaling report"),
    "published": ("KIND RUN...", "in published forms: batch, modes, models"),
    "confusion": ("[RUN...]", "which classes a model takes for which"),
    "dual": ("RUN...", "what the halves of dual nets (admm) did"),
}
DEFAULT = "scaling"
_EXAMPLES = """
hpcsynapse report STUDY                     speedup and efficiency of its runs
hpcsynapse report one-node two-nodes --csv --out scaling.csv
hpcsynapse report STUDY --html page.html
hpcsynapse report STUDY --plots plots --fit one-column
hpcsynapse report why STUDY                 where the time went
hpcsynapse report target 0.95 STUDY         how long until 95 % accuracy
hpcsynapse report scaling why               of a run that is called `why`
"""
_OPTIONS = [
    ("--csv, --json", "all columns, in full precision"),
    ("--markdown, --latex", "a rounded table"),
    ("--columns A,B,...", "these columns, by their names in --csv"),
    ("--out FILE", "a file: .csv, .json, .md or .tex"),
    ("--runs DIR", "folder of all runs [HPCSYNAPSE_RUNS, else ./runs]"),
]
_SCALING = [
    ("--plots DIR", "also all plots that the runs allow, as PDF, PNG, SVG"),
    ("--fit PLACE", "plots for a page, one-column or two-columns of a paper"),
    ("--html FILE", "also table, plots, why and slow ranks as one page"),
    ("--baseline WHAT", "what to compare with: a run, ranks or a strategy"),
    ("--scaling KIND", "strong or weak [auto]"),
]


class Reports(click.Group):
    """A group that takes words which name no report as runs for the scaling report."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the reports, the default first."""
        return list(REPORTS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return one report."""
        if name not in REPORTS:
            return None
        found: click.Command = import_module(f"hpcsynapse.cli.report.{name}").command
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default report before words that begin with none."""
        if not args or args[0] not in (*REPORTS, *ctx.help_option_names):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a report; where a run is called like it and none is named, say what to type for that run."""
        try:
            return super().invoke(ctx)
        except click.MissingParameter as error:
            name = error.ctx.info_name if error.ctx else None
            if name is None or not (runs_folder() / name).is_dir():
                raise
            run = f"for the run or study that is called {name}, write: hpcsynapse report {DEFAULT} {name}"
            raise click.UsageError(f"{error.format_message()} {run}", error.ctx) from None

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a page that fits a screen: examples, reports, and the options that all of them have."""
        formatter.write_usage(ctx.command_path, "[REPORT] RUN|STUDY|TABLE.csv... [OPTIONS]")
        formatter.write_paragraph()
        formatter.write_text("Report on runs, studies, folders of step records, or figures in a table.")
        formatter.write(_EXAMPLES.replace("\n", "\n  ").rstrip() + "\n")
        with formatter.section("Reports (more with: hpcsynapse report REPORT --help)"):
            formatter.write_dl([(f"{name} {given}", text) for name, (given, text) in REPORTS.items()])
        with formatter.section("Options of all reports"):
            formatter.write_dl(_OPTIONS)
        with formatter.section("Options of the scaling report"):
            formatter.write_dl(_SCALING)


@click.command(cls=Reports)
def command() -> None:
    """Report how well runs scaled, and what explains it."""
