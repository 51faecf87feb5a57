"""No file of the working directory or of PYTHONPATH takes the place of a module of Python's or ours in any helper."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from hpcsynapse.job import search_path, ssh
from hpcsynapse.job.tools import TOOLS
from hpcsynapse.schedulers import hosts_commands
from hpcsynapse.schedulers.local import Local
from hpcsynapse.submission import launchers

# Modules of Python's that helpers import, some before any line of ours runs.
NAMES = sorted(name for name in sys.stdlib_module_names if not name.startswith("_") and find_spec(name))
# What the start of a console script loads before the command line is imported.
SCRIPT = ("collections", "copyreg", "encodings", "enum", "functools", "keyword", "operator", "re", "reprlib", "types")
# As other places than the working directory's own the variable may name it by an empty entry.
PATHS = [":/nowhere", ".", "{here}", "/nowhere:"]


def spoil(folder: Path, *names: str) -> Path:
    """Make modules, and packages of those that are, that leave word when they are executed; return the word's path."""
    executed = folder / "executed"
    for name in names:
        text = f"open({str(executed)!r}, 'a').write({name!r} + ' ')\nraise SystemExit(77)\n"
        if name in ("hpcsynapse", "encodings", "json", "torch", "click"):
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(text)
        else:
            (folder / f"{name}.py").write_text(text)
    return executed


def run(folder: Path, path: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": path.format(here=folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize("path", PATHS)
def test_modules_of_the_working_directory_are_passed_over(tmp_path: Path, path: str) -> None:
    executed = spoil(tmp_path, "hpcsynapse", *NAMES)
    done = run(tmp_path, path, search_path.tool("hostlist", "n[1-3]"))
    assert done.stdout.split() == ["n1", "n2", "n3"], done.stderr
    assert not executed.exists(), executed.read_text()


@pytest.mark.parametrize("name", TOOLS)
def test_no_tool_loads_a_module_of_others(tmp_path: Path, name: str) -> None:
    """Called wrongly: every tool has been imported when it finds that out, the trainer with torch."""
    executed = spoil(tmp_path, "hpcsynapse", *NAMES)
    done = run(tmp_path, ":/nowhere", search_path.tool(name, "--help"))
    assert done.returncode != 77, done.stderr
    assert not executed.exists(), executed.read_text()


def test_another_python_passes_them_over_too(tmp_path: Path) -> None:
    executed = spoil(tmp_path, "hpcsynapse", *NAMES)
    command = [sys.executable, "-E", "-c", search_path.LAST, search_path.package_parent(), "hostlist", "n[1-3]"]
    done = run(tmp_path, ":/nowhere", command)
    assert done.stdout.split() == ["n1", "n2", "n3"], done.stderr
    assert not executed.exists(), executed.read_text()


def test_whatever_starts_a_helper_starts_it_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    deaf = [sys.executable, "-EP", "-m", "hpcsynapse.job"]
    local = Local()
    for command in (
        launchers.job_python(),
        ssh.agent("look"),
        hosts_commands.on("status", "n1:1:1"),
        local.submit_command(Path("job.sh")),
        local.status_command(["n1:1:1"]),
        local.find_command(),
        local.cancel_command("n1:1:1"),
    ):
        assert command[:4] == deaf
    package = Path(search_path.package_parent()) / "hpcsynapse"
    others = [path for path in package.rglob("*.py") if "sys.executable, " in path.read_text()]
    assert [path.name for path in others] == ["search_path.py"]


@pytest.mark.parametrize(("said", "seen"), [("", True), ("1", False)])
def test_packages_in_the_home_are_left_out_where_that_is_asked_for(tmp_path: Path, said: str, seen: bool) -> None:
    """In a container the home is that of the host; a virtual environment has no such place, so Python itself is run."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (tmp_path / ".local" / "lib" / version / "site-packages").mkdir(parents=True)
    code = (
        f"import sys; sys.path.append({search_path.package_parent()!r}); from hpcsynapse.job import search_path; "
        "search_path.own_modules_first(); print(any('.local' in entry for entry in sys.path))"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONNOUSERSITE": said}
    command = [str(Path(sys.executable).resolve()), "-E", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == f"{seen}\n"


@pytest.mark.parametrize("path", PATHS)
def test_modules_of_users_are_found_behind_those_of_python(tmp_path: Path, path: str) -> None:
    """What PYTHONPATH names is still there for users' models and loaders, the working directory last."""
    (tmp_path / "own_model.py").write_text("here = True\n")
    executed = spoil(tmp_path, "json", "socket")
    code = (
        "from hpcsynapse.job.search_path import add_modules_of_users; add_modules_of_users(); "
        "import own_model, json, socket; print(own_model.here)"
    )
    done = run(tmp_path, path, [sys.executable, "-EP", "-c", code])
    assert done.stdout == "True\n", done.stderr
    assert not executed.exists()


def test_a_package_that_pythonpath_names_is_the_one_that_runs(tmp_path: Path) -> None:
    """A checkout that is not installed: its helpers are its own, and still nobody else's modules are loaded."""
    root = Path(search_path.package_parent())
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "hpcsynapse").symlink_to(root / "hpcsynapse")
    executed = spoil(tmp_path, "hpcsynapse", *NAMES)
    path = f"{tmp_path / 'checkout'}:"
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'checkout')!r}); import subprocess; "
        "from hpcsynapse.job import search_path; "
        "print(subprocess.run(search_path.tool('hostlist', 'n[1-3]'), capture_output=True, text=True).stdout); "
        "print(search_path.tool()[1:3])"
    )
    done = run(tmp_path, path, [sys.executable, "-EP", "-c", code])
    assert done.stdout.split("\n")[:3] == ["n1", "n2", "n3"] and "['-EP', '-c']" in done.stdout, done
    assert not executed.exists(), executed.read_text()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("start", ["script", "module"])
def test_the_command_line_passes_them_over(tmp_path: Path, path: str, start: str) -> None:
    """But for what the start of a script itself loads, which comes before any line of ours (docs/limits.md)."""
    before = {*SCRIPT, *("contextlib", "importlib", "pkgutil", "warnings", "inspect", "linecache", "runpy")}
    executed = spoil(tmp_path, *(name for name in NAMES if name not in before))
    script = Path(sys.executable).with_name("hpcsynapse")
    command = [str(script)] if start == "script" else [sys.executable, "-m", "hpcsynapse"]
    done = run(tmp_path, path, [*command, "render", "--scheduler", "slurm", "--", "true"])
    assert done.returncode == 0 and "#SBATCH" in done.stdout, done.stderr
    assert not executed.exists(), executed.read_text()
