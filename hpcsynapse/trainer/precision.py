"""How a model computes: in which number format, in which layout, compiled or not, and what it keeps for backward.

All of it is applied to the model itself, so that training, validation and every strategy compute alike. Parameters stay
float32, and so do outputs: loss and metrics are computed in full precision, whatever the model computes in.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.step import StepSettings
from hpcsynapse.trainer.data.batches import map_tensors
from hpcsynapse.trainer.recompute import recompute_blocks

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_AMPERE = (8, 0)  # compute capability from which GPUs know tf32 and bf16


def configure(step: StepSettings, device: torch.device) -> None:
    """Set what torch computes float32 in; raises TrainError where the device does not know the format asked for."""
    cuda = device.type == "cuda"
    asked = step.precision == "tf32" or (step.precision == "bf16" and cuda)
    if asked and not (cuda and torch.cuda.get_device_capability(device) >= _AMPERE):
        name = torch.cuda.get_device_name(device) if cuda else "the CPU"
        raise TrainError(f"train.precision = {step.precision!r}: {name} does not compute in it; use fp32")
    if step.precision == "fp16" and not cuda and not hasattr(torch.amp, "GradScaler"):
        raise TrainError(f"train.precision = 'fp16' on a CPU needs torch 2.3; this is {torch.__version__}")
    torch.set_float32_matmul_precision("high" if step.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = step.precision == "tf32"  # torch itself would use it in convolutions, unasked


def make_scaler(step: StepSettings, device: torch.device) -> Any:
    """Return the GradScaler of fp16, or None for formats whose gradients do not vanish."""
    return torch.amp.GradScaler(device.type) if step.precision == "fp16" else None


def apply(model: nn.Module, step: StepSettings, device: torch.device) -> nn.Module:
    """Make a model on its device compute as a description asks, and return it; raises TrainError.

    Names of parameters and buffers do not change, so that checkpoints fit models that compute in another way.
    """
    if step.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's own stub lacks it
    if step.recompute:
        recompute_blocks(model)
    half = HALVES.get(step.precision)
    if half is not None or step.channels_last:
        _wrap(model, device.type, half, step.channels_last)
    if step.compile:
        model.compile()
    return model


def _wrap(model: nn.Module, device_type: str, half: torch.dtype | None, channels_last: bool) -> None:
    """Let `forward` convert what goes in and what comes out."""
    forward = model.forward

    def converted(*inputs: Any, **named: Any) -> Any:
        if channels_last:
            inputs = map_tensors(inputs, _to_channels_last)
        with torch.autocast(device_type, dtype=half, enabled=half is not None):
            output = forward(*inputs, **named)
        return map_tensors(output, _to_full) if half is not None else output

    model.forward = converted


def _to_channels_last(value: Any) -> Any:
    images = isinstance(value, Tensor) and value.dim() == 4
    return value.contiguous(memory_format=torch.channels_last) if images else value


def _to_full(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in HALVES.values() else value
