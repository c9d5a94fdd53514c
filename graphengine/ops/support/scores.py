"""The scores of queries and keys, which attention and its adjoint share: which count, and how blocks of them are made.

Kernels hold scores keys by queries: NumPy reduces along the first of two axes several times as fast as along the last,
and what scores are shifted by is one number a query.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from pydantic import Field

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir.dims import Shape
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, TensorType, broadcast_shapes, common_dtype


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
        total = 0
        for block in self.blocks(queries, keys):
            total += block.count * (each * block.seen + len(self.doubtful(block, bool(mask))))
        return q.size + math.prod(ahead) * total

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


def weighted(xp: Any, weights: Any, x: Any) -> Any:
    """weights @ x, where a weight of 0 takes nothing of x, be it infinite or NaN."""
    zero, one = xp.zeros((), x.dtype), xp.ones((), x.dtype)
    is_finite = xp.isfinite(x)
    taken = xp.matmul(xp.where(weights == 0, zero, one), xp.where(is_finite, zero, one))
    return xp.where(taken > 0, xp.matmul(weights, x), xp.matmul(weights, xp.where(is_finite, x, zero)))


def bind_weighted(weights: Array, x: Array, out: Array, hides: bool) -> Call:
    """The call that writes weights @ x into `out`; where something is hidden, a weight of 0 takes nothing of x."""
    return (_weigh if hides else np.matmul), (weights, x, out)


def _weigh(weights: Array, x: Array, out: Array) -> None:
    np.matmul(weights, x, out)
    if not np.isfinite(np.add.reduce(out, axis=None)):  # a check that needs no memory
        out[...] = weighted(np, weights, x)


def turned(x: Array) -> Array:
    """x with its last two axes exchanged."""
    return x.swapaxes(-1, -2)
