"""`hpcsynapse sites`: which site files there are, and what stands in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from hpcsynapse.cli.sites import command
from hpcsynapse.errors import SiteError
from hpcsynapse.spec.site import shipped_sites


def test_sites_are_listed_with_the_one_in_use(monkeypatch: pytest.MonkeyPatch, workdir: Path) -> None:
    monkeypatch.delenv("HPCSYNAPSE_SITE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(workdir))
    lines = CliRunner().invoke(command).output.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == sorted(shipped_sites())
    assert lines[-1] == "in use: none; write one with: hpcsynapse init"
    (workdir / "mine.toml").write_text('[site]\nname = "mine"\n')
    monkeypatch.setenv("HPCSYNAPSE_SITE", str(workdir / "mine.toml"))
    assert CliRunner().invoke(command).output.splitlines()[-1] == f"in use: {workdir}/mine.toml"


def test_a_site_is_printed_as_it_stands() -> None:
    for name, path in shipped_sites().items():
        assert CliRunner().invoke(command, [name]).output == path.read_text()
    assert isinstance((error := CliRunner().invoke(command, ["minotauro-k8"]).exception), SiteError)
    assert "did you mean 'minotauro-k80'" in str(error)
