"""Whether the learning rate of a run gets to where it is said to fall."""

from __future__ import annotations

from collections.abc import Iterator

from hpcsynapse.findings import Finding
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.optimizer import Span


def check_schedule(spec: JobSpec) -> Iterator[Finding]:
    """Warn of milestones that lie beyond the run, where its length is known before it has read its data."""
    train = spec.train
    span = None if spec.command or not train.milestones else _span(spec)
    if span is None:
        return
    what = "updates of all workers" if span.workers > 1 else "steps"
    for point in span.beyond(train.milestones):
        text = (
            f"milestone {point} lies beyond the run, which ends after {span.last:g} {what}: the learning rate never "
            f"falls there; write it in epochs, such as {max(1, train.epochs // 2)}e, or let the run be longer"
        )
        yield Finding("warning", "schedule", text)


def _span(spec: JobSpec) -> Span | None:
    """Return how long the run will be, or None where only its data tell."""
    train, world = spec.train, spec.resources.world_size
    ranks = 1 if train.strategy in ("admm", "pipeline") else world
    workers = {"ps-async": world, "mixed": spec.resources.nodes}.get(train.strategy, 1)
    batch = train.samples_per_step * ranks
    samples = _samples(spec)
    if samples is None:  # epochs can be compared with epochs, steps with steps
        in_epochs = {str(point).endswith("e") for point in train.milestones}
        known = in_epochs == ({True} if train.steps is None else {False})
        return Span(1, train.steps or train.epochs, batch, workers) if known else None
    each = samples // batch
    return Span(each, train.steps or train.epochs * each, batch, workers) if each else None


def _samples(spec: JobSpec) -> int | None:
    from hpcsynapse.trainer.catalog import DATA

    if spec.train.data not in DATA:
        return None
    given = spec.train.data_args.get("samples") if spec.train.data == "synthetic" else None
    return given if isinstance(given, int) else DATA[spec.train.data].samples
