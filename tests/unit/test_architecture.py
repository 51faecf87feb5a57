"""The shape that readers rely on: imports point down, the command line stays light, tables hold what they say."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

PACKAGE = Path(__file__).parents[2] / "hpcsynapse"
# Layer of every module, lowest first; a folder stands for all modules below it.
LAYERS = {
    "errors": 0, "units": 0,
    "fields": 1, "site": 1, "spec": 1, "training": 1, "settings": 1, "hostlist": 1, "ports": 1, "placement": 1,
    "rundir": 1, "failure": 1, "network": 1, "timing": 1, "task_hosts": 1, "records": 1, "rank": 1,
    "local_launcher": 1, "devices": 1,
    "usercode_checks": 1, "bksynapse": 1, "intake": 1, "store": 1, "secret": 1,
    "process": 2, "schedulers": 2, "launchers": 2, "render": 2, "greasy": 2, "jobfiles": 2,
    "checks": 3, "status": 3, "submission": 3, "report": 3, "predict": 3, "study": 3, "trainer": 3,
    "cli": 4, "__main__": 5, "__init__": 5,
}  # fmt: skip
HEAVY = {"torch", "numpy", "pandas", "matplotlib", "horovod", "mpi4py", "sklearn", "pynvml"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(f"{node.module}.{name.name}" for name in node.names)
    return found


def part(module: str) -> str:
    """The name in LAYERS of `hpcsynapse.x.y.z`."""
    return module.split(".")[1] if "." in module else "__init__"


MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        if name.startswith("hpcsynapse.") and own != "__init__":
            other = part(name)
            other = "__init__" if other not in LAYERS else other
            if other == "__init__" and name == "hpcsynapse.__version__":
                continue
            assert LAYERS[other] <= LAYERS[own], f"{path.name} imports {name}"
            if own == "trainer":
                assert LAYERS[other] <= 1 or other == "trainer", f"trainer imports {name}"
            if own in ("status", "checks", "submission", "report", "predict", "study") and other == "trainer":
                assert name.startswith("hpcsynapse.trainer.catalog"), f"{path.name} imports {name}"
        top = name.split(".")[0]
        if top in ("torch", "horovod", "mpi4py", "sklearn"):
            assert own == "trainer", f"{path.name} imports {top}"
        if top == "pandas":
            assert own == "report"
        if top == "matplotlib":
            assert "plots" in path.parts, f"{path.name} imports {top}"


def test_every_module_has_a_layer() -> None:
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} == set(LAYERS)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["submit", "--help"], ["render", "--scheduler", "slurm", "--nodes", "2"],
     ["submit", "--scheduler", "local", "--", "true"], ["status"], ["check", "--scheduler", "local"],
     ["predict", "comms", "--elements", "1", "--ranks", "2", "--steps", "1"],
     ["predict", "scaling", "x", "--ranks", "0"], ["compare", "--help"], ["compare", "a"],
     ["store", "list"], ["models", "--help"], ["models", "absent"],
     ["study", "--scheduler", "local", "--ranks", "1,2", "--dry-run"]],
)  # fmt: skip
def test_the_command_line_loads_nothing_heavy(arguments: list[str], workdir: Path) -> None:
    code = (
        "import sys\nfrom hpcsynapse.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('MODULES', *sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    loaded = set(done.stderr.rpartition("MODULES")[2].split())
    assert "hpcsynapse" in loaded, done.stderr
    assert not loaded & HEAVY


def test_help_lists_every_verb_in_its_group() -> None:
    from hpcsynapse.cli.main import VERBS, cli

    text = CliRunner().invoke(cli, ["--help"]).output
    for verb, (group, summary) in VERBS.items():
        assert f"{group}:" in text and verb in text and summary in text
    modules = {path.stem for path in (PACKAGE / "cli").glob("*.py")}
    assert modules == {*VERBS, "main", "options", "progress", "__init__"}


def test_the_tables_hold_exactly_what_there_is() -> None:
    from hpcsynapse.launchers import LAUNCHERS
    from hpcsynapse.spec import LAUNCHERS as LAUNCHER_NAMES
    from hpcsynapse.trainer.catalog import DATA, MODELS
    from hpcsynapse.training import STRATEGIES

    names = {"srun", "mpirun", "mpiexec", "poe", "horovodrun", "torchrun", "greasy", "local"}
    assert set(LAUNCHERS) == names == set(LAUNCHER_NAMES) - {"auto"}
    assert set(MODELS) == {
        "simple-cnn", "unet", "resnet56", "resnet83", "alexnet", "vgg16", "vgg19", "resnet50", "resnet152", "dualnet",
    }  # fmt: skip
    assert set(DATA) == {"digits", "cluttered-digits", "cifar10", "mnist", "npy", "synthetic"}
    assert set(STRATEGIES) == {
        "auto", "single", "allreduce", "allreduce-broadcast", "central", "local-sgd", "ps-async", "ps-sync", "mixed",
        "admm",
    }  # fmt: skip
