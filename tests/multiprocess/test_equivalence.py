"""R ranks with batch B reach the parameters of one rank with batch R*B, whatever the engine."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from jobs import Starter, need, parameters

from hpcsynapse import timing
from hpcsynapse.runs import records
from hpcsynapse.runs.directory import RunDirectory

GLOBAL_BATCH = 16
PARAMETERS = 53_002  # simple-cnn on 8x8 images
SETTINGS = {"epochs": 2, "steps": 10, "momentum": 0.9, "weight_decay": 1e-4, "clip_norm": 1.0, "warmup_steps": 3}


@pytest.fixture(scope="session")
def single(references: Starter) -> RunDirectory:
    return references("single", batch=GLOBAL_BATCH, **SETTINGS).succeed()


@pytest.mark.parametrize(
    ("engine", "launcher", "controller", "ranks"),
    [
        ("ddp", "", "gloo", 2),
        ("ddp", "mpirun", "gloo", 4),
        ("mpi", "mpirun", "mpi", 2),
        ("mpi", "mpirun", "mpi", 4),
        ("horovod", "mpirun", "mpi", 2),
        ("horovod", "mpirun", "mpi", 4),
        ("horovod", "horovodrun", "gloo", 2),
    ],
)
def test_parameters_are_those_of_single(
    starter: Starter, single: RunDirectory, engine: str, launcher: str, controller: str, ranks: int
) -> None:
    need(engine)
    job = starter("many", ranks, launcher, engine=engine, batch=GLOBAL_BATCH // ranks, **SETTINGS)
    run = job.succeed()
    expected, found = parameters(single), parameters(run)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text)
    status = job.status()
    assert (status["state"], status["step"], status["engine"], status["controller"]) == (
        "FINISHED",
        10,
        engine,
        controller,
    )
    check_records(run, ranks, engine)
    check_metrics(single, run)


def check_records(run: RunDirectory, ranks: int, engine: str) -> None:
    parts = sorted(records.parts(run.timings), key=lambda part: part.header["rank"])
    assert [part.header["rank"] for part in parts] == list(range(ranks))
    steps = Counter(header["rank"] for header, _ in records.iterate(run.timings))
    for part in parts:
        assert steps[part.header["rank"]] == 10
        assert part.header["engine"] == engine
        assert part.header["communicate"] == ("complete" if engine == "mpi" else "exposed")
        assert part.header["parameters"] == PARAMETERS
    names = [name for name, _, _ in timing.FIELDS]
    for _, record in records.iterate(run.timings):
        values = dict(zip(names, record, strict=True))
        assert values["samples"] == GLOBAL_BATCH // ranks
        assert values["forward"] > 0 < values["backward"]
        assert values["communicate"] >= 0
        assert sum(values[phase] for phase in timing.PHASES) <= values["total"] * 1.001


def check_metrics(single: RunDirectory, run: RunDirectory) -> None:
    expected, found = (each.read_history()[-1]["result"] for each in (single, run))
    assert found["accuracy"] == pytest.approx(expected["accuracy"])
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)


@pytest.mark.parametrize(("engine", "launcher"), [("ddp", ""), ("mpi", "mpirun")])
def test_validation_of_many_ranks_counts_what_one_counts(starter: Starter, engine: str, launcher: str) -> None:
    """Parameters do not change at this rate, so that every sample is judged alike; 21 samples cannot be halved."""
    need(engine)
    data_args = {"shape": [1, 8, 8], "samples": 96, "validation": 21}
    settings = {"batch": 4, "steps": 1, "lr": 1e-30, "seed": 5, "validate_train": True}
    runs = [
        starter(name, ranks, launcher, engine=engine, data_args=data_args, **settings).succeed()
        for name, ranks in (("one", 1), ("two", 2))
    ]
    one, two = (run.read_class_counts() for run in runs)
    assert one is not None
    assert one == two
    assert (one.total, len(one.true)) == (21, 10)
    (alone,), (shared,) = (run.read_metrics() for run in runs)
    assert {"accuracy", "top5_accuracy", "precision", "recall", "f1"} < alone.keys()
    for name in ("accuracy", "top5_accuracy", "precision", "recall", "f1"):
        assert alone[name] == shared[name]
    assert alone["loss"] == pytest.approx(shared["loss"], rel=1e-6)
    assert alone["train_accuracy"] == shared["train_accuracy"]
    assert alone["train_loss"] == pytest.approx(shared["train_loss"], rel=1e-6)


def test_history_tells_the_states(single: RunDirectory) -> None:
    states = [record["state"] for record in single.read_history()]
    assert states[:3] == ["CREATED", "SETUP", "TRAINING"]
    assert {"EVALUATING", "SAVING"} <= set(states)
    assert states[-1] == "FINISHED"


def test_buffers_of_batch_norm_are_averaged(starter: Starter) -> None:
    """Running statistics differ between ranks while training; what is saved and validated is their mean."""
    job = starter(
        "norm",
        2,
        engine="ddp",
        batch=8,
        steps=2,
        model="resnet56",
        model_args={"n": 1},
        seed=3,
        data_args={"shape": [3, 8, 8], "samples": 64, "validation": 9},
    )
    run = job.succeed()
    buffers = {name: value for name, value in parameters(run).items() if "running" in name}
    assert buffers
    assert all(torch.isfinite(value).all() for value in buffers.values())
    assert job.status()["metrics"].keys() == {"accuracy", "loss", "top5_accuracy", "precision", "recall", "f1"}


@pytest.mark.horovod
def test_world_of_one_is_refused(starter: Starter) -> None:
    """mpi4py under `horovodrun --gloo` comes up as a world of one in every process."""
    need("mpi")
    need("horovod")
    job = starter("alone", 2, "horovodrun", engine="mpi", batch=8, steps=2)
    assert any(job.wait())
    assert "a world of one where 2 ranks were asked for" in job.output()


def test_missing_rank_is_named(starter: Starter) -> None:
    run = starter.create("absent", 2, engine="ddp", batch=8, steps=2)
    text = run.run_toml.read_text().replace("start_limit = 200.0", "start_limit = 3.0")
    run.run_toml.write_text(text)
    job = starter.start(run, 2)
    job.processes[1].kill()
    assert job.wait()[0] == 1
    assert "ranks 1 did not come to 127.0.0.1" in job.output()


@pytest.mark.parametrize(("engine", "launcher"), [("ddp", ""), ("mpi", "mpirun"), ("horovod", "mpirun")])
def test_a_smaller_last_step_is_that_of_one_rank(
    starter: Starter, references: Starter, engine: str, launcher: str
) -> None:
    """57 samples and 16 a step: 3 steps of 16 and one of 9, 5 and 4 of them on two ranks; a test at the end."""
    need(engine)
    settings = {
        "epochs": 2,
        "last_batch": "keep",
        "test_share": 0.05,
        "data_args": {"shape": [1, 8, 8], "samples": 60, "validation": 20},
    }
    single = references(f"single-{engine}", batch=16, **settings).succeed()
    run = starter("many", 2, launcher, engine=engine, batch=8, **settings).succeed()
    for name, value in parameters(single).items():
        torch.testing.assert_close(parameters(run)[name], value, rtol=1e-4, atol=1e-6)
    names = [name for name, _, _ in timing.FIELDS]
    taken = [dict(zip(names, record, strict=True))["samples"] for _, record in records.iterate(run.timings)]
    assert sorted(taken) == sorted([8] * 12 + [5, 4] * 2)
    expected, found = (each.read_history()[-1]["result"] for each in (single, run))
    assert found["test_accuracy"] == pytest.approx(expected["test_accuracy"])
