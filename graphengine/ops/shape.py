"""Values joined, split, padded and cropped; axes transposed, and those of size 1 put in and taken out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate, zip_longest
from typing import Any, ClassVar, Literal

import numpy as np

from graphengine.errors import AttributeValueError, DTypeError, ShapeError
from graphengine.ir import dims
from graphengine.ir.array import ExactFloat, fitted
from graphengine.ir.dims import Dim, Shape
from graphengine.ir.node import Node, Operand, apply
from graphengine.ir.op import Call, Dims, GetItem, Op, Sizes
from graphengine.ir.types import Array, TensorType, TupleType, check_axes, check_axis, common_dtype
from graphengine.ops.broadcast import as_axes, full
from graphengine.ops.index import slice as part
from graphengine.ops.index import write_inside

__all__ = ["concat", "crop", "expand_dims", "pad", "split", "squeeze", "stack", "transpose"]


class Concat(Op):
    """The operands one after another along `axis`; their other axes have equal sizes."""

    kind: Literal["concat"] = "concat"
    axis: int = 0

    def infer(self, *types: TensorType) -> TensorType:
        dtype = common_dtype(types)
        first = types[0].shape
        axis = check_axis(self.axis, len(first))
        for type_ in types:
            beside = type_.shape[:axis], type_.shape[axis + 1 :]
            if type_.ndim != len(first) or beside != (first[:axis], first[axis + 1 :]):
                raise ShapeError(f"sizes differ beside axis {axis}: {types[0]} and {type_}")
        total = reduce(dims.add, [type_.shape[axis] for type_ in types])
        return TensorType((*first[:axis], total, *first[axis + 1 :]), dtype)

    def eval(self, xp: Any, *values: Any) -> Any:
        return xp.concatenate(values, axis=self.axis)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return np.concatenate, (operands, self.axis, out)

    def vjp(self, y: Node, y_bar: Node, *parents: Node) -> tuple[Node | None, ...]:
        axis = check_axis(self.axis, y.ndim)
        sizes: list[Dim] = [0, *(parent.shape[axis] for parent in parents[:-1])]
        starts = accumulate(sizes, dims.add)
        ahead, behind = [0] * axis, [0] * (y.ndim - axis - 1)
        return tuple(
            crop(y_bar, [*ahead, start, *behind], parent.shape) for start, parent in zip(starts, parents, strict=True)
        )


class Stack(Op):
    """The operands, of one type, side by side along a new axis: y[..., i, ...] = operand i, at `axis` of y."""

    kind: Literal["stack"] = "stack"
    axis: int = 0

    def infer(self, *types: TensorType) -> TensorType:
        dtype = common_dtype(types)
        for type_ in types:
            if type_ != types[0]:
                raise ShapeError(f"stack takes operands of one shape, not {types[0]} and {type_}")
        first = types[0].shape
        axis = check_axis(self.axis, len(first) + 1)
        return TensorType((*first[:axis], len(types), *first[axis:]), dtype)

    def eval(self, xp: Any, *values: Any) -> Any:
        return xp.stack(values, axis=self.axis)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return np.concatenate, ([np.expand_dims(operand, self.axis) for operand in operands], self.axis, out)

    def vjp(self, y: Node, y_bar: Node, *parents: Node) -> tuple[Node | None, ...]:
        ahead = (slice(None),) * check_axis(self.axis, y.ndim)
        return tuple(part(y_bar, (*ahead, i)) for i in range(len(parents)))


class Pad(Op):
    """x with `before[i]` elements ahead of it along axis i and `after[i]` behind it, all of them `value`."""

    kind: Literal["pad"] = "pad"
    before: Dims
    after: Dims
    value: ExactFloat = 0.0

    def infer(self, x: TensorType) -> TensorType:
        if not len(self.before) == len(self.after) == x.ndim:
            raise ShapeError(f"pad takes widths before and after each axis of {x}, not {self.before} and {self.after}")
        if any(isinstance(width, int) and width < 0 for width in (*self.before, *self.after)):
            raise ShapeError(f"widths before {self.before} and after {self.after} are not all at least 0")
        try:
            fitted(np.array(self.value), x.dtype)
        except ValueError as error:
            raise DTypeError(f"{x} is not padded with {self.value}: {error}") from None
        padded = zip(self.before, x.shape, self.after, strict=True)
        return TensorType(tuple(dims.add(dims.add(ahead, size), behind) for ahead, size, behind in padded), x.dtype)

    def eval(self, xp: Any, x: Any) -> Any:
        widths = list(zip(self.before, self.after, strict=True))
        return xp.pad(x, widths, constant_values=self.value) if widths else x

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,) = operands
        return write_inside, (out, block_of(out, self.before, x.shape), x, self.value)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        return (crop(y_bar, self.before, x.shape),)


class Crop(Op):
    """The block of x that begins at `start` and has `shape`; a view. It undoes `pad`, and each is the other's adjoint.

    Where names hide whether the block lies inside x, a feed for which it does not is a FeedError.
    """

    is_view: ClassVar[bool] = True
    kind: Literal["crop"] = "crop"
    start: Dims
    shape: Dims

    def infer(self, x: TensorType) -> TensorType:
        if not len(self.start) == len(self.shape) == x.ndim:
            raise ShapeError(f"crop takes a start and a size for each axis of {x}, not {self.start} and {self.shape}")
        sizes = (*self.start, *self.shape, *self._behind(x.shape))
        if any(isinstance(size, int) and size < 0 for size in sizes):
            raise ShapeError(f"the block of shape {self.shape} at {self.start} does not lie inside {x}")
        return TensorType(self.shape, x.dtype)

    def eval(self, xp: Any, x: Any) -> Any:
        return block_of(x, self.start, self.shape)

    def view(self, operand: Array) -> Array:
        return block_of(operand, self.start, self.shape)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        return (apply(Pad(before=self.start, after=self._behind(x.shape)), y_bar),)

    def _behind(self, shape: Shape) -> Shape:
        """How many elements of x lie behind the block, along each axis."""
        blocks = zip(shape, self.start, self.shape, strict=True)
        return tuple(dims.subtract(dims.subtract(whole, start), size) for whole, start, size in blocks)


class ExpandDims(Op):
    """x with new axes of size 1, at `axis` of y. A view."""

    is_view: ClassVar[bool] = True
    keeps_layout: ClassVar[bool] = True
    kind: Literal["expand_dims"] = "expand_dims"
    axis: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        ndim = x.ndim + len(self.axis)
        new = check_axes(self.axis, ndim)
        old = iter(x.shape)
        return TensorType(tuple(1 if place in new else next(old) for place in range(ndim)), x.dtype)

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.expand_dims(x, self.axis)

    def view(self, operand: Array) -> Array:
        return np.expand_dims(operand, self.axis)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        return (apply(Squeeze(axis=self.axis), y_bar),)


class Squeeze(Op):
    """x without `axis`, which have size 1. A view."""

    is_view: ClassVar[bool] = True
    keeps_layout: ClassVar[bool] = True
    kind: Literal["squeeze"] = "squeeze"
    axis: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        gone = check_axes(self.axis, x.ndim)
        for axis in gone:
            if x.shape[axis] != 1:
                raise ShapeError(f"axis {axis} of {x} is not squeezed away: its size is {x.shape[axis]}, not 1")
        return TensorType(tuple(size for place, size in enumerate(x.shape) if place not in gone), x.dtype)

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.squeeze(x, self.axis)

    def view(self, operand: Array) -> Array:
        return operand.squeeze(self.axis)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        return (apply(ExpandDims(axis=check_axes(self.axis, x.ndim)), y_bar),)


class Transpose(Op):
    """The operand's axes in another order: y's axis i is x's axis `axes[i]`; reversed for None. A view."""

    is_view: ClassVar[bool] = True
    kind: Literal["transpose"] = "transpose"
    axes: tuple[int, ...] | None = None

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(tuple(x.shape[axis] for axis in self._order(x.ndim)), x.dtype)

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.transpose(x, self.axes)

    def view(self, x: Array) -> Array:
        return x.transpose(self.axes)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        if self.axes is None:
            return (transpose(y_bar),)
        return (transpose(y_bar, np.argsort(self._order(x.ndim)).tolist()),)

    def _order(self, ndim: int) -> tuple[int, ...]:
        if self.axes is None:
            return tuple(reversed(range(ndim)))
        order = tuple(check_axis(axis, ndim) for axis in self.axes)
        if sorted(order) != list(range(ndim)):
            raise ShapeError(f"axes {self.axes} are not an order of the {ndim} axes")
        return order


class Split(Op):
    """Parts of x that lie one behind the other along `axis`, of these `sizes`: a tuple of views."""

    is_view: ClassVar[bool] = True
    kind: Literal["split"] = "split"
    sizes: Sizes
    axis: int = 0

    def infer(self, x: TensorType) -> TupleType:
        axis = check_axis(self.axis, x.ndim)
        nothing: Dim = 0
        total = reduce(dims.add, self.sizes, nothing)
        if total != x.shape[axis]:
            raise ShapeError(f"axis {axis} of {x} is not split into {' + '.join(map(str, self.sizes))} = {total}")
        ahead, behind = x.shape[:axis], x.shape[axis + 1 :]
        return TupleType(tuple([TensorType((*ahead, size, *behind), x.dtype) for size in self.sizes]))

    def eval(self, xp: Any, x: Any) -> Any:
        ends = np.cumsum([dims.bind(size, {}) for size in self.sizes])
        return tuple(xp.split(x, ends[:-1], axis=self.axis))

    def view(self, operand: Array) -> Any:
        return self.eval(np, operand)

    def vjp(self, y: Node, y_bar: Any, x: Node) -> tuple[Node | None]:
        types = y.type.items if isinstance(y.type, TupleType) else ()
        parts = [
            full(x.graph, 0.0, type_.shape, type_.dtype) if bar is None else bar
            for bar, type_ in zip_longest(y_bar, types)
        ]
        return (concat(parts, axis=self.axis),)


def concat(nodes: Sequence[Operand], axis: int = 0, *, name: str | None = None) -> Node:
    """`nodes` one after another along `axis`.

    They have one dtype, and equal shapes but for `axis`; returns that dtype.
    Raises ShapeError or DTypeError for nodes that do not fit, GraphError or AttributeValueError for no nodes.
    """
    nodes = [*nodes]  # which `concat(a, b)` cannot be taken apart into
    return apply(Concat(axis=axis), *nodes, name=name)


def stack(nodes: Sequence[Operand], axis: int = 0, *, name: str | None = None) -> Node:
    """`nodes`, of one type, side by side along a new axis at the position `axis` of the result.

    Returns their dtype. Raises ShapeError or DTypeError for nodes that do not fit, GraphError or AttributeValueError
    for no nodes.
    """
    nodes = [*nodes]
    return apply(Stack(axis=axis), *nodes, name=name)


def pad(x: Node, widths: Sequence[tuple[Dim, Dim]], value: float = 0.0, *, name: str | None = None) -> Node:
    """`x` with `value` around it; `widths` holds, for each axis, how many elements go before it and after it.

    x: any dtype; returns the same dtype.
    Raises ShapeError if `widths` do not fit the axes, AttributeValueError for negative widths or a value that is none.
    """
    before, after = tuple(width[0] for width in widths), tuple(width[1] for width in widths)
    return apply(Pad(before=before, after=after, value=value), x, name=name)


def crop(x: Node, start: Sequence[Dim], shape: Sequence[Dim], *, name: str | None = None) -> Node:
    """The block of `x` that begins at `start` and has `shape`; unlike those of a slice, its bounds may be names.

    x: any dtype; returns the same dtype. A view.
    Raises ShapeError if the block does not lie in x, AttributeValueError for bounds that are none.
    """
    return apply(Crop(start=tuple(start), shape=tuple(shape)), x, name=name)


def expand_dims(x: Node, axis: int | Sequence[int], *, name: str | None = None) -> Node:
    """`x` with new axes of size 1 at the positions `axis` of the result.

    x: any dtype; returns the same dtype. A view. Raises ShapeError for positions that the result does not have.
    """
    return apply(ExpandDims(axis=as_axes(axis)), x, name=name)


def squeeze(x: Node, axis: int | Sequence[int] | None = None, *, name: str | None = None) -> Node:
    """`x` without the axes `axis`, of size 1; for None without all axes of size 1, but never a named one.

    x: any dtype; returns the same dtype. A view. Raises ShapeError for an axis that x does not have or of another size.
    """
    ones = tuple(place for place, size in enumerate(x.shape) if size == 1)
    return apply(Squeeze(axis=ones if axis is None else as_axes(axis)), x, name=name)


def block_of(x: Array, start: Sequence[Dim], shape: Sequence[Dim]) -> Array:
    """The block of x that begins at `start` and has `shape`, both bound."""
    bounds = [(dims.bind(begin, {}), dims.bind(size, {})) for begin, size in zip(start, shape, strict=True)]
    key: tuple[Any, ...] = (..., *(slice(begin, begin + size) for begin, size in bounds))
    block: Array = x[key]
    return block


def transpose(x: Node, axes: Sequence[int] | None = None, *, name: str | None = None) -> Node:
    """`x` with its axes in the order `axes`, or reversed for None.

    x: any dtype; returns the same dtype. A view.
    Raises ShapeError if `axes` is not a permutation of the axes of x.
    """
    return apply(Transpose(axes=None if axes is None else tuple(axes)), x, name=name)


def split(x: Node, parts: int | Sequence[Dim], axis: int = 0, *, name: str | None = None) -> tuple[Node, ...]:
    """`x` cut along `axis` into `parts`: a number of equal parts, or a list of their sizes.

    x: any dtype; returns a tuple of nodes of that dtype. They are views.
    Raises ShapeError for an axis that x does not have and sizes that do not add up, AttributeValueError for parts that
    are not positive.
    """
    if isinstance(parts, int):
        if parts < 1:
            raise AttributeValueError(f"split: at least one part is needed, not {parts}")
        size = dims.divide(x.shape[check_axis(axis, x.ndim)], parts)
        if size is None:
            raise ShapeError(f"{x.type} is not split into {parts} equal parts along axis {axis}")
        parts = [size] * parts
    tuple_ = apply(Split(sizes=tuple(parts), axis=axis), x, name=name)
    return tuple(apply(GetItem(index=index), tuple_) for index in range(len(parts)))
