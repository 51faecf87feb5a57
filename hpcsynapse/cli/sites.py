"""`hpcsynapse sites`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import click

from hpcsynapse.errors import SiteError
from hpcsynapse.fields import nearest


@click.command()
@click.argument("name", required=False, metavar="[NAME|FILE]")
def command(name: str | None) -> None:
    """List the site files that there are, or print one; a printed one is a start for a file of your own.

    \b
    hpcsynapse sites
    hpcsynapse sites marenostrum5-acc > my.toml; hpcsynapse check --site my.toml
    """
    from hpcsynapse.spec.settings import read_toml
    from hpcsynapse.spec.site import shipped_sites, site_path

    shipped = shipped_sites()
    if name is not None:
        path = Path(name) if Path(name).is_file() else shipped.get(name)
        if path is None:
            near = nearest(name, shipped) or f"; there are {', '.join(sorted(shipped))}, or name a file"
            raise SiteError(f"no site {name!r}{near}")
        read_toml(path)  # says what is wrong with it
        click.echo(path.read_text(encoding="utf-8"), nl=False)
        return
    used = site_path(None)
    for site, path in sorted(shipped.items()):
        click.echo(f"{site:<24}  {_described(path)}")
    click.echo(f"in use: {used or 'none; write one with: hpcsynapse init'}")


def _described(path: Path) -> str:
    """Return the cluster's name and queue."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    name = tables.get("site", {}).get("name", path.stem)
    return f"{name}, scheduler {tables.get('queue', {}).get('scheduler', 'auto')}"
