"""Whole runs of the strategies that test_lockstep_strategies.py looks at step by step."""

from __future__ import annotations

import pytest
import torch
from jobs import Starter, need, parameters

from hpcsynapse.runs import records
from hpcsynapse.spec.training import ExchangeOptions


@pytest.mark.parametrize(
    ("strategy", "engine", "launcher", "exchange"),
    [
        ("central", "mpi", "mpirun", ExchangeOptions()),
        ("allreduce-broadcast", "ddp", "", ExchangeOptions(broadcast_optimizer=True)),
        ("local-sgd", "ddp", "", ExchangeOptions(average_every=1)),
    ],
)
def test_a_run_ends_with_the_parameters_of_single(
    starter: Starter, strategy: str, engine: str, launcher: str, exchange: ExchangeOptions
) -> None:
    need(engine)
    settings = {"epochs": 2, "steps": 10, "momentum": 0.0}
    single = starter("single", batch=16, **settings)
    job = starter("many", 2, launcher, exchange=exchange, strategy=strategy, engine=engine, batch=8, **settings)
    expected, found = parameters(single.succeed()), parameters(job.succeed())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    own = next(iter(records.parts(job.run.timings))).header
    complete = "exposed" if strategy == "allreduce-broadcast" else "complete"
    assert (own["strategy"], own["engine"], own["communicate"]) == (strategy, engine, complete)
    assert (job.status()["state"], job.status()["step"]) == ("FINISHED", 10)
    # The last epoch was validated at its end or after the run: the same parameters on the same 20 images.
    results = [job.run.read_history()[-1]["result"] for job in (single, job)]
    assert results[1] == pytest.approx(results[0], rel=1e-3)


def test_overlapped_local_sgd_learns_digits(starter: Starter) -> None:
    """88 steps: seeds 0 to 2 reach 0.939 to 0.950, one process with the batches of both ranks 0.953 to 0.967."""
    options = ExchangeOptions(average_every=4, overlap=True, synchronous_steps=8, compression="fp16")
    job = starter(
        "digits",
        2,
        strategy="local-sgd",
        engine="ddp",
        exchange=options,
        data="digits",
        data_args={"size": 8},
        batch=16,
        epochs=2,
        lr=0.05,
        augment=False,
    )
    job.succeed()
    assert job.run.read_history()[-1]["result"]["accuracy"] > 0.9


def test_a_run_whose_validations_get_no_better_ends_early(starter: Starter) -> None:
    """At a rate of zero none is better than the first: two more, then the end, on both ranks and whole."""
    job = starter("patient", 2, engine="ddp", batch=8, epochs=50, lr=0.0, patience=2)
    run = job.succeed()
    status = job.status()
    assert (status["state"], status["epoch"], status["steps"]) == ("FINISHED", 3, status["step"])
    assert [point["epoch"] for point in run.read_metrics()] == [1, 2, 3]
    assert (run.checkpoints / f"step-{status['step']:09d}.pt").is_file()
