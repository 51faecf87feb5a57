"""`hpcsynapse snapshot`."""

from __future__ import annotations

from pathlib import Path

import click

from hpcsynapse.cli.options import runs_option
from hpcsynapse.errors import SpecError
from hpcsynapse.runs.find import runs_folder


@click.command()
@click.argument("name", metavar="RUN|STUDY")
@click.option("-o", "--output", metavar="FILE", help="the file to write [RUN.html]")
@click.option("--anonymous", is_flag=True, help="without logs, hosts, users and paths, to be passed on")
@click.option("--follow", is_flag=True, help="renew a data file beside it until the run has ended")
@click.option("--every", type=click.IntRange(5, 3600), metavar="SECONDS", help="with --follow [30]")
@runs_option
def command(name: str, output: str | None, anonymous: bool, follow: bool, every: int | None, runs: str | None) -> None:
    """Write the pages of a run or a study as one HTML file, which needs no server.

    It shows what `serve` shows, as of now: curves, ranks, report, the ends of logs. It opens from a disk or a mail, and
    asks nobody for anything. With --follow it changes with the run, as long as the command goes on (Ctrl-C ends it):
    for centres where ssh may not forward. The page loads RUN.data.js beside it, so keep the two together.

    \b
    hpcsynapse snapshot two-nodes
    hpcsynapse snapshot compared --anonymous -o compared.html
    hpcsynapse snapshot two-nodes --follow
    """
    from hpcsynapse.files import write_atomic
    from hpcsynapse.serve import renewal, snapshot
    from hpcsynapse.serve.index import RunIndex
    from hpcsynapse.study.folder import StudyDirectory, find_run, name_of

    folder = runs_folder(runs)
    study = StudyDirectory.at(folder, name)
    own = study.name if study else name_of(find_run(folder, name))
    if every and not follow:
        raise SpecError("--every says how often --follow renews the page; add --follow")
    target = Path(output or f"{own.replace('/', '-')}.html")
    if target.suffix.lower() not in (".html", ".htm"):
        raise SpecError(f"{target}: the page is HTML; call it {target.with_suffix('.html')}")
    index = RunIndex(study.path.parent if study else _folder_of(folder, name))

    def take() -> snapshot.Snapshot:
        found = snapshot.of_study(index, own) if study else snapshot.of_run(index, own)
        return snapshot.anonymous(found, index) if anonymous else found

    try:
        if follow:
            click.echo(f"{target}: open it; {renewal.beside(target).name} beside it is renewed until {own} has ended")
            renewal.follow(target, index, own, take, every or 30)
        else:
            index.refresh(whole=True)
            write_atomic(target, snapshot.to_html(take()))
    except KeyboardInterrupt:
        click.echo(f"{target} is renewed no more; it stays as it is", err=True)
        click.get_current_context().exit(130)
    except OSError as error:
        raise SpecError(f"{target} cannot be written: {error.strerror or error}") from None
    click.echo(f"{target}: {target.stat().st_size / 1e6:.2g} MB")


def _folder_of(folder: Path, name: str) -> Path:
    """Return the folder in whose list a run is: that of all runs, or another that a path leads to."""
    from hpcsynapse.study.folder import find_run

    place = find_run(folder, name).path.parent
    return place.parent.parent if place.name == "points" else place
