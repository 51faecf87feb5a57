"""The shape that readers rely on: imports point down, the command line stays light, tables hold what they say."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

PACKAGE = Path(__file__).parents[2] / "hpcsynapse"
# The layers, lowest first: a package imports nothing from a package above it or beside it, only from those below.
LAYERS = (
    ("__init__", "errors", "units", "fields", "files", "findings"),
    ("table", "templating", "timing", "writers"),
    ("usercode.checks", "recording"),
    ("spec",),
    ("runs", "usercode"),
    ("jobfiles",),
    ("job",),
    ("loops",),
    ("trainer",),
    ("schedulers",),
    ("submission",),
    ("study", "greasy"),
    ("report",),
    ("predict", "export"),
    ("serve",),
    ("cli",),
    ("__main__",),
)
# Modules of the first two layers are single files and may use one another; packages beside one another may not.
SINGLE = {name for layer in LAYERS[:2] for name in layer}
RANK = {name: number for number, layer in enumerate(LAYERS) for name in layer}
HEAVY = {
    "torch",
    "numpy",
    "pandas",
    "matplotlib",
    "horovod",
    "mpi4py",
    "sklearn",
    "pynvml",
    "rich",
    "starlette",
    "uvicorn",
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.update(f"{node.module}.{name.name}" for name in node.names)
    return found


def package(module: str) -> str:
    """The name in LAYERS of `hpcsynapse.x.y.z`."""
    names = module.split(".")[1:]
    if ".".join(names[:2]) in RANK:
        return ".".join(names[:2])
    return names[0] if names and names[0] in RANK else "__init__"


def module_name(path: Path) -> str:
    return ".".join(("hpcsynapse", *path.relative_to(PACKAGE).with_suffix("").parts))


MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = package(module_name(path))
    for name in imports(path):
        if name.startswith("hpcsynapse.") and own != "__init__":
            other = package(name)
            allowed = other == own or RANK[other] < RANK[own] or {own, other} <= SINGLE
            assert allowed, f"{path.relative_to(PACKAGE)} imports {name}"
            if RANK["trainer"] < RANK[own] and other == "trainer" and own != "cli":
                assert name.startswith("hpcsynapse.trainer.catalog"), f"{path.name} imports {name}"
        top = name.split(".")[0]
        if top in ("torch", "horovod", "mpi4py", "sklearn"):
            assert own == "trainer", f"{path.name} imports {top}"
        if top == "pandas":
            assert own == "report"
        if top in ("starlette", "uvicorn"):
            assert own in ("serve", "cli"), f"{path.name} imports {top}"
        if top == "matplotlib":
            assert "plots" in path.parts, f"{path.name} imports {top}"


def test_every_module_has_a_layer() -> None:
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} == {
        name.partition(".")[0] for name in RANK
    }


def test_what_runs_in_a_job_needs_only_the_standard_library() -> None:
    below = {name for name in RANK if RANK[name] <= RANK["job"]} - {"templating", "jobfiles"}
    for path in MODULES:
        if package(module_name(path)) in below:
            for name in imports(path):
                top = name.partition(".")[0]
                known = {*sys.stdlib_module_names, "hpcsynapse", "pynvml", "tomli_w"}
                assert top in known, f"{path.relative_to(PACKAGE)} imports {name}"


COMMAND_LINES = [
    ["--help"],
    ["submit", "--help"],
    ["render", "--scheduler", "slurm", "--nodes", "2"],
    ["submit", "--scheduler", "local", "--", "true"],
    ["status"],
    ["check", "--scheduler", "local"],
    ["predict", "comms", "--elements", "1", "--ranks", "2", "--steps", "1"],
    ["predict", "scaling", "x", "--ranks", "0"],
    ["compare", "--help"],
    ["compare", "a"],
    ["report", "--help"],
    ["report", "why", "--help"],
    ["report", "hosts", "-h"],
    ["store", "list"],
    ["serve", "--help"],
    ["snapshot", "absent"],
    ["models", "--help"],
    ["export", "tensorboard", "--help"],
    ["models", "absent"],
    ["study", "--scheduler", "local", "--ranks-per-node", "1,2", "--dry-run"],
]
# Every command line in a process of its own that has loaded nothing yet but the entry point.
LOADED_BY = """
import json, os, sys
from hpcsynapse.cli.main import main
for words in json.loads(sys.argv[1]):
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    try:
        main(words)
    except SystemExit:
        pass
    print("MODULES", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr, flush=True)
    os._exit(0)
"""


def test_the_command_line_loads_nothing_heavy(workdir: Path) -> None:
    words = json.dumps(COMMAND_LINES)
    done = subprocess.run([sys.executable, "-c", LOADED_BY, words], capture_output=True, text=True, timeout=240)
    loaded = [set(line.split()) for line in done.stderr.splitlines() if line.startswith("MODULES")]
    assert len(loaded) == len(COMMAND_LINES), done.stderr
    for line, found in zip(COMMAND_LINES, loaded, strict=True):
        assert "hpcsynapse" in found and not found & HEAVY, line


def test_help_lists_every_verb_in_its_group() -> None:
    from hpcsynapse.cli.main import VERBS, cli

    text = CliRunner().invoke(cli, ["--help"]).output
    for verb, (group, summary) in VERBS.items():
        assert f"{group}:" in text and verb in text and summary in text
    modules = {path.stem for path in (PACKAGE / "cli").glob("*.py")}
    assert modules == {
        *VERBS,
        "bars",
        "main",
        "options",
        "progress",
        "run_table",
        "short_help",
        "tables",
        "terminal",
        "__init__",
    } - {"report"}


def test_the_tables_hold_exactly_what_there_is() -> None:
    from hpcsynapse.spec.names import LAUNCHERS as LAUNCHER_NAMES
    from hpcsynapse.spec.names import STRATEGIES
    from hpcsynapse.submission.launchers import LAUNCHERS
    from hpcsynapse.trainer.catalog import DATA, MODELS

    names = {"srun", "mpirun", "mpiexec", "poe", "horovodrun", "torchrun", "greasy", "local"}
    assert set(LAUNCHERS) == names == set(LAUNCHER_NAMES) - {"auto"}
    assert set(MODELS) == {
        "simple-cnn",
        "unet",
        "resnet56",
        "resnet83",
        "alexnet",
        "vgg16",
        "vgg19",
        "resnet50",
        "resnet152",
        "dualnet",
        "gpt",
        "retinanet",
    }
    assert set(DATA) == {
        "digits",
        "cluttered-digits",
        "cifar10",
        "mnist",
        "npy",
        "images",
        "shards",
        "hdf5",
        "tokens",
        "synthetic",
    }
    assert set(STRATEGIES) == {
        "auto",
        "single",
        "allreduce",
        "allreduce-broadcast",
        "central",
        "sharded",
        "pipeline",
        "local-sgd",
        "ps-async",
        "ps-sync",
        "mixed",
        "admm",
    }
