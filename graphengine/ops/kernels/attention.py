"""Attention as products and kernels over rows: a row is what one query has of all keys.

The scores of a block of queries stand in work memory, queries by keys, and become the weights p where they stand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphengine.ir.kernel import LoopCall, Product, kernel_of
from graphengine.ir.op import Array
from graphengine.ir.vocabulary import exp, log, maximum, plus, share

__all__ = ["Sight", "adjoint_block", "attention_block"]


@dataclass(frozen=True, slots=True)
class Sight:
    """Which of `seen` keys the queries from `start` to `stop` see: all, up to their own place, or as a mask says."""

    start: int
    stop: int
    seen: int
    causal: bool
    mask: Array | None
    """Of bools, [outer, inner, queries, keys], with strides of 0 where it is the same for several."""

    @property
    def numbers(self) -> list[int]:
        """The parameters of the kernels: rows, keys, where queries begin, and how the mask is laid out."""
        strides = [0] * 4 if self.mask is None else list(self.mask.strides)
        return [self.stop - self.start, self.seen, self.start, int(self.causal), int(self.mask is not None), *strides]

    def flags(self, other: Array) -> Array:
        """The mask as bytes from the first of these queries on; `other`, which is then not read, if there is none."""
        return other if self.mask is None else self.mask[:, :, self.start :].view(np.uint8)


def attention_block(
    sight: Sight, y: Array, log_sum: Array, q: Array, k: Array, v: Array, work: Array, factor: float
) -> list[LoopCall]:
    """The calls that compute a block's rows of y and of the logarithms of sums."""
    outer, inner = _ahead(q)
    p = _scores(work, sight, q)
    sizes = [outer, inner, *sight.numbers, log_sum.shape[-1]]
    queries = slice(sight.start, sight.stop)
    return [
        Product(p, q[..., queries, :], k[..., : sight.seen, :].swapaxes(-1, -2), factor),
        (kernel_of(weigh), (p, log_sum, sight.flags(_NONE), -math.inf, *sizes)),
        Product(y[..., queries, :], p, v[..., : sight.seen, :]),
    ]


def adjoint_block(
    sight: Sight,
    bars: Sequence[Array],
    operands: Sequence[Array],
    work: Array,
    slopes: Array,
    factor: float,
    is_first: bool,
) -> list[LoopCall]:
    """The calls that compute a block's rows of q_bar, and its share of k_bar and v_bar, which the first writes."""
    (q_bar, k_bar, v_bar), (y_bar, q, k, v, log_sum, delta) = bars, operands
    outer, inner = _ahead(q)
    p, s = _scores(work, sight, q), _scores(slopes, sight, q)
    sizes = [outer, inner, *sight.numbers, log_sum.shape[-1]]
    queries, keys = slice(sight.start, sight.stop), slice(sight.seen)
    kept = 0.0 if is_first else 1.0
    return [
        Product(p, q[..., queries, :], k[..., keys, :].swapaxes(-1, -2), factor),
        Product(s, y_bar[..., queries, :], v[..., keys, :].swapaxes(-1, -2)),
        (kernel_of(weigh_again), (p, s, log_sum, delta, sight.flags(_NONE), *sizes)),
        Product(q_bar[..., queries, :], s, k[..., keys, :], factor),
        Product(k_bar[..., keys, :], s.swapaxes(-1, -2), q[..., queries, :], factor, kept),
        Product(v_bar[..., keys, :], p.swapaxes(-1, -2), y_bar[..., queries, :], 1.0, kept),
    ]


_NONE = np.zeros(1, np.uint8)
"""In the place of a mask that there is not."""


def _ahead(q: Array) -> tuple[int, int]:
    """The sizes of the axes ahead, as two."""
    *outer, inner = (1, *q.shape[:-2])
    return math.prod(outer), inner


def _scores(work: Array, sight: Sight, q: Array) -> Array:
    """The part of work memory that holds a block's scores, [..., queries, keys]."""
    shape = (*q.shape[:-2], sight.stop - sight.start, sight.seen)
    return work.reshape(-1)[: math.prod(shape)].reshape(shape)


def weigh(
    p: Array,
    log_sum: Array,
    mask: Array,
    lowest: float,
    outer: int,
    inner: int,
    rows: int,
    keys: int,
    start: int,
    causal: int,
    masked: int,
    mask_outer: int,
    mask_inner: int,
    mask_row: int,
    mask_key: int,
    queries: int,
    rank: int,
    ranks: int,
) -> None:
    """Scores become weights that sum to 1, row by row; keys that are not seen get 0. `lowest` is -inf."""
    for line in share(outer * inner * rows, rank, ranks):
        stack = line // rows
        row = line - stack * rows
        seen = start + row + 1 if causal != 0 and start + row + 1 < keys else keys
        first = line * keys
        if masked != 0:
            place = stack // inner * mask_outer + stack % inner * mask_inner + row * mask_row
            for j in range(seen):
                if mask[place + j * mask_key] == 0:
                    p[first + j] = lowest
        top = lowest
        for j in range(seen):
            top = maximum(top, p[first + j])
        shift = 0.0 if top == lowest else top
        total = 0.0
        for j in range(seen):
            power = exp(p[first + j] - shift)
            p[first + j] = power
            total = plus(total, power)
        for j in range(seen, keys):
            p[first + j] = 0.0
        if total == 0.0:
            log_sum[stack * queries + start + row] = 0.0
        else:
            log_sum[stack * queries + start + row] = shift + log(total)
            inverse = 1.0 / total
            for j in range(seen):
                p[first + j] = p[first + j] * inverse


def weigh_again(
    p: Array,
    s: Array,
    log_sum: Array,
    delta: Array,
    mask: Array,
    outer: int,
    inner: int,
    rows: int,
    keys: int,
    start: int,
    causal: int,
    masked: int,
    mask_outer: int,
    mask_inner: int,
    mask_row: int,
    mask_key: int,
    queries: int,
    rank: int,
    ranks: int,
) -> None:
    """Scores become weights by the logarithm of their sum, and s, y_bar_i . v_j, becomes p_ij (s - delta_i)."""
    for line in share(outer * inner * rows, rank, ranks):
        stack = line // rows
        row = line - stack * rows
        seen = start + row + 1 if causal != 0 and start + row + 1 < keys else keys
        first = line * keys
        query = stack * queries + start + row
        shift = log_sum[query]
        less = delta[query]
        for j in range(seen):
            p[first + j] = exp(p[first + j] - shift)
        if masked != 0:
            place = stack // inner * mask_outer + stack % inner * mask_inner + row * mask_row
            for j in range(seen):
                if mask[place + j * mask_key] == 0:
                    p[first + j] = 0.0
        for j in range(seen, keys):
            p[first + j] = 0.0
        for j in range(keys):
            s[first + j] = p[first + j] * (s[first + j] - less)
