"""A matrix product added to what is there, as BLAS does it: no memory for the product, and no second pass to add it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir.node import Node, Operand, apply
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, TensorType
from graphengine.ops.broadcast import sum
from graphengine.ops.linalg import MatMul, matmul, transpose

__all__ = ["add_product"]


class AddProduct(Op):
    """y = c + factor * scale * (a @ b), for matrices c, a and b and a scalar `scale`.

    A step of gradient descent on a weight is one: w - alpha * (x^T @ y_bar), where w stands. It is the GEMM of the
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

        def run() -> None:
            np.dot(a, b, work)
            np.multiply(work, self.factor * scale, work)
            np.add(c, work, out)

        return run, ()

    def vjp(self, y: Node, y_bar: Node, c: Node, a: Node, b: Node, scale: Node) -> tuple[Node | None, ...]:
        share = self.factor * scale * y_bar
        scale_bar = self.factor * sum(y_bar * matmul(a, b))
        return y_bar, share @ transpose(b), transpose(a) @ share, scale_bar

    def flops(self, y: TensorType, c: TensorType, a: TensorType, b: TensorType, scale: TensorType) -> int:
        return MatMul().flops(y, a, b) + 2 * y.size + 1


def add_product(
    c: Node, a: Node, b: Node, scale: Operand = 1.0, *, factor: float = 1.0, name: str | None = None
) -> Node:
    """c + factor * scale * (a @ b), in one pass over the product.

    c, a, b: floats of one dtype, a @ b of the shape of c; scale: a scalar node or number; returns the type of c.
    Raises DTypeError for other dtypes, ShapeError for shapes that do not fit.
    """
    return apply(AddProduct(factor=factor), c, a, b, scale, name=name)
