"""Invented centres under a real Slurm: sbatch judges their job files, and runs there have what the site says."""

import pytest
from invented_sites import invented_sites, write_site
from researcher import TELL

pytestmark = pytest.mark.lab

SITES = {name: expected for name, expected in invented_sites().items() if expected.lab}


@pytest.mark.parametrize("name", SITES)
def test_sbatch_takes_the_job_file(user, name):
    done = user.attempt("check", "--site", write_site(name, user.folder), "--nodes", "2", "--gpus", "2", "--", "true")
    assert done.returncode == SITES[name].exit_code, done.stdout + done.stderr
    assert done.returncode or "slurm accepts it" in done.stdout


def test_ranks_use_the_gpus_of_their_nodes_where_the_queue_counts_none(user):
    user.script("tell.py", TELL)
    site = write_site("whole-nodes-without-gres", user.folder)
    run, done = user.follow(
        "--site", site, "--nodes", "2", "--gpus", "2", "--pin", "visible", "--name", "none", "--", "python", "tell.py"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [one["env"]["CUDA_VISIBLE_DEVICES"] for one in run.by_rank(4)] == ["0", "1", "0", "1"]


def test_ranks_have_the_jobs_variables_where_nothing_of_the_login_shell_arrives(user):
    user.script("tell.py", TELL)
    site = write_site("export-none", user.folder)
    run, done = user.follow(
        "--site",
        site,
        "--nodes",
        "2",
        "--gpus",
        "1",
        "--env",
        "FOO=bar",
        "--name",
        "bare",
        "--",
        str(user.env["PATH"].partition(":")[0]) + "/python",
        "tell.py",
        env={"OF_LOGIN": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for one in run.by_rank(2):
        assert one["env"]["FOO"] == "bar" and "OF_LOGIN" not in one["env"]


def test_a_run_without_the_mandatory_account_is_not_queued_and_with_it_it_is_done(user):
    site = write_site("mandatory-account", user.folder)
    done = user.attempt("submit", "--site", site, "--name", "poor", "--", "true")
    assert done.returncode and "requires --account" in done.stderr
    _, done = user.follow("--site", site, "--account", "proj", "--name", "rich", "--", "true")
    assert done.returncode == 0, done.stdout + done.stderr
