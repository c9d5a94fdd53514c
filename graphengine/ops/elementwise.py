"""Functions of each element: arithmetic, powers, logarithms, waves, erf and casts. Operands broadcast; dtypes agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node, Operand, apply
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, DType, TensorType, check_dtype
from graphengine.ops.broadcast import sum_to
from graphengine.ops.compare import clip, equal, logical_and, mask, not_equal, where
from graphengine.ops.support import form
from graphengine.ops.support.form import Scalar
from graphengine.ops.support.pointwise import BinaryOp, Pointwise, UnaryOp, binary, unary
from graphengine.ops.support.special import FAR

__all__ = [
    "abs",
    "add",
    "cast",
    "cos",
    "divide",
    "erf",
    "exp",
    "expm1",
    "floor",
    "log",
    "log1p",
    "multiply",
    "negative",
    "power",
    "reciprocal",
    "sign",
    "sin",
    "sqrt",
    "square",
    "stop_gradient",
    "subtract",
]


class Add(BinaryOp):
    """y = a + b."""

    kind: Literal["add"] = "add"
    operands: ClassVar[str] = "numbers"

    def vjp(self, y: Node, y_bar: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        return sum_to(y_bar, a.shape), sum_to(y_bar, b.shape)


class Subtract(BinaryOp):
    """y = a - b."""

    kind: Literal["subtract"] = "subtract"
    operands: ClassVar[str] = "numbers"

    def vjp(self, y: Node, y_bar: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        return sum_to(y_bar, a.shape), -sum_to(y_bar, b.shape)


class Multiply(BinaryOp):
    """y = a * b."""

    kind: Literal["multiply"] = "multiply"
    operands: ClassVar[str] = "numbers"

    def vjp(self, y: Node, y_bar: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        return sum_to(y_bar * b, a.shape), sum_to(y_bar * a, b.shape)


class Divide(BinaryOp):
    """y = a / b, of floats."""

    kind: Literal["divide"] = "divide"

    def vjp(self, y: Node, y_bar: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        a_bar = y_bar / b
        return sum_to(a_bar, a.shape), -sum_to(a_bar * y, b.shape)


class Negative(UnaryOp):
    """y = -x."""

    kind: Literal["negative"] = "negative"
    operands: ClassVar[str] = "numbers"

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (-y_bar,)


class Sign(UnaryOp):
    """y = -1, 0 or 1, as x is below 0, 0 or above; NaN for NaN. No gradient passes: sign' = 0 everywhere."""

    kind: Literal["sign"] = "sign"
    kinks: ClassVar[tuple[float, ...]] = (0.0,)
    operands: ClassVar[str] = "numbers"


class Floor(UnaryOp):
    """y = the largest integer that is at most x. No gradient passes: floor' = 0 everywhere."""

    kind: Literal["floor"] = "floor"


class Square(UnaryOp):
    """y = x * x."""

    kind: Literal["square"] = "square"
    operands: ClassVar[str] = "numbers"

    def form(self, x: Scalar) -> Scalar:
        return x * x

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar * x * 2.0,)  # and not of 2 x, which may be infinite where y_bar is 0


class Sqrt(UnaryOp):
    """y = the root of x; NaN below 0. The derivative 1 / 2y is infinite at 0."""

    kind: Literal["sqrt"] = "sqrt"

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (0.5 * y_bar / y,)


class Reciprocal(UnaryOp):
    """y = 1 / x."""

    kind: Literal["reciprocal"] = "reciprocal"

    def form(self, x: Scalar) -> Scalar:
        return 1.0 / x

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (-(y_bar * y * y),)  # and not of y^2, which may overflow or vanish where that product does not


class Exp(UnaryOp):
    """y = exp(x)."""

    kind: Literal["exp"] = "exp"

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar * y,)


class Expm1(UnaryOp):
    """y = exp(x) - 1, accurate near 0."""

    kind: Literal["expm1"] = "expm1"

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar * exp(x),)  # y + 1 would lose it where y is near -1


class Log(UnaryOp):
    """y = ln x; -inf at 0, NaN below."""

    kind: Literal["log"] = "log"

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar / x,)


class Log1p(UnaryOp):
    """y = ln(1 + x), accurate near 0; -inf at -1, NaN below."""

    kind: Literal["log1p"] = "log1p"

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar / (1.0 + x),)


class Sin(UnaryOp):
    """y = sin x, of radians."""

    kind: Literal["sin"] = "sin"

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar * cos(x),)


class Cos(UnaryOp):
    """y = cos x, of radians."""

    kind: Literal["cos"] = "cos"

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (-(y_bar * sin(x)),)


class Power(BinaryOp):
    """y = a ** b, of floats; NaN for a < 0 unless b is whole.

    dy/da = b a^(b-1), 0 where b = 0; dy/db = y ln a, 0 where a = 0 <= b, NaN where a < 0.
    An exponent of 0.5 may take the root, which is NaN at -inf, where the power is inf.
    """

    kind: Literal["power"] = "power"

    def vjp(self, y: Node, y_bar: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        b_bar = y_bar * (y * log(where(logical_and(equal(a, 0.0), b >= 0.0), 1.0, a)))
        return sum_to(y_bar * _slope(a, b), a.shape), sum_to(b_bar, b.shape)


class Abs(UnaryOp):
    """y = |x|; |x|' = 0 at 0, NaN at NaN."""

    kind: Literal["abs"] = "abs"
    kinks: ClassVar[tuple[float, ...]] = (0.0,)
    operands: ClassVar[str] = "numbers"

    def form(self, x: Scalar) -> Scalar:
        return form.absolute(x)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (mask(y_bar * sign(x), not_equal(x, 0.0)),)


class Erf(UnaryOp):
    """y = 2 / sqrt(pi) times the integral of exp(-t^2) over t from 0 to x.

    In float64 it is right to about 1e-16 (Cody 1969), in float32 to 4e-7.
    """

    kind: Literal["erf"] = "erf"

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar * (2 / math.sqrt(math.pi) * exp(-square(clip(x, -FAR, FAR)))),)


class Cast(Pointwise):
    """y = x in another dtype.

    The adjoint passes from float to float, in the operand's dtype; it does not pass any other cast.
    """

    kind: Literal["cast"] = "cast"
    dtype: DType

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(x.shape, self.dtype)

    def form(self, x: Scalar) -> Scalar:
        return form.cast(x, self.dtype)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (cast(y_bar, x.dtype) if x.type.is_float and y.type.is_float else None,)


class StopGradient(Op):
    """y = x, through which no gradient passes. A view.

    x: any dtype; returns the same type. Raises nothing.
    """

    is_view: ClassVar[bool] = True
    keeps_layout: ClassVar[bool] = True
    is_elementwise: ClassVar[bool] = True
    kind: Literal["stop_gradient"] = "stop_gradient"

    def infer(self, x: TensorType) -> TensorType:
        return x

    def eval(self, xp: Any, x: Any) -> Any:
        return x

    def view(self, x: Array) -> Array:
        return x


class Copy(Op):
    """y = x, in memory of its own. The planner moves values with it; a graph has no need of it."""

    is_elementwise: ClassVar[bool] = True
    kind: Literal["copy"] = "copy"

    def infer(self, x: TensorType) -> TensorType:
        return x

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.array(x)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return np.copyto, (out, *operands)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar,)


add = binary(Add)
subtract = binary(Subtract)
multiply = binary(Multiply)
divide = binary(Divide)
negative = unary(Negative)
exp = unary(Exp)
sign = unary(Sign)
floor = unary(Floor)
square = unary(Square)
sqrt = unary(Sqrt)
reciprocal = unary(Reciprocal)
expm1 = unary(Expm1)
log = unary(Log)
log1p = unary(Log1p)
sin = unary(Sin)
cos = unary(Cos)
abs = unary(Abs)
erf = unary(Erf)
power = binary(Power)

stop_gradient = unary(StopGradient)


def moved(old: Node, new: Node, decay: float) -> Node:
    """decay * old + (1 - decay) * new: no term is lost to the other; at 0 and 1 it is one of them, be the other inf."""
    if decay in (0.0, 1.0):
        return old if decay else new
    return old * decay + new * (1.0 - decay)


def _slope(a: Node, b: Node) -> Node:
    """b a^(b-1), and 0 for b = 0, where a^(b-1) may be infinite."""
    if isinstance(b.op, Constant) and b.ndim == 0 and (exponent := float(b.op.value)) != 0:
        return 2.0 * a if exponent == 2 else exponent * a ** (exponent - 1)
    return b * where(equal(b, 0.0), 1.0, a) ** (b - 1.0)


def cast(x: Operand, dtype: object, *, name: str | None = None) -> Node:
    """`x` in `dtype`: its name, a NumPy dtype or a NumPy scalar type.

    Floats to integers drop the fraction. What does not fit wraps around: an integer keeps its lowest bits; a float is
    converted by way of int32, to int64 by way of that, where infinities, NaN and what does not fit become the minimum
    (0 as uint8), as NumPy has it on x86. To bool, everything but 0 is True. The adjoint passes from float to float
    only.

    x: any dtype; returns the shape of x in `dtype`. Raises DTypeError for a dtype that there is not.
    """
    return apply(Cast(dtype=check_dtype(dtype)), x, name=name)
