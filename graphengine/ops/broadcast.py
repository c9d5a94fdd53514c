"""Broadcasting and its adjoint, summation; and the reshaping that both need."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol, SupportsIndex

import numpy as np
from pydantic import BeforeValidator

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir import dims
from graphengine.ir.dims import Dim, Shape
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node, apply
from graphengine.ir.op import Call, Dims, HoldsDims, OneDim, Op, as_dim
from graphengine.ir.types import Array, DType, TensorType, broadcast_shapes, check_axes
from graphengine.ops.support.pointwise import as_public, kind_of
from graphengine.ops.support.sums import parts_of_sum, summed

__all__ = ["broadcast_to", "reshape", "sum"]

Axis = int | Sequence[int] | None


def _open_shape(value: Any) -> Shape:
    if not isinstance(value, list | tuple) or value.count(-1) > 1:
        raise ValueError("a shape is a list of ints and names, at most one of them -1")
    return tuple(-1 if dim == -1 else as_dim(dim) for dim in value)


class BroadcastTo(Op):
    """The operand repeated along new axes and along axes of size 1, by NumPy's rule. Takes no memory: it is a view."""

    is_view: ClassVar[bool] = True
    kind: Literal["broadcast_to"] = "broadcast_to"
    shape: Dims

    def infer(self, x: TensorType) -> TensorType:
        if broadcast_shapes(x.shape, self.shape) != self.shape:
            raise ShapeError(f"{x} does not broadcast to [{', '.join(map(str, self.shape))}]")
        return TensorType(self.shape, x.dtype)

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.broadcast_to(x, self.shape)

    def view(self, x: Array) -> Array:
        return np.broadcast_to(x, [dims.bind(dim, {}) for dim in self.shape])

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        return (sum_to(y_bar, x.shape),)


class Reshape(Op):
    """The operand's elements, in order, in another shape; one -1 is the size that is left over.

    A contiguous operand is seen as a view; of another (a transposed one, say) a copy is made.
    """

    is_view: ClassVar[bool] = True
    keeps_layout: ClassVar[bool] = True
    kind: Literal["reshape"] = "reshape"
    shape: Annotated[Shape, BeforeValidator(_open_shape), HoldsDims()]

    def infer(self, x: TensorType) -> TensorType:
        total = dims.product(x.shape)
        given = dims.product(dim for dim in self.shape if dim != -1)
        if -1 not in self.shape:
            if total != given:
                raise ShapeError(f"{x} has {total} elements, and [{', '.join(map(str, self.shape))}] has {given}")
            return TensorType(self.shape, x.dtype)
        left = None if given == 0 else dims.divide(total, given)
        if left is None:
            raise ShapeError(f"{x} has {total} elements, which {given} does not divide")
        return TensorType(tuple(left if dim == -1 else dim for dim in self.shape), x.dtype)

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.reshape(x, self.shape)

    def view(self, x: Array) -> Array:
        return x.reshape([dims.bind(dim, {}) for dim in self.shape])

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,) = operands
        return np.copyto, (out.reshape(x.shape), x)

    def can_view(self, contiguous: bool) -> bool:
        return contiguous

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        return (reshape(y_bar, x.shape),)


class Reduction(Op):
    """An op that makes one number of all those along `axis` (all axes for None).

    These axes are absent from the value, or have size 1 there where `keepdims`. The dtype stays.
    """

    operands: ClassVar[str] = "numbers"
    result: ClassVar[str] = "the same dtype"
    refused: ClassVar[str] = "an axis that x does not have"
    kind: str
    axis: tuple[int, ...] | None = None
    keepdims: bool = False

    @classmethod
    def takes(cls) -> str:
        """The lines of a docstring on operand, result and errors."""
        return (
            f"    x: {cls.operands}; `axis`: one axis, several, or None for all.\n"
            f"    Returns {cls.result}, without these axes or, with `keepdims`, with size 1 there.\n"
            f"    Raises DTypeError for other dtypes, ShapeError for {cls.refused}."
        )

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype == "bool" or (self.operands == "floats" and not x.is_float):
            raise DTypeError(f"{self.kind} takes {self.operands}, not {x}; cast it")
        return TensorType(reduced(x.shape, self.axis, self.keepdims), x.dtype)

    def flops(self, y: TensorType, x: TensorType) -> int:
        return max(0, x.size - y.size)

    def count(self, shape: Shape) -> Dim:
        """How many elements of an operand of `shape` become one."""
        return dims.product(shape[axis] for axis in check_axes(self.axis, len(shape)))

    def parts(self, x: TensorType) -> tuple[TensorType, ...]:
        """The work memory of a sum by `reduce`."""
        return parts_of_sum(x, check_axes(self.axis, x.ndim))

    def reduce(self, ufunc: np.ufunc, x: Array, out: Array, parts: Sequence[Array] = ()) -> Call:
        """The call that reduces x by `ufunc` into `out`; `parts` is for the sums of blocks."""
        axes = check_axes(self.axis, x.ndim)
        if ufunc is np.add and x.dtype.kind == "f":
            return summed(x, axes, out, parts)
        return ufunc.reduce, (x, axes[0] if len(axes) == 1 else axes, None, out, self.keepdims)

    def spread(self, y: Node, x: Node) -> Node:
        """`y`, of the reduced shape, in one that broadcasts to x: with the axes put in again, if need be."""
        axes = check_axes(self.axis, x.ndim)
        broadcasts = self.keepdims or axes == tuple(range(len(axes)))
        return y if broadcasts else reshape(y, reduced(x.shape, self.axis, keepdims=True))


class Sum(Reduction):
    """y = the sum of x over `axis`, in x's own dtype: integers wrap around where NumPy's sum would widen them."""

    kind: Literal["sum"] = "sum"

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.sum(x, axis=self.axis, keepdims=self.keepdims, dtype=x.dtype)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return self.parts(x)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return self.reduce(np.add, operands[0], out, scratch)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        return (broadcast_to(self.spread(y_bar, x), x.shape),)


class DimSize(Op):
    """The value of an expression in dims, "2*batch" say, as a scalar: how the 1/n of a mean knows its n."""

    kind: Literal["dim_size"] = "dim_size"
    size: OneDim
    dtype: DType

    def infer(self) -> TensorType:
        return TensorType((), self.dtype)

    def eval(self, xp: Any) -> Any:
        return xp.asarray(self.size, dtype=self.dtype)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return out.fill, (self.size,)


class _Reducer(Protocol):
    def __call__(self, x: Node, axis: Axis = None, keepdims: bool = False, *, name: str | None = None) -> Node: ...


def reduction(op: type[Reduction]) -> _Reducer:
    """The public function of a reduction."""

    def function(x: Node, axis: Axis = None, keepdims: bool = False, *, name: str | None = None) -> Node:
        return apply(op(kind=kind_of(op), axis=as_axes(axis), keepdims=keepdims), x, name=name)

    return as_public(function, op)


def reduced(shape: Shape, axis: Sequence[int] | None, keepdims: bool) -> Shape:
    """The shape left of `shape` after a reduction over `axis`."""
    gone = set(check_axes(axis, len(shape)))
    if keepdims:
        return tuple(1 if i in gone else dim for i, dim in enumerate(shape))
    return tuple(dim for i, dim in enumerate(shape) if i not in gone)


def as_axes(axis: Axis) -> tuple[int, ...] | None:
    """The `axis` argument of a reduction as its op holds it."""
    if axis is None:
        return None
    given = axis if isinstance(axis, Sequence) else (axis,)
    return tuple(operator.index(i) if isinstance(i, SupportsIndex) else i for i in given)


def as_shape(shape: Dim | Sequence[Dim]) -> Shape:
    """The `shape` argument of a function as its op holds it: one dim alone is a shape of one axis."""
    return (shape,) if isinstance(shape, str) or not isinstance(shape, Iterable) else tuple(shape)


def broadcast_to(x: Node, shape: Dim | Sequence[Dim], *, name: str | None = None) -> Node:
    """`x` repeated to `shape` by NumPy's broadcasting rule; dims may be names.

    x: any dtype; returns the same dtype in `shape`. A view.
    Raises ShapeError if x does not broadcast to `shape`, AttributeValueError for a shape that is none.
    """
    wide = as_shape(shape)
    return x if wide == x.shape and name is None else apply(BroadcastTo(shape=wide), x, name=name)


def reshape(x: Node, shape: Dim | Sequence[Dim], *, name: str | None = None) -> Node:
    """The elements of `x`, in order, in `shape`: ints, names, and at most one -1 for the size that is left over.

    x: any dtype; returns the same dtype. A view.
    Raises ShapeError if the number of elements differs, AttributeValueError for a shape that is none.
    """
    new = as_shape(shape)
    return x if new == x.shape and name is None else apply(Reshape(shape=new), x, name=name)


sum = reduction(Sum)


def sum_to(x: Node, shape: Shape) -> Node:
    """The adjoint of broadcasting `shape` to that of `x`: `x` summed over the axes that were repeated."""
    if x.shape == shape:
        return x
    ahead = x.ndim - len(shape)
    repeated = [i for i, dim in enumerate(shape, ahead) if dim == 1 and x.shape[i] != 1]
    total = sum(x, (*range(ahead), *repeated)) if ahead or repeated else x
    return reshape(total, shape)


def full(graph: Graph, value: float, shape: Shape, dtype: DType) -> Node:
    """A node all of whose elements are `value`."""
    return broadcast_to(graph.scalar(value, dtype), shape)


def dim_size(graph: Graph, dim: Dim, dtype: DType) -> Node:
    """The scalar node whose value is `dim`."""
    if isinstance(dim, int):
        return graph.scalar(dim if dim <= dims.MAX_SIZE else float(dim), dtype)
    return graph.add(DimSize(size=dim, dtype=dtype))
