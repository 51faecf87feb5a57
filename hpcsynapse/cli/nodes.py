"""`hpcsynapse nodes`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcsynapse.cli.options import runs_option
from hpcsynapse.cli.tables import Output, table_options
from hpcsynapse.errors import RunNotFoundError, SpecError
from hpcsynapse.runs.find import runs_folder

if TYPE_CHECKING:
    from hpcsynapse.runs.directory import RunDirectory
    from hpcsynapse.runs.node_load import Look, NodeLoad

_BAR = 8  # columns of a bar
_EVERY = 2.0  # seconds between looks with -w


@click.command()
@click.argument("name", metavar="[RUN]", required=False)
@click.option("-w", "--watch", is_flag=True, help="stay, and show it anew every two seconds until all have ended")
@click.option(
    "--silent",
    type=click.FloatRange(min=1),
    default=21.0,
    metavar="SECONDS",
    help="say so of nodes whose file has not grown for so long [21]",
)
@click.option("--daemon", is_flag=True, help="record the load of this machine, outside of jobs, until told to end")
@click.option(
    "--sample", type=click.FloatRange(min=0.1, max=3600), default=1.0, metavar="X", help="with --daemon: seconds [1]"
)
@runs_option
@table_options
def command(
    name: str | None, watch: bool, silent: float, daemon: bool, sample: float, runs: str | None, output: Output
) -> None:
    """Show the load of every node of a run, at work or ended; without a name of all runs at work, and of machines
    that are watched outside of jobs.

    All comes from the files in RUN/telemetry: nothing is asked of the nodes or the queue. CPU and memory are those of
    the whole node, which others may use too.

    \b
    hpcsynapse nodes -w two-nodes
    hpcsynapse nodes two-nodes --json
    nohup hpcsynapse nodes --daemon &          on a workstation
    """
    folder = runs_folder(runs)
    if daemon:
        if name or watch or output.form:
            raise SpecError("--daemon records this machine; it shows nothing, and takes no run")
        _record(folder, sample)
        return
    look = _look(folder, name, silent)
    if watch:
        if output.form or output.path:
            raise SpecError("--watch shows a table; leave the other form out")
        _stay(look, of_run=name is not None)
        return
    loads = [load for load in look.look(wait=True) if name is not None or load.state != "ended"]
    if not loads:
        raise RunNotFoundError(_nothing(folder, name))
    if output.form or output.names or output.path:
        from hpcsynapse.runs.node_load import COLUMNS

        output.table(loads, COLUMNS)
    else:
        click.echo(text(loads, _width()), nl=False)


def _look(folder: Path, name: str | None, silent: float) -> Look:
    from hpcsynapse.runs.node_load import DAEMONS, Look
    from hpcsynapse.study.folder import all_runs, find_run

    if name is not None:
        return Look([find_run(folder, name)], silent=silent)
    return Look([run for run in all_runs(folder) if _at_work(run)], folder / DAEMONS, silent)


def _at_work(run: RunDirectory) -> bool:
    return run.telemetry.is_dir() and not run.exit.exists()


def _nothing(folder: Path, name: str | None) -> str:
    if name is None:
        return f"no node of a run at work, and none that is watched, in {folder}; name an ended run to see its end"
    return f"run {name}: no node has recorded anything yet; has it begun, and was it not submitted with --no-sample?"


def _record(folder: Path, interval: float) -> None:
    from hpcsynapse.job.sampler.daemon import record
    from hpcsynapse.runs.node_load import DAEMONS

    target = folder / DAEMONS
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"{target}: {error.strerror or error}") from None
    click.echo(f"recording this machine into {target}; Ctrl-C ends it", err=True)
    record(target, interval)


def _stay(look: Look, *, of_run: bool) -> None:
    """Show the table until no node runs any more; on a terminal in its place, else one after the other."""
    from hpcsynapse.runs.node_load import RUNNING

    home = "\x1b[H\x1b[J" if sys.stdout.isatty() else ""
    while True:
        loads = [load for load in look.look(wait=False) if of_run or load.state != "ended"]
        table = text(loads, _width()) if loads else "no node has recorded anything yet\n"
        click.echo(f"{home}{table}{'' if home else chr(10)}", nl=False)
        if (loads or not of_run) and all(load.state != RUNNING for load in loads):
            return
        time.sleep(_EVERY)


def _width() -> int | None:
    from hpcsynapse.cli.terminal import width

    return width()


def _percent(share: float | None) -> str:
    """Return a share as a bar and a number."""
    if share is None:
        return "-"
    full, empty = ("█", "░") if "utf" in (sys.stdout.encoding or "").lower() else ("#", ".")
    filled = max(0, min(_BAR, round(share * _BAR)))
    return f"{full * filled}{empty * (_BAR - filled)} {share:4.0%}"


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"


def _slowest(load: NodeLoad) -> str:
    return "-" if load.slowest_rank is None else f"{load.slowest_rank} ({_milliseconds(load.slowest_s)})"


# heading, cell, and how early it is left out where a table is too wide: the highest number first, 0 never
_CELLS: tuple[tuple[str, Callable[[NodeLoad], str], int], ...] = (
    ("RUN", lambda load: load.run, 0),
    ("NODE", lambda load: load.node, 0),
    ("ROLES", lambda load: load.roles, 6),
    ("STATE", lambda load: load.state, 0),
    ("CPU", lambda load: _percent(load.cpu), 0),
    ("CORES", lambda load: _number(load.ranks_cpu), 4),
    ("MEMORY", lambda load: _percent(load.memory), 1),
    ("OOM", lambda load: str(load.oom_kills or "-"), 5),
    ("IN MB/s", lambda load: _number(load.received_mb_s), 2),
    ("OUT MB/s", lambda load: _number(load.sent_mb_s), 2),
    ("GPU", lambda load: _percent(load.gpu), 1),
    ("SM", lambda load: _percent(load.sm_active), 3),
    ("GPU MEM", lambda load: _percent(load.gpu_memory), 3),
    ("W", lambda load: _number(load.power_w, 0), 4),
    ("STEP", lambda load: "-" if load.step is None else str(load.step), 3),
    ("STEP TIME", lambda load: _milliseconds(load.step_s), 5),
    ("SLOWEST", _slowest, 5),
)


def text(loads: Sequence[NodeLoad], width: int | None) -> str:
    """Return the table for a terminal of so many columns (None: of any width); what no node has is left out."""
    from hpcsynapse.cli.terminal import coloured

    rows = [[cell(load) for _, cell, _ in _CELLS] for load in loads]
    kept = [place for place in range(len(_CELLS)) if any(row[place] not in ("-", "") for row in rows)]
    if len({load.run for load in loads}) == 1:
        kept = [place for place in kept if place]
    widths = {place: max(len(_CELLS[place][0]), *(len(row[place]) for row in rows)) for place in kept}
    for place in sorted(kept, key=lambda place: -_CELLS[place][2]):
        if width is not None and _CELLS[place][2] and sum(widths[one] + 2 for one in kept) - 2 > width:
            kept.remove(place)
    lines = ["  ".join(_CELLS[place][0].ljust(widths[place]) for place in kept).rstrip()]
    colours = {"silent": "red", "running": "cyan"}
    for load, row in zip(loads, rows, strict=True):
        cells = (row[place].ljust(widths[place]) for place in kept)
        heads = (_CELLS[place][0] for place in kept)
        line = [
            coloured(cell, colours.get(load.state)) if head == "STATE" else cell
            for head, cell in zip(heads, cells, strict=True)
        ]
        lines.append("  ".join(line).rstrip())
    return "\n".join([*lines, *_below(loads)]) + "\n"


def _below(loads: Sequence[NodeLoad]) -> list[str]:
    """Return in words what stands out, and what is not measured anywhere."""
    lines = []
    if silent := [load.node for load in loads if load.state == "silent"]:
        lines.append(f"silent: {' '.join(silent[:8])}{f' and {len(silent) - 8} more' if len(silent) > 8 else ''}")
    gpu = {why for load in loads for why in load.missing.split("; ") if why.startswith("gpu: ") and "granted" in why}
    return [*lines, *sorted(gpu)[:1]]
