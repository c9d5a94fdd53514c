"""The base classes of ops that are made from a form, and the public functions of ops without attributes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from graphengine.errors import DTypeError
from graphengine.ir.node import Node, Operand, apply
from graphengine.ir.op import Call, Op, plain
from graphengine.ir.types import DTYPES, FLOATS, Array, TensorType, broadcast_shapes, common_dtype
from graphengine.ops.support import form, form_calls
from graphengine.ops.support.form import evaluate, recorded
from graphengine.ops.support.run_all import as_one

_Function = TypeVar("_Function", bound=Callable[..., Node])


class _Unary(Protocol):
    def __call__(self, x: Operand, *, name: str | None = None) -> Node: ...


class _Binary(Protocol):
    def __call__(self, a: Operand, b: Operand, *, name: str | None = None) -> Node: ...


def unary(op: type[Op]) -> _Unary:
    """The public function of an op with one operand and no attributes."""

    def function(x: Operand, *, name: str | None = None) -> Node:
        return apply(plain(kind_of(op)), x, name=name)

    return as_public(function, op)


def binary(op: type[Op]) -> _Binary:
    """The public function of an op with two operands, nodes or numbers, and no attributes."""

    def function(a: Operand, b: Operand, *, name: str | None = None) -> Node:
        return apply(plain(kind_of(op)), a, b, name=name)

    return as_public(function, op)


def kind_of(op: type[Op]) -> str:
    """The tag of an op's class."""
    return str(op.model_fields["kind"].default)


def as_public(function: _Function, op: type[Op]) -> _Function:
    """`function`, with the name and the docstring of the op that it applies, and the lines that its `takes` adds."""
    function.__name__ = function.__qualname__ = kind_of(op)
    function.__module__ = op.__module__
    takes = getattr(op, "takes", None)
    function.__doc__ = f"{(op.__doc__ or '').rstrip()}\n\n{takes()}" if takes else op.__doc__
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


class SumOfTerms(Op):
    """An op that adds up terms, one for each element of its operands, which are computed as `form` says."""

    alike: ClassVar[tuple[int, ...]] = (-1, -1)
    kind: str

    def form(self, *operands: Any) -> Any:
        """The term of the operands' values at one element."""
        raise NotImplementedError

    def term(self, *operands: str) -> str:
        """The term as an expression of a kernel."""
        return recorded(self, len(operands)).text(operands)

    def terms(self, xp: Any, *operands: Any) -> Any:
        """All terms, by pure functions of the array namespace `xp`."""
        return evaluate(recorded(self, len(operands)), xp, operands)

    def term_calls(self, terms: Array, operands: Sequence[Array], work: Sequence[Array]) -> Sequence[Call]:
        """The calls that write the terms into `terms`; `work` are the other arrays of `scratch`."""
        return form_calls.calls(self, terms, operands, work)

    def eval(self, xp: Any, *values: Any) -> Any:
        return xp.sum(self.terms(xp, *values), dtype=values[0].dtype)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return as_one(self.calls(out, *operands, scratch=scratch))

    def calls(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> list[Call]:
        terms, *work = scratch
        return [*self.term_calls(terms, operands, work), (np.add.reduce, (terms.reshape(-1), 0, None, out))]

    def scratch(self, y: TensorType, *types: TensorType) -> tuple[TensorType, ...]:
        return types[0], *form_calls.scratch(self, types[0], types)

    def flops(self, y: TensorType, *types: TensorType) -> int:
        return recorded(self, len(types)).flops(types) + types[0].size


_ADMITTED = {"floats": FLOATS, "numbers": DTYPES - {"bool"}, "bools": {"bool"}, "values": DTYPES}


class Elementwise(Pointwise):
    """A pointwise op whose operands are of one dtype, which the value has too, and of what `operands` says."""

    overwrites: ClassVar[tuple[int, ...]] = (0, 1, 2)
    operands: ClassVar[str] = "floats"
    """What it takes: "floats", "numbers", "bools" or any "values"."""
    result: ClassVar[str] = "the same dtype"
    """What it gives: that, or "bools"."""
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
        if self.operands == "bools" and any(type.dtype != "bool" for type in types):
            raise DTypeError(f"{self.kind} takes bools, not {' and '.join(map(str, types))}; compare first")
        dtype = common_dtype(types)
        if dtype not in _ADMITTED[self.operands]:
            raise DTypeError(f"{self.kind} takes {self.operands}, not {' and '.join(map(str, types))}")
        if self.result == "bools":
            dtype = "bool"
        elif types.count(types[0]) == len(types):
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
