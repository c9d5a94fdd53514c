"""Functions of each element: arithmetic, roots, logarithms, waves, and casts. Operands broadcast; dtypes must agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np

from graphengine.errors import DTypeError
from graphengine.ir.node import Node, Operand, apply
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, DType, TensorType, broadcast_shapes, check_dtype, common_dtype
from graphengine.ops import form, form_calls
from graphengine.ops.broadcast import sum_to
from graphengine.ops.form import Scalar, evaluate, recorded
from graphengine.ops.run_all import as_one

__all__ = [
    "add",
    "cast",
    "cos",
    "divide",
    "exp",
    "expm1",
    "floor",
    "log",
    "log1p",
    "multiply",
    "negative",
    "reciprocal",
    "sign",
    "sin",
    "sqrt",
    "square",
    "stop_gradient",
    "subtract",
]


_Function = TypeVar("_Function", bound=Callable[..., Node])


class Unary(Protocol):
    """A function of one node."""

    def __call__(self, x: Operand, *, name: str | None = None) -> Node: ...


class Binary(Protocol):
    """A function of two nodes, or of a node and a number on either side."""

    def __call__(self, a: Operand, b: Operand, *, name: str | None = None) -> Node: ...


def unary(op: type[Op]) -> Unary:
    """The public function of an op with one operand and no attributes."""

    def function(x: Operand, *, name: str | None = None) -> Node:
        return apply(_bare(op), x, name=name)

    return _as_public(function, op)


def binary(op: type[Op]) -> Binary:
    """The public function of an op with two operands and no attributes."""

    def function(a: Operand, b: Operand, *, name: str | None = None) -> Node:
        return apply(_bare(op), a, b, name=name)

    return _as_public(function, op)


@cache  # by classes
def _bare(op: type[Op]) -> Op:
    return op(kind=_kind(op))


def _kind(op: type[Op]) -> str:
    return str(op.model_fields["kind"].default)


def _as_public(function: _Function, op: type[Op]) -> _Function:
    function.__name__ = function.__qualname__ = _kind(op)
    function.__doc__ = (
        op.__doc__ if not issubclass(op, Elementwise) else f"{(op.__doc__ or '').rstrip()}\n\n{op.takes()}"
    )
    function.__module__ = op.__module__
    return function


class Pointwise(Op):
    """An op on each element, computed as `form` says; operands of any shapes broadcast as NumPy does."""

    is_elementwise: ClassVar[bool] = True
    alike: ClassVar[tuple[int, ...]] = ()
    """For each operand the first one that has its shape in any case, or -1 for the result's; empty if none is known."""
    kind: str

    def form(self, *operands: Any) -> Any:
        """The value at one element, of the operands' values there; by itself, the function that has the op's kind."""
        return form.step(self.kind, *operands)

    def eval(self, xp: Any, *values: Any) -> Any:
        return evaluate(recorded(self, len(values)), xp, values)

    def scratch(self, y: TensorType, *types: TensorType) -> tuple[TensorType, ...]:
        return form_calls.scratch(self, y, types)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return as_one(self.calls(out, *operands, scratch=scratch))

    def calls(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> list[Call]:
        return form_calls.calls(self, out, operands, scratch)

    def scalar(self, *operands: str) -> str:
        return recorded(self, len(operands)).text(operands)

    def flops(self, y: TensorType, *types: TensorType) -> int:
        return recorded(self, len(types)).flops(types)


class Elementwise(Pointwise):
    """A pointwise op whose operands are of one dtype, which the value has too, and of what `operands` says."""

    overwrites: ClassVar[tuple[int, ...]] = (0, 1, 2)
    operands: ClassVar[str] = "floats"
    """What it takes: "floats", "numbers" or "bools"."""
    result: ClassVar[str] = "the same dtype"
    """What the docstring of the public function says of dtypes."""
    kinks: ClassVar[tuple[float, ...]] = ()
    """Operands at which it has no derivative, and takes one that its docstring names."""

    @classmethod
    def takes(cls) -> str:
        """The lines of a docstring on operands, result and errors."""
        if cls.arity() == (1, 1):
            return f"    x: {cls.operands}; returns {cls.result} in the shape of x. Raises DTypeError for other dtypes."
        return (
            f"    a, b: {cls.operands} of one dtype, of shapes that broadcast; returns {cls.result} in the broadcast "
            "shape.\n"
            "    Raises DTypeError for other dtypes, ShapeError for shapes that do not broadcast."
        )

    def infer(self, *types: Any, **_: Any) -> TensorType:
        dtype = common_dtype(types)
        if dtype == "bool" or (self.operands == "floats" and not types[0].is_float):
            raise DTypeError(f"{self.kind} takes {self.operands}, not {' and '.join(map(str, types))}")
        if types.count(types[0]) == len(types):
            return types[0]  # type: ignore[no-any-return]  # a type, as they all are
        return TensorType(broadcast_shapes(*[type.shape for type in types]), dtype)


class UnaryOp(Elementwise):
    """An elementwise op with one operand."""

    def infer(self, x: TensorType) -> TensorType:
        return super().infer(x)


class BinaryOp(Elementwise):
    """An elementwise op with two operands, which broadcast."""

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        return super().infer(a, b)


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
    """y = the greatest whole number that is at most x. No gradient passes: floor' = 0 everywhere."""

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
    is_elementwise: ClassVar[bool] = True
    kind: Literal["stop_gradient"] = "stop_gradient"

    def infer(self, x: TensorType) -> TensorType:
        return x

    def eval(self, xp: Any, x: Any) -> Any:
        return x

    def view(self, x: Array) -> Array:
        return x

    def keeps_layout(self) -> bool:
        return True


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
stop_gradient = unary(StopGradient)


def moved(old: Node, new: Node, decay: float) -> Node:
    """decay * old + (1 - decay) * new: no term is lost to the other; at 0 and 1 it is one of them, be the other inf."""
    if decay in (0.0, 1.0):
        return old if decay else new
    return old * decay + new * (1.0 - decay)


def cast(x: Operand, dtype: object, *, name: str | None = None) -> Node:
    """`x` in `dtype`: its name, a NumPy dtype or a NumPy scalar type.

    Floats to integers drop the fraction. What does not fit wraps around: an integer keeps its lowest bits; a float is
    converted by way of int32, to int64 by way of that, where infinities, NaN and what does not fit become the minimum
    (0 as uint8), as NumPy has it on x86. To bool, everything but 0 is True. The adjoint passes from float to float
    only.

    x: any dtype; returns the shape of x in `dtype`. Raises DTypeError for a dtype that there is not.
    """
    return apply(Cast(dtype=check_dtype(dtype)), x, name=name)
