"""Jobs of BK.Synapse as run descriptions: what their keys become, where their names lead, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcsynapse.cli.options import split_words
from hpcsynapse.errors import SpecError
from hpcsynapse.spec import bksynapse
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.settings import load
from hpcsynapse.submission.resolve import resolve

JOB: dict[str, Any] = {
    "backend": "pytorch",
    "model": "retinanet",
    "dataset": "receipts",
    "dataLoader": "coco",
    "valDataset": "receipts-val",
    "valDataLoader": "coco-val",
    "epochs": 10,
    "batchSize": 2,
    "optimizer": "adam",
    "learningRate": 0.001,
    "snapshotInterval": 2,
    "gradNorm": 0.1,
    "nodeType": "gpu",
    "nodes": [{"name": "gtx1080ti"}, {"name": "gtx1080"}],
}
LEAST = {"model": "./m", "dataset": "./d", "dataLoader": "./l"}


def described(folder: Path, job: Any, options: dict[str, Any] | None = None) -> JobSpec:
    path = folder / "config.json"
    path.write_text(job if isinstance(job, str) else json.dumps(job))
    return load(path, options)


def test_every_key(workdir: Path) -> None:
    spec = described(workdir, JOB)
    train = spec.train
    assert (train.model, train.data, train.data_path) == ("store:retinanet", "store:coco", "store:receipts")
    assert train.data_args == {"val_path": "store:receipts-val", "val_loader": "store:coco-val"}
    assert (train.epochs, train.batch, train.optimizer, train.lr) == (10, 2, "adam", 0.001)
    assert (train.checkpoint_every, train.keep_checkpoints, train.clip_norm) == (2, 10, 0.1)
    assert (train.momentum, train.lr_scaling) == (0.0, "linear")
    assert (spec.resources.nodes, spec.resources.gpus, spec.resources.world_size) == (2, 1, 2)


def test_what_is_left_out_is_as_it_was_there(workdir: Path) -> None:
    spec = described(workdir, LEAST)
    train = spec.train
    assert (train.model, train.data, train.data_path, train.data_args) == ("./m", "./l", "./d", {})
    assert (train.epochs, train.batch, train.optimizer, train.lr) == (50, 32, "sgd", 0.001)
    assert (train.checkpoint_every, train.clip_norm, train.momentum) == (5, None, 0.0)
    assert (spec.resources.nodes, spec.resources.gpus) == (1, 0)


def test_the_command_line_comes_last(workdir: Path) -> None:
    assert split_words(["config.json"]) == (Path("config.json"), [])
    spec = described(workdir, JOB, {"resources": {"gpus": 4}, "train": {"lr": 0.5}})
    assert (spec.resources.world_size, spec.train.lr, spec.train.batch) == (8, 0.5, 2)


@pytest.mark.parametrize(
    ("nodes", "count"), [([], 1), (["a"], 1), (["a", "b"], 2), ([{"name": "a", "address": "1.2.3.4"}, "b"], 2), (3, 3)]
)
def test_nodes(workdir: Path, nodes: Any, count: int) -> None:
    assert described(workdir, {**LEAST, "nodes": nodes}).resources.nodes == count


def test_names_lead_into_the_data_root_of_the_job(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, other = workdir / "root", workdir / "other"
    for place in (
        root / "models" / "retinanet",
        root / "dataloaders" / "coco",
        other / "datasets" / "receipts",
        root / "jobs" / "7f",
    ):
        place.mkdir(parents=True)
    monkeypatch.setenv("BKSYN_DATA_ROOT", str(other))
    train = described(root / "jobs" / "7f", JOB).train
    assert (train.model, train.data) == (str(root / "models" / "retinanet"), str(root / "dataloaders" / "coco"))
    assert train.data_path == str(other / "datasets" / "receipts")
    assert train.data_args["val_path"] == "store:receipts-val"
    elsewhere = described(workdir, JOB).train
    assert (elsewhere.model, elsewhere.data_path) == ("store:retinanet", train.data_path)
    (workdir / "retinanet").mkdir()
    assert described(workdir, JOB).train.model == str(workdir / "retinanet")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batchsize": 3}, ["config.json", "unknown key 'batchsize'", "'batchSize'"]),
        ({"batchSize": "3"}, ["config.json: batchSize = '3'", "whole number"]),
        ({"batchSize": True}, ["batchSize = True", "whole number"]),
        ({"batchSize": 0}, ["train.batch = 0"]),
        ({"epochs": 1.5}, ["epochs = 1.5", "whole number"]),
        ({"learningRate": "fast"}, ["learningRate = 'fast'", "a number"]),
        ({"learningRate": -1}, ["train.lr = -1"]),
        ({"optimizer": "lbfgs"}, ["train.optimizer = 'lbfgs'", "rmsprop"]),
        ({"gradNorm": -0.1}, ["train.clip_norm = -0.1"]),
        ({"snapshotInterval": -1}, ["train.checkpoint_every = -1"]),
        ({"nodeType": "tpu"}, ["nodeType = 'tpu'", "cpu, gpu"]),
        ({"backend": "tensorflow"}, ["backend = 'tensorflow'", "pytorch"]),
        ({"nodes": {"a": 1}}, ["nodes = ", "list of nodes"]),
        ({"nodes": [1]}, ["nodes = [1]", "list of nodes"]),
        ({"nodes": ["a", "a"]}, ["nodes names 'a' twice"]),
        ({"nodes": -1}, ["resources.nodes = -1"]),
        ({"model": None}, ["model is missing"]),
        ({"dataLoader": ""}, ["dataLoader is missing"]),
        ({"dataset": 5}, ["dataset = 5", "text"]),
        ({"model": "a\nb"}, ["control character"]),
    ],
)
def test_what_cannot_be_meant(workdir: Path, change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        described(workdir, {**LEAST, **change})
    for word in words:
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[]", "an object with keys, not list"),
        ("{", "not JSON"),
        ("5", "not int"),
        ("[" * 100_000, "not JSON"),
        (" " * (2**20 + 1), "more than"),
        ('{"model": NaN, "dataset": "d", "dataLoader": "l"}', "model = nan"),
    ],
)
def test_what_is_no_job(workdir: Path, text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        described(workdir, text)


def test_a_file_that_is_not_there(workdir: Path) -> None:
    with pytest.raises(SpecError, match=r"absent\.json: No such file"):
        load(workdir / "absent.json")


_ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=4,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(JOB)), _ANYTHING)
def test_any_value_is_taken_or_refused(workdir: Path, key: str, value: Any) -> None:
    try:
        spec = described(workdir, {**JOB, key: value})
    except SpecError as error:
        assert str(error)
    else:
        assert JobSpec.from_dict(spec.to_dict()) == spec


def test_the_docstring_names_every_key() -> None:
    for key in set(JOB) - {"backend"}:
        assert f"`{key}`" in (bksynapse.__doc__ or "")


def test_a_job_of_the_old_store_is_ready_to_run(workdir: Path) -> None:
    """Its folders as BK.Synapse left them: code in `src`, metadata beside it."""
    for place, name, text in (
        ("models/m", "bks_model", "class UserModel: pass"),
        ("dataloaders/l", "bks_dataset", "class UserDataset: pass"),
    ):
        (workdir / "root" / place / "src").mkdir(parents=True)
        (workdir / "root" / place / ".bks.meta").write_text("{}")
        (workdir / "root" / place / "src" / f"{name}.py").write_text(text)
    (workdir / "root" / "datasets" / "d").mkdir(parents=True)
    job = workdir / "root" / "jobs" / "j"
    job.mkdir(parents=True)
    names = {"model": "m", "dataset": "d", "dataLoader": "l", "valDataset": "d", "valDataLoader": "l"}
    spec = described(job, names, {"queue": {"scheduler": "local"}})
    from hpcsynapse.submission import checks

    resolved = resolve(spec, workdir / "runs")
    assert [finding for finding in checks.run_checks(resolved, workdir / "runs") if finding.level == "error"] == []
