"""Attention as products and kernels over rows: a row is what one query has of all keys.

The scores of a block of queries are in work memory, queries by keys, and become the weights p in place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphengine.backends.native.fusion.loops import pointwise_loops
from graphengine.backends.native.kernel import LoopCall, Product, Read, kernel_of
from graphengine.backends.native.lowering.reductions import joined
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.backends.native.vocabulary import exp, log, maximum, plus, share
from graphengine.ir.types import Array
from graphengine.ops.attention import Attention, AttentionAdjoint, Block, Scores, turned
from graphengine.ops.elementwise import Add
from graphengine.ops.support.layout import starts


@register_lowering(Attention)
def lower_attention(op: Attention, out: Any, *operands: Array, scratch: Sequence[Array]) -> Calls:
    """The blocks of queries, one after the other: each computes its rows of y and of the logarithms of sums."""
    (y, log_sum), (q, k, v, *mask) = out, operands
    calls: Calls = []
    for block in op.blocks(q.shape[-2], k.shape[-2]):
        p = _scores(scratch[3], block, q)
        calls = joined(
            calls,
            [
                Product(p, block.queries(q), turned(block.keys(k)), op.factor(q.shape[-1])),
                (kernel_of(weigh), (p, log_sum, *_rows(op, block, q, k, *mask), -math.inf)),
            ],
            _weighted(op.hides(*mask), block.queries(y), p, block.keys(v)),
        )
    return calls


@register_lowering(AttentionAdjoint)
def lower_adjoint(op: AttentionAdjoint, out: Any, *operands: Array, scratch: Sequence[Array]) -> Calls:
    """The blocks of queries, one after the other; what the first gives to k_bar and v_bar, the others add to."""
    (q_bar, k_bar, v_bar), (y_bar, q, k, v, log_sum, delta, *mask) = out, operands
    if not (log_sum.flags.c_contiguous and delta.flags.c_contiguous):
        return None
    hides, factor = op.hides(*mask), op.factor(q.shape[-1])
    calls: Calls = []
    for block in op.blocks(q.shape[-2], k.shape[-2]):
        p, s = _scores(scratch[5], block, q), _scores(scratch[3], block, q)
        keys, values = block.keys(k), block.keys(v)
        queries, slopes = block.queries(q), block.queries(y_bar)
        k_contribution, v_contribution = map(block.keys, scratch[:2]) if calls else (None, None)
        calls = joined(
            calls,
            [
                Product(p, queries, turned(keys), factor),
                Product(s, slopes, turned(values)),
                (kernel_of(weigh_by_sum), (p, s, log_sum, delta, *_rows(op, block, q, k, *mask))),
            ],
            _weighted(hides, block.queries(q_bar), s, keys, factor),
            _weighted(hides, block.keys(k_bar), turned(s), queries, factor, k_contribution),
            _weighted(hides, block.keys(v_bar), turned(p), slopes, 1.0, v_contribution),
        )
    return calls


def _scores(work: Array, block: Block, q: Array) -> Array:
    """The part of work memory that holds a block's scores, [..., queries, keys]."""
    shape = (*q.shape[:-2], block.count, block.seen)
    return work.reshape(-1)[: math.prod(shape)].reshape(shape)


def _rows(op: Scores, block: Block, q: Array, k: Array, *mask: Array) -> tuple[Array, Array]:
    """What kernels are told of a block's rows: the mask as bytes; sizes, and where each matrix of the mask begins."""
    *ahead, queries, _ = q.shape
    whole = np.broadcast_to(mask[0] if mask else np.False_, (*ahead, queries, k.shape[-2]))
    seen = block.queries(whole).view(np.uint8)
    sizes = math.prod(ahead), block.count, block.seen, block.start, queries, op.causal, bool(mask), *seen.strides[-2:]
    return seen, np.array([*sizes, *starts(seen)], np.int64)


def _weighted(
    hides: bool, out: Array, weights: Array, x: Array, factor: float = 1.0, contribution: Array | None = None
) -> Calls:
    """The calls that write factor * weights @ x into `out`, or into `contribution` and add that to `out`.

    Where something is hidden, a weight of 0 takes nothing of x, be it infinite or NaN.
    """
    if not hides:
        return [Product(out, weights, x, factor, 0.0 if contribution is None else 1.0)]
    result = out if contribution is None else contribution
    begins = [begin for array in (result, weights, x) for begin in starts(array)]
    steps = [stride // array.itemsize for array in (result, weights, x) for stride in array.strides[-2:]]
    sizes = np.array([len(begins) // 3, *out.shape[-2:], x.shape[-2], *steps, *begins], np.int64)
    calls: list[LoopCall] = [
        Product(result, weights, x, factor),
        (kernel_of(mend), (result, weights, x, sizes, factor)),
    ]
    return calls if contribution is None else joined(calls, pointwise_loops(Add(), out, (out, contribution)))


def weigh(p: Array, log_sum: Array, mask: Read, sizes: Read, lowest: float, rank: int, ranks: int) -> None:
    """Scores become weights that sum to 1, row by row; keys that are not seen get 0. `lowest` is -inf."""
    stacks, rows, keys, start, queries = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    is_causal, is_masked, mask_row, mask_key = sizes[5], sizes[6], sizes[7], sizes[8]
    for line in share(stacks * rows, rank, ranks):
        stack = line // rows
        row = line - stack * rows
        query = stack * queries + start + row
        seen = start + row + 1 if is_causal != 0 and start + row + 1 < keys else keys
        first = line * keys
        if is_masked != 0:
            begin = sizes[9 + stack] + row * mask_row
            for j in range(seen):
                if mask[begin + j * mask_key] == 0:
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
            log_sum[query] = 0.0
        else:
            log_sum[query] = shift + log(total)
            inverse = 1.0 / total
            for j in range(seen):
                p[first + j] = p[first + j] * inverse


def weigh_by_sum(
    p: Array, s: Array, log_sum: Read, delta: Read, mask: Read, sizes: Read, rank: int, ranks: int
) -> None:
    """Scores become weights by the logarithm of their sum, and s, y_bar_i . v_j, becomes p_ij (s - delta_i)."""
    stacks, rows, keys, start, queries = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    is_causal, is_masked, mask_row, mask_key = sizes[5], sizes[6], sizes[7], sizes[8]
    for line in share(stacks * rows, rank, ranks):
        stack = line // rows
        row = line - stack * rows
        query = stack * queries + start + row
        seen = start + row + 1 if is_causal != 0 and start + row + 1 < keys else keys
        first = line * keys
        shift, less = log_sum[query], delta[query]
        for j in range(seen):
            p[first + j] = exp(p[first + j] - shift)
        if is_masked != 0:
            begin = sizes[9 + stack] + row * mask_row
            for j in range(seen):
                if mask[begin + j * mask_key] == 0:
                    p[first + j] = 0.0
        for j in range(seen, keys):
            p[first + j] = 0.0
        if is_causal != 0 or is_masked != 0:
            for j in range(keys):
                s[first + j] = 0.0 if p[first + j] == 0.0 else p[first + j] * (s[first + j] - less)
        else:
            for j in range(keys):
                s[first + j] = p[first + j] * (s[first + j] - less)


def mend(out: Array, weights: Read, x: Read, sizes: Read, factor: float, rank: int, ranks: int) -> None:
    """The rows of out = factor * weights @ x that are not finite, again: a weight of 0 takes nothing of x."""
    stacks, rows, width, count, out_row, out_column = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    weights_row, weights_column, x_row, x_column = sizes[6], sizes[7], sizes[8], sizes[9]
    for line in share(stacks * rows, rank, ranks):
        stack = line // rows
        row = line - stack * rows
        begin = sizes[10 + stack] + row * out_row
        wrong = 0
        for column in range(width):
            value = out[begin + column * out_column]
            wrong = wrong + (0 if value - value == 0.0 else 1)
        first = sizes[10 + stacks + stack] + row * weights_row
        x_first = sizes[10 + 2 * stacks + stack]
        for column in range(width if wrong != 0 else 0):
            total = 0.0
            for j in range(count):
                weight = weights[first + j * weights_column]
                term = weight * x[x_first + j * x_row + column * x_column]
                total = plus(total, 0.0 if weight == 0.0 else term)
            out[begin + column * out_column] = factor * total
