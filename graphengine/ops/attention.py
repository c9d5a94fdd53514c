"""Scaled dot-product attention (Vaswani et al. 2017), whole or by blocks of queries.

The scores, queries by keys, are work of the kernel and are not saved for the backward pass, which makes them again from
q, k and the logarithm of each query's sum (Rabe and Staats 2021; Dao et al. 2022). With `block`, only so many rows of
them are in memory at a time. A block has the whole rows of its queries, so none needs a running maximum or sum.

Kernels hold scores keys by queries: NumPy reduces along the first of two axes several times as fast as along the last,
and what scores are shifted by is one number a query.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir.dims import Shape
from graphengine.ir.node import Node, apply
from graphengine.ir.op import Call, GetItem, Op
from graphengine.ir.pullback import pullback
from graphengine.ir.types import Array, TensorType, TupleType, broadcast_shapes, common_dtype
from graphengine.ops.activation import identity
from graphengine.ops.broadcast import dim_size, full, sum
from graphengine.ops.compare import logical_and, where
from graphengine.ops.compare import mask as masked
from graphengine.ops.elementwise import cast, exp, sqrt
from graphengine.ops.index import arange
from graphengine.ops.shape import expand_dims, transpose
from graphengine.ops.support.run_all import run_all

__all__ = ["attention"]

_UNSEEN = -1e30
"""The exponent of a key that is not seen: exp makes 0 of it, and 0 times it is 0."""


@dataclass(frozen=True, slots=True)
class Block:
    """The queries from `start` up to `stop`, and the keys that any of them sees: the first `seen`."""

    start: int
    stop: int
    seen: int

    @property
    def count(self) -> int:
        """The number of queries."""
        return self.stop - self.start

    def queries(self, x: Array) -> Array:
        """The part of x that has rows for these queries."""
        return x[..., self.start : self.stop, :]

    def keys(self, x: Array) -> Array:
        """The part of x that has rows for these keys."""
        return x[..., : self.seen, :]

    def work(self, x: Array) -> Array:
        """The part of a work array that is enough for these queries, which lie along its last axis."""
        return x[..., : self.count]

    def row(self, x: Array) -> Array:
        """The part of x, which has one number for each query, as a row."""
        return x[..., None, self.start : self.stop]


class Scores(Op):
    """An op of the scores z_ij = scale * q_i . k_j, of those keys j that query i sees; other scores are -inf.

    Query i sees key j if the mask, of bools, is True there and, where `causal`, if j <= i. What it does not see has a
    weight of 0, which takes nothing of a value, be that infinite or NaN.
    """

    kind: str
    causal: bool = False
    scale: float | None = None
    """None stands for 1 / sqrt(d), d the size of a query."""
    block: int | None = Field(default=None, ge=1)
    """How many queries are taken at a time; None for all of them."""

    def check(self, q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None) -> None:
        """Raise unless q [..., t, d], k [..., s, d], v [..., s, e] and a mask that broadcasts to [..., t, s] fit."""
        dtype = common_dtype((q, k, v))
        if not q.is_float:
            raise DTypeError(f"{self.kind} takes floats, not {q}, {k} and {v}")
        if min(q.ndim, k.ndim, v.ndim) < 2 or not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
            needed = "queries [..., t, d], keys [..., s, d] and values [..., s, e], alike in the axes ahead"
            raise ShapeError(f"{self.kind} takes {needed}, not {q}, {k} and {v}")
        if q.shape[-1] != k.shape[-1] or q.shape[-1] == 0:
            raise ShapeError(f"queries and keys have one size, at least 1: these are {q} and {k}")
        if k.shape[-2] != v.shape[-2]:
            raise ShapeError(f"every key has a value: these are {k} and {v}")
        if mask is None:
            return
        if mask.dtype != "bool":
            raise DTypeError(f"the mask of {self.kind} is of bools, True where a query sees a key, not {mask}")
        scores = TensorType((*q.shape[:-1], k.shape[-2]), dtype)
        if broadcast_shapes(mask.shape, scores.shape) != scores.shape:
            raise ShapeError(f"the mask {mask} does not broadcast to the scores, {scores}")

    def hides(self, *mask: object) -> bool:
        """Whether there may be keys that a query does not see."""
        return self.causal or bool(mask)

    def product(self, *mask: object) -> Callable[..., object]:
        """The kernel of a product with weights: where something is hidden, a weight of 0 takes nothing."""
        return _weigh if self.hides(*mask) else np.matmul

    def factor(self, size: int) -> float:
        """The scale, for queries of this size."""
        return 1 / math.sqrt(size) if self.scale is None else self.scale

    def scores(self, xp: Any, q: Any, k: Any, mask: Any) -> Any:
        """z, queries by keys, by pure functions of the array namespace `xp`."""
        z = xp.matmul(q * self.factor(q.shape[-1]), xp.swapaxes(k, -1, -2))
        if self.causal:
            z = xp.where(xp.tri(*z.shape[-2:], dtype=bool), z, -xp.inf)
        return z if mask is None else xp.where(mask, z, -xp.inf)

    def blocks(self, queries: int, keys: int) -> list[Block]:
        """The blocks, the last first: it sees every key, whatever others see. Without queries it is one empty block."""
        size = self.block or max(queries, 1)
        blocks = []
        for start in range(0, max(queries, 1), size):
            stop = min(start + size, queries)
            blocks.append(Block(start, stop, min(stop, keys) if self.causal and stop < queries else keys))
        return blocks[::-1]

    def doubtful(self, block: Block, has_mask: bool) -> range:
        """The keys of a block that some of its queries may not see."""
        if has_mask:
            return range(block.seen)
        return range(min(block.start, block.seen), block.seen) if self.causal else range(0)

    def operations(self, each: int, q: TensorType, k: TensorType, *mask: TensorType) -> int:
        """How many FLOPs it takes to scale q, to hide what is not seen, and to do `each` more on every score."""
        (*ahead, queries, _), keys = q.static_shape, k.static_shape[-2]
        seen, doubtful = self._counts(queries, keys)
        return q.size + math.prod(ahead) * (each * seen + (seen if mask else doubtful))

    def _counts(self, queries: int, keys: int) -> tuple[int, int]:
        """How many scores all blocks have, and how many of them the causal order may hide; without going through them.

        All blocks but the last have `size` queries, and each sees `size` keys more than the one ahead, up to all keys.
        """
        if not self.causal:
            return queries * keys, 0
        size = self.block or max(queries, 1)
        count = -(-max(queries, 1) // size) - 1
        growing = min(count, keys // size)
        rest = queries - count * size
        seen = size * (size * growing * (growing + 1) // 2 + (count - growing) * keys)
        doubtful = size * (size * growing + (keys - size * growing if count > growing else 0))
        return seen + rest * keys, doubtful + rest * (keys - min(count * size, keys))

    def work(self, q: TensorType, k: TensorType, *masks: TensorType) -> tuple[TensorType, ...]:
        """Types of the work arrays of `bind_scores`: scaled queries, scores, and bounds unless all keys are seen."""
        (*ahead, queries, size), keys = q.static_shape, k.static_shape[-2]
        width = min(self.block or queries, queries)
        shapes: list[Shape] = [(*ahead, size, width), (*ahead, keys, width)]
        bounds: list[Shape] = [(keys, width)] if self.causal else []
        for mask in masks:
            *leading, rows, columns = (1,) * (2 - mask.ndim) + mask.static_shape
            bounds.append((*leading, columns, min(rows, width)))
        if bounds:
            shapes.append(broadcast_shapes(*bounds))
        return tuple(TensorType(shape, q.dtype) for shape in shapes)

    def bind_scores(
        self, work: Sequence[Array], q: Array, k: Array, mask: Array | None = None
    ) -> Iterator[tuple[Block, Array, Array, list[Call]]]:
        """Every block, its scaled queries [..., d, t], its scores [..., s, t], and the calls that compute these."""
        queries, keys = q.shape[-2], k.shape[-2]
        factor = np.array(self.factor(q.shape[-1]), q.dtype)
        triangle = _triangle(queries, keys, q.dtype) if self.causal else None
        for block in self.blocks(queries, keys):
            scaled, scores = block.work(work[0]), block.work(block.keys(work[1]))
            calls: list[Call] = [
                (np.multiply, (turned(block.queries(q)), factor, scaled)),
                (np.matmul, (block.keys(k), scaled, scores)),
            ]
            if len(work) > 2:
                doubtful = self.doubtful(block, mask is not None)
                rows = slice(doubtful.start, doubtful.stop)
                bound, part = block.work(work[2])[..., rows, :], scores[..., rows, :]
                calls += _bind_bound(block, rows, mask, triangle, bound)
                calls.append((partial(np.fmin, out=part), (part, bound)))  # -inf also where the score is NaN
            yield block, scaled, scores, calls


class Attention(Scores):
    """A tuple of y and l: y_i = sum_j p_ij v_j, with p_ij = exp(z_ij - l_i) and l_i = log sum_j exp(z_ij).

    z are the scores of q [..., t, d] and k [..., s, d]; v is [..., s, e], y [..., t, e], l [..., t]. The maximum of a
    query is taken from its scores first, so that nothing overflows. A query that sees no key has y_i = 0 and l_i = 0.
    """

    kind: Literal["attention"] = "attention"

    def infer(self, q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None = None) -> TupleType:
        self.check(q, k, v, mask)
        y = TensorType((*q.shape[:-1], v.shape[-1]), q.dtype)
        return TupleType((y, TensorType(q.shape[:-1], q.dtype)))

    def eval(self, xp: Any, q: Any, k: Any, v: Any, mask: Any = None) -> Any:
        z = self.scores(xp, q, k, mask)
        maximum = xp.max(z, axis=-1, keepdims=True, initial=xp.finfo(z.dtype).min)
        powers = xp.exp(z - maximum)
        total = xp.sum(powers, axis=-1, keepdims=True)
        sees_none = total == 0
        total, maximum = xp.where(sees_none, 1.0, total), xp.where(sees_none, 0.0, maximum)
        sums = _weighted(xp, powers, v) if self.causal or mask is not None else xp.matmul(powers, v)
        return sums / total, (maximum + xp.log(total))[..., 0]

    def scratch(self, y: TensorType, *types: TensorType) -> tuple[TensorType, ...]:
        q, k, _, *mask = types
        scaled, *others = self.work(q, k, *mask)
        row = TensorType((*scaled.shape[:-2], 1, scaled.shape[-1]), q.dtype)
        return (row, row, scaled, *others)

    def bind(self, out: Any, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (y, log_sum), (q, k, v, *mask) = out, operands
        ones, one, lowest = np.ones((1, k.shape[-2]), q.dtype), np.ones((), q.dtype), np.finfo(q.dtype).min
        calls: list[Call] = []
        for block, _, scores, made in self.bind_scores(scratch[2:], q, k, *mask):
            maximum, total = (block.work(row) for row in scratch[:2])
            rows, log_sums = block.queries(y), block.row(log_sum)
            calls += made
            calls += [
                (np.maximum.reduce, (scores, -2, None, maximum, True, lowest)),
                (np.subtract, (scores, maximum, scores)),
                (np.exp, (scores, scores)),
                (np.matmul, (ones[:, : block.seen], scores, total)),  # several times as fast as np.add.reduce
                # The power of the maximum is 1, so that a sum below 1 is that of no keys.
                (partial(np.minimum, out=log_sums), (total, one)),
                (np.multiply, (log_sums, maximum, log_sums)),
                (partial(np.maximum, out=total), (total, one)),
                (self.product(*mask), (turned(scores), block.keys(v), rows)),
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
        product = partial(_weighted, xp) if hides else xp.matmul
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
        k_part, v_part, bars, slopes, *work = scratch
        factor = np.array(self.factor(q.shape[-1]), q.dtype)
        product = self.product(*mask)
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
                *([(_select, (slope, powers))] if self.hides(*mask) else ()),
                (product, (turned(slope), block.keys(k), rows)),
                (np.multiply, (rows, factor, rows)),
            ]
            for bar, part, weights, x in ((k_bar, k_part, slope, turned(scaled)), (v_bar, v_part, powers, rows_bar)):
                total, term = block.keys(bar), block.keys(part)
                if block.stop == q.shape[-2]:  # the block taken first
                    calls.append((product, (weights, x, total)))
                else:
                    calls += [(product, (weights, x, term)), (np.add, (total, term, total))]
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
        exponents = factor * q @ swapped(k) - expand_dims(log_sum, -1)
        p = exp(exponents if seen is None else where(seen, exponents, _UNSEEN))
        s = factor * p * (y_bar @ swapped(v) - expand_dims(delta, -1))
        return s @ k, swapped(s) @ q, swapped(p) @ y_bar

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


def _bind_bound(block: Block, keys: slice, mask: Array | None, triangle: Array | None, bound: Array) -> list[Call]:
    """The calls that make inf of keys seen and -inf of others: the least of that and a score, np.where would branch."""
    calls: list[Call] = []
    if mask is not None:
        rows = np.atleast_2d(mask)
        seen = turned(rows if rows.shape[-2] == 1 else block.queries(rows))
        half, infinite = (np.array(value, bound.dtype) for value in (0.5, np.inf))
        calls.append((np.copyto, (bound, seen[..., keys, :])))
        calls.append((np.subtract, (bound, half, bound)))
        calls.append((np.multiply, (bound, infinite, bound)))
    if triangle is not None:
        part = triangle[keys, block.start : block.stop]
        calls.append((partial(np.minimum, out=bound), (bound, part)) if calls else (np.copyto, (bound, part)))
    return calls


def _triangle(queries: int, keys: int, dtype: np.dtype[Any]) -> Array:
    """inf where key j <= query i, else -inf, keys by queries: a view of one line, as it depends on i - j alone."""
    line = np.where(np.arange(-keys, queries) >= 0, np.inf, -np.inf).astype(dtype)
    return np.lib.stride_tricks.sliding_window_view(line, queries)[:0:-1]


def _weighted(xp: Any, weights: Any, x: Any) -> Any:
    """weights @ x, where a weight of 0 takes nothing of x, be it infinite or NaN."""
    zero, one = xp.zeros((), x.dtype), xp.ones((), x.dtype)
    is_finite = xp.isfinite(x)
    taken = xp.matmul(xp.where(weights == 0, zero, one), xp.where(is_finite, zero, one))
    return xp.where(taken > 0, xp.matmul(weights, x), xp.matmul(weights, xp.where(is_finite, x, zero)))


def _weigh(weights: Array, x: Array, out: Array) -> None:
    """Write what `_weighted` gives into `out`."""
    np.matmul(weights, x, out)
    if not np.isfinite(np.add.reduce(out, axis=None)):  # a check that needs no memory
        out[...] = _weighted(np, weights, x)


def turned(x: Array) -> Array:
    """x with its last two axes swapped."""
    return x.swapaxes(-1, -2)


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


def swapped(x: Node, first: int = -2, second: int = -1) -> Node:
    """x with two axes swapped; a view."""
    order = [*range(x.ndim)]
    order[first], order[second] = order[second], order[first]
    return transpose(x, order)
