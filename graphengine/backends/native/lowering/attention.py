"""Attention as products and kernels over rows: a row is what one query has of all keys.

The scores of a block of queries stand in work memory, queries by keys, and become the weights p where they stand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphengine.backends.native.kernel import LoopCall, Product, kernel_of
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.backends.native.vocabulary import exp, log, maximum, plus, share
from graphengine.ir.types import Array
from graphengine.ops.attention import Attention, AttentionAdjoint
from graphengine.ops.scores import Scores


@register_lowering(Attention)
def lower_attention(op: Attention, out: Any, *operands: Array, scratch: Sequence[Array]) -> Calls:
    """The blocks of queries, one after the other."""
    (y, log_sum), (q, k, v, *mask) = out, operands
    if q.ndim > 4:
        return None
    calls: list[LoopCall] = []
    for sight in _sights(op, q, k, *mask):
        calls += _attention_block(sight, y, log_sum, q, k, v, scratch[3], op.factor(q.shape[-1]))
    return calls


@register_lowering(AttentionAdjoint)
def lower_adjoint(op: AttentionAdjoint, out: Any, *operands: Array, scratch: Sequence[Array]) -> Calls:
    """The blocks of queries, one after the other; what the first gives to k_bar and v_bar, the others add to."""
    *arrays, log_sum, delta = operands[:6]
    _, q, k, _ = arrays
    if not (log_sum.flags.c_contiguous and delta.flags.c_contiguous) or q.ndim > 4:
        return None
    calls: list[LoopCall] = []
    for sight in _sights(op, q, k, *operands[6:]):
        shares = scratch[:2] if calls else None
        calls += _adjoint_block(sight, out, operands[:6], scratch[5], scratch[3], op.factor(q.shape[-1]), shares)
    return calls


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
    def hides(self) -> bool:
        """Whether there may be keys that a query does not see."""
        return self.causal or self.mask is not None

    @property
    def numbers(self) -> list[int]:
        """The parameters of the kernels: rows, keys, where queries begin, and how the mask is laid out."""
        strides = [0] * 4 if self.mask is None else list(self.mask.strides)
        return [self.stop - self.start, self.seen, self.start, int(self.causal), int(self.mask is not None), *strides]

    def flags(self, other: Array) -> Array:
        """The mask as bytes from the first of these queries on; `other`, which is then not read, if there is none."""
        return other if self.mask is None else self.mask[:, :, self.start :].view(np.uint8)


def _sights(op: Scores, q: Array, k: Array, mask: Array | None = None) -> list[Sight]:
    """What the queries of each block see."""
    queries, keys = q.shape[-2], k.shape[-2]
    if mask is not None:
        outer, inner = math.prod(q.shape[:-3]), q.shape[-3] if q.ndim > 2 else 1
        mask = np.broadcast_to(mask, (*q.shape[:-2], queries, keys)).reshape(outer, inner, queries, keys)
    return [Sight(block.start, block.stop, block.seen, op.causal, mask) for block in op.blocks(queries, keys)]


def _attention_block(
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
        *_weighted(sight, y[..., queries, :], p, v[..., : sight.seen, :]),
    ]


def _adjoint_block(
    sight: Sight,
    bars: Sequence[Array],
    operands: Sequence[Array],
    work: Array,
    slopes: Array,
    factor: float,
    shares: Sequence[Array] | None,
) -> list[LoopCall]:
    """The calls that compute a block's rows of q_bar, and k_bar and v_bar, or their `shares` and add these."""
    (q_bar, k_bar, v_bar), (y_bar, q, k, v, log_sum, delta) = bars, operands
    outer, inner = _ahead(q)
    p, s = _scores(work, sight, q), _scores(slopes, sight, q)
    sizes = [outer, inner, *sight.numbers, log_sum.shape[-1]]
    queries, keys = slice(sight.start, sight.stop), slice(sight.seen)
    q, y_bar, k, v = q[..., queries, :], y_bar[..., queries, :], k[..., keys, :], v[..., keys, :]
    k_share, v_share = (None, None) if shares is None else [share_[..., keys, :] for share_ in shares]
    return [
        Product(p, q, k.swapaxes(-1, -2), factor),
        Product(s, y_bar, v.swapaxes(-1, -2)),
        (kernel_of(weigh_again), (p, s, log_sum, delta, sight.flags(_NONE), *sizes)),
        *_weighted(sight, q_bar[..., queries, :], s, k, factor),
        *_weighted(sight, k_bar[..., keys, :], s.swapaxes(-1, -2), q, factor, k_share),
        *_weighted(sight, v_bar[..., keys, :], p.swapaxes(-1, -2), y_bar, 1.0, v_share),
    ]


def _weighted(
    sight: Sight, out: Array, weights: Array, x: Array, factor: float = 1.0, share_: Array | None = None
) -> list[LoopCall]:
    """The calls that write factor * weights @ x into `out`, or by way of `share_` add it to what stands there.

    Where something is hidden, a weight of 0 takes nothing of x, be it infinite or NaN.
    """
    if not sight.hides:
        return [Product(out, weights, x, factor, 0.0 if share_ is None else 1.0)]
    found = out if share_ is None else share_
    sizes = [*_ahead(out), out.shape[-2], out.shape[-1]]
    strides = [*_strides(found), *_strides(weights), *_strides(x)]
    calls: list[LoopCall] = [
        Product(found, weights, x, factor),
        (kernel_of(mend), (found, weights, x, factor, *sizes, x.shape[-2], *strides)),
    ]
    if share_ is not None:
        calls.append((kernel_of(add_rows), (out, share_, *sizes, *_strides(out), *_strides(share_))))
    return calls


def _strides(x: Array) -> list[int]:
    """The strides of x, which has up to four axes, as those of four."""
    return [0] * (4 - x.ndim) + [stride // x.itemsize for stride in x.strides]


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
        if causal != 0 or masked != 0:
            for j in range(keys):
                s[first + j] = 0.0 if p[first + j] == 0.0 else p[first + j] * (s[first + j] - less)
        else:
            for j in range(keys):
                s[first + j] = p[first + j] * (s[first + j] - less)


def mend(
    out: Array,
    weights: Array,
    x: Array,
    factor: float,
    outer: int,
    inner: int,
    rows: int,
    width: int,
    count: int,
    out_outer: int,
    out_inner: int,
    out_row: int,
    out_column: int,
    weights_outer: int,
    weights_inner: int,
    weights_row: int,
    weights_column: int,
    x_outer: int,
    x_inner: int,
    x_row: int,
    x_column: int,
    rank: int,
    ranks: int,
) -> None:
    """The rows of out = factor * weights @ x that are not finite, again: a weight of 0 takes nothing of x."""
    for line in share(outer * inner * rows, rank, ranks):
        stack = line // rows
        row = line - stack * rows
        place = stack // inner * out_outer + stack % inner * out_inner + row * out_row
        wrong = 0
        for column in range(width):
            value = out[place + column * out_column]
            wrong = wrong + (0 if value - value == 0.0 else 1)
        first = stack // inner * weights_outer + stack % inner * weights_inner + row * weights_row
        start = stack // inner * x_outer + stack % inner * x_inner
        for column in range(width if wrong != 0 else 0):
            total = 0.0
            for j in range(count):
                weight = weights[first + j * weights_column]
                term = weight * x[start + j * x_row + column * x_column]
                total = plus(total, 0.0 if weight == 0.0 else term)
            out[place + column * out_column] = factor * total


def add_rows(
    out: Array,
    x: Array,
    outer: int,
    inner: int,
    rows: int,
    width: int,
    out_outer: int,
    out_inner: int,
    out_row: int,
    out_column: int,
    x_outer: int,
    x_inner: int,
    x_row: int,
    x_column: int,
    rank: int,
    ranks: int,
) -> None:
    """out += x."""
    for line in share(outer * inner * rows, rank, ranks):
        stack = line // rows
        row = line - stack * rows
        place = stack // inner * out_outer + stack % inner * out_inner + row * out_row
        start = stack // inner * x_outer + stack % inner * x_inner + row * x_row
        for column in range(width):
            out[place + column * out_column] += x[start + column * x_column]
