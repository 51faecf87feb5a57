"""What a site file says reaches job file, launch line and checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcsynapse.errors import SpecError
from hpcsynapse.recording import environment
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission import checks
from hpcsynapse.submission.launchers import launch_words
from hpcsynapse.submission.render import render

RUN = Path("/scratch/runs/a")


def described(site: dict[str, Any], **sections: Any) -> JobSpec:
    """A run of the user's own program on two nodes of a Slurm site."""
    tables: dict[str, Any] = {
        "name": "a",
        "command": ["python3", "train.py"],
        "workdir": "/home/me/work",
        "site": site,
        "resources": {"nodes": 2, "gpus": 2},
        "queue": {"scheduler": "slurm"},
        "launch": {"launcher": "srun"},
    }
    for name, table in sections.items():
        tables[name] = {**tables.get(name, {}), **table} if isinstance(table, dict) else table
    return JobSpec.from_dict(tables)


def words(site: dict[str, Any], **sections: Any) -> list[str]:
    """The launch line of such a run."""
    return launch_words(described(site, **sections), RUN)


def test_no_directive_asks_for_gpus_where_the_queue_counts_none() -> None:
    text = render(described({"gpu_request": "none"}), RUN)
    assert "--gpus" not in text and "--gres" not in text


def test_export_and_clusters_are_directives() -> None:
    text = render(described({"export": "none", "clusters": "a,b"}), RUN)
    assert {"#SBATCH --export=NONE", "#SBATCH --clusters=a,b"} <= set(text.splitlines())
    assert "--export" not in (plain := render(described({}), RUN)) and "--clusters" not in plain


@pytest.mark.parametrize(("vendor", "flag"), [("nvidia", "--nv"), ("amd", "--rocm")])
def test_apptainer_sees_gpus_working_directory_and_the_folders_of_the_site(vendor: str, flag: str) -> None:
    found = words({"gpu_vendor": vendor, "container_binds": ["/data"]}, launch={"container": "x.sif"})
    assert {flag, "/data", "/home/me/work"} <= set(found)
    assert found[found.index("--pwd") + 1] == "/home/me/work"


@pytest.mark.parametrize("runtime", ["apptainer", "pyxis"])
def test_what_records_a_script_is_seen_in_its_container_at_the_same_path(runtime: str) -> None:
    spec = described({}, launch={"container": "x.sif", "container_runtime": runtime})
    if runtime == "pyxis":
        (mounts,) = [word for word in launch_words(spec, RUN) if word.startswith("--container-mounts=")]
        bound = [mount.split(":")[0] for mount in mounts.partition("=")[2].split(",")]
    else:
        found = launch_words(spec, RUN)
        bound = [found[place + 1] for place, word in enumerate(found) if word == "--bind"]
    assert (environment.SITE / "sitecustomize.py").is_file()
    assert any(environment.SITE.is_relative_to(folder) for folder in bound)


def test_the_data_of_the_trainer_is_mounted_unless_somebody_mounts_it_otherwise() -> None:
    train = {"data_path": "/big/data"}
    assert "/big/data" in words({}, command=[], train=train, launch={"container": "x.sif"})
    launch = {"container": "x.sif", "container_mounts": ["/other:/big/data"]}
    found = words({}, command=[], train=train, launch=launch)
    assert "/other:/big/data" in found and "/big/data" not in found


def test_pyxis_starts_in_the_working_directory() -> None:
    launch = {"container": "x", "container_runtime": "pyxis"}
    found = words({"container_binds": ["/data"]}, launch=launch)
    mounts = next(word for word in found if word.startswith("--container-mounts="))
    assert "--container-workdir=/home/me/work" in found
    assert "/home/me/work:/home/me/work" in mounts and "/data:/data" in mounts


@pytest.mark.parametrize("launcher", ["mpirun", "greasy", "horovodrun"])
def test_pyxis_is_refused_where_srun_does_not_start_the_ranks(launcher: str) -> None:
    with pytest.raises(SpecError, match=f"--launcher {launcher} use apptainer"):
        words({}, launch={"container": "x", "container_runtime": "pyxis", "launcher": launcher})


def test_the_agent_of_torchrun_runs_inside_the_image_and_ranks_are_not_wrapped_twice() -> None:
    found = words({}, launch={"container": "x.sif", "launcher": "torchrun"})
    assert found.count("apptainer") == 1 and found.count("x.sif") == 1
    assert found.index("x.sif") < found.index("torchrun") < found.index("train.py")


def test_a_required_option_that_does_not_exist_is_an_error_with_the_one_that_was_meant() -> None:
    with pytest.raises(SpecError, match="'acount' is no option of a job; did you mean 'account'"):
        described({"required": ["acount"]})


def test_required_options_are_asked_for() -> None:
    spec = described({"name": "x", "required": ["account", "mem", "time"]}, queue={"account": "p"})
    assert [(one.level, one.message) for one in checks.run_checks(spec, RUN) if one.where == "site"] == [
        ("error", "x requires --mem")
    ]


def test_waits_that_are_longer_than_the_idle_rule_of_the_site_are_named() -> None:
    spec = described({"idle_minutes": 4}, launch={"wait_limit": 200.0})
    said = [one.message for one in checks.run_checks(spec, RUN) if one.where == "site"]
    assert len(said) == 1 and "use --start-limit 240" in said[0]
