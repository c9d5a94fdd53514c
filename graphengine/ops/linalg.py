"""Matrix products and transposition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir import dims
from graphengine.ir.node import Node, apply
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, TensorType, broadcast_shapes, check_axis, common_dtype
from graphengine.ops.broadcast import reshape, sum_to
from graphengine.ops.elementwise import binary

__all__ = ["matmul", "transpose"]


class MatMul(Op):
    """Matrix product: y[..., i, k] = sum_j a[..., i, j] * b[..., j, k]; a vector is a row on the left, a column on the
    right.

    a, b: floats of one dtype; axes before the last two broadcast; returns that dtype, without the axis of a vector.
    Raises DTypeError for other dtypes, ShapeError for scalars and inner sizes that differ.
    """

    kind: Literal["matmul"] = "matmul"

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        dtype = common_dtype((a, b))
        if not a.is_float:
            raise DTypeError(f"matmul takes floats, not {dtype}")
        if a.ndim == 0 or b.ndim == 0:
            raise ShapeError(f"matmul takes vectors and matrices, not scalars: {a} @ {b}; scale by *")
        if a.shape[-1] != b.shape[-2 if b.ndim > 1 else -1]:
            raise ShapeError(f"inner sizes differ: {a} @ {b}")
        ahead = broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return TensorType((*ahead, *a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ())), dtype)

    def eval(self, xp: Any, a: Any, b: Any) -> Any:
        return xp.matmul(a, b)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        a, b = operands
        if b.ndim <= 2 < a.ndim and a.flags.c_contiguous and out.flags.c_contiguous:
            rows = math.prod(a.shape[:-1])  # of one large product, not many small ones
            a, out = a.reshape(rows, a.shape[-1]), out.reshape(rows, *b.shape[1:])
        function = np.dot if a.ndim <= 2 and b.ndim <= 2 else np.matmul
        return function, (a, b, out)

    def vjp(self, y: Node, y_bar: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        if a.ndim == 1 or b.ndim == 1:
            return self._vjp_of_vectors(y_bar, a, b)
        a_bar = sum_to(y_bar @ _swap(b), a.shape)
        if b.ndim == 2 < a.ndim:
            # As one product: one for each place of the axes ahead would be as large as b, and be summed.
            return a_bar, _as_matrix(a).T @ _as_matrix(y_bar)
        return a_bar, sum_to(_swap(a) @ y_bar, b.shape)

    def _vjp_of_vectors(self, y_bar: Node, a: Node, b: Node) -> tuple[Node, Node]:
        """The rule for matrices, on operands that are given the axis which they lack."""
        left = reshape(a, (1, *a.shape)) if a.ndim == 1 else a
        right = reshape(b, (*b.shape, 1)) if b.ndim == 1 else b
        ahead = broadcast_shapes(left.shape[:-2], right.shape[:-2])
        y_bar = reshape(y_bar, (*ahead, left.shape[-2], right.shape[-1]))
        a_bar = sum_to(y_bar @ _swap(right), left.shape)
        b_bar = sum_to(_swap(left) @ y_bar, right.shape)
        return reshape(a_bar, a.shape), reshape(b_bar, b.shape)

    def flops(self, y: TensorType, a: TensorType, b: TensorType) -> int:
        inner = dims.bind(a.shape[-1], {})
        return y.size * (2 * inner - 1 if inner else 0)


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
        order = self._order(x.ndim)
        return (transpose(y_bar, sorted(range(x.ndim), key=order.__getitem__)),)

    def _order(self, ndim: int) -> tuple[int, ...]:
        if self.axes is None:
            return tuple(reversed(range(ndim)))
        order = tuple(check_axis(axis, ndim) for axis in self.axes)
        if sorted(order) != list(range(ndim)):
            raise ShapeError(f"axes {self.axes} are not an order of the {ndim} axes")
        return order


matmul = binary(MatMul)


def transpose(x: Node, axes: Sequence[int] | None = None, *, name: str | None = None) -> Node:
    """`x` with its axes in the order `axes`, or reversed for None.

    x: any dtype; returns the same dtype. A view.
    Raises ShapeError if `axes` is not a permutation of the axes of x.
    """
    return apply(Transpose(axes=None if axes is None else tuple(axes)), x, name=name)


def _as_matrix(x: Node) -> Node:
    """`x` with all its axes but the last in one."""
    return reshape(x, (-1 if x.shape[-1] else dims.product(x.shape[:-1]), x.shape[-1]))


def _swap(x: Node) -> Node:
    if x.ndim == 2:
        return x.T
    return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))
