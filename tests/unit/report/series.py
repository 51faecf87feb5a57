"""Series of step times with known statistics."""

import numpy as np


def correlated(rng, shape, correlation, sd):
    """Return normal noise of that standard deviation, a stationary first-order autoregression along the last axis."""
    noise = rng.normal(0, sd, shape)
    shocks = np.sqrt(1 - correlation**2) * noise
    for index in range(1, shape[-1]):
        noise[..., index] = correlation * noise[..., index - 1] + shocks[..., index]
    return noise
