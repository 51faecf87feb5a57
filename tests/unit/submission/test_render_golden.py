"""Job files compared whole with files under tests/golden; `pytest --update-golden` rewrites them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from job_scripts import directives

from hpcsynapse.errors import RenderError, SpecError
from hpcsynapse.job import search_path
from hpcsynapse.spec import settings
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.site import shipped_sites
from hpcsynapse.submission import containers
from hpcsynapse.submission.render import render

GOLDEN = Path(__file__).parents[2] / "golden"
SLURM: dict[str, Any] = {"scheduler": "slurm"}
K80 = settings.read_toml(shipped_sites()["minotauro-k80"])
CASES: dict[str, dict[str, Any]] = {
    "slurm-srun-horovod-4x4": {
        "resources": {"nodes": 4, "gpus": 4, "cpus": 8}, "queue": SLURM,
        "launch": {"launcher": "srun"}, "train": {"engine": "horovod", "strategy": "allreduce"},
    },
    "slurm-everything": {
        "command": ["python", "train.py", "--data", "my data", "$HOME"],
        "resources": {"nodes": 2, "gpus": 2, "ranks_per_node": 4, "cpus": 3, "mem": "64G", "time": "2-00:30:00",
                      "gpu_type": "a100", "exclusive": True},
        "queue": {**SLURM, "partition": "gpu", "account": "proj-1", "qos": "high", "constraint": "ib&(a100|h100)",
                  "reservation": "maint", "mail_user": "me@site.org", "comment": 'a "quoted" comment; $(no) #1',
                  "signal": "USR1@120", "requeue": True, "dependency": "afterok:12:13", "hint": "nomultithread",
                  "extra_directives": ["--switches=1@10:00", "-k", "--nice"]},
        "launch": {"launcher": "srun", "modules": ["cuda/12.4", "openmpi"], "venv": "/shared/my env",
                   "env": {"NCCL_DEBUG": "INFO", "ODD": "it's a $VALUE"},
                   "prelude": ["ulimit -c 0", "nvidia-smi || true"],
                   "share_devices": True},
        "site": {"gpu_request": "gres", "host_suffix": "-ib0", "srun_mpi": "pmi2"},
    },
    "slurm-torchrun": {
        "command": ["python", "train.py"], "resources": {"nodes": 2, "gpus": 4, "cpus": 4}, "queue": SLURM,
        "launch": {"launcher": "torchrun"},
    },
    "slurm-mpirun": {
        "resources": {"nodes": 2, "ranks_per_node": 2}, "queue": {**SLURM, "signal": "TERM@60", "requeue": False},
        "launch": {"launcher": "mpirun"}, "train": {"engine": "mpi", "strategy": "allreduce"},
    },
    "slurm-greasy": {
        "resources": {"nodes": 2, "gpus": 2, "cpus": 3}, "queue": SLURM, "launch": {"launcher": "greasy"},
        "train": {"engine": "ddp", "strategy": "allreduce"},
    },
    "slurm-servers": {
        "resources": {"nodes": 3, "gpus": 2, "cpus": 4}, "queue": SLURM, "launch": {"launcher": "greasy"},
        "train": {"engine": "ddp", "strategy": "mixed"}, "ps": {"servers": 2, "server_nodes": 1},
    },
    "slurm-horovodrun": {
        "resources": {"nodes": 2, "ranks_per_node": 2}, "queue": SLURM, "launch": {"launcher": "horovodrun"},
        "train": {"engine": "horovod", "strategy": "allreduce"},
    },
    "slurm-apptainer": {
        "command": ["python3", "train.py"], "resources": {"gpus": 2}, "queue": SLURM,
        "launch": {"launcher": "srun", "container": "/images/torch.sif", "container_mounts": ["/scratch:/data"]},
    },
    "slurm-pyxis": {
        "command": ["python3", "train.py"], "resources": {"gpus": 2}, "queue": SLURM,
        "launch": {"launcher": "srun", "container": "nvcr.io#nvidia/pytorch:25.01", "container_runtime": "pyxis",
                   "container_mounts": ["/scratch:/data"]},
    },
    "slurm-conda-no-memory": {
        "command": ["python", "train.py"], "resources": {"mem": "8G"}, "queue": SLURM,
        "launch": {"launcher": "srun", "conda": "torch"}, "site": {"accept_mem": False},
    },
    "minotauro-thesis": {
        **K80, "name": "tf", "command": ["python", "resnet.py"], "launch": {**K80["launch"], "launcher": "srun"},
        "resources": {"nodes": 3, "gpus": 4, "cpus": 4, "time": "00:15:00"},
    },
    "minotauro-part-of-a-node": {
        "command": ["python", "train.py"],
        "resources": {"nodes": 2, "gpus": 2, "cpus": 3, "mem": "8G", "exclusive": True},
        "queue": {"scheduler": "minotauro", "partition": "debug", "account": "bsc28", "reservation": "maint",
                  "constraint": "k80", "requeue": False, "extra_directives": ["tracing = 1"]},
        "launch": {"launcher": "mpirun"}, "site": {"accept_mem": False, "cpus_per_node": 16, "host_suffix": "-ib0"},
    },
    "loadleveler-mpiexec": {
        "resources": {"nodes": 2, "ranks_per_node": 2, "cpus": 4, "mem": "64G"},
        "queue": {"scheduler": "loadleveler", "partition": "parallel", "account": "proj-1", "requeue": True,
                  "mail_user": "me@site.org", "mail_type": "BEGIN,END", "comment": 'a "quoted" #comment; $HOME',
                  "extra_directives": ["rset = rset_mcm_affinity"]},
        "launch": {"launcher": "mpiexec"}, "train": {"engine": "ddp", "strategy": "allreduce"},
    },
    "loadleveler-poe": {
        **settings.read_toml(shipped_sites()["generic-loadleveler"]),
        "command": ["python", "train.py", "--data", "my data; $HOME"],
        "resources": {"nodes": 4, "gpus": 2, "gpu_type": "k80", "time": "2-00:30:00"},
        "launch": {"launcher": "poe", "modules": ["cuda/7.5"]},
    },
    "loadleveler-mpirun": {
        "resources": {"nodes": 2, "ranks_per_node": 2}, "queue": {"scheduler": "loadleveler"},
        "launch": {"launcher": "mpirun", "env": {"B": "2", "A": "1"}},
        "train": {"engine": "mpi", "strategy": "allreduce"},
    },
    "gridengine-everything": {
        "resources": {"nodes": 2, "gpus": 2, "cpus": 4, "mem": "64G", "time": "1-00:30:00", "gpu_type": "v100",
                      "exclusive": True},
        "queue": {"scheduler": "gridengine", "partition": "gpu.q", "account": "proj-1", "constraint": "ib=true",
                  "reservation": "12", "requeue": True, "exclude": ["n[1-2]"], "dependency": "afterany:12",
                  "mail_user": "me@site.org", "signal": "USR1@120", "extra_directives": ["-R y", "-l scratch=1G"]},
        "launch": {"launcher": "mpirun"}, "train": {"engine": "mpi", "strategy": "allreduce"},
        "site": {"parallel_environment": "mpi-{slots}"},
    },
    "gridengine-mpiexec": {
        "command": ["python", "train.py"], "resources": {"nodes": 4, "gpus": 4},
        "queue": {"scheduler": "gridengine", "account": "group"}, "launch": {"launcher": "mpiexec"},
        "site": {"node_unit": "rt_F", "account_option": "g", "export": "none"},
    },
    "pbs-everything": {
        "resources": {"nodes": 2, "gpus": 2, "cpus": 4, "mem": "64G", "time": "1-00:30:00", "gpu_type": "v100",
                      "exclusive": True},
        "queue": {"scheduler": "pbs", "partition": "gpu", "account": "proj-1", "constraint": "fast=true",
                  "requeue": True, "dependency": "afterok:12:13", "mail_user": "me@site.org", "mail_type": "ALL",
                  "signal": "USR1@120", "extra_directives": ["-l filesystems=home:eagle"]},
        "launch": {"launcher": "mpirun"}, "train": {"engine": "mpi", "strategy": "allreduce"},
    },
    "torque-mpiexec": {
        "command": ["python", "train.py"], "resources": {"nodes": 4, "gpus": 4},
        "queue": {"scheduler": "torque"}, "launch": {"launcher": "mpiexec"}, "site": {"export": "none"},
    },
    "lsf-everything": {
        "resources": {"nodes": 2, "gpus": 2, "cpus": 4, "mem": "64G", "time": "1-00:30:00", "gpu_type": "v100",
                      "exclusive": True},
        "queue": {"scheduler": "lsf", "partition": "gpu", "account": "proj-1", "qos": "gold", "constraint": "ib",
                  "reservation": "r1", "exclude": ["n[1-2]"], "requeue": True, "dependency": "afterok:12:13",
                  "mail_user": "me@site.org", "signal": "USR1@120", "extra_directives": ["-app train"]},
        "launch": {"launcher": "mpirun"}, "train": {"engine": "mpi", "strategy": "allreduce"},
    },
    "flux-everything": {
        "resources": {"nodes": 2, "gpus": 2, "cpus": 4, "time": "1-00:30:00", "gpu_type": "v100"},
        "queue": {"scheduler": "flux", "partition": "batch", "account": "bank", "constraint": "ib",
                  "exclude": ["n[1-2]"], "dependency": "afterok:f12:f13", "signal": "USR1@120",
                  "extra_directives": ["--setattr=project=x"]},
        "launch": {"launcher": "mpirun"}, "train": {"engine": "mpi", "strategy": "allreduce"},
    },
    "hosts-mpirun": {
        "resources": {"nodes": 2, "gpus": 2, "time": "90m"},
        "queue": {"scheduler": "hosts", "hosts": ["n1:4", "n2:4"], "signal": "USR1@120"},
        "launch": {"launcher": "mpirun", "launcher_args": ["-mca", "plm_rsh_args", "-p 17992"]},
        "train": {"engine": "mpi", "strategy": "allreduce"},
    },
    "hosts-torchrun": {
        "command": ["python", "train.py", "--data", "my data; $HOME"], "resources": {"nodes": 2, "gpus": 4},
        "queue": {"scheduler": "hosts", "hosts": ["n1", "n2", "n3"]}, "launch": {"launcher": "torchrun"},
    },
    "hosts-processes": {
        "resources": {"nodes": 2, "gpus": 2}, "queue": {"scheduler": "hosts", "hosts": ["n1", "n2"]},
        "launch": {"launcher": "local"}, "train": {"engine": "ddp", "strategy": "allreduce"},
    },
    "local-two-ranks": {
        "resources": {"ranks_per_node": 2, "time": "90m"}, "queue": {"scheduler": "local"},
        "launch": {"launcher": "local"}, "train": {"engine": "ddp", "strategy": "allreduce"},
    },
    "local-mpirun": {
        "resources": {"ranks_per_node": 2}, "queue": {"scheduler": "local"}, "launch": {"launcher": "mpirun"},
        "train": {"engine": "horovod", "strategy": "allreduce"},
    },
}  # fmt: skip  # a table


@pytest.fixture(autouse=True)
def fixed_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/hpcsynapse/bin/python")
    monkeypatch.setattr(containers, "package_parent", lambda: Path("/opt/hpcsynapse/lib"))
    monkeypatch.setattr(search_path, "package_parent", lambda: "/opt/hpcsynapse/lib")


def rendered(case: str) -> str:
    table: dict[str, Any] = {"name": case, "workdir": "/home/me/my project", **CASES[case]}
    return render(JobSpec.from_dict(table), Path("/scratch/runs") / case)


@pytest.mark.parametrize("case", CASES)
def test_job_file_is_the_golden_one(case: str, request: pytest.FixtureRequest) -> None:
    text, path = rendered(case), GOLDEN / f"{case}.sh"
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    assert text == path.read_text()
    assert text == rendered(case)


@pytest.mark.parametrize("case", CASES)
def test_job_file_is_good_bash_with_directives_first(case: str) -> None:
    text = rendered(case)
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(directives(text)) == text.count("#SBATCH")


def test_every_golden_file_has_a_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.sh")} == set(CASES)


def test_a_site_template_comes_first_and_must_not_use_undefined_names(tmp_path: Path) -> None:
    (tmp_path / "slurm").mkdir()
    template = tmp_path / "slurm" / "job.sh.j2"
    table = {
        "name": "x",
        "queue": SLURM,
        "launch": {"launcher": "srun"},
        "command": ["true"],
        "site": {"template_dir": str(tmp_path)},
    }
    template.write_text("site says {{ name }}\n{{ launch_line }}\n")
    assert render(JobSpec.from_dict(table), Path("/r")).startswith("site says x\nsrun ")
    template.write_text("{{ nam }}")
    with pytest.raises(RenderError, match="nam"):
        render(JobSpec.from_dict(table), Path("/r"))
    template.write_text("{% if %}")
    with pytest.raises(RenderError, match="line 1"):
        render(JobSpec.from_dict(table), Path("/r"))
    for text, message in ((b"{{ 1 / 0 }}", "division"), (b"{{ name | quote(1) }}", "argument"), (b"\xff", "utf-8")):
        template.write_bytes(text)
        with pytest.raises(RenderError, match=message):
            render(JobSpec.from_dict(table), Path("/r"))


def test_a_launcher_that_the_queue_does_not_have_is_refused() -> None:
    with pytest.raises(SpecError, match=r"srun.*local"):
        render(
            JobSpec.from_dict({"name": "x", "queue": {"scheduler": "local"}, "launch": {"launcher": "srun"}}),
            Path("/r"),
        )


@pytest.mark.parametrize("case", CASES)
def test_what_misplaces_ranks_or_splits_values_is_never_written(case: str) -> None:
    text = rendered(case)
    # --export splits values at commas; --gpus-per-task hides the peers' devices; in the batch shell these two are 0.
    assert "--export" not in text and "--gpus-per-task" not in text
    assert '"$SLURM_PROCID"' not in text
    assert "$SLURM_NODEID" not in text or "bash -c 'node=$SLURM_NODEID" in text
