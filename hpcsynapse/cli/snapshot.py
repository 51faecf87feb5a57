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
@runs_option
def command(name: str, output: str | None, anonymous: bool, runs: str | None) -> None:
    """Write the pages of a run or a study as one HTML file, which needs no server.

    It shows what `serve` shows, as of now: curves, ranks, report, the ends of logs. It opens from a disk or a mail, and
    asks nobody for anything.

    \b
    hpcsynapse snapshot two-nodes
    hpcsynapse snapshot compared --anonymous -o compared.html
    """
    from hpcsynapse.files import write_atomic
    from hpcsynapse.serve import snapshot
    from hpcsynapse.serve.index import RunIndex
    from hpcsynapse.study.folder import StudyDirectory, find_run, name_of

    folder = runs_folder(runs)
    study = StudyDirectory.at(folder, name)
    own = study.name if study else name_of(find_run(folder, name))
    target = Path(output or f"{own.replace('/', '-')}.html")
    if target.suffix.lower() not in (".html", ".htm"):
        raise SpecError(f"{target}: the page is HTML; call it {target.with_suffix('.html')}")
    index = RunIndex(study.path.parent if study else _folder_of(folder, name))
    index.refresh(whole=True)
    found = snapshot.of_study(index, own) if study else snapshot.of_run(index, own)
    text = snapshot.to_html(snapshot.anonymous(found, index) if anonymous else found)
    try:
        write_atomic(target, text)
    except OSError as error:
        raise SpecError(f"{target} cannot be written: {error.strerror or error}") from None
    click.echo(f"{target}: {len(text.encode()) / 1e6:.2g} MB")


def _folder_of(folder: Path, name: str) -> Path:
    """Return the folder in whose list a run is: that of all runs, or another that a path leads to."""
    from hpcsynapse.study.folder import find_run

    place = find_run(folder, name).path.parent
    return place.parent.parent if place.name == "points" else place
