"""What takes one instruction or a few, for floats and for whole numbers: the greater, |x|, the sign, sums."""

from __future__ import annotations

from llvmlite import ir

from graphengine.backends.native.llvm import formula
from graphengine.backends.native.llvm.formula import Value, call, select


def maximum(a: Value, b: Value) -> Value:
    """The greater; NaN if one is NaN."""
    return _outermost(">", "llvm.maximum", a, b)


def minimum(a: Value, b: Value) -> Value:
    """The lesser; NaN if one is NaN."""
    return _outermost("<", "llvm.minimum", a, b)


def absolute(x: Value) -> Value:
    """|x|."""
    return formula.absolute(x) if x.is_float else select(x < 0, x.like(0) - x, x)


def sign(x: Value) -> Value:
    """-1, 0 or 1; 0 of -0.0, and NaN of NaN."""
    at_zero = select(x.equals(0), x.like(0), x) if x.is_float else x.like(0)
    return select(x > 0, x.like(1), select(x < 0, x.like(-1), at_zero))


def plus(a: Value, b: Value) -> Value:
    """a + b, of a sum that may be added up in any order, the product that `b` may be being added without rounding."""
    if not a.is_float:
        return a + b
    if isinstance(b.llvm, ir.Instruction) and b.llvm.opname == "fmul":
        b.llvm.flags.append("contract")
    return Value(a.code, a.code.fadd(a.llvm, b.llvm, flags=("reassoc", "nsz", "contract")))


def lost(a: Value, b: Value) -> Value:
    """What a + b, of floats of one width, loses by rounding (Knuth 1969); 0 where that is not finite."""
    total = a + b
    share = total - a
    error = (a - (total - share)) + (b - share)
    return select(error.equals(error), error, 0.0)


def multiply_high(a: Value, b: Value) -> Value:
    """The upper half of the bits of a * b, both without sign."""
    code, kind = a.code, a.llvm.type
    wide = ir.IntType(2 * kind.width)
    product = code.mul(code.zext(a.llvm, wide), code.zext(b.llvm, wide))
    return Value(code, code.trunc(code.lshr(product, wide(kind.width)), kind))


def whole(x: Value, width: int) -> Value:
    """A float without its fraction, as an int32 or, if `width` is 64, an int64; the least of these if it is none.

    The instruction of x86 gives that, the one of ARM something else, and LLVM, on both, another number in a vector.
    """
    kind, limit = ir.IntType(width), 2.0 ** (width - 1)
    least = Value(x.code, ir.Constant(kind, -(2 ** (width - 1))))
    inside = (x < limit) & x.compared(">=", -limit)
    return select(inside, Value(x.code, x.code.fptosi(x.llvm, kind)), least)


def _outermost(comparison: str, intrinsic: str, a: Value, b: Value) -> Value:
    """Beside a constant one instruction does, which gives its second operand where the first is not the greater."""
    if b.constant is not None:
        a, b = b, a
    if a.constant is not None or not a.is_float:
        return select(a.compared(comparison, b), a, b)
    return call(intrinsic, a, b)
