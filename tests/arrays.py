"""Arrays for cases: drawn from a fixed seed, so that a case is the same in every run."""

import math

import numpy as np


def f64(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0) -> np.ndarray:
    """Distinct floats of [low, high), at least 1e-3 away from 0, +-1 and each other (while there are few)."""
    generator = np.random.default_rng([seed, *shape])
    size = math.prod(shape)
    values = low + (high - low) * (np.arange(size) + 0.5) / max(size, 1)
    for kink in (-1.0, 0.0, 1.0):
        values[np.abs(values - kink) < 1e-3] += 2e-3
    return generator.permutation(values).reshape(shape)


def i64(*shape: int, high: int, seed: int = 0) -> np.ndarray:
    """Integers of [0, high)."""
    return np.random.default_rng([seed, *shape]).integers(0, high, shape)


def boolean(*shape: int, seed: int = 0) -> np.ndarray:
    """True and False."""
    return np.random.default_rng([seed, *shape]).integers(0, 2, shape).astype(bool)
