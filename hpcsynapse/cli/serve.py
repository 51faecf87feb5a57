"""`hpcsynapse serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hpcsynapse.cli.options import runs_option
from hpcsynapse.errors import SpecError
from hpcsynapse.runs.find import runs_folder
from hpcsynapse.units import parse_walltime

if TYPE_CHECKING:
    from hpcsynapse.serve.endpoint import Endpoint, Notice


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="a TCP port of this machine, not a socket")
@click.option("--allow-actions", is_flag=True, help="let the page submit, stop, cancel, resume and remove runs")
@click.option("--idle", default="12h", show_default=True, metavar="TIME", help="end when unused for so long")
@click.option("--cpu-budget", metavar="TIME", help="end after so much processor time, e.g. 10m")
@runs_option
def command(port: int | None, allow_actions: bool, idle: str, cpu_budget: str | None, runs: str | None) -> None:
    """Show the runs of a folder in the browser of your own machine.

    Prints an ssh line to type on your machine and an address to open there. The server reads files, listens on a socket
    that you alone can reach, does nothing while nobody looks, and ends by itself when it is not used. A second `serve`
    of the same folder prints what the first one did.

    \b
    hpcsynapse serve
    hpcsynapse serve --port 0             where ssh may not forward to sockets
    hpcsynapse serve --allow-actions      also a form for new runs; stop, cancel, resume, remove
    """
    from hpcsynapse.serve.endpoint import Endpoint

    limits = parse_walltime(idle).total_seconds(), parse_walltime(cpu_budget).total_seconds() if cpu_budget else None
    folder = runs_folder(runs)
    if not folder.is_dir():
        raise SpecError(f"there is no folder of runs {folder}; name one with --runs")
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise SpecError(f"the page needs starlette and uvicorn ({error}); pip install 'hpcsynapse[serve]'") from None
    place = Endpoint(folder)
    if not place.claim():
        if (other := place.other()) is None:
            raise SpecError(f"a server of {folder} starts or ends at this moment; try again")
        click.echo(f"a server of {folder} is there already (process {other.pid})", err=True)
        if allow_actions and not other.write_token:
            click.echo(f"it allows no actions: end it (kill {other.pid}) and start this one again", err=True)
        _print(other)
        return
    _serve(place, port, allow_actions, *limits)


def _serve(place: Endpoint, port: int | None, acts: bool, idle: float, cpu: float | None) -> None:
    from hpcsynapse.serve.application import application
    from hpcsynapse.serve.guard import Keys
    from hpcsynapse.serve.index import RunIndex
    from hpcsynapse.serve.server import Bounds, run

    if note := place.elsewhere():
        click.echo(f"another server of this folder was started on {note['host']} (process {note['pid']})", err=True)
    keys = Keys(actions=acts)
    try:
        with place.listen(port) as listening:
            target = str(place.socket_path) if port is None else f"127.0.0.1:{listening.getsockname()[1]}"
            _print(place.tell(target, keys.token, keys.write_token))
            run(application(RunIndex(place.runs), keys), listening, Bounds(idle, cpu), _say)
    finally:
        place.leave()


def _print(notice: Notice) -> None:
    click.echo(f"on your own machine, type   {notice.ssh}")
    click.echo(f"and open in a browser       {notice.address}")


def _say(text: str) -> None:
    click.echo(f"hpcsynapse: {text}", err=True)
