"""One quantity of a run over its steps or its time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Series:
    """One quantity over a run: arrays of one length, by step; times are Unix times, no value is nan or infinite."""

    name: str
    steps: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
