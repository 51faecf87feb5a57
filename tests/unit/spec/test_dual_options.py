"""What may be asked of dual nets: two ranks, an engine that sends, options that mean something to the method."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from hpcsynapse.cli import progress
from hpcsynapse.cli.main import cli
from hpcsynapse.errors import SpecError, TrainError
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import DualOptions, TrainSpec
from hpcsynapse.submission.checks import run_checks
from hpcsynapse.submission.resolve import resolve
from hpcsynapse.submission.status import RunStatus


def describe(ranks: int = 2, engine: str = "auto", launcher: str = "auto", **dual) -> JobSpec:
    return JobSpec(
        resources=ResourceRequest(nodes=ranks),
        train=TrainSpec(strategy="admm", engine=engine),
        launch=LaunchOptions(launcher=launcher, emulate=True),
        queue=QueueOptions(scheduler="local"),
        dual=DualOptions(**dual),
    )


@pytest.mark.parametrize("ranks", [1, 3, 4])
def test_two_ranks(ranks: int) -> None:
    with pytest.raises(SpecError, match=rf"'admm' .* 2 ranks, but {ranks} are asked for; use --nodes 2"):
        describe(ranks)


@pytest.mark.parametrize("more", [{"engine": "horovod"}])
def test_engines_that_send_nothing_to_one_rank(more) -> None:
    with pytest.raises(SpecError, match=r"'horovod' sends nothing.*use ddp or mpi"):
        describe(**more)


@pytest.mark.parametrize("launcher", ["auto", "mpirun", "torchrun"])
def test_engine_auto_is_ddp(tmp_path: Path, launcher: str) -> None:
    assert resolve(describe(launcher=launcher), tmp_path).train.engine == "ddp"


def test_horovodrun_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="horovod"):
        resolve(describe(launcher="horovodrun"), tmp_path)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"method": "frozen", "int8_targets": True}, "int8_targets"),
        ({"method": "distance", "one_batch_late": True}, "one_batch_late"),
        ({"method": "distance", "beta": 2.0}, "beta"),
        ({"method": "proximal", "norm": "both"}, "norm"),
        ({"method": "proximal", "beta_growth": 10.0}, "beta_growth"),
        ({"method": "proximal", "beta_step_growth": 1.1}, "beta_step_growth"),
        ({"method": "proximal", "train_at": "target"}, "train_at"),
        ({"method": "admm", "copy_start": "equal"}, "copy_start"),
    ],
)
def test_options_that_mean_nothing_to_the_method(settings, name: str) -> None:
    with pytest.raises(SpecError, match=rf"dual\.{name} = .* means nothing to dual.method = '{settings['method']}'"):
        DualOptions(**settings)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "magic"},
        {"beta": 0.0},
        {"beta": float("nan")},
        {"target_steps": 0},
        {"target_rate": -1.0},
        {"net1_steps": 10**6},
        {"multiplier_damping": 1.5},
        {"beta_growth": 0.5},
        {"beta_step_growth": 0.9},
        {"exchange": "pigeon"},
        {"cut": 3},
    ],
)
def test_limits(wrong) -> None:
    with pytest.raises(SpecError, match=f"dual.{next(iter(wrong))}"):
        DualOptions(**wrong)


@pytest.mark.parametrize("strategy", ["auto", "allreduce", "single"])
def test_options_are_for_admm_alone(strategy: str) -> None:
    with pytest.raises(SpecError, match=rf"dual.int8_targets is for strategy admm, not {strategy}"):
        JobSpec(train=TrainSpec(strategy=strategy), dual=DualOptions(int8_targets=True))
    assert JobSpec(command=("true",), dual=DualOptions(int8_targets=True))


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({}, "admm"),
        ({"method": "frozen"}, "admm+frozen"),
        ({"method": "admm"}, "admm+multipliers"),
        ({"method": "distance", "norm": "both"}, "admm+distance+by-both"),
        ({"net1_steps": 3, "int8_targets": True, "one_batch_late": True}, "admm+steps1,3,1+late+int8"),
        ({"exchange": "files"}, "admm+files"),
        ({"beta": 2.0}, "admm+beta2"),
    ],
)
def test_reports_tell_methods_apart(settings, label: str) -> None:
    assert describe(**settings).label == label
    assert JobSpec(train=TrainSpec(strategy="allreduce")).label == "allreduce"


def test_every_option_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["render", "--emulate", "--nodes", "2", "--strategy", "admm", "--model", "dualnet", "--cut", "pool1"]
    for more in (
        ["--dual-method", "proximal", "--dual-exchange", "files", "--beta", "0.3", "--target-steps", "3",
         "--target-rate", "0.3", "--net1-steps", "3", "--net2-steps", "2", "--int8-targets", "--one-batch-late"],
        ["--dual-method", "admm", "--multiplier-damping", "1", "--beta-growth", "10", "--net2-at", "target"],
        ["--dual-method", "admm", "--beta-step-growth", "1.001"],
        ["--dual-method", "distance", "--distance-norm", "both", "--distance-copy", "equal"],
        ["--dual-method", "frozen"],
    ):  # fmt: skip  # a table
        done = CliRunner().invoke(cli, [*words, *more])
        assert done.exit_code == 0, (done.output, done.exception)


def test_models_that_cannot_be_cut_are_refused_before_queueing(tmp_path: Path) -> None:
    spec = describe()
    for model, level in (("simple-cnn", "error"), ("dualnet", None), ("vgg16", "error")):
        resolved = resolve(replace(spec, train=TrainSpec(strategy="admm", model=model)), tmp_path)
        found = [finding for finding in run_checks(resolved, tmp_path) if "cuts" in finding.message]
        assert [finding.level for finding in found] == ([level] if level else [])
        assert all("use --model dualnet" in finding.message for finding in found)


@pytest.mark.slow
def test_the_table_of_models_that_can_be_cut_is_right() -> None:
    import torch

    from hpcsynapse.trainer import models
    from hpcsynapse.trainer.catalog import MODELS, SEQUENTIAL
    from hpcsynapse.trainer.dual.cut import find_cut

    for name in MODELS:
        with torch.device("meta"):
            model = models.create(name, {})
        first = next(key for key, _ in model.named_children())
        if name in SEQUENTIAL:
            assert find_cut(model, first).place == first
        else:
            with pytest.raises(TrainError, match=r"only a torch\.nn\.Sequential"):
                find_cut(model, first)


@pytest.mark.parametrize(("remark", "shown"), [("collapsed: see there", True), ("", False), (["odd"], False)])
def test_status_shows_a_remark(remark: object, shown: bool) -> None:
    line = progress.describe(RunStatus(name="r", path="/r", state="TRAINING", progress={"step": 3, "remark": remark}))
    assert line == "TRAINING  step 3" + ("  collapsed: see there" if shown else "")
