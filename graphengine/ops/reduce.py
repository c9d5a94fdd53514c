"""Reductions: mean, variance, maximum and minimum, their indices, and logsumexp. The sum is in `broadcast.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir import dims
from graphengine.ir.node import Node, apply
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, TensorType, check_axes
from graphengine.ops.broadcast import Reduction, as_axes, broadcast_to, dim_size, reduced, sum
from graphengine.ops.compare import clip, mask, not_equal, where
from graphengine.ops.elementwise import exp, stop_gradient
from graphengine.ops.support.run_all import run_all
from graphengine.ops.support.sums import summed

__all__ = [
    "argmax",
    "argmin",
    "logsumexp",
    "max",
    "mean",
    "min",
    "variance",
]

Axis = int | Sequence[int] | None


class NonEmptyReduction(Reduction):
    """A reduction that has no value for no elements."""

    floats_only: ClassVar[bool] = False

    def infer(self, x: TensorType) -> TensorType:
        if self.floats_only and not x.is_float:
            raise DTypeError(f"{self.kind} takes floats, not {x}; cast it")
        _check_not_empty(self, x, self.axis)
        return super().infer(x)

    def flops(self, y: TensorType, x: TensorType) -> int:
        return x.size - y.size


class Mean(NonEmptyReduction):
    """y = (1/n) sum of x over `axis`, n the number of elements there."""

    floats_only: ClassVar[bool] = True
    kind: Literal["mean"] = "mean"

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.mean(x, axis=self.axis, keepdims=self.keepdims)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return self.parts(x)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,) = operands
        count = math.prod(x.shape[axis] for axis in check_axes(self.axis, x.ndim))
        return _mean, (out, self.reduce(np.add, x, out, scratch), count)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        count = dims.product(x.shape[axis] for axis in check_axes(self.axis, x.ndim))
        share = y_bar / dim_size(y.graph, count, y.dtype)
        return (broadcast_to(self.spread(share, x), x.shape),)

    def flops(self, y: TensorType, x: TensorType) -> int:
        return x.size


class Variance(NonEmptyReduction):
    """y = (1/n) sum of (x - m)^2 over `axis`, m = (1/n) sum of x there: the biased variance, in two passes."""

    floats_only: ClassVar[bool] = True
    kind: Literal["variance"] = "variance"

    def eval(self, xp: Any, x: Any) -> Any:
        centered = x - xp.mean(x, axis=self.axis, keepdims=True)
        return xp.mean(xp.square(centered), axis=self.axis, keepdims=self.keepdims)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return x, TensorType(reduced(x.shape, self.axis, keepdims=True), x.dtype), *self.parts(x)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,), (centered, means, *parts) = operands, scratch
        axes = check_axes(self.axis, x.ndim)
        count = np.array(math.prod(x.shape[axis] for axis in axes), x.dtype)
        totals = summed(x, axes, means, parts), self.reduce(np.add, centered, out, parts)
        return _variance, (x, count, centered, means, *totals, out)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        count = dims.product(x.shape[axis] for axis in check_axes(self.axis, x.ndim))
        share = y_bar * 2.0 / dim_size(y.graph, count, y.dtype)
        return ((x - mean(x, self.axis, keepdims=True)) * self.spread(share, x),)

    def flops(self, y: TensorType, x: TensorType) -> int:
        return 4 * x.size


class Extreme(NonEmptyReduction):
    """A reduction to the greatest or the least; the adjoint goes to the first of equals, counted row by row."""

    def eval(self, xp: Any, x: Any) -> Any:
        return getattr(xp, self.kind)(x, axis=self.axis, keepdims=self.keepdims)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        first = apply(First(of=self.kind, axis=self.axis), x)
        return (mask(self.spread(y_bar, x), not_equal(first, 0.0)),)


class Max(Extreme):
    """y = the greatest x over `axis`; NaN if one is. The adjoint goes to the first of equals, row by row."""

    kind: Literal["max"] = "max"

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return self.reduce(np.maximum, operands[0], out)


class Min(Extreme):
    """y = the least x over `axis`; NaN if one is. The adjoint goes to the first of equals, row by row."""

    kind: Literal["min"] = "min"

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return self.reduce(np.minimum, operands[0], out)


class LogSumExp(NonEmptyReduction):
    """y = log sum exp(x) over `axis`, as m + log sum exp(x - m) with m = max x, so that no exp overflows.

    The adjoint is y_bar times the softmax of x.
    """

    floats_only: ClassVar[bool] = True
    kind: Literal["logsumexp"] = "logsumexp"

    def eval(self, xp: Any, x: Any) -> Any:
        limit = xp.finfo(x.dtype).max
        greatest = xp.clip(xp.max(x, axis=self.axis, keepdims=True), -limit, limit)
        total = xp.sum(xp.exp(x - greatest), axis=self.axis, keepdims=self.keepdims)
        return xp.log(total) + xp.reshape(greatest, total.shape)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return x, TensorType(reduced(x.shape, self.axis, keepdims=True), x.dtype), *self.parts(x)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,), (work, greatest, *parts) = operands, scratch
        total = self.reduce(np.add, work, out, parts)
        return _logsumexp, (x, check_axes(self.axis, x.ndim), work, greatest, total, out)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        # exp(x - y) is the softmax already, but for the rounding of y, which the division takes out.
        # Between its bounds, y of all -inf is above them: their powers are 0, and so is the adjoint.
        limit = float(np.finfo(x.dtype).max)
        powers = exp(x - self.spread(clip(stop_gradient(y), -limit, limit), x))
        total = sum(powers, self.axis, keepdims=True)
        some = total > 0.0
        share = mask(self.spread(y_bar, x), some) / where(some, total, 1.0)
        return (powers * share,)

    def flops(self, y: TensorType, x: TensorType) -> int:
        return 4 * x.size + 2 * y.size


class Place(NonEmptyReduction):
    """Where the extreme stands: its number, counted row by row along `axis`; that of the first of equals. int64."""

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(super().infer(x).shape, "int64")

    def eval(self, xp: Any, x: Any) -> Any:
        places = _places(xp, self.kind, x, check_axes(self.axis, x.ndim))
        return xp.reshape(places, reduced(x.shape, self.axis, self.keepdims))

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return (_rows_type(x, self.axis),)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,), (work,) = operands, scratch
        return _find(self.kind, x, check_axes(self.axis, x.ndim), work, out)


class ArgMax(Place):
    """y = the number of the first greatest x along `axis`, counted row by row where there are several; int64."""

    kind: Literal["argmax"] = "argmax"


class ArgMin(Place):
    """y = the number of the first least x along `axis`, counted row by row where there are several; int64."""

    kind: Literal["argmin"] = "argmin"


class First(Op):
    """y = 1 at the first greatest (`of` max) or least (`of` min) x along `axis`, else 0: the derivative of max and min.

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
        places = _places(xp, f"arg{self.of}", x, axes)
        hits = xp.equal(places[..., None], xp.arange(math.prod(x.shape[axis] for axis in axes)))
        moved = xp.reshape(hits, [x.shape[axis] for axis in order]).astype(x.dtype)
        return xp.transpose(moved, sorted(range(x.ndim), key=order.__getitem__))

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        places = TensorType(reduced(x.shape, self.axis, keepdims=False), "int64")
        return _rows_type(x, self.axis), places, places

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,), (work, places, offsets) = operands, scratch
        axes = check_axes(self.axis, x.ndim)
        kept = with_behind(x.ndim, axes)[: x.ndim - len(axes)]
        find = _find(f"arg{self.of}", x, axes, work, places)
        return _mark, (
            out,
            find,
            places,
            memory_offsets(x.shape, axes).reshape(-1),
            offsets,
            memory_offsets(x.shape, kept),
        )

    def flops(self, y: TensorType, x: TensorType) -> int:
        return x.size


def mean(x: Node, axis: Axis = None, keepdims: bool = False, *, name: str | None = None) -> Node:
    """Mean over `axis`: one axis, several, or None for all; NaN where there is no element.

    x: floats; returns the same dtype, without these axes or, with `keepdims`, with size 1 there.
    Raises DTypeError for other dtypes, ShapeError for an axis that x does not have.
    """
    return apply(Mean(axis=as_axes(axis), keepdims=keepdims), x, name=name)


def variance(x: Node, axis: Axis = None, keepdims: bool = False, *, name: str | None = None) -> Node:
    """Biased variance over `axis`, one axis, several, or None for all: the mean of (x - mean)^2.

    x: floats; returns the same dtype, without these axes or, with `keepdims`, with size 1 there.
    Raises DTypeError for other dtypes, ShapeError for an axis that x does not have.
    """
    return apply(Variance(axis=as_axes(axis), keepdims=keepdims), x, name=name)


def max(x: Node, axis: Axis = None, keepdims: bool = False, *, name: str | None = None) -> Node:
    """Maximum over `axis`: one axis, several, or None for all. Of equal maxima the first gets the gradient.

    x: numbers; returns the same dtype, without these axes or, with `keepdims`, with size 1 there.
    Raises DTypeError for bools, ShapeError for an axis that x does not have or that has size 0.
    """
    return apply(Max(axis=as_axes(axis), keepdims=keepdims), x, name=name)


def min(x: Node, axis: Axis = None, keepdims: bool = False, *, name: str | None = None) -> Node:
    """Minimum over `axis`: one axis, several, or None for all. Of equal minima the first gets the gradient.

    Types and errors are those of `max`: Raises DTypeError or ShapeError. Returns the same dtype.
    """
    return apply(Min(axis=as_axes(axis), keepdims=keepdims), x, name=name)


def logsumexp(x: Node, axis: Axis = None, keepdims: bool = False, *, name: str | None = None) -> Node:
    """log sum exp(x) over `axis`, one axis, several, or None for all, computed after subtracting the maximum.

    x: floats; returns the same dtype, without these axes or, with `keepdims`, with size 1 there.
    Raises DTypeError for other dtypes, ShapeError for an axis that x does not have.
    """
    return apply(LogSumExp(axis=as_axes(axis), keepdims=keepdims), x, name=name)


def argmax(x: Node, axis: Axis = None, keepdims: bool = False, *, name: str | None = None) -> Node:
    """Index of the first maximum over `axis`: one axis, or several or all (None), counted in row-major order.

    x: numbers; returns int64, without these axes or, with `keepdims`, with size 1 there. No gradient passes.
    Raises DTypeError for bools, ShapeError for an axis that x does not have or that has size 0.
    """
    return apply(ArgMax(axis=as_axes(axis), keepdims=keepdims), x, name=name)


def argmin(x: Node, axis: Axis = None, keepdims: bool = False, *, name: str | None = None) -> Node:
    """Index of the first minimum over `axis`, as `argmax` has it. Returns int64.

    Raises DTypeError for bools, ShapeError for an axis that x does not have or that has size 0.
    """
    return apply(ArgMin(axis=as_axes(axis), keepdims=keepdims), x, name=name)


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


def _places(xp: Any, kind: str, x: Any, axes: Sequence[int]) -> Any:
    return getattr(xp, kind)(_rows(xp, x, axes), axis=-1).astype("int64")


def _find(kind: str, x: Array, axes: Sequence[int], work: Array, out: Array) -> Call:
    """The call that writes the places of x's extremes along `axes` into `out`; `work` is of `_rows_type`."""
    moved = x.transpose(with_behind(x.ndim, axes))
    ready = moved.flags.c_contiguous
    rows = _rows(np, moved if ready else work, range(x.ndim - len(axes), x.ndim))
    find, arguments = getattr(rows, kind), (-1, out.reshape(rows.shape[:-1]))
    return (find, arguments) if ready else (_copy_and_find, (work, moved, find, arguments))


def _copy_and_find(work: Array, moved: Array, find: Callable[..., object], arguments: tuple[object, ...]) -> None:
    np.copyto(work, moved)
    find(*arguments)


def memory_offsets(shape: Sequence[int], axes: Sequence[int]) -> Array:
    """Where the elements along `axes` stand in the memory of an array of `shape`, the other axes at 0."""
    strides = np.array([math.prod(shape[axis + 1 :]) for axis in axes], np.int64)
    return np.tensordot(strides, np.indices([shape[axis] for axis in axes]), 1)


def _mark(out: Array, find: Call, places: Array, table: Array, offsets: Array, starts: Array) -> None:
    """Write 1 at the places found, 0 elsewhere: `table` turns a place into an offset from where its row starts."""
    function, arguments = find
    function(*arguments)
    table.take(places, None, offsets, "clip")
    np.add(offsets, starts, offsets)
    out.fill(0)
    out.put(offsets, 1)


def _mean(out: Array, total: Call, count: int) -> None:
    function, arguments = total
    function(*arguments)
    np.divide(out, count, out)


def _logsumexp(x: Array, axes: tuple[int, ...], work: Array, greatest: Array, total: Call, out: Array) -> None:
    function, arguments = total
    np.maximum.reduce(x, axes, out=greatest, keepdims=True)
    limit = np.finfo(x.dtype).max  # between its bounds, inf - inf does not come up
    np.maximum(greatest, -limit, out=greatest)
    np.minimum(greatest, limit, out=greatest)
    np.subtract(x, greatest, work)
    np.exp(work, work)
    function(*arguments)
    np.log(out, out)
    np.add(out, greatest.reshape(out.shape), out)


def _variance(
    x: Array, count: Array, centered: Array, means: Array, of_values: Call, of_squares: Call, out: Array
) -> None:
    run_all([of_values])
    np.divide(means, count, means)
    np.subtract(x, means, centered)
    np.multiply(centered, centered, centered)
    run_all([of_squares])
    np.divide(out, count, out)
