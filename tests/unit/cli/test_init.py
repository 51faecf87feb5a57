"""`hpcsynapse init`: what it finds, and what it says where a queue's commands are here but fail."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hpcsynapse.cli.init import command
from hpcsynapse.cli.main import main
from hpcsynapse.errors import SiteError

SINFO = """case "$*" in *Node*) echo "gpu*|up|64|gpu:mi250:8|1-00:00:00|n1";; *) echo gpu;; esac"""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that comes first on the PATH; a machine without modules and configuration of Slurm."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    for name in ("SLURM_CONF", "LMOD_PKG", "MODULESHOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return folder


def put(folder: Path, **programs: str) -> None:
    """Write shell programs."""
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)


def found() -> dict[str, dict[str, object]]:
    """Run init; return the site file that it wrote."""
    with pytest.raises(SystemExit) as ended:
        main(["init", "--yes", "--force", "--out", "site.toml"])
    assert not ended.value.code
    return tomllib.loads(Path("site.toml").read_text())


@pytest.mark.skipif(Path("/etc/slurm/slurm.conf").exists(), reason="Slurm is set up here")
def test_a_site_file_for_this_machine_says_that_slurm_is_here_and_failed(
    queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(queue, sbatch="exit 1", sinfo="echo 'sinfo: error: no configuration' >&2; exit 1")
    assert found()["queue"]["scheduler"] == "local"
    said = capsys.readouterr().err
    assert "sinfo is here but failed (sinfo: error: no configuration)" in said and "for this machine alone" in said


def test_amd_gpus_and_the_file_of_modules_are_found(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(queue, sbatch="exit 0", sinfo=SINFO, scontrol="echo 'GresTypes = gpu'")
    init = queue.parent / "lmod" / "init" / "bash"
    init.parent.mkdir(parents=True)
    init.touch()
    monkeypatch.setenv("LMOD_PKG", str(queue.parent / "lmod"))
    site = found()["site"]
    assert (site["gpu_vendor"], site["gpus_per_node"], site["module_init"]) == ("amd", 8, str(init))
    assert "gpu_request" not in site


def test_a_queue_that_counts_no_gpus_is_asked_for_none(queue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sinfo = SINFO.replace("gpu:mi250:8", "(null)")
    put(queue, sbatch="exit 0", sinfo=sinfo, scontrol="echo 'ClusterName = old'; echo 'GresTypes  = (null)'")
    site = found()["site"]
    assert (site["name"], site["gpu_request"], site["gpus_per_node"]) == ("old", "none", 0)
    assert "give site.gpus_per_node yourself" in capsys.readouterr().err


TWO = """case "$*" in
*Node*) echo "cpu*|up|64|(null)|1-00:00:00|c1"; echo "gpu|up|32|gpu:a100:4|12:00:00|g1" ;;
*) echo cpu;;
esac"""
ACCOUNTS = "echo 'proj1|normal,long'; echo 'proj2|normal'; echo 'a banner'"
DEMANDS = """case "$*" in *--account=*) exit 0;; esac
echo 'sbatch: error: You must specify a project (--account)' >&2; exit 1"""


def said(*arguments: str, typed: str = "") -> Result:
    """Run init as a command; what it prints and its exit code."""
    return CliRunner().invoke(command, list(arguments), input=typed, catch_exceptions=True)


def test_show_prints_what_would_be_written_and_writes_nothing(queue: Path) -> None:
    put(queue, sbatch="exit 0", sinfo=SINFO, scontrol="exit 1")
    Path("site.toml").write_text("# mine\n")
    done = said("--show", "--out", "site.toml")
    assert done.exit_code == 0 and tomllib.loads(done.stdout)["queue"] == {"scheduler": "slurm", "partition": "gpu"}
    assert Path("site.toml").read_text() == "# mine\n"
    assert said("--show", "--out", "new/site.toml").exit_code == 0 and not Path("new").exists()


def test_a_folder_is_refused_and_a_variable_that_names_another_file_is_said(
    queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(queue, sinfo="echo 'main*|up|8|(null)|1:00:00|n1'")
    refused = said("--yes", "--force", "--out", str(queue))
    assert refused.exit_code != 0 and "is a folder; name a file in it" in str(refused.exception or refused.output)
    monkeypatch.setenv("HPCSYNAPSE_SITE", "other.toml")
    written = queue / "site.toml"
    assert "HPCSYNAPSE_SITE=other.toml comes before this file" in said("--yes", "--out", str(written)).output
    monkeypatch.setenv("HPCSYNAPSE_SITE", str(written))
    assert "comes before" not in said("--yes", "--force", "--out", str(written)).output


def test_a_partition_that_is_asked_for_is_described(queue: Path) -> None:
    put(queue, sbatch="exit 0", sinfo=TWO, scontrol="exit 1", sacctmgr=ACCOUNTS)
    site = tomllib.loads(said("--show", "--partition", "gpu", "--account", "proj2", "--qos", "long").stdout)
    assert site["site"]["gpus_per_node"] == 4 and site["site"]["cpus_per_node"] == 32
    assert site["queue"] == {"scheduler": "slurm", "partition": "gpu", "account": "proj2", "qos": "long"}
    error = said("--show", "--partition", "gpus").exception
    assert isinstance(error, SiteError) and "sinfo lists cpu, gpu" in str(error)


def test_what_the_queue_demands_is_named_with_the_option_to_give(queue: Path) -> None:
    put(queue, sbatch=DEMANDS, sinfo=TWO, scontrol="exit 1", sacctmgr=ACCOUNTS)
    done = said("--yes", "--out", "site.toml")
    assert done.exit_code == 0, done.output
    assert "demands --account" in done.stderr and "yours: proj1, proj2" in done.stderr
    assert tomllib.loads(Path("site.toml").read_text())["site"]["required"] == ["account"]
    done = said("--yes", "--force", "--account", "proj1", "--out", "site.toml")
    assert done.stderr == "" and "required" not in done.stdout


def test_partitions_accounts_and_what_the_queue_demands_are_offered(queue: Path) -> None:
    put(queue, sbatch=DEMANDS, sinfo=TWO, scontrol="exit 1", sacctmgr=ACCOUNTS)
    done = said("--out", "site.toml", typed="gpu\n" + "\n" * 4 + "6\n\nacount\ntime\n" + "\n" * 3 + "proj2\n")
    assert done.exit_code == 0, done.output
    asked = ("Partition to use (cpu, gpu) [cpu]", "(proj1, proj2)", "(normal, long)", "The queue demands: account")
    for text in (*asked, "go with each GPU [8]", "'acount' is no option of a job; did you mean 'account'?"):
        assert text in done.output
    written = tomllib.loads(Path("site.toml").read_text())
    assert written["queue"]["account"] == "proj2" and written["site"]["cpus_per_gpu"] == 6
    assert written["site"]["required"] == ["time", "account"]


@pytest.mark.skipif(Path("/etc/slurm/slurm.conf").exists(), reason="Slurm is set up here")
def test_nobody_gets_this_machine_alone_unawares_where_a_queues_commands_are(queue: Path) -> None:
    put(queue, oarsub="exit 0")
    done = said("--out", "site.toml", typed="\n")
    assert done.exit_code == 1 and "oarsub is here" in done.output and not Path("site.toml").exists()
    error = said("--yes", "--partition", "gpu", "--out", "site.toml").exception
    assert isinstance(error, SiteError) and "no queue answers here" in str(error)
