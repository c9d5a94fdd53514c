"""Principal components: the best linear code of a given size, which an autoencoder is measured against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphengine.errors import AttributeValueError
from graphengine.ir.types import Array


@dataclass(frozen=True, slots=True)
class PrincipalComponents:
    """The directions of greatest variance: `components` are orthonormal rows, from the greatest on.

    Of all maps to a code of that size and back that are affine, this one has the least squared error on the examples
    that it is fitted to (Eckart and Young 1936).
    """

    mean: Array
    components: Array

    @staticmethod
    def fit(examples: Array, size: int) -> PrincipalComponents:
        """The `size` first components of `examples`, one a row, by singular values. Raises AttributeValueError."""
        if examples.ndim != 2 or not 1 <= size <= min(examples.shape):
            raise AttributeValueError(f"examples of shape {list(examples.shape)} have no {size} principal components")
        mean = examples.mean(axis=0, dtype=np.float64)
        rows = np.linalg.svd(examples - mean, full_matrices=False)[2]
        return PrincipalComponents(mean, rows[:size])

    def encode(self, examples: Array) -> Array:
        """The codes of examples, one a row."""
        return np.asarray((examples - self.mean) @ self.components.T)

    def decode(self, codes: Array) -> Array:
        """The examples that codes stand for."""
        return np.asarray(codes @ self.components + self.mean)

    def error(self, examples: Array) -> float:
        """The mean over all elements of (decode(encode(x)) - x)^2."""
        return float(np.mean((self.decode(self.encode(examples)) - examples) ** 2))
