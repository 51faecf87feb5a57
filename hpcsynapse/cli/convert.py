"""`hpcsynapse convert`."""

from __future__ import annotations

from pathlib import Path

import click

from hpcsynapse.errors import SpecError
from hpcsynapse.findings import by_line
from hpcsynapse.jobfiles import DIALECTS
from hpcsynapse.units import counted

_DIALECTS = click.Choice(DIALECTS)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--to", "target", type=_DIALECTS, default=DIALECTS[0], show_default=True, help="dialect to write")
@click.option("--from", "source", type=_DIALECTS, help="dialect of FILE [told from its directives]")
@click.option(
    "--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="write here, not to stdout"
)
@click.option("--check", is_flag=True, help="only say what is wrong with FILE; exit code 2 when anything is")
@click.option("--force", is_flag=True, help="convert in spite of errors, without the values that are wrong")
def command(file: Path, target: str, source: str | None, out: Path | None, check: bool, force: bool) -> None:
    """Convert a job file of Slurm, PBS, LSF, Grid Engine, LoadLeveler or BSC's dialect to another of them.

    The body is kept; directives, file name patterns and variables are mapped. What is odd, wrong or without a
    counterpart is listed on stderr by line. A LoadLeveler file of several steps becomes one file a step, named
    FILE.STEP, with --out.
    """
    from hpcsynapse.files import write_atomic
    from hpcsynapse.jobfiles import convert, reader

    found = reader.read(file.read_bytes(), source)
    if check:
        for complaint in found.complaints:
            click.echo(f"{file}: {complaint}")
        if not found.complaints:
            click.echo(f"{file}: {found.dialect}, nothing to complain about")
        click.get_current_context().exit(2 if found.unusable else 0)
    for complaint in found.complaints:
        click.echo(f"{file}: {complaint}", err=True)
    if found.errors and not force:
        raise SpecError(
            f"{file}: {counted(len(found.errors), 'error')}; correct the file, or convert the rest with --force"
        )
    results = convert.convert(found, target)
    for complaint in sorted({one for result in results for one in result.complaints}, key=by_line):
        click.echo(f"{file}: {complaint}", err=True)
    if out is None:
        if len(results) > 1:
            raise SpecError(f"{file} has {len(results)} steps, which {target} has not: give --out FILE")
        click.echo(results[0].text, nl=False)
        return
    for result in results:
        path = out.with_name(f"{out.name}.{result.step}") if result.step else out
        write_atomic(path, result.text)
        click.echo(str(path))
