"""Formulas as LLVM code: values of code that is being written, with Python's operators and a few functions.

What is written has no branch, so that a loop around it can be vectorized, and is rounded as it is written: an fma
where the formula says `fma`, nowhere else. So a value has the same bits in a vector as alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from llvmlite import ir

_INTEGERS = {ir.FloatType(): ir.IntType(32), ir.DoubleType(): ir.IntType(64)}
_FLOATS = {integer: real for real, integer in _INTEGERS.items()}


def _operator(of_floats: str, of_integers: str | None = None) -> Callable[[Value, Value | float], Value]:
    """A method of `Value`: the instruction for a number and another."""

    def operator(self: Value, other: Value | float) -> Value:
        instruction = of_floats if of_integers is None or self.is_float else of_integers
        return Value(self.code, getattr(self.code, instruction)(self.llvm, self.like(other).llvm))

    return operator


def _conversion(instruction: str, types: Mapping[ir.Type, ir.Type]) -> Callable[[Value], Value]:
    """A method of `Value`: the instruction that makes a number of another type, given by the type that it has."""
    return lambda self: Value(self.code, getattr(self.code, instruction)(self.llvm, types[self.llvm.type]))


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
    def mantissa_bits(self) -> int:
        """The bits of the mantissa of a float of this width."""
        return 52 if self.llvm.type in (ir.DoubleType(), ir.IntType(64)) else 23

    @property
    def bias(self) -> int:
        """What is added to the exponent of a float of this width."""
        return 1023 if self.mantissa_bits == 52 else 127

    @property
    def constant(self) -> float | None:
        """The number, if the code itself tells it."""
        return float(self.llvm.constant) if isinstance(self.llvm, ir.Constant) else None

    def like(self, number: Value | float) -> Value:
        """The number in this type."""
        return number if isinstance(number, Value) else Value(self.code, ir.Constant(self.llvm.type, number))

    __add__ = _operator("fadd", "add")
    __sub__ = _operator("fsub", "sub")
    __mul__ = _operator("fmul", "mul")
    __truediv__ = _operator("fdiv", "sdiv")
    __lshift__ = _operator("shl")
    __rshift__ = _operator("ashr")
    __and__ = _operator("and_")
    __or__ = _operator("or_")
    __xor__ = _operator("xor")

    def __rsub__(self, other: float) -> Value:
        return self.like(other) - self

    def __rtruediv__(self, other: float) -> Value:
        return self.like(other) / self

    def __neg__(self) -> Value:
        return Value(self.code, self.code.fneg(self.llvm))

    def __invert__(self) -> Value:
        return Value(self.code, self.code.not_(self.llvm))

    def __lt__(self, other: Value | float) -> Value:
        return self.compared("<", other)

    def __gt__(self, other: Value | float) -> Value:
        return self.compared(">", other)

    def equals(self, other: Value | float) -> Value:
        """Whether they are equal; a NaN equals nothing."""
        return self.compared("==", other)

    def compared(self, sign: str, other: Value | float) -> Value:
        """`self sign other`, which is false if one is NaN; whole numbers are signed."""
        compare = self.code.fcmp_ordered if self.is_float else self.code.icmp_signed
        return Value(self.code, compare(sign, self.llvm, self.like(other).llvm))

    bits = _conversion("bitcast", _INTEGERS)
    """The bits of a float, as an integer."""
    as_float = _conversion("bitcast", _FLOATS)
    """The float whose bits these are."""
    to_float = _conversion("sitofp", _FLOATS)
    """An integer as the float of its width."""
    double = _conversion("fpext", {ir.FloatType(): ir.DoubleType()})
    """A float32 as float64."""
    single = _conversion("fptrunc", {ir.DoubleType(): ir.FloatType()})
    """A float64 rounded to float32."""
    low_half = _conversion("trunc", {ir.IntType(64): ir.IntType(32)})
    """The lower 32 bits of 64."""


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
    return (exponent << exponent.mantissa_bits).as_float()


def call(name: str, *arguments: Value) -> Value:
    """The LLVM intrinsic of this name, or else the function of the math library, for the arguments' type."""
    code, kind = arguments[0].code, arguments[0].llvm.type
    if name.startswith("llvm."):
        name = f"{name}.{kind.intrinsic_name}"
    function = declared(code, name, kind, [kind] * len(arguments))
    return Value(code, code.call(function, [argument.llvm for argument in arguments]))


def declared(code: ir.IRBuilder, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
    """The function of this name, declared in the module on first use."""
    return code.module.globals.get(name) or ir.Function(code.module, ir.FunctionType(result, arguments), name)


absolute = partial(call, "llvm.fabs")
copysign = partial(call, "llvm.copysign")
"""|x| with the sign of the second."""
floor = partial(call, "llvm.floor")
sqrt = partial(call, "llvm.sqrt")
whole = partial(call, "llvm.rint")
"""The integer next to x, of two the even one."""
