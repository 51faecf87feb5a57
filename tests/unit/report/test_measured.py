"""What the page says of how figures were measured: what is known of the runs, and the flags that there are."""

import subprocess
from pathlib import Path

from phased_runs import Phased

from hpcsynapse.files import write_json
from hpcsynapse.report.loading import load
from hpcsynapse.report.measured import _CAVEATS, how_measured, title_of
from hpcsynapse.report.points import FLAGS
from hpcsynapse.report.scaling import scaling_report
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec, QueueOptions, SiteSpec, TrainSpec
from hpcsynapse.submission.commit import commit_of


def test_caveats_are_flags() -> None:
    assert set(_CAVEATS) <= set(FLAGS)


def measured(folder: Path, **spec: object) -> dict[str, str]:
    runs = []
    for ranks in (1, 2):
        run = RunDirectory.create(folder, JobSpec(name=f"n-{ranks}", **spec))
        Phased(ranks=ranks, steps=40, facts={"torch": "2.4.0+cu121", "cuda": "12.1"}).write(run.timings)
        write_json(run.submission, {"version": "0.1.0", "commit": "abc-dirty"})
        write_json(run.placement, {"ranks": [{"device_name": "NVIDIA H100"}] * ranks})
        runs.append(load(run))
    return dict(how_measured(scaling_report(runs)))


def test_a_training_is_told_as_a_paper_has_to(tmp_path: Path) -> None:
    site, queue = SiteSpec(name="mn5"), QueueOptions(partition="acc")
    told = measured(tmp_path / "runs", site=site, queue=queue, train=TrainSpec(batch=64, lr=0.1))
    assert told["cluster"] == "mn5, partition acc"
    assert told["batch of a rank"] == "64" and told["learning rate"] == "0.1"
    assert {"torch 2.4.0+cu121", "CUDA 12.1", "hpcsynapse 0.1.0"} <= set(told["software"].split(", "))
    assert "Python 3." in told["software"]
    assert told["code"].startswith("git commit abc-dirty") and "NVIDIA H100" in told["hardware of a rank"]
    assert told["described in"] == ", ".join(f"{tmp_path}/runs/n-{ranks}/run.toml" for ranks in (1, 2))


def test_of_a_program_and_a_study_its_own_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "points").mkdir()
    (tmp_path / "study.toml").touch()
    told = measured(tmp_path / "points", command=("python", "train.py"))
    assert told["command"] == "python train.py" and told["described in"] == f"{tmp_path}/study.toml"
    assert "learning rate" not in told


def test_the_title_of_many_runs_is_short() -> None:
    assert title_of(["a", "/x/b"]) == "a, b"
    assert title_of([f"r{number}" for number in range(9)]) == "r0, r1, r2 and 6 others"


def test_the_commit_says_whether_files_differ(tmp_path: Path) -> None:
    assert commit_of(str(tmp_path)) == ""
    settings = ["-c", "user.name=n", "-c", "user.email=e@x.invalid", "-c", "commit.gpgsign=false"]
    (tmp_path / "f").write_text("1")
    for words in (["init", "-q"], ["add", "f"], ["commit", "-qm", "m"]):
        subprocess.run(["git", *settings, *words], cwd=tmp_path, check=True, timeout=60)
    found = []
    for text in ("1", "2"):
        (tmp_path / "f").write_text(text)
        commit_of.cache_clear()
        found.append(commit_of(str(tmp_path)))
    assert len(found[0]) == 40 and found[1] == f"{found[0]}-dirty"
