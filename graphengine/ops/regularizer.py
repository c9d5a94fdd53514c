"""Regularizers R(w): what a weight costs by its size alone. Each is a scalar; L(w) + lambda R(w) is what is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from graphengine.errors import DTypeError
from graphengine.ir.node import Node, apply
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, TensorType, check_axes
from graphengine.ops.broadcast import reduced, sum
from graphengine.ops.compare import mask, not_equal, where
from graphengine.ops.elementwise import abs, sign, sqrt, stop_gradient
from graphengine.ops.reduce import max
from graphengine.ops.support import form
from graphengine.ops.support.form import Scalar
from graphengine.ops.support.pointwise import SumOfTerms
from graphengine.ops.support.run_all import run_all
from graphengine.ops.support.sums import parts_of_sum, summed

__all__ = ["elastic_net", "group_lasso", "l1", "l2"]


def _check_floats(kind: str, w: TensorType) -> None:
    if not w.is_float:
        raise DTypeError(f"{kind} takes floats, not {w}")


class TermwiseRegularizer(SumOfTerms):
    """R(w) = sum_i r(w_i), a scalar."""

    def infer(self, w: TensorType) -> TensorType:
        _check_floats(self.kind, w)
        return TensorType((), w.dtype)


class L1(TermwiseRegularizer):
    """R(w) = sum |w|; the derivative at 0 is 0."""

    kind: Literal["l1"] = "l1"

    def form(self, w: Scalar) -> Scalar:
        return form.absolute(w)

    def vjp(self, y: Node, y_bar: Node, w: Node) -> tuple[Node | None]:
        return (sign(w) * y_bar,)


class L2(TermwiseRegularizer):
    """R(w) = sum w^2: the squared norm, with no half."""

    kind: Literal["l2"] = "l2"

    def form(self, w: Scalar) -> Scalar:
        return w * w

    def vjp(self, y: Node, y_bar: Node, w: Node) -> tuple[Node | None]:
        return (w * (2.0 * y_bar),)


class ElasticNet(TermwiseRegularizer):
    """R(w) = ratio * sum |w| + (1 - ratio) * sum w^2; the derivative of |w| at 0 is 0 (Zou and Hastie 2005)."""

    kind: Literal["elastic_net"] = "elastic_net"
    ratio: float = Field(ge=0, le=1)

    def form(self, w: Scalar) -> Scalar:
        size = form.absolute(w)
        return size * (self.ratio + (1 - self.ratio) * size)

    def vjp(self, y: Node, y_bar: Node, w: Node) -> tuple[Node | None]:
        return (sign(w) * (self.ratio * y_bar) + w * ((2 - 2 * self.ratio) * y_bar),)


class GroupLasso(Op):
    """R(w) = sum over groups of sqrt(sum of w^2 over `axis`); the derivative is w / norm, and 0 in a group of zeros."""

    kind: Literal["group_lasso"] = "group_lasso"
    axis: tuple[int, ...]

    def infer(self, w: TensorType) -> TensorType:
        check_axes(self.axis, w.ndim)
        _check_floats(self.kind, w)
        return TensorType((), w.dtype)

    def eval(self, xp: Any, w: Any) -> Any:
        return xp.sum(xp.sqrt(xp.sum(xp.square(w), axis=self.axis)), dtype=w.dtype)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (w,), (squares, norms, top, *parts) = operands, scratch
        axes = check_axes(self.axis, w.ndim)
        return self._run, (out, w, squares, norms, top, summed(squares, axes, norms, parts))

    def _run(self, out: Array, w: Array, squares: Array, norms: Array, top: Array, total: Call) -> None:
        np.abs(w, squares)
        np.maximum.reduce(squares, self.axis, None, top, keepdims=True, initial=0)
        np.copyto(top, 1, where=(top == 0) | (top == np.inf))
        np.divide(squares, top, squares)
        np.multiply(squares, squares, squares)
        run_all([total])
        np.sqrt(norms, norms)
        np.multiply(norms, top.reshape(norms.shape), norms)
        np.add.reduce(norms.reshape(-1), 0, out=out)

    def scratch(self, y: TensorType, w: TensorType) -> tuple[TensorType, ...]:
        shapes = [reduced(w.shape, self.axis, keepdims) for keepdims in (False, True)]
        parts = parts_of_sum(w, check_axes(self.axis, w.ndim))
        return (w, *(TensorType(shape, w.dtype) for shape in shapes), *parts)

    def vjp(self, y: Node, y_bar: Node, w: Node) -> tuple[Node | None]:
        if any(w.shape[axis] == 0 for axis in check_axes(self.axis, w.ndim)):
            return (w * y_bar,)
        # Of w over its maximum, squares neither overflow nor vanish; the slope is the same.
        top = stop_gradient(max(abs(w), self.axis, keepdims=True))
        some = not_equal(top, 0.0)
        unit = w / where(some, top, 1.0)
        norms = sqrt(where(some, sum(unit * unit, self.axis, keepdims=True), 1.0))  # it has derivatives of every order
        return (unit * (mask(y_bar, some) / norms),)

    def flops(self, y: TensorType, w: TensorType) -> int:
        norms = TensorType(reduced(w.shape, self.axis, keepdims=False), w.dtype)
        return 2 * w.size + 2 * norms.size


def l1(w: Node, *, name: str | None = None) -> Node:
    """sum |w|, with the derivative 0 at 0.

    w: floats; returns a scalar of that dtype. Raises DTypeError for other dtypes.
    """
    return apply(L1(), w, name=name)


def l2(w: Node, *, name: str | None = None) -> Node:
    """sum w^2: the squared norm, without a factor 1/2.

    w: floats; returns a scalar of that dtype. Raises DTypeError for other dtypes.
    """
    return apply(L2(), w, name=name)


def elastic_net(w: Node, ratio: float, *, name: str | None = None) -> Node:
    """ratio * sum |w| + (1 - ratio) * sum w^2.

    w: floats; returns a scalar of that dtype. Raises DTypeError for other dtypes, AttributeValueError for a ratio
    outside [0, 1].
    Source: Zou and Hastie 2005.
    """
    return apply(ElasticNet(ratio=ratio), w, name=name)


def group_lasso(w: Node, axis: int | Sequence[int], *, name: str | None = None) -> Node:
    """sum over groups of sqrt(sum of w^2 over `axis`); with axis 0 each column of a matrix is a group.

    w: floats; returns a scalar of that dtype. The derivative is w / norm of its group, 0 in a group of zeros.
    Raises DTypeError for other dtypes, ShapeError for an axis that w does not have.
    Source: Yuan and Lin 2006.
    """
    return apply(GroupLasso(axis=(axis,) if isinstance(axis, int) else tuple(axis)), w, name=name)
