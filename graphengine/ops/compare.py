"""Comparison, logic, and choice between values: the results of comparisons are bools, which choices take."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import model_validator

from graphengine.errors import DTypeError
from graphengine.ir.graph import Node, Operand, apply
from graphengine.ir.op import Array, Call, Op
from graphengine.ir.types import TensorType, broadcast_shapes, common_dtype
from graphengine.ops.broadcast import sum_to
from graphengine.ops.elementwise import BinaryOp, Elementwise, UnaryOp, binary, unary

__all__ = [
    "clip",
    "equal",
    "greater",
    "greater_equal",
    "isfinite",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "maximum",
    "minimum",
    "not_equal",
    "where",
]


class _Comparison(Elementwise):
    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        common_dtype((a, b))
        return TensorType(broadcast_shapes(a.shape, b.shape), "bool")


class Equal(_Comparison):
    """y = whether a = b; NaN equals nothing."""

    kind: Literal["equal"] = "equal"
    ufunc: ClassVar[str] = "equal"


class NotEqual(_Comparison):
    """y = whether a and b differ; NaN differs from everything."""

    kind: Literal["not_equal"] = "not_equal"
    ufunc: ClassVar[str] = "not_equal"


class Less(_Comparison):
    """y = whether a < b."""

    kind: Literal["less"] = "less"
    ufunc: ClassVar[str] = "less"


class LessEqual(_Comparison):
    """y = whether a <= b."""

    kind: Literal["less_equal"] = "less_equal"
    ufunc: ClassVar[str] = "less_equal"


class Greater(_Comparison):
    """y = whether a > b."""

    kind: Literal["greater"] = "greater"
    ufunc: ClassVar[str] = "greater"


class GreaterEqual(_Comparison):
    """y = whether a >= b."""

    kind: Literal["greater_equal"] = "greater_equal"
    ufunc: ClassVar[str] = "greater_equal"


class IsFinite(UnaryOp):
    """y = whether x is neither infinite nor NaN."""

    kind: Literal["isfinite"] = "isfinite"
    ufunc: ClassVar[str] = "isfinite"

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(super().infer(x).shape, "bool")


class _Logical(Elementwise):
    def check(self, *types: TensorType) -> TensorType:
        if any(type.dtype != "bool" for type in types):
            raise DTypeError(f"{self.kind} takes bools, not {' and '.join(map(str, types))}; compare first")
        return TensorType(broadcast_shapes(*(type.shape for type in types)), "bool")

    def flops(self, y: TensorType, *types: TensorType) -> int:
        return 0


class LogicalNot(_Logical):
    """y = not x, of bools."""

    kind: Literal["logical_not"] = "logical_not"
    ufunc: ClassVar[str] = "logical_not"

    def infer(self, x: TensorType) -> TensorType:
        return self.check(x)


class LogicalAnd(_Logical):
    """y = a and b, of bools."""

    kind: Literal["logical_and"] = "logical_and"
    ufunc: ClassVar[str] = "logical_and"

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        return self.check(a, b)


class LogicalOr(_Logical):
    """y = a or b, of bools."""

    kind: Literal["logical_or"] = "logical_or"
    ufunc: ClassVar[str] = "logical_or"

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        return self.check(a, b)


class Where(Op):
    """y = a where the condition (of bools) holds, else b; all three broadcast."""

    # Over `a`, the kernel would need the condition's opposite; so a rule that masks its adjoint in place puts it last.
    overwrites: ClassVar[tuple[int, ...]] = (2,)
    kind: Literal["where"] = "where"

    def infer(self, condition: TensorType, a: TensorType, b: TensorType) -> TensorType:
        if condition.dtype != "bool":
            raise DTypeError(f"the condition of where is of bools, not {condition}, to choose from {a} and {b}")
        return TensorType(broadcast_shapes(condition.shape, a.shape, b.shape), common_dtype((a, b)))

    def eval(self, xp: Any, condition: Any, a: Any, b: Any) -> Any:
        return xp.where(condition, a, b)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        condition, a, b = operands
        if b.shape == out.shape and b.ctypes.data == out.ctypes.data:
            return np.copyto, (out, a, "no", condition)
        return _choose, (out, condition, a, b)

    def vjp(self, y: Node, y_bar: Node, condition: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        return (
            None,
            sum_to(where(logical_not(condition), 0.0, y_bar), a.shape),
            sum_to(where(condition, 0.0, y_bar), b.shape),
        )


def _choose(out: Array, condition: Array, a: Array, b: Array) -> None:
    np.copyto(out, b)
    np.copyto(out, a, "no", condition)


class _Extreme(BinaryOp):
    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        # These two ufuncs no longer take a third positional argument.
        return partial(getattr(np, self.ufunc), out=out), operands


class Maximum(_Extreme):
    """y = the greater of a and b, NaN if either is. The adjoint goes to a where they are equal."""

    kind: Literal["maximum"] = "maximum"
    ufunc: ClassVar[str] = "maximum"

    def vjp(self, y: Node, y_bar: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        return sum_to(where(a < b, 0.0, y_bar), a.shape), sum_to(where(a >= b, 0.0, y_bar), b.shape)


class Minimum(_Extreme):
    """y = the lesser of a and b, NaN if either is. The adjoint goes to a where they are equal."""

    kind: Literal["minimum"] = "minimum"
    ufunc: ClassVar[str] = "minimum"

    def vjp(self, y: Node, y_bar: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        return sum_to(where(a > b, 0.0, y_bar), a.shape), sum_to(where(a <= b, 0.0, y_bar), b.shape)


class Clip(UnaryOp):
    """y = x, not below `low` and not above `high`; None sets no bound. clip' = 0 at the bounds and beyond."""

    kind: Literal["clip"] = "clip"
    ufunc: ClassVar[str] = "clip"
    floats_only: ClassVar[bool] = True
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.clip(x, self.low, self.high)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,) = operands
        low, high = (None if bound is None else np.array(bound, out.dtype) for bound in (self.low, self.high))
        if low is not None and high is not None:
            return _clip, (x, low, high, out)
        if low is not None:
            return partial(np.maximum, out=out), (x, low)
        return (np.copyto, (out, x)) if high is None else (partial(np.minimum, out=out), (x, high))

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        if self.low is not None:
            y_bar = where(y <= self.low, 0.0, y_bar)
        if self.high is not None:
            y_bar = where(y >= self.high, 0.0, y_bar)
        return (y_bar,)

    def flops(self, y: TensorType, *types: TensorType) -> int:
        return y.size * ((self.low is not None) + (self.high is not None))


def _clip(x: Array, low: Array, high: Array, out: Array) -> None:
    # Two ufuncs, as np.clip checks its arguments in Python, which costs more than a small array's clipping.
    np.maximum(x, low, out=out)
    np.minimum(out, high, out=out)


equal = binary(Equal)
not_equal = binary(NotEqual)
less = binary(Less)
less_equal = binary(LessEqual)
greater = binary(Greater)
greater_equal = binary(GreaterEqual)
isfinite = unary(IsFinite)
logical_not = unary(LogicalNot)
logical_and = binary(LogicalAnd)
logical_or = binary(LogicalOr)
maximum = binary(Maximum)
minimum = binary(Minimum)


def where(condition: Operand, a: Operand, b: Operand, *, name: str | None = None) -> Node:
    """`a` where `condition`, a node of bools, holds, else `b`; all broadcast."""
    return apply(Where(), condition, a, b, name=name)


def clip(x: Node, low: float | None = None, high: float | None = None, *, name: str | None = None) -> Node:
    """`x`, not below `low` and not above `high`; None sets no bound. No gradient passes at the bounds and beyond."""
    return apply(Clip(low=low, high=high), x, name=name)
