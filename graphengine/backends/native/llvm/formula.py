"""Formulas as LLVM code: values of code that is being written, with Python's operators and a few functions.

What is written has no branch, so that a loop around it can be vectorized, and is rounded as it stands there: an fma
where the formula says `fma`, nowhere else. So a value has the same bits in a vector as alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

_INTEGERS = {ir.FloatType(): ir.IntType(32), ir.DoubleType(): ir.IntType(64)}
_FLOATS = {integer: real for real, integer in _INTEGERS.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A number, or a truth value, of the code that `code` writes. Numbers beside it take its type."""

    code: ir.IRBuilder
    llvm: ir.Value

    @property
    def is_float(self) -> bool:
        """Whether it is a float of either width."""
        return self.llvm.type in _INTEGERS

    @property
    def is_double(self) -> bool:
        """Whether it is a float64."""
        return bool(self.llvm.type == ir.DoubleType())

    @property
    def places(self) -> int:
        """The bits of the mantissa of a float of this width."""
        return 52 if self.llvm.type in (ir.DoubleType(), ir.IntType(64)) else 23

    @property
    def bias(self) -> int:
        """What is added to the exponent of a float of this width."""
        return 1023 if self.places == 52 else 127

    @property
    def constant(self) -> float | None:
        """The number, if the code itself tells it."""
        return float(self.llvm.constant) if isinstance(self.llvm, ir.Constant) else None

    def like(self, number: Value | float) -> Value:
        """The number in this type."""
        return number if isinstance(number, Value) else Value(self.code, ir.Constant(self.llvm.type, number))

    def __neg__(self) -> Value:
        return Value(self.code, self.code.fneg(self.llvm))

    def __add__(self, other: Value | float) -> Value:
        return self._with(other, "add")

    def __sub__(self, other: Value | float) -> Value:
        return self._with(other, "sub")

    def __rsub__(self, other: float) -> Value:
        return self.like(other) - self

    def __mul__(self, other: Value | float) -> Value:
        return self._with(other, "mul")

    def __truediv__(self, other: Value | float) -> Value:
        return Value(self.code, (self.code.fdiv if self.is_float else self.code.sdiv)(self.llvm, self.like(other).llvm))

    def __rtruediv__(self, other: float) -> Value:
        return self.like(other) / self

    def __lshift__(self, places: int) -> Value:
        return Value(self.code, self.code.shl(self.llvm, self.like(places).llvm))

    def __rshift__(self, places: int) -> Value:
        return Value(self.code, self.code.ashr(self.llvm, self.like(places).llvm))

    def __and__(self, other: Value | int) -> Value:
        return Value(self.code, self.code.and_(self.llvm, self.like(other).llvm))

    def __or__(self, other: Value | int) -> Value:
        return Value(self.code, self.code.or_(self.llvm, self.like(other).llvm))

    def __xor__(self, other: Value | int) -> Value:
        return Value(self.code, self.code.xor(self.llvm, self.like(other).llvm))

    def __invert__(self) -> Value:
        return Value(self.code, self.code.not_(self.llvm))

    def __lt__(self, other: Value | float) -> Value:
        return self.compared("<", other)

    def __gt__(self, other: Value | float) -> Value:
        return self.compared(">", other)

    def equals(self, other: Value | float) -> Value:
        """Whether they are equal; a NaN equals nothing."""
        return self.compared("==", other)

    def bits(self) -> Value:
        """The bits of a float, as an integer."""
        return Value(self.code, self.code.bitcast(self.llvm, _INTEGERS[self.llvm.type]))

    def as_float(self) -> Value:
        """The float whose bits these are."""
        return Value(self.code, self.code.bitcast(self.llvm, _FLOATS[self.llvm.type]))

    def to_float(self) -> Value:
        """A whole number as the float of its width."""
        return Value(self.code, self.code.sitofp(self.llvm, _FLOATS[self.llvm.type]))

    def double(self) -> Value:
        """A float32 as float64."""
        return Value(self.code, self.code.fpext(self.llvm, ir.DoubleType()))

    def single(self) -> Value:
        """A float64 rounded to float32."""
        return Value(self.code, self.code.fptrunc(self.llvm, ir.FloatType()))

    def low_half(self) -> Value:
        """The lower 32 bits of 64."""
        return Value(self.code, self.code.trunc(self.llvm, ir.IntType(32)))

    def compared(self, sign: str, other: Value | float) -> Value:
        """`self sign other`, which is false if one is NaN; whole numbers are signed."""
        compare = self.code.fcmp_ordered if self.is_float else self.code.icmp_signed
        return Value(self.code, compare(sign, self.llvm, self.like(other).llvm))

    def _with(self, other: Value | float, operation: str) -> Value:
        prefix = "f" if self.is_float else ""
        return Value(self.code, getattr(self.code, prefix + operation)(self.llvm, self.like(other).llvm))


def select(condition: Value, a: Value | float, b: Value | float) -> Value:
    """`a` where the condition holds, else `b`; both are computed."""
    model = a if isinstance(a, Value) else b
    assert isinstance(model, Value)  # of two plain numbers the type would be unknown
    return Value(condition.code, condition.code.select(condition.llvm, model.like(a).llvm, model.like(b).llvm))


def fma(a: Value, b: Value | float, c: Value | float) -> Value:
    """a * b + c, rounded once."""
    return call("llvm.fma", a, a.like(b), a.like(c))


def polynomial(x: Value, coefficients: Sequence[float]) -> Value:
    """coefficients[0] + coefficients[1] * x + coefficients[2] * x^2 ..., by Horner's rule."""
    *lower, highest = coefficients
    result = x.like(highest)
    for coefficient in reversed(lower):
        result = fma(result, x, coefficient)
    return result


def power_of_two(exponent: Value) -> Value:
    """The float whose exponent's bits are the lowest of these."""
    return (exponent << exponent.places).as_float()


def absolute(x: Value) -> Value:
    """|x|."""
    return call("llvm.fabs", x)


def copysign(x: Value, sign: Value) -> Value:
    """|x| with the sign of the other."""
    return call("llvm.copysign", x, sign)


def floor(x: Value) -> Value:
    """The greatest whole number that is not above x."""
    return call("llvm.floor", x)


def sqrt(x: Value) -> Value:
    """The square root."""
    return call("llvm.sqrt", x)


def whole(x: Value) -> Value:
    """The whole number next to x, of two the even one."""
    return call("llvm.rint", x)


def call(name: str, *arguments: Value) -> Value:
    """The LLVM intrinsic of this name, or else the function of the math library, for the arguments' type."""
    code, kind = arguments[0].code, arguments[0].llvm.type
    if name.startswith("llvm."):
        function = code.module.declare_intrinsic(name, [kind], ir.FunctionType(kind, [kind] * len(arguments)))
    else:
        function = _declared(code.module, name, ir.FunctionType(kind, [kind] * len(arguments)))
    return Value(code, code.call(function, [argument.llvm for argument in arguments]))


def _declared(module: ir.Module, name: str, kind: ir.FunctionType) -> Any:
    return module.globals.get(name) or ir.Function(module, kind, name)
