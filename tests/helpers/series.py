"""Series of step times with known statistics."""

import math

import numpy as np


def correlated(rng, shape, correlation, sd):
    """Return normal noise of that standard deviation, a stationary first-order autoregression along the last axis."""
    noise = rng.normal(0, sd, shape)
    shocks = np.sqrt(1 - correlation**2) * noise
    for index in range(1, shape[-1]):
        noise[..., index] = correlation * noise[..., index - 1] + shocks[..., index]
    return noise


def run_of_steps(rng, time, steps=400, correlation=0.8, sd=0.06, stragglers=0.02):
    """Return step times with correlated noise (first-order autoregression) and rare steps twice as long."""
    noise = np.empty(steps)
    value = rng.normal(0, sd)
    for index, shock in enumerate(rng.normal(0, sd * math.sqrt(1 - correlation**2), steps)):
        noise[index] = value = correlation * value + shock
    return time * np.exp(noise) * np.where(rng.random(steps) < stragglers, 2, 1)
