"""Functions of each element: arithmetic, comparison, choice. Operands broadcast; dtypes must agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np

from graphengine.errors import DTypeError
from graphengine.ir.graph import Node, Operand, apply
from graphengine.ir.op import Array, Call, Op
from graphengine.ir.types import TensorType, broadcast_shapes, common_dtype
from graphengine.ops.broadcast import sum_to

__all__ = ["add", "divide", "exp", "multiply", "negative", "subtract"]


_Function = TypeVar("_Function", bound=Callable[..., Node])


class Unary(Protocol):
    """A function of one node."""

    def __call__(self, x: Operand, *, name: str | None = None) -> Node: ...


class Binary(Protocol):
    """A function of two nodes, or of a node and a number on either side."""

    def __call__(self, a: Operand, b: Operand, *, name: str | None = None) -> Node: ...


def unary(op: type[Op]) -> Unary:
    """The public function of an op with one operand and no attributes."""

    bare = op(kind=_kind(op))

    def function(x: Operand, *, name: str | None = None) -> Node:
        return apply(bare, x, name=name)

    return _as_public(function, op)


def binary(op: type[Op]) -> Binary:
    """The public function of an op with two operands and no attributes."""

    bare = op(kind=_kind(op))

    def function(a: Operand, b: Operand, *, name: str | None = None) -> Node:
        return apply(bare, a, b, name=name)

    return _as_public(function, op)


def _kind(op: type[Op]) -> str:
    return str(op.model_fields["kind"].default)


def _as_public(function: _Function, op: type[Op]) -> _Function:
    function.__name__ = function.__qualname__ = _kind(op)
    function.__doc__ = op.__doc__
    function.__module__ = op.__module__
    return function


class Elementwise(Op):
    """An op that is one NumPy ufunc, named by `ufunc`, which is also its in-place kernel."""

    overwrites: ClassVar[tuple[int, ...]] = (0, 1, 2)
    ufunc: ClassVar[str]
    floats_only: ClassVar[bool] = False
    kind: str

    def infer(self, *types: Any, **_: Any) -> TensorType:
        dtype = common_dtype(types)
        if dtype == "bool" or (self.floats_only and not types[0].is_float):
            raise DTypeError(f"{self.kind} takes {'floats' if self.floats_only else 'numbers'}, not {dtype}")
        return TensorType(broadcast_shapes(*(type.shape for type in types)), dtype)

    def eval(self, xp: Any, *values: Any) -> Any:
        return getattr(xp, self.ufunc)(*values)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return getattr(np, self.ufunc), (*operands, out)

    def flops(self, y: TensorType, *types: TensorType) -> int:
        return y.size


class _UnaryOp(Elementwise):
    def infer(self, x: TensorType) -> TensorType:
        return super().infer(x)


class _BinaryOp(Elementwise):
    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        return super().infer(a, b)


class Add(_BinaryOp):
    """y = a + b."""

    kind: Literal["add"] = "add"
    ufunc: ClassVar[str] = "add"

    def vjp(self, y: Node, y_bar: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        return sum_to(y_bar, a.shape), sum_to(y_bar, b.shape)


class Subtract(_BinaryOp):
    """y = a - b."""

    kind: Literal["subtract"] = "subtract"
    ufunc: ClassVar[str] = "subtract"

    def vjp(self, y: Node, y_bar: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        return sum_to(y_bar, a.shape), -sum_to(y_bar, b.shape)


class Multiply(_BinaryOp):
    """y = a * b."""

    kind: Literal["multiply"] = "multiply"
    ufunc: ClassVar[str] = "multiply"

    def vjp(self, y: Node, y_bar: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        return sum_to(y_bar * b, a.shape), sum_to(y_bar * a, b.shape)


class Divide(_BinaryOp):
    """y = a / b, of floats."""

    kind: Literal["divide"] = "divide"
    ufunc: ClassVar[str] = "divide"
    floats_only: ClassVar[bool] = True

    def vjp(self, y: Node, y_bar: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        a_bar = y_bar / b
        return sum_to(a_bar, a.shape), -sum_to(a_bar * y, b.shape)


class Negative(_UnaryOp):
    """y = -x."""

    kind: Literal["negative"] = "negative"
    ufunc: ClassVar[str] = "negative"

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (-y_bar,)


class Exp(_UnaryOp):
    """y = exp(x)."""

    kind: Literal["exp"] = "exp"
    ufunc: ClassVar[str] = "exp"
    floats_only: ClassVar[bool] = True

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar * y,)


class Copy(Op):
    """y = x, in memory of its own. The planner moves values with it; a graph has no need of it."""

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
