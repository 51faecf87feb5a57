"""How a step of the built-in trainer is computed: number format, parts, compilation, layout, memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hpcsynapse.fields import at_least, setting

# Strategies whose ranks see the same averaged gradient, and so agree on when fp16 has overflowed.
_SCALABLE = ("auto", "single", "allreduce", "allreduce-broadcast")


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """How a step is computed; settings of `[train]`."""

    precision: str = setting(
        "fp32",
        "number format of the computation; parameters stay fp32 (tf32: GPUs; bf16, fp16: autocast)",
        choices=("fp32", "tf32", "bf16", "fp16"),
    )
    accumulate: int = setting(
        1, "batches whose gradients a rank adds up in a step before they are exchanged", check=at_least(1, 65536)
    )
    compile: bool = setting(False, "compile the model with torch.compile")
    channels_last: bool = setting(False, "keep images and filters with their channels last in memory")
    recompute: bool = setting(False, "compute activations inside the model's blocks twice instead of keeping them")

    microbatches: int = setting(4, "pipeline: parts of a batch that flow one after another", check=at_least(1, 65536))
    pipeline_schedule: str = setting(
        "1f1b", "pipeline: gpipe keeps all parts, 1f1b as many as there are stages", choices=("gpipe", "1f1b")
    )

    def pipeline_conflicts(self, batch: int, world: int) -> Iterator[str]:
        """Yield why a batch cannot flow through as many stages as there are ranks, if it cannot."""
        if world < 2:
            yield "train.strategy = 'pipeline' needs a rank for each of at least two stages; use --ranks-per-node 2"
        if batch % self.microbatches:
            yield f"train.batch = {batch} is not divisible by train.microbatches = {self.microbatches}"
        if self.pipeline_schedule == "1f1b" and self.microbatches < world:
            yield (
                f"train.microbatches = {self.microbatches} are fewer than the {world} stages, which "
                "train.pipeline_schedule = '1f1b' keeps busy; use more, or gpipe"
            )

    def step_conflicts(self, strategy: str, compression: str, on_cpu: bool) -> Iterator[str]:
        """Yield why strategy, compression of gradients and device cannot do what is asked for, if they cannot."""
        if self.precision == "tf32" and on_cpu:
            yield "train.precision = 'tf32' is a format of GPUs, and this run computes on CPUs; use fp32 or bf16"
        if self.precision == "fp16" and strategy not in _SCALABLE:
            yield (
                f"train.precision = 'fp16' does not go with strategy {strategy}, whose ranks cannot agree on "
                "the scale of the loss; use bf16"
            )
        if self.precision == "fp16" and compression != "none":
            yield (
                f"train.precision = 'fp16' needs gradients that may overflow, which exchange.compression = "
                f"{compression!r} hides; use bf16"
            )
        if self.recompute and self.compile:
            yield "train.recompute does not go with train.compile, which decides by itself what is kept"
        if strategy in ("admm", "pipeline"):
            changed = {
                "precision": self.precision in ("bf16", "fp16"),
                "accumulate": self.accumulate > 1,
                "compile": self.compile,
                "recompute": self.recompute,
            }
            yield from (
                f"train.{name} does not go with strategy {strategy}" for name, asked in changed.items() if asked
            )
