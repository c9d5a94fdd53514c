"""Matrix products, and a product added to what is there, as BLAS does it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir import dims
from graphengine.ir.node import Node, Operand, apply
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, TensorType, broadcast_shapes, common_dtype
from graphengine.ops.broadcast import reshape, sum, sum_to
from graphengine.ops.shape import transpose
from graphengine.ops.support.pointwise import binary
from graphengine.ops.support.run_all import as_one

__all__ = ["add_product", "matmul"]


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
            # As one product: one for each index of the axes ahead would be as large as b, and be summed.
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


class AddProduct(Op):
    """y = c + factor * scale * (a @ b), for matrices c, a and b and a scalar `scale`.

    A step of gradient descent on a weight is one: w - alpha * (x^T @ y_bar), in place. It is the GEMM of the
    Basic Linear Algebra Subprograms (Dongarra et al. 1990) with beta = 1.
    """

    overwrites: ClassVar[tuple[int, ...]] = (0,)
    kind: Literal["add_product"] = "add_product"
    factor: float = 1.0

    def infer(self, c: TensorType, a: TensorType, b: TensorType, scale: TensorType) -> TensorType:
        product = MatMul().infer(a, b)
        if a.ndim != 2 or b.ndim != 2 or c.shape != product.shape:
            raise ShapeError(f"add_product takes matrices c + a @ b, not {c} + {a} @ {b}")
        if scale.ndim != 0:
            raise ShapeError(f"the scale of a product is a scalar, not {scale}")
        if c.dtype != product.dtype or scale.dtype != product.dtype:
            raise DTypeError(f"add_product takes one dtype, not {c} + {scale} * {a} @ {b}")
        return c

    def eval(self, xp: Any, c: Any, a: Any, b: Any, scale: Any) -> Any:
        return c + self.factor * scale * xp.matmul(a, b)

    def scratch(self, y: TensorType, *types: Any) -> tuple[TensorType, ...]:
        return (y,)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        c, a, b, scale = operands
        (work,) = scratch
        factor, scaled = np.array(self.factor, out.dtype), np.empty((), out.dtype)
        scaling: list[Call] = [(np.multiply, (factor, scale, scaled)), (np.multiply, (work, scaled, work))]
        return as_one([(np.dot, (a, b, work)), *scaling, (np.add, (c, work, out))])

    def vjp(self, y: Node, y_bar: Node, c: Node, a: Node, b: Node, scale: Node) -> tuple[Node | None, ...]:
        product_bar = self.factor * scale * y_bar
        scale_bar = self.factor * sum(y_bar * matmul(a, b))
        return y_bar, product_bar @ transpose(b), transpose(a) @ product_bar, scale_bar

    def flops(self, y: TensorType, c: TensorType, a: TensorType, b: TensorType, scale: TensorType) -> int:
        return MatMul().flops(y, a, b) + 2 * y.size + 1


matmul = binary(MatMul)


def _as_matrix(x: Node) -> Node:
    """`x` with all its axes but the last in one."""
    return reshape(x, (-1 if x.shape[-1] else dims.product(x.shape[:-1]), x.shape[-1]))


def _swap(x: Node) -> Node:
    if x.ndim == 2:
        return x.T
    return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def add_product(
    c: Node, a: Node, b: Node, scale: Operand = 1.0, *, factor: float = 1.0, name: str | None = None
) -> Node:
    """c + factor * scale * (a @ b), in one pass over the product.

    c, a, b: floats of one dtype, a @ b of the shape of c; scale: a scalar node or number; returns the type of c.
    Raises DTypeError for other dtypes, ShapeError for shapes that do not fit.
    """
    return apply(AddProduct(factor=factor), c, a, b, scale, name=name)
