"""Slices, rows by index, one-hot rows, and their adjoints; and values that follow from an index alone."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from graphengine.errors import DTypeError, ShapeError, ValueRangeError
from graphengine.ir import dims
from graphengine.ir.dims import Dim, Shape
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node, apply
from graphengine.ir.op import Call, Dims, OneDim, Op
from graphengine.ir.types import FLOATS, INTEGERS, Array, DType, TensorType, check_axis, check_dtype
from graphengine.ops.support.keys import Keys, key_shape, read_key
from graphengine.ops.support.run_all import as_one, run_all
from graphengine.ops.support.sums import BLOCK

__all__ = ["gather", "one_hot", "scatter_add", "slice"]


class Slice(Op):
    """The part of x that `key` picks, by NumPy's basic indexing; a view. In JSON the key is its text, "1:, ::-1, 0".

    The size that is left of a named axis is told from the name: 1: leaves "batch-1", :3 leaves 3, ::-1 leaves "batch".
    A feed too short for that is a FeedError.
    """

    is_view: ClassVar[bool] = True
    kind: Literal["slice"] = "slice"
    key: Keys

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(key_shape(self.key, x.shape), x.dtype)

    def eval(self, xp: Any, x: Any) -> Any:
        return x[read_key(self.key)]

    def view(self, operand: Array) -> Array:
        return part_of(operand, self.key)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        return (apply(SliceAdjoint(key=self.key, shape=x.shape), y_bar),)


class SliceAdjoint(Op):
    """The adjoint of `slice`: zeros of `shape`, but y[key] = x."""

    kind: Literal["slice_adjoint"] = "slice_adjoint"
    key: Keys
    shape: Dims

    def infer(self, x: TensorType) -> TensorType:
        _check_part(self.key, self.shape, x)
        return TensorType(self.shape, x.dtype)

    def eval(self, xp: Any, x: Any) -> Any:
        return _added(xp, xp.zeros(self.shape, x.dtype), read_key(self.key), x)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return write_inside, (out, part_of(out, self.key), *operands)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        return (apply(Slice(key=self.key), y_bar),)


class AddSlice(Op):
    """y = x, but y[key] = x[key] + part: what a sum with an adjoint of `slice` is, at the cost of the part."""

    overwrites: ClassVar[tuple[int, ...]] = (0,)
    kind: Literal["add_slice"] = "add_slice"
    key: Keys

    def infer(self, x: TensorType, part: TensorType) -> TensorType:
        if not x.is_float or x.dtype != part.dtype:
            raise DTypeError(f"add_slice adds floats of one dtype, not {part} to {x}")
        _check_part(self.key, x.shape, part)
        return x

    def eval(self, xp: Any, x: Any, part: Any) -> Any:
        return _added(xp, xp.array(x), read_key(self.key), part)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        x, part = operands
        target = part_of(out, self.key)
        copy: list[Call] = [] if x is out else [(np.copyto, (out, x))]
        return as_one([*copy, (np.add, (target, part, target))])

    def vjp(self, y: Node, y_bar: Node, x: Node, part: Node) -> tuple[Node | None, ...]:
        return y_bar, apply(Slice(key=self.key), y_bar)

    def flops(self, y: TensorType, x: TensorType, part: TensorType) -> int:
        return part.size


class Gather(Op):
    """y[..., i, ...] = x[..., indices[i], ...] along `axis`."""

    kind: Literal["gather"] = "gather"
    axis: int = 0

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        _check_integers(self, indices, x)
        axis = check_axis(self.axis, x.ndim)
        return TensorType((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)

    def eval(self, xp: Any, x: Any, indices: Any) -> Any:
        check_range(indices, x.shape[self.axis], "index")
        return xp.take(x, indices, axis=self.axis)

    def scratch(self, y: TensorType, x: TensorType, indices: TensorType) -> tuple[TensorType, ...]:
        return () if indices.dtype == "int64" else (TensorType(indices.shape, "int64"),)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        x, indices = operands
        axis = check_axis(self.axis, x.ndim)
        return _gather, (out, x, indices, scratch[0] if scratch else None, axis)

    def vjp(self, y: Node, y_bar: Node, x: Node, indices: Node) -> tuple[Node | None, ...]:
        axis = check_axis(self.axis, x.ndim)
        return scatter_add(y_bar, indices, x.shape[axis], axis), None


class ScatterAdd(Op):
    """y[..., k, ...] = the sum of x[..., i, ...] over all i with indices[i] = k; `axis` counts the axes of y."""

    kind: Literal["scatter_add"] = "scatter_add"
    axis: int = 0
    size: OneDim

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        _check_integers(self, indices, x)
        if x.dtype == "bool":
            raise DTypeError(f"scatter_add takes numbers, not {x}")
        before, rows, after = self._split(x.shape, indices.ndim)
        if rows != indices.shape:
            raise ShapeError(f"rows {x} at axis {len(before)} are not numbered by indices {indices}")
        return TensorType((*before, self.size, *after), x.dtype)

    def eval(self, xp: Any, x: Any, indices: Any) -> Any:
        check_range(indices, dims.bind(self.size, {}), "index")
        before, _, after = self._split(x.shape, indices.ndim)
        index = (*(builtins.slice(None) for _ in before), indices)
        return _added(xp, xp.zeros((*before, self.size, *after), x.dtype), index, x)

    def scratch(self, y: TensorType, x: TensorType, indices: TensorType) -> tuple[TensorType, ...]:
        offsets = TensorType(x.shape, "int64")
        if not _adds_many(x, indices):
            return (offsets,)
        return offsets, TensorType(y.shape, "float64"), TensorType((self.size,), "int64")

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x, indices), (offsets, *_) = operands, scratch
        before, rows, after = self._split(x.shape, indices.ndim)
        width = math.prod(after)
        size = dims.bind(self.size, {})
        heads = np.arange(math.prod(before)) * (size * width)
        starts = (heads[:, None] + np.arange(width)).reshape((*before, *(1 for _ in rows), *after))
        numbers = indices[(..., *(None for _ in after))]
        vector = x.reshape(-1) if x.flags.c_contiguous else x  # ufunc.at is several times as fast on vectors
        few = _scatter_add, (out, vector, indices, size, numbers, width, starts, offsets)
        if not _adds_many(x, indices):
            return few
        return _scatter_many, (out, x, indices, width, scratch[2], offsets.reshape(-1)[: indices.size], few)

    def vjp(self, y: Node, y_bar: Node, x: Node, indices: Node) -> tuple[Node | None, ...]:
        return gather(y_bar, indices, check_axis(self.axis, y.ndim)), None

    def flops(self, y: TensorType, x: TensorType, indices: TensorType) -> int:
        return x.size

    def _split(self, shape: Sequence[Any], rank: int) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
        """The sizes of x before the axes that the indices number, of those axes, and after them."""
        axis = check_axis(self.axis, len(shape) - rank + 1)
        return tuple(shape[:axis]), tuple(shape[axis : axis + rank]), tuple(shape[axis + rank :])


class OneHot(Op):
    """y[..., k] = 1 where k = labels[...], else 0, for k below `depth`."""

    kind: Literal["one_hot"] = "one_hot"
    depth: int = Field(ge=1)
    dtype: DType

    def infer(self, labels: TensorType) -> TensorType:
        _check_integers(self, labels)
        return TensorType((*labels.shape, self.depth), self.dtype)

    def eval(self, xp: Any, labels: Any) -> Any:
        check_range(labels, self.depth, "label")
        return xp.equal(labels[..., None], xp.arange(self.depth)).astype(self.dtype)

    def scratch(self, y: TensorType, labels: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(labels.shape, "int64"),)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (labels,), (offsets,) = operands, scratch
        starts = np.arange(labels.size).reshape(labels.shape) * self.depth
        return _one_hot, (out, labels, starts, offsets)


_WAVELENGTH = 10000
"""The base of the lengths of the waves, as published."""


class Fixed(Op):
    """A value that is the same in every run: written out when the kernel is bound."""

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return np.copyto, (out, self.eval(np))


class Arange(Fixed):
    """y_i = i, for i below `size`; int64."""

    kind: Literal["arange"] = "arange"
    size: OneDim

    def infer(self) -> TensorType:
        return TensorType((self.size,), "int64")

    def eval(self, xp: Any) -> Any:
        return xp.arange(dims.bind(self.size, {}), dtype="int64")


class SinusoidalPositions(Fixed):
    """y[p, 2i] = sin(p / 10000^(2i / units)), y[p, 2i + 1] = cos of the same (Vaswani et al. 2017, section 3.5)."""

    kind: Literal["sinusoidal_positions"] = "sinusoidal_positions"
    length: OneDim
    units: int = Field(ge=1)
    dtype: DType

    def infer(self) -> TensorType:
        if self.dtype not in FLOATS:
            raise DTypeError(f"sinusoidal_positions gives floats, not {self.dtype}")
        return TensorType((self.length, self.units), self.dtype)

    def eval(self, xp: Any) -> Any:
        # In float64 throughout: an angle of thousands of turns has no digits left for its sine in float32.
        columns = np.arange(self.units)
        angles = np.arange(dims.bind(self.length, {}))[:, None] / _WAVELENGTH ** ((columns - columns % 2) / self.units)
        return xp.asarray(np.where(columns % 2, np.cos(angles), np.sin(angles)).astype(self.dtype))


def check_range(values: Any, size: int, what: str) -> None:
    """Raise ValueRangeError unless all `values`, of an array of integers, lie in [0, size)."""
    if not isinstance(values, np.ndarray) or not values.size:  # values of other namespaces are not known as they pass
        return
    if np.minimum.reduce(values, None) >= 0 and np.maximum.reduce(values, None) < size:
        return
    index = tuple(int(i) for i in np.argwhere((values < 0) | (values >= size))[0])
    value, message = values[index], f"at {list(index)} is out of range: it must lie in [0, {size})"
    raise ValueRangeError(f"{what} {value} {message}", value, index)


def slice(x: Node, key: Any, *, name: str | None = None) -> Node:
    """x[key]: `key` is an int, a slice, ... or None (a new axis of size 1), or a tuple of them.

    x: any dtype; returns the same dtype. A view. A node's own brackets do the same.
    Raises ShapeError for an index out of range or too many of them, AttributeValueError for a key that is none.
    """
    return apply(Slice(key=key), x, name=name)


def gather(x: Node, indices: Node | npt.ArrayLike, axis: int = 0, *, name: str | None = None) -> Node:
    """Elements of `x` along `axis` by index: y[..., i, ...] = x[..., indices[i], ...].

    x: any dtype; indices: integers of any shape, which replaces the axis; returns the dtype of x.
    Raises DTypeError for other indices, ShapeError for an axis that x does not have, AttributeValueError for arrays
    that are no indices; when it runs, ValueRangeError for an index that is negative or too large.
    """
    return apply(Gather(axis=axis), x, _as_indices(x, indices), name=name)


def scatter_add(x: Node, indices: Node | npt.ArrayLike, size: Dim, axis: int = 0, *, name: str | None = None) -> Node:
    """Sum by index, the adjoint of `gather`: y[..., k, ...] = sum of x[..., i, ...] over i with indices[i] = k < size.

    x: numbers whose axes from `axis` on begin with the shape of `indices`; returns the same dtype.
    Raises DTypeError for other dtypes, ShapeError for axes that do not fit, AttributeValueError for a wrong size; when
    it runs, ValueRangeError for an index that is negative or not below `size`.
    """
    return apply(ScatterAdd(axis=axis, size=size), x, _as_indices(x, indices), name=name)


def one_hot(labels: Node, depth: int, dtype: object = None, *, name: str | None = None) -> Node:
    """One-hot rows: y[..., k] = 1 where k = labels[...], else 0, for k < depth.

    labels: integers of any shape; returns [..., depth] in `dtype`, or in the graph's, or float32 if that is no float.
    Raises DTypeError for other labels, AttributeValueError for a negative depth; when it runs, ValueRangeError for a
    label that is negative or not below `depth`.
    """
    graph = labels.graph
    chosen = check_dtype(dtype) if dtype is not None else graph.dtype if graph.dtype in FLOATS else "float32"
    return apply(OneHot(depth=depth, dtype=chosen), labels, name=name)


def arange(graph: Graph, size: Dim) -> Node:
    """The node of 0, 1, ..., size - 1."""
    return graph.add(Arange(size=size))


def _check_part(key: str, shape: Shape, part: TensorType) -> None:
    picked = key_shape(key, shape)
    if picked != part.shape:
        raise ShapeError(f"{part} does not fit the place that [{key}] picks, {TensorType(picked, part.dtype)}")


def _check_integers(op: Op, indices: TensorType, *others: TensorType) -> None:
    if indices.dtype not in INTEGERS:
        beside = "".join(f" with {other}" for other in others)
        raise DTypeError(f"{op.kind} takes integers for numbers of rows, not {indices}{beside}")


def _as_indices(x: Node, indices: Node | npt.ArrayLike) -> Node:
    # Left to `apply`, an array would take the dtype of x.
    return indices if isinstance(indices, Node) else x.graph.constant(None, np.asarray(indices))


def part_of(x: Array, key: str) -> Array:
    """x[key] as a view, also where that is one element, of which NumPy would make a scalar."""
    keys = read_key(key)
    return x[keys if Ellipsis in keys else (*keys, Ellipsis)]


def _added(xp: Any, zeros: Any, index: Any, values: Any) -> Any:
    """zeros[index] += values, for NumPy's arrays and for those that are never written to."""
    if xp is not np:
        return zeros.at[index].add(values)
    np.add.at(zeros, index, values)
    return zeros


def write_inside(out: Array, part: Array, x: Array, around: float = 0) -> None:
    """Write x into `part`, a view of `out`, and `around` into all else."""
    out.fill(around)
    np.copyto(part, x)


def _gather(out: Array, x: Array, indices: Array, numbers: Array | None, axis: int) -> None:
    check_range(indices, x.shape[axis], "index")
    if numbers is not None:
        np.copyto(numbers, indices)
        indices = numbers
    x.take(indices, axis, out, "clip")  # with mode "raise" NumPy makes a copy of `out`


def _scatter_add(
    out: Array, x: Array, indices: Array, size: int, numbers: Array, width: int, starts: Array, offsets: Array
) -> None:
    check_range(indices, size, "index")
    np.copyto(offsets, numbers)
    np.multiply(offsets, width, offsets)
    np.add(offsets, starts, offsets)
    out.fill(0)
    np.add.at(out.reshape(-1), offsets.reshape(x.shape), x)


def _adds_many(x: TensorType | Array, indices: TensorType | Array) -> bool:
    """Whether a row may be the sum of so many that rounding has to be looked after."""
    return np.dtype(x.dtype).kind == "f" and x.size > 0 and indices.size > BLOCK


def _scatter_many(out: Array, x: Array, indices: Array, width: int, counts: Array, numbers: Array, few: Call) -> None:
    """Add rows of one number pairwise, put next to each other, if there are many of any number; else as they come."""
    check_range(indices, counts.size, "index")
    np.copyto(numbers, indices.reshape(-1))
    counts.fill(0)
    np.add.at(counts, numbers, 1)
    if np.maximum.reduce(counts) <= BLOCK:
        run_all([few])
        return
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    rows = x.reshape(-1, order.size, width).swapaxes(1, 2).take(order, -1)
    out.fill(0)
    out.reshape(-1, counts.size, width).swapaxes(1, 2)[..., numbers[starts]] = np.add.reduceat(rows, starts, -1)


def _one_hot(out: Array, labels: Array, starts: Array, offsets: Array) -> None:
    check_range(labels, out.shape[-1], "label")
    np.copyto(offsets, labels)
    np.add(offsets, starts, offsets)
    out.fill(0)
    out.put(offsets, 1)
