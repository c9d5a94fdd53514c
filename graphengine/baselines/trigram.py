"""A trigram model of text, smoothed: what a network that predicts characters is measured against.

The smoothing is interpolated Kneser-Ney with three discounts (Chen and Goodman 1999, "An empirical study of smoothing
techniques for language modeling", section 3): from each count a little is taken, and what that frees goes to the model
of one symbol less, whose counts say in how many contexts a symbol was seen, not how often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graphengine.errors import AttributeValueError, ValueRangeError
from graphengine.ir.types import Array

_GREATEST = 512
"""Symbols at most: the table has their number cubed of float64, a gigabyte for this many."""


@dataclass(frozen=True, slots=True)
class Trigram:
    """P(c | a, b), the probability that symbol c follows a and b; `table[a, b]` sums to 1, and nothing in it is 0."""

    table: npt.NDArray[np.float64]

    @staticmethod
    def fit(text: Array, symbols: int) -> Trigram:
        """The model of `text`, numbers in [0, symbols). Raises AttributeValueError or ValueRangeError."""
        if not 1 <= symbols <= _GREATEST:
            raise AttributeValueError(f"a trigram model is made for 1 to {_GREATEST} symbols, not {symbols}")
        _check(text, symbols)
        counts = np.zeros((symbols, symbols, symbols))
        np.add.at(counts, (text[:-2], text[1:-1], text[2:]), 1.0)
        pairs = np.count_nonzero(counts, axis=0).astype(np.float64)
        singles = np.count_nonzero(pairs, axis=0).astype(np.float64)
        one = _smoothed(singles, np.full(symbols, 1 / symbols))
        return Trigram(_smoothed(counts, _smoothed(pairs, one)))

    def bits(self, text: Array) -> float:
        """Bits a symbol that `text` takes: the mean of -log2 P over its symbols from the third on."""
        _check(text, len(self.table))
        return float(-np.mean(np.log2(self.table[text[:-2], text[1:-1], text[2:]])))


def _smoothed(counts: Array, lower: Array) -> Array:
    """P(c | context) from counts[..., c], and from the model `lower` that knows one symbol less of the context."""
    taken = _discounts(counts)[np.minimum(counts, 3).astype(np.int64)]
    total = counts.sum(axis=-1, keepdims=True)
    seen = np.maximum(total, 1)
    freed = np.where(total > 0, taken.sum(axis=-1, keepdims=True) / seen, 1.0)
    return np.asarray((counts - taken) / seen + freed * lower)


def _discounts(counts: Array) -> Array:
    """What is taken from counts of 0, 1, 2, and 3 or more: k - (k + 1) Y n[k+1] / n[k], n[k] the number of counts k.

    Y is n[1] / (n[1] + 2 n[2]), which is taken itself where a small text has too few counts for the formula.
    """
    n = [int(np.count_nonzero(counts == k)) for k in range(5)]
    y = n[1] / (n[1] + 2 * n[2]) if n[1] else 0.5
    estimates = [k - (k + 1) * y * n[k + 1] / n[k] if n[k] else y for k in (1, 2, 3)]
    return np.array([0.0, *(value if 0 < value < k else y for k, value in enumerate(estimates, 1))])


def _check(text: Array, symbols: int) -> None:
    if text.ndim != 1 or len(text) < 3:
        raise ValueRangeError(f"a trigram needs a text of at least 3 symbols, not shape {list(text.shape)}")
    if text.min() < 0 or text.max() >= symbols:
        raise ValueRangeError(f"symbols lie in [0, {symbols}), and the text has {text.min()}..{text.max()}")
