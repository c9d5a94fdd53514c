"""Scaled dot-product attention (Vaswani et al. 2017), whole or by blocks of queries.

The scores, queries by keys, are work of the kernel and are not kept for the backward pass, which makes them again from
q, k and the logarithm of each query's sum (Rabe and Staats 2021; Dao et al. 2022). With `block`, only so many rows of
them stand in memory at a time. A block has the whole rows of its queries, so none needs a running greatest or sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from graphengine.errors import ShapeError
from graphengine.ir.node import Node, apply
from graphengine.ir.op import Call, GetItem
from graphengine.ir.pullback import pullback
from graphengine.ir.types import Array, TensorType, TupleType
from graphengine.ops.activation import identity
from graphengine.ops.broadcast import dim_size, full, sum
from graphengine.ops.compare import logical_and, where
from graphengine.ops.compare import mask as masked
from graphengine.ops.elementwise import cast, exp, sqrt
from graphengine.ops.index import arange
from graphengine.ops.shape import expand_dims, transpose
from graphengine.ops.support.run_all import run_all
from graphengine.ops.support.scores import Scores, bind_weighted, turned, weighted

__all__ = ["attention"]

_UNSEEN = -1e30
"""What stands for the exponent of a key that is not seen: exp makes 0 of it, and 0 times it is 0."""


class Attention(Scores):
    """A tuple of y and l: y_i = sum_j p_ij v_j, with p_ij = exp(z_ij - l_i) and l_i = log sum_j exp(z_ij).

    z are the scores of q [..., t, d] and k [..., s, d]; v is [..., s, e], y [..., t, e], l [..., t]. The greatest of a
    query is taken from its scores first, so that nothing overflows. A query that sees no key has y_i = 0 and l_i = 0.
    """

    kind: Literal["attention"] = "attention"

    def infer(self, q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None = None) -> TupleType:
        self.check(q, k, v, mask)
        y = TensorType((*q.shape[:-1], v.shape[-1]), q.dtype)
        return TupleType((y, TensorType(q.shape[:-1], q.dtype)))

    def eval(self, xp: Any, q: Any, k: Any, v: Any, mask: Any = None) -> Any:
        z = self.scores(xp, q, k, mask)
        greatest = xp.max(z, axis=-1, keepdims=True, initial=xp.finfo(z.dtype).min)
        powers = xp.exp(z - greatest)
        total = xp.sum(powers, axis=-1, keepdims=True)
        sees_none = total == 0
        total, greatest = xp.where(sees_none, 1.0, total), xp.where(sees_none, 0.0, greatest)
        sums = weighted(xp, powers, v) if self.causal or mask is not None else xp.matmul(powers, v)
        return sums / total, (greatest + xp.log(total))[..., 0]

    def scratch(self, y: TensorType, *types: TensorType) -> tuple[TensorType, ...]:
        q, k, _, *mask = types
        scaled, *others = self.work(q, k, *mask)
        row = TensorType((*scaled.shape[:-2], 1, scaled.shape[-1]), q.dtype)
        return (row, row, scaled, *others)

    def bind(self, out: Any, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (y, log_sum), (q, k, v, *mask) = out, operands
        ones, lowest = np.ones((1, k.shape[-2]), q.dtype), np.finfo(q.dtype).min
        one = np.ones((), q.dtype)
        calls: list[Call] = []
        for block, _, scores, made in self.bind_scores(scratch[2:], q, k, *mask):
            greatest, total = (block.work(row) for row in scratch[:2])
            rows, log_sums = block.queries(y), block.row(log_sum)
            calls += made
            calls += [
                (np.maximum.reduce, (scores, -2, None, greatest, True, lowest)),
                (np.subtract, (scores, greatest, scores)),
                (np.exp, (scores, scores)),
                (np.matmul, (ones[:, : block.seen], scores, total)),  # several times as fast as np.add.reduce
                # The power of the greatest is 1, so that a sum below 1 is that of no keys.
                (partial(np.minimum, out=log_sums), (total, one)),
                (np.multiply, (log_sums, greatest, log_sums)),
                (partial(np.maximum, out=total), (total, one)),
                bind_weighted(turned(scores), block.keys(v), rows, self.hides(*mask)),
                (np.divide, (rows, turned(total), rows)),
                (np.log, (total, total)),
                (np.add, (log_sums, total, log_sums)),
            ]
        return run_all, (calls,)

    def vjp(self, y: Node, y_bar: Any, *parents: Node) -> Sequence[Node | None]:
        values, log_sum = (apply(GetItem(index=index), y) for index in range(2))
        values_bar, log_sum_bar = (*y_bar, None)[:2]
        if values_bar is None:
            values_bar = full(y.graph, 0.0, values.shape, values.dtype)
        delta = sum(values_bar * values, -1)
        if log_sum_bar is not None:
            delta = delta - log_sum_bar
        q, k, v, *mask = parents
        op = AttentionAdjoint(causal=self.causal, scale=self.scale, block=self.block)
        tuple_ = apply(op, values_bar, q, k, v, log_sum, delta, *mask)
        return [*(apply(GetItem(index=index), tuple_) for index in range(3)), *(None for _ in mask)]

    def flops(self, y: TensorType, *types: TensorType) -> int:
        q, k, v, *mask = types
        size, width = q.static_shape[-1], v.static_shape[-1]
        return self.operations(2 * size + 2 * width + 3, q, k, *mask) + q.size // size


class AttentionAdjoint(Scores):
    """A tuple of q_bar, k_bar and v_bar, given y_bar [..., t, e], and l_i and delta_i = y_i . y_bar_i of each query.

    With p_ij = exp(z_ij - l_i) and s_ij = scale * p_ij (y_bar_i . v_j - delta_i) these are
    q_bar_i = sum_j s_ij k_j, k_bar_j = sum_i s_ij q_i and v_bar_j = sum_i p_ij y_bar_i.
    """

    kind: Literal["attention_adjoint"] = "attention_adjoint"

    def infer(
        self,
        y_bar: TensorType,
        q: TensorType,
        k: TensorType,
        v: TensorType,
        log_sum: TensorType,
        delta: TensorType,
        mask: TensorType | None = None,
    ) -> TupleType:
        self.check(q, k, v, mask)
        row = TensorType(q.shape[:-1], q.dtype)
        if y_bar != TensorType((*row.shape, v.shape[-1]), q.dtype) or not log_sum == delta == row:
            raise ShapeError(f"{y_bar}, {log_sum} and {delta} are not of the attention of {q} to {k} and {v}")
        return TupleType((q, k, v))

    def eval(self, xp: Any, y_bar: Any, q: Any, k: Any, v: Any, log_sum: Any, delta: Any, mask: Any = None) -> Any:
        hides = self.causal or mask is not None
        product = partial(weighted, xp) if hides else xp.matmul
        p = xp.exp(self.scores(xp, q, k, mask) - log_sum[..., None])
        s = p * (xp.matmul(y_bar, xp.swapaxes(v, -1, -2)) - delta[..., None]) * self.factor(q.shape[-1])
        if hides:
            s = xp.where(p == 0, p, s)
        return product(s, k), product(xp.swapaxes(s, -1, -2), q), product(xp.swapaxes(p, -1, -2), y_bar)

    def scratch(self, y: TensorType, *types: TensorType) -> tuple[TensorType, ...]:
        _, q, k, v, _, _, *mask = types
        scaled, scores, *bound = self.work(q, k, *mask)
        bars = TensorType((*scaled.shape[:-2], v.shape[-1], scaled.shape[-1]), q.dtype)
        return (k, v, bars, scores, scaled, scores, *bound)

    def bind(self, out: Any, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (q_bar, k_bar, v_bar), (y_bar, q, k, v, log_sum, delta, *mask) = out, operands
        k_share, v_share, bars, slopes, *work = scratch
        factor = np.array(self.factor(q.shape[-1]), q.dtype)
        hides = self.hides(*mask)
        calls: list[Call] = []
        for block, scaled, powers, made in self.bind_scores(work, q, k, *mask):
            rows, rows_bar = block.queries(q_bar), block.queries(y_bar)
            columns_bar, slope = block.work(bars), block.work(block.keys(slopes))
            calls += made
            calls += [
                (np.subtract, (powers, block.row(log_sum), powers)),
                (np.exp, (powers, powers)),
                (np.copyto, (columns_bar, turned(rows_bar))),
                (np.matmul, (block.keys(v), columns_bar, slope)),
                (np.subtract, (slope, block.row(delta), slope)),
                (np.multiply, (slope, powers, slope)),
                *([(_select, (slope, powers))] if hides else ()),
                bind_weighted(turned(slope), block.keys(k), rows, hides),
                (np.multiply, (rows, factor, rows)),
            ]
            more = block.stop < q.shape[-2]
            k_place, v_place = (block.keys(x) for x in ((k_share, v_share) if more else (k_bar, v_bar)))
            calls.append(bind_weighted(slope, turned(scaled), k_place, hides))
            calls.append(bind_weighted(powers, rows_bar, v_place, hides))
            if more:
                calls.append((np.add, (block.keys(k_bar), k_place, block.keys(k_bar))))
                calls.append((np.add, (block.keys(v_bar), v_place, block.keys(v_bar))))
        return run_all, (calls,)

    def vjp(self, y: Node, y_bar: Any, *parents: Node) -> Sequence[Node | None]:
        # Through the formula written out as nodes, which holds the scores whole.
        operands = [identity(parent) for parent in parents[:6]]  # no path leads from one of these to another
        results = self._written_out(*operands, *parents[6:])
        seeds = {result: bar for result, bar in zip(results, y_bar, strict=False) if bar is not None}
        adjoints = pullback(seeds, operands, operands[0].phase).adjoints
        return [*map(adjoints.get, operands), *(None for _ in parents[6:])]

    def _written_out(
        self, y_bar: Node, q: Node, k: Node, v: Node, log_sum: Node, delta: Node, mask: Node | None = None
    ) -> tuple[Node, Node, Node]:
        """q_bar, k_bar and v_bar by other ops."""
        seen = mask
        if self.causal:
            triangle = expand_dims(arange(q.graph, q.shape[-2]), -1) >= arange(q.graph, k.shape[-2])
            seen = triangle if mask is None else logical_and(mask, triangle)
        if seen is not None:  # a row that nobody sees, or that sees nothing, enters no product
            q, y_bar = (rows_in(x, seen, [-1]) for x in (q, y_bar))
            k, v = (rows_in(x, seen, [-2]) for x in (k, v))
        size = dim_size(q.graph, q.shape[-1], q.dtype)
        factor = 1.0 / sqrt(size) if self.scale is None else q.graph.scalar(self.scale, q.dtype)
        exponents = factor * q @ _exchanged(k) - expand_dims(log_sum, -1)
        p = exp(exponents if seen is None else where(seen, exponents, _UNSEEN))
        s = factor * p * (y_bar @ _exchanged(v) - expand_dims(delta, -1))
        return s @ k, _exchanged(s) @ q, _exchanged(p) @ y_bar

    def flops(self, y: TensorType, *types: TensorType) -> int:
        _, q, k, v, _, _, *mask = types
        each = 6 * q.static_shape[-1] + 4 * v.static_shape[-1] + 2
        return self.operations(each, q, k, *mask) - k.size - v.size


def attention(
    q: Node,
    k: Node,
    v: Node,
    mask: Node | npt.ArrayLike | None = None,
    causal: bool = False,
    scale: float | None = None,
    block: int | None = None,
    *,
    name: str | None = None,
) -> Node:
    """Scaled dot-product attention: y = softmax(scale * q k^T, over the keys) v, with `scale` 1 / sqrt(d) if left out.

    q: [..., t, d]; k: [..., s, d]; v: [..., s, e]; floats of one dtype with equal leading axes; returns [..., t, e].
    `mask`: bools that broadcast to [..., t, s]; a query sees a key where it is True and, if `causal`, where j <= i for
    key j and query i. A query that sees no key gets zeros. A hidden key adds nothing to values and gradients, even if
    it is infinite or NaN.

    The kernels hold the scores [..., t, s] while they run, or with `block` those of so many queries at a time, equal up
    to rounding; with `causal` they then skip keys that no query of the block sees. Second derivatives hold all scores.

    Raises DTypeError or ShapeError for operands that do not fit, AttributeValueError for a wrong scale, block or mask.
    Source: Vaswani et al. 2017, section 3.2.1.
    """
    masks = () if mask is None else (mask if isinstance(mask, Node) else q.graph.constant(None, np.asarray(mask)),)
    tuple_ = apply(Attention(causal=causal, scale=scale, block=block), q, k, v, *masks)
    return apply(GetItem(index=0), tuple_, name=name)


def _select(slope: Array, powers: Array) -> None:
    """Slopes of 0 where the power is 0, whatever the value was there."""
    if not np.isfinite(np.add.reduce(slope, axis=None)):
        np.copyto(slope, 0, where=powers == 0)


def rows_in(x: Node, seen: Node, axes: Sequence[int]) -> Node:
    """`x` with zeros for the rows of which, along `axes` of `seen`, no element is True."""
    while seen.ndim < -min(axes):
        seen = expand_dims(seen, 0)
    count = sum(cast(seen, x.dtype), axes)
    return masked(x, expand_dims(count > 0.0, -1))


def _exchanged(x: Node) -> Node:
    """x with its last two axes exchanged."""
    return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))
