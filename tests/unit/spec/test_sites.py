"""The sites that come with the package: chosen by name, complete, and rendering what their queues expect."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from hpcsynapse.cli.main import cli
from hpcsynapse.errors import SiteError
from hpcsynapse.jobfiles.reader import read
from hpcsynapse.spec import settings
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.site import shipped_sites, site_path
from hpcsynapse.submission.resolve import resolve

PAGE = (Path(__file__).parents[3] / "docs" / "queues.md").read_text()
THESIS = Path(__file__).parents[2] / "data" / "jobfiles" / "thesis.cmd"
SITES = {
    "minotauro-k80",
    "minotauro-m2090",
    "marenostrum5-acc",
    "generic-slurm",
    "generic-loadleveler",
    "generic-gridengine",
    "generic-pbs",
    "polaris",
    "gadi-gpuvolta",
    "generic-lsf",
    "generic-flux",
    "perlmutter-gpu",
    "lumi-g",
    "frontier",
    "leonardo-booster",
    "karolina-gpu",
    "juwels-gpus",
    "adastra-mi250",
    "raven-gpu",
    "minerva-gpu",
}


def render(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["render", *arguments, "--", "true"])
    assert done.exit_code == 0, done.output + str(done.exception)
    return done.stdout


def head(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("# @", "#SBATCH"))]


def test_the_sites_are_those_of_the_documentation() -> None:
    assert set(shipped_sites()) == SITES
    assert all(f"| `{name}` |" in PAGE for name in SITES)


@pytest.mark.parametrize("name", sorted(name for name in SITES if not name.startswith(("generic-", "minotauro-"))))
def test_every_centre_names_the_page_that_its_facts_are_from(name: str) -> None:
    first = shipped_sites()[name].read_text().partition("[site]")[0]
    assert "https://" in first or name == "marenostrum5-acc", first


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("perlmutter-gpu", {"#SBATCH --constraint=gpu", "#SBATCH --gpus-per-node=4", "#SBATCH --cpus-per-task=16"}),
        ("lumi-g", {"#SBATCH --partition=standard-g", "#SBATCH --gpus-per-node=4"}),
        ("frontier", {"#SBATCH --partition=batch", "#SBATCH --cpus-per-task=7"}),
        ("leonardo-booster", {"#SBATCH --gres=gpu:4", "#SBATCH --cpus-per-task=8"}),
        ("karolina-gpu", {"#SBATCH --partition=qgpu", "#SBATCH --cpus-per-task=16"}),
        ("juwels-gpus", {"#SBATCH --partition=gpus", "#SBATCH --gres=gpu:4"}),
        ("adastra-mi250", {"#SBATCH --constraint=MI250", "#SBATCH --exclusive"}),
        ("raven-gpu", {"#SBATCH --gres=gpu:4", "#SBATCH --cpus-per-task=18"}),
        ("minerva-gpu", {"#BSUB -n 4", '#BSUB -R "span[ptile=4]"', '#BSUB -R "rusage[ngpus_excl_p=4]"'}),
    ],
)
def test_what_a_job_of_four_gpus_asks_for_at_a_centre(name: str, lines: set[str], workdir: Path) -> None:
    text = render("--site", name, "--gpus", "4", "--account", "p", "--qos", "q", "--name", "x")
    assert lines <= set(text.splitlines()), text
    assert not read(text.encode()).errors


@pytest.mark.parametrize("name", sorted(SITES))
def test_every_site_is_a_valid_description(name: str, workdir: Path) -> None:
    spec = settings.load(options={"command": ["true"]}, site=name)
    assert spec.site.name
    assert spec.queue.scheduler != "auto"
    resolve(spec, workdir)


def test_a_file_of_that_name_comes_first_and_an_unknown_name_lists_what_there_is(workdir: Path) -> None:
    assert site_path("generic-slurm", {}) == shipped_sites()["generic-slurm"]
    own = workdir / "generic-slurm"
    own.write_text('[site]\nname = "mine"\n')
    assert site_path("generic-slurm", {}) == Path("generic-slurm")
    assert settings.load(options={"command": ["true"]}, site=str(own)).site.name == "mine"
    with pytest.raises(SiteError, match=r"does not exist.*minotauro-k80"):
        site_path("minotauro", {})
    assert site_path(None, {"HPCSYNAPSE_SITE": "minotauro-k80"}) == shipped_sites()["minotauro-k80"]


def test_three_k80_nodes_render_the_directives_of_the_thesis(workdir: Path) -> None:
    text = render("--site", "minotauro-k80", "--nodes", "3", "--gpus", "4", "--time", "00:15:00", "--name", "tf")
    assert head(text) == head(THESIS.read_text())
    modules = next(line for line in THESIS.read_text().splitlines() if line.startswith("module"))
    assert f"\n{modules} || exit 1\n" in text
    assert "srun --nodes=3 --ntasks=12 --ntasks-per-node=4 " in text
    assert not read(text.encode()).complaints


def test_part_of_a_k80_node_stays_one_task_a_node(workdir: Path) -> None:
    text = render("--site", "minotauro-k80", "--nodes", "2", "--gpus", "2", "--name", "half")
    assert {"# @ tasks_per_node = 1", "# @ total_tasks = 2", "# @ cpus_per_task = 8"} <= set(head(text))
    text = render("--site", "minotauro-m2090", "--nodes", "2", "--gpus", "2", "--name", "m")
    assert {"# @ features = m2090", "# @ cpus_per_task = 12", "# @ gpus_per_node = 2"} <= set(head(text))
    assert "tasks_per_node" not in "".join(head(text))


def test_marenostrum_wants_account_and_qos(workdir: Path) -> None:
    done = CliRunner().invoke(cli, ["check", "--site", "marenostrum5-acc", "--gpus", "4", "--", "true"])
    assert done.exit_code == 2
    assert "requires --account" in done.output and "requires --qos" in done.output
    text = render(
        "--site", "marenostrum5-acc", "--gpus", "4", "--account", "bsc28", "--qos", "acc_debug", "--name", "x"
    )
    assert {"#SBATCH --gres=gpu:4", "#SBATCH --cpus-per-task=20", "#SBATCH --account=bsc28"} <= set(head(text))


def test_loadleveler_finds_nodes_with_gpus_by_feature_or_class(workdir: Path) -> None:
    text = render("--site", "generic-loadleveler", "--nodes", "2", "--gpus", "2", "--gpu-type", "k80", "--name", "x")
    wanted = '# @ requirements = (Feature == "gpu") && (Feature == "k80")'
    assert {wanted, "# @ network.MPI = sn_all,not_shared,us", "# @ node_usage = not_shared"} <= set(head(text))
    done = CliRunner().invoke(cli, ["render", "--scheduler", "loadleveler", "--gpus", "2", "--", "true"])
    assert "LoadLeveler has no count of GPUs" in str(done.exception)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheduler", "loadleveler", "--qos", "x"], "queue.qos has no counterpart under loadleveler"),
        (["--scheduler", "loadleveler", "--dependency", "afterok:1"], "queue.dependency has no counterpart"),
        (["--scheduler", "loadleveler", "--mem", "0"], "resources.mem = 0 has no counterpart"),
        (["--scheduler", "loadleveler", "--mail-user", "a@b.c", "--mail-type", "TIME_LIMIT"], "TIME_LIMIT has no"),
        (["--scheduler", "loadleveler", "--launcher", "srun"], "'srun' does not work under loadleveler"),
        (["--scheduler", "loadleveler", "--directive", "--hint=x"], "write keyword = value"),
        (["--scheduler", "loadleveler", "--directive", "queue = x"], "write keyword = value"),
        (["--scheduler", "minotauro", "--mem", "8G"], "resources.mem has no counterpart under minotauro"),
        (["--scheduler", "minotauro", "--signal", "USR1@60"], "queue.signal has no counterpart under minotauro"),
        (["--scheduler", "minotauro", "--launcher", "poe"], "'poe' does not work under minotauro"),
        (["--scheduler", "slurm", "--directive", "rset = x"], "write an option for this queue"),
    ],
)
def test_what_a_queue_lacks_is_refused_by_name(options: list[str], message: str, workdir: Path) -> None:
    done = CliRunner().invoke(cli, ["render", *options, "--", "true"])
    assert message in str(done.exception)


@pytest.mark.parametrize(
    ("mail_type", "word"),
    [
        (None, "complete"),
        ("END", "complete"),
        ("FAIL", "error"),
        ("BEGIN", "start"),
        ("ALL", "always"),
        ("NONE", "never"),
        ("BEGIN,END", "always"),
    ],
)
def test_mail_events_become_loadlevelers_words(mail_type: str | None, word: str, workdir: Path) -> None:
    queue = {"scheduler": "loadleveler", "mail_user": "a@b.c", "mail_type": mail_type}
    spec = JobSpec.from_dict({"name": "x", "command": ["true"], "queue": queue, "launch": {"launcher": "poe"}})
    from hpcsynapse.submission.render import render as render_file

    assert f"# @ notification = {word}\n# @ notify_user = a@b.c\n" in render_file(spec, Path("/r"))
