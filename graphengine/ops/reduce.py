"""Reductions: mean, variance, maximum and minimum, their indices, and logsumexp. The sum is in `broadcast.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir.node import Node, apply
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, TensorType, check_axes
from graphengine.ops.broadcast import Reduction, broadcast_to, dim_size, reduced, reduction, sum
from graphengine.ops.compare import clip, mask, not_equal, where
from graphengine.ops.elementwise import exp, stop_gradient
from graphengine.ops.support.run_all import as_one, run_all
from graphengine.ops.support.sums import summed

__all__ = ["argmax", "argmin", "logsumexp", "max", "mean", "min", "variance"]


class NonEmptyReduction(Reduction):
    """A reduction that has no value for no elements."""

    refused: ClassVar[str] = "an axis that x does not have or that has size 0"

    def infer(self, x: TensorType) -> TensorType:
        y = super().infer(x)
        _check_not_empty(self, x, self.axis)
        return y


class Mean(NonEmptyReduction):
    """y = (1/n) sum of x over `axis`, n the number of elements there."""

    operands: ClassVar[str] = "floats"
    kind: Literal["mean"] = "mean"

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.mean(x, axis=self.axis, keepdims=self.keepdims)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return self.parts(x)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,) = operands
        return _mean, (out, self.reduce(np.add, x, out, scratch), self.count(x.shape))

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        mean_bar = y_bar / dim_size(y.graph, self.count(x.shape), y.dtype)
        return (broadcast_to(self.spread(mean_bar, x), x.shape),)

    def flops(self, y: TensorType, x: TensorType) -> int:
        return x.size


class Variance(NonEmptyReduction):
    """y = (1/n) sum of (x - m)^2 over `axis`, m = (1/n) sum of x there: the biased variance, in two passes."""

    operands: ClassVar[str] = "floats"
    kind: Literal["variance"] = "variance"

    def eval(self, xp: Any, x: Any) -> Any:
        centered = x - xp.mean(x, axis=self.axis, keepdims=True)
        return xp.mean(xp.square(centered), axis=self.axis, keepdims=self.keepdims)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return x, TensorType(reduced(x.shape, self.axis, keepdims=True), x.dtype), *self.parts(x)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,), (centered, means, *parts) = operands, scratch
        count = np.array(self.count(x.shape), x.dtype)
        totals = summed(x, check_axes(self.axis, x.ndim), means, parts), self.reduce(np.add, centered, out, parts)
        return _variance, (x, count, centered, means, *totals, out)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        slope = y_bar * 2.0 / dim_size(y.graph, self.count(x.shape), y.dtype)
        return ((x - mean(x, self.axis, keepdims=True)) * self.spread(slope, x),)

    def flops(self, y: TensorType, x: TensorType) -> int:
        return 4 * x.size


class Extreme(NonEmptyReduction):
    """A reduction to the maximum or the minimum; the gradient goes to the first of equals, in row-major order."""

    ufunc: ClassVar[np.ufunc]

    def eval(self, xp: Any, x: Any) -> Any:
        return getattr(xp, self.kind)(x, axis=self.axis, keepdims=self.keepdims)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        first = apply(First(of=self.kind, axis=self.axis), x)
        return (mask(self.spread(y_bar, x), not_equal(first, 0.0)),)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return self.reduce(self.ufunc, operands[0], out)


class Max(Extreme):
    """y = the maximum of x over `axis`; NaN if one is. The gradient goes to the first of equals, in row-major order."""

    kind: Literal["max"] = "max"
    ufunc: ClassVar[np.ufunc] = np.maximum


class Min(Extreme):
    """y = the minimum of x over `axis`; NaN if one is. The gradient goes to the first of equals, in row-major order."""

    kind: Literal["min"] = "min"
    ufunc: ClassVar[np.ufunc] = np.minimum


class LogSumExp(NonEmptyReduction):
    """y = log sum exp(x) over `axis`, as m + log sum exp(x - m) with m = max x, so that no exp overflows.

    The derivative is the softmax of x.
    """

    operands: ClassVar[str] = "floats"
    kind: Literal["logsumexp"] = "logsumexp"

    def eval(self, xp: Any, x: Any) -> Any:
        limit = xp.finfo(x.dtype).max
        maxima = xp.clip(xp.max(x, axis=self.axis, keepdims=True), -limit, limit)
        total = xp.sum(xp.exp(x - maxima), axis=self.axis, keepdims=self.keepdims)
        return xp.log(total) + xp.reshape(maxima, total.shape)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return x, TensorType(reduced(x.shape, self.axis, keepdims=True), x.dtype), *self.parts(x)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,), (work, maxima, *parts) = operands, scratch
        total = self.reduce(np.add, work, out, parts)
        return _logsumexp, (x, check_axes(self.axis, x.ndim), work, maxima, total, out)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        # exp(x - y) is the softmax already, but for the rounding of y, which the division takes out.
        # Between its bounds, y of all -inf is above them: their powers are 0, and so is the adjoint.
        limit = float(np.finfo(x.dtype).max)
        powers = exp(x - self.spread(clip(stop_gradient(y), -limit, limit), x))
        total = sum(powers, self.axis, keepdims=True)
        some = total > 0.0
        return (powers * (mask(self.spread(y_bar, x), some) / where(some, total, 1.0)),)

    def flops(self, y: TensorType, x: TensorType) -> int:
        return 4 * x.size + 2 * y.size


class ExtremeIndex(NonEmptyReduction):
    """The index of the extreme, counted in row-major order along `axis`; that of the first of equals. int64."""

    result: ClassVar[str] = "int64"

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(super().infer(x).shape, "int64")

    def eval(self, xp: Any, x: Any) -> Any:
        indices = _indices(xp, self.kind, x, check_axes(self.axis, x.ndim))
        return xp.reshape(indices, reduced(x.shape, self.axis, self.keepdims))

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return (_rows_type(x, self.axis),)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,), (work,) = operands, scratch
        return _find(self.kind, x, check_axes(self.axis, x.ndim), work, out)


class ArgMax(ExtremeIndex):
    """y = the index of the first maximum over `axis`, in row-major order along several axes. No gradient passes."""

    kind: Literal["argmax"] = "argmax"


class ArgMin(ExtremeIndex):
    """y = the index of the first minimum over `axis`, in row-major order along several axes. No gradient passes."""

    kind: Literal["argmin"] = "argmin"


class First(Op):
    """y = 1 at the first maximum (`of` max) or minimum (`of` min) along `axis`, else 0: the derivative of max and min.

    It is constant but for jumps, so no gradient passes it.
    """

    kind: Literal["first"] = "first"
    of: Literal["max", "min"]
    axis: tuple[int, ...] | None = None

    def infer(self, x: TensorType) -> TensorType:
        if not x.is_float:
            raise DTypeError(f"first takes floats, not {x}")
        _check_not_empty(self, x, self.axis)
        return x

    def eval(self, xp: Any, x: Any) -> Any:
        axes = check_axes(self.axis, x.ndim)
        order = with_behind(x.ndim, axes)
        indices = _indices(xp, f"arg{self.of}", x, axes)
        hits = xp.equal(indices[..., None], xp.arange(math.prod(x.shape[axis] for axis in axes)))
        moved = xp.reshape(hits, [x.shape[axis] for axis in order]).astype(x.dtype)
        return xp.transpose(moved, sorted(range(x.ndim), key=order.__getitem__))

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        indices = TensorType(reduced(x.shape, self.axis, keepdims=False), "int64")
        return _rows_type(x, self.axis), indices, indices

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,), (work, indices, offsets) = operands, scratch
        axes = check_axes(self.axis, x.ndim)
        others = with_behind(x.ndim, axes)[: x.ndim - len(axes)]
        find = _find(f"arg{self.of}", x, axes, work, indices)
        table, starts = memory_offsets(x.shape, axes).reshape(-1), memory_offsets(x.shape, others)
        return _mark, (out, find, indices, table, offsets, starts)

    def flops(self, y: TensorType, x: TensorType) -> int:
        return x.size


mean = reduction(Mean)
variance = reduction(Variance)
max = reduction(Max)
min = reduction(Min)
logsumexp = reduction(LogSumExp)
argmax = reduction(ArgMax)
argmin = reduction(ArgMin)


def _check_not_empty(op: Op, x: TensorType, axis: Sequence[int] | None) -> None:
    if any(x.shape[place] == 0 for place in check_axes(axis, x.ndim)):
        raise ShapeError(f"{op.kind} of no elements: an axis of {x} that it reduces has size 0")


def with_behind(ndim: int, axes: Sequence[int]) -> tuple[int, ...]:
    """The axes of a value with `axes` behind all others."""
    return (*(place for place in range(ndim) if place not in axes), *axes)


def _rows_type(x: TensorType, axis: Sequence[int] | None) -> TensorType:
    return TensorType(tuple(x.shape[place] for place in with_behind(x.ndim, check_axes(axis, x.ndim))), x.dtype)


def _rows(xp: Any, x: Any, axes: Sequence[int]) -> Any:
    """x with `axes` as one axis behind all others."""
    moved = xp.transpose(x, with_behind(x.ndim, axes))
    ahead = x.ndim - len(axes)
    return xp.reshape(moved, (*moved.shape[:ahead], math.prod(moved.shape[ahead:])))


def _indices(xp: Any, kind: str, x: Any, axes: Sequence[int]) -> Any:
    return getattr(xp, kind)(_rows(xp, x, axes), axis=-1).astype("int64")


def _find(kind: str, x: Array, axes: Sequence[int], work: Array, out: Array) -> Call:
    """The call that writes the indices of x's extremes along `axes` into `out`; `work` is of `_rows_type`."""
    moved = x.transpose(with_behind(x.ndim, axes))
    ready = moved.flags.c_contiguous
    rows = _rows(np, moved if ready else work, range(x.ndim - len(axes), x.ndim))
    find: Call = getattr(rows, kind), (-1, out.reshape(rows.shape[:-1]))
    return find if ready else as_one([(np.copyto, (work, moved)), find])


def memory_offsets(shape: Sequence[int], axes: Sequence[int]) -> Array:
    """Where the elements along `axes` are in the memory of an array of `shape`, the other axes at 0."""
    strides = np.array([math.prod(shape[axis + 1 :]) for axis in axes], np.int64)
    return np.tensordot(strides, np.indices([shape[axis] for axis in axes]), 1)


def _mark(out: Array, find: Call, indices: Array, table: Array, offsets: Array, starts: Array) -> None:
    """Write 1 at the indices found, 0 elsewhere: `table` turns an index into an offset from where its row starts."""
    run_all([find])
    table.take(indices, None, offsets, "clip")
    np.add(offsets, starts, offsets)
    out.fill(0)
    out.put(offsets, 1)


def _mean(out: Array, total: Call, count: int) -> None:
    run_all([total])
    np.divide(out, count, out)


def _logsumexp(x: Array, axes: tuple[int, ...], work: Array, maxima: Array, total: Call, out: Array) -> None:
    np.maximum.reduce(x, axes, out=maxima, keepdims=True)
    limit = np.finfo(x.dtype).max  # between its bounds, inf - inf does not come up
    np.maximum(maxima, -limit, out=maxima)
    np.minimum(maxima, limit, out=maxima)
    np.subtract(x, maxima, work)
    np.exp(work, work)
    run_all([total])
    np.log(out, out)
    np.add(out, maxima.reshape(out.shape), out)


def _variance(
    x: Array, count: Array, centered: Array, means: Array, of_values: Call, of_squares: Call, out: Array
) -> None:
    run_all([of_values])
    np.divide(means, count, means)
    np.subtract(x, means, centered)
    np.multiply(centered, centered, centered)
    run_all([of_squares])
    np.divide(out, count, out)
