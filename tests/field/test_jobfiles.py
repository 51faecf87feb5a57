"""Job files, node lists, GPU strings and sinfo's tables that people met, each with its right answer (see README.md)."""

from __future__ import annotations

import re
import signal
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from hpcsynapse.cli.main import main
from hpcsynapse.errors import SpecError
from hpcsynapse.job.hostlist import expand
from hpcsynapse.jobfiles import gres

CASES = sorted((Path(__file__).parent / "jobfiles").glob("*.toml"))
REPEATED = re.compile("«(.+?)\N{MULTIPLICATION SIGN}([0-9]+)»")
KNOWN = {
    "": {"row", "about", "job", "hosts", "gres", "sinfo", "command"},
    "job": {"file", "from", "check", "convert"},
    "check": {"exit_code", "says", "silent"},
    "convert": {"to", "out", "exit_code", "has", "lacks", "says", "silent", "text"},
    "hosts": {"list", "names", "count", "error"},
    "gres": {"node", "request", "gpus", "error"},
    "sinfo": {"output", "site", "queue", "says"},
    "command": {"arguments", "files", "exit_code", "says", "silent", "order", "once"},
}


def tables(case: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the tables of one name; raises AssertionError for a key that has no meaning there."""
    found = case.get(name, [])
    found = found if isinstance(found, list) else [found]
    for table in found:
        assert set(table) <= KNOWN[name], f"unknown in [{name}]: {set(table) - KNOWN[name]}"
    return found


@dataclass(frozen=True, slots=True)
class Done:
    """What a command of hpcsynapse printed, and its exit code."""

    code: int
    out: str
    err: str


class Run(Protocol):
    def __call__(self, *arguments: str) -> Done: ...


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run the command line in this process; an exception that a user would see as a traceback is one here too."""

    def command(*arguments: str) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        printed = capsys.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    handler = signal.getsignal(signal.SIGTERM)
    yield command
    signal.signal(signal.SIGTERM, handler)


def assert_said(text: str, table: dict[str, Any]) -> None:
    for part in table.get("says", ()):
        assert any(part in line for line in text.splitlines()), f"{part!r} is not said:\n{text}"
    for part in table.get("silent", ()):
        assert part not in text, f"{part!r} is said:\n{text}"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    case = tomllib.loads(REPEATED.sub(lambda match: match[1] * int(match[2]), path.read_text()))
    assert set(case) <= KNOWN[""] and {"row", "about"} < set(case)
    for job in tables(case, "job"):
        check_job(job, workdir, run)
    for hosts in tables(case, "hosts"):
        check_hosts(hosts)
    for one in tables(case, "gres"):
        check_gres(one)
    for sinfo in tables(case, "sinfo"):
        check_sinfo(sinfo, workdir, monkeypatch, run)
    for command in tables(case, "command"):
        for name, content in command.get("files", {}).items():
            (workdir / name).parent.mkdir(parents=True, exist_ok=True)
            (workdir / name).write_bytes(content.encode())
            (workdir / name).chmod(0o755)
        done = run(*command["arguments"])
        assert done.code == command.get("exit_code", 0), done
        assert_said(done.out + done.err, command)
        lines = [line.partition(" ||")[0].strip() for line in done.out.splitlines()]
        places = [lines.index(line) for line in command.get("order", ())]
        assert places == sorted(places) and all(lines.count(line) == 1 for line in command.get("once", ())), done.out


def check_job(job: dict[str, Any], workdir: Path, run: Run) -> None:
    (workdir / "file").write_bytes(job["file"].encode())
    source = ["--from", job["from"]] if "from" in job else []
    for check in tables(job, "check"):
        done = run("convert", "file", "--check", *source)
        assert done.code == check.get("exit_code", 0), done
        assert_said(done.out, check)
    for table in tables(job, "convert"):
        out = ["--out", "out"] if table.get("out") else []
        done = run("convert", "file", "--to", table["to"], *source, *out)
        assert done.code == table.get("exit_code", 0), done
        text = "".join(path.read_text() for path in sorted(workdir.glob("out*"))) if out else done.out
        for line in table.get("has", ()):
            assert line in text.splitlines(), f"{line!r} is not in\n{text}"
        for line in table.get("lacks", ()):
            assert line not in text.splitlines(), f"{line!r} is in\n{text}"
        assert text == table.get("text", text)
        assert_said(done.err, table)


def check_hosts(hosts: dict[str, Any]) -> None:
    if "error" in hosts:
        with pytest.raises(SpecError) as raised:
            expand(hosts["list"])
        assert hosts["error"] in str(raised.value) and len(str(raised.value)) < 300
        return
    names = expand(hosts["list"])
    assert names == hosts.get("names", names) and len(names) == hosts.get("count", len(names))


def check_gres(one: dict[str, Any]) -> None:
    def read() -> int:
        return gres.total(gres.parse_node(one["node"]) if "node" in one else gres.parse_request(one["request"]))

    if "error" in one:
        with pytest.raises(ValueError, match=one["error"]):
            read()
    else:
        assert read() == one["gpus"]


def check_sinfo(sinfo: dict[str, Any], workdir: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Write a site file on a machine whose sinfo prints the text."""
    (workdir / "printed").write_text(sinfo["output"])
    commands = workdir / "bin"
    commands.mkdir()
    for name, does in {"sinfo": f"cat {workdir}/printed", "sbatch": "exit 0", "scontrol": "exit 1"}.items():
        (commands / name).write_text(f"#!/bin/sh\n{does}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=":")
    done = run("init", "--yes", "--out", "site.toml")
    assert done.code == 0, done
    written = tomllib.loads((workdir / "site.toml").read_text())
    for section in ("site", "queue"):
        for name, value in sinfo.get(section, {}).items():
            assert written[section].get(name) == value, written
    assert_said(done.err, sinfo)
