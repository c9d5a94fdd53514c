"""Comparison, logic, and choice between values: the results of comparisons are bools, which choices take."""

from __future__ import annotations

from functools import reduce
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from graphengine.errors import DTypeError
from graphengine.ir.node import Node, Operand, apply
from graphengine.ir.types import TensorType, broadcast_shapes, common_dtype
from graphengine.ops.broadcast import sum_to
from graphengine.ops.support import form
from graphengine.ops.support.form import Scalar
from graphengine.ops.support.pointwise import BinaryOp, Pointwise, UnaryOp, binary, unary

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
    "mask",
    "maximum",
    "minimum",
    "not_equal",
    "where",
]


class _Comparison(BinaryOp):
    operands: ClassVar[str] = "values"
    result: ClassVar[str] = "bools"


class Equal(_Comparison):
    """y = whether a = b; NaN equals nothing."""

    kind: Literal["equal"] = "equal"


class NotEqual(_Comparison):
    """y = whether a and b differ; NaN differs from everything."""

    kind: Literal["not_equal"] = "not_equal"


class Less(_Comparison):
    """y = whether a < b."""

    kind: Literal["less"] = "less"


class LessEqual(_Comparison):
    """y = whether a <= b."""

    kind: Literal["less_equal"] = "less_equal"


class Greater(_Comparison):
    """y = whether a > b."""

    kind: Literal["greater"] = "greater"


class GreaterEqual(_Comparison):
    """y = whether a >= b."""

    kind: Literal["greater_equal"] = "greater_equal"


class IsFinite(UnaryOp):
    """y = whether x is neither infinite nor NaN."""

    kind: Literal["isfinite"] = "isfinite"
    operands: ClassVar[str] = "numbers"
    result: ClassVar[str] = "bools"


class LogicalNot(UnaryOp):
    """y = not x."""

    kind: Literal["logical_not"] = "logical_not"
    operands: ClassVar[str] = "bools"
    result: ClassVar[str] = "bools"


class _Connective(BinaryOp):
    operands: ClassVar[str] = "bools"
    result: ClassVar[str] = "bools"


class LogicalAnd(_Connective):
    """y = a and b."""

    kind: Literal["logical_and"] = "logical_and"


class LogicalOr(_Connective):
    """y = a or b."""

    kind: Literal["logical_or"] = "logical_or"


class Where(Pointwise):
    """y = a where the condition (of bools) holds, else b; all three broadcast."""

    overwrites: ClassVar[tuple[int, ...]] = (1, 2)
    kind: Literal["where"] = "where"

    def infer(self, condition: TensorType, a: TensorType, b: TensorType) -> TensorType:
        if condition.dtype != "bool":
            raise DTypeError(f"the condition of where is of bools, not {condition}, to choose from {a} and {b}")
        return TensorType(broadcast_shapes(condition.shape, a.shape, b.shape), common_dtype((a, b)))

    def vjp(self, y: Node, y_bar: Node, condition: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        return None, sum_to(mask(y_bar, condition), a.shape), sum_to(mask(y_bar, logical_not(condition)), b.shape)


class Mask(Pointwise):
    """y = x where the condition (of bools) holds, else 0, be x infinite or NaN; both broadcast."""

    overwrites: ClassVar[tuple[int, ...]] = (0,)
    kind: Literal["mask"] = "mask"

    def infer(self, x: TensorType, condition: TensorType) -> TensorType:
        if condition.dtype != "bool":
            raise DTypeError(f"the condition of mask is of bools, not {condition}, to apply to {x}")
        return TensorType(broadcast_shapes(x.shape, condition.shape), x.dtype)

    def form(self, x: Scalar, condition: Scalar) -> Scalar:
        return form.where(condition, x, 0.0)

    def vjp(self, y: Node, y_bar: Node, x: Node, condition: Node) -> tuple[Node | None, ...]:
        return sum_to(mask(y_bar, condition), x.shape), None


class Maximum(BinaryOp):
    """y = the maximum of a and b, NaN if either is; of 0.0 and -0.0 it is b.

    The adjoint goes to a where they are equal, and to both where one is NaN.
    """

    kind: Literal["maximum"] = "maximum"
    operands: ClassVar[str] = "numbers"

    def form(self, a: Scalar, b: Scalar) -> Scalar:
        return form.at_least(a, b)

    def vjp(self, y: Node, y_bar: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        return _contributions(y_bar, a < b, a >= b, a, b)


class Minimum(BinaryOp):
    """y = the minimum of a and b, NaN if either is; of 0.0 and -0.0 it is b.

    The adjoint goes to a where they are equal, and to both where one is NaN.
    """

    kind: Literal["minimum"] = "minimum"
    operands: ClassVar[str] = "numbers"

    def form(self, a: Scalar, b: Scalar) -> Scalar:
        return form.at_most(a, b)

    def vjp(self, y: Node, y_bar: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        return _contributions(y_bar, a > b, a <= b, a, b)


def _contributions(y_bar: Node, second: Node, first: Node, a: Node, b: Node) -> tuple[Node, Node]:
    """The adjoints of a and b, where it is known which of them counts; neither is known beside NaN."""
    return sum_to(mask(y_bar, logical_not(second)), a.shape), sum_to(mask(y_bar, logical_not(first)), b.shape)


class Bounded(UnaryOp):
    """y = x, bounded by `bounds`, at least one of which is given.

    The derivative is 0 at the bounds and beyond, and 1 at NaN, which so reaches who looks at the gradient.
    """

    def bounds(self) -> tuple[float | None, float | None]:
        """The minimum and the maximum; None where there is no bound."""
        raise NotImplementedError

    def form(self, x: Scalar) -> Scalar:
        low, high = self.bounds()
        if low and high:
            return form.clip(x, low, high)
        bounded = x if low is None else form.at_least(x, low)
        return bounded if high is None else form.at_most(bounded, high)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        inside = [not_equal(y, bound) for bound in self.bounds() if bound is not None]
        return (mask(y_bar, reduce(logical_and, inside)),)


class Clip(Bounded):
    """y = min(max(x, low), high); clip' = 0 at the bounds and beyond, 1 at NaN. A zero has no sign here."""

    kind: Literal["clip"] = "clip"
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError("low, high or both are needed")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self

    def bounds(self) -> tuple[float | None, float | None]:
        low, high = (None if bound is None else bound + 0.0 for bound in (self.low, self.high))  # -0.0 + 0.0 is 0.0
        return low, high


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
    """`a` where `condition` holds, else `b`.

    condition: bools; a, b: one dtype; the three shapes broadcast; returns that dtype.
    Raises DTypeError for other dtypes, ShapeError for shapes that do not broadcast.

    The adjoint of what is not chosen is 0. If a function before it has an infinite derivative there, 0 times it is NaN:
    choose its operand, too, as in `where(x > 0, log(where(x > 0, x, 1)), 0)`.
    """
    if isinstance(condition, bool):
        raise DTypeError(f"where chooses by a node, not by {condition}; x == y is identity, write ge.equal(x, y)")
    return apply(Where(), condition, a, b, name=name)


def mask(x: Operand, condition: Operand, *, name: str | None = None) -> Node:
    """`x` where `condition` holds, else 0, even where x is infinite or NaN.

    x: numbers; condition: bools; the shapes broadcast; returns the dtype of x. Mask the operand of a function that has
    no derivative there, as for `ge.where`.
    Raises DTypeError for other dtypes, ShapeError for shapes that do not broadcast.
    """
    return apply(Mask(), x, condition, name=name)


def clip(x: Node, low: float | None = None, high: float | None = None, *, name: str | None = None) -> Node:
    """min(max(x, low), high); `low` or `high` may be None. The derivative is 0 at the bounds and beyond.

    x: floats; returns the same type. Raises DTypeError for other dtypes, AttributeValueError for bounds that are no
    numbers, both None, or not in order.
    """
    return apply(Clip(low=low, high=high), x, name=name)
