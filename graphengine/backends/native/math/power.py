"""x to the y, as 2^(y log2 |x|) in double precision, so that float32 loses nothing to the product.

Coefficients are minimax fits by Remez exchange, each rounded in turn and the rest fitted anew.
"""

from __future__ import annotations

from math import inf, nan

from graphengine.backends.native.llvm.formula import Value, absolute, call, copysign, floor, fma, polynomial, select
from graphengine.backends.native.math.logarithm import split

# log2(1 + f) / f for 1 + f between the roots of 1/2 and 2, relative 2^-37.9
_LOG2 = (
    1.4426950408865724, -0.7213475203273397, 0.48089834880548993, -0.36067379319935083, 0.288538795487353,
    -0.24044642870699526, 0.20610712721490881, -0.18043691782841093, 0.16021683257094188, -0.14249651207552408,
    0.13027109646931406, -0.13463618932449486, 0.13253909821926124, -0.06975999085526789,
)  # rows of numbers  # fmt: skip
# 2^r on |r| < 0.5005, relative 2^-29.0
_EXP2 = (
    1.000000000558975, 0.6931472058876478, 0.24022646864025166, 0.05550328436038329, 0.009618491074476567,
    0.0013400075256935534, 0.00015345355646481087,
)  # rows of numbers  # fmt: skip
_HALF_ROOT = 0x3FE6A09E667F3BCD  # the bits of the root of 1/2
_SHIFTER = 1.5 * 2.0**52 + 1023  # added to a number, it rounds it to a whole n, and leaves the exponent's bits lowest


def power(x: Value, y: Value) -> Value:
    """x to the y, at the ends and for x below 0 as in C.

    Measured: 0.54 ulp in float32, 1.9 for a small whole exponent that the code tells; float64 calls the math library.
    """
    simple = _simple(x, y.constant)
    if simple is not None:
        return simple
    if x.is_double:
        return call("llvm.pow", x, y)
    logarithm, exponent = _log2(absolute(x).double()), y.double()
    product = select(logarithm.equals(0.0) | exponent.equals(0.0), 0.0, exponent * logarithm)
    return _signed(x, y, _exp2(product).single())


def _simple(x: Value, exponent: float | None) -> Value | None:
    """x to an exponent that the code itself tells and that takes no logarithm; 1/2 gives the root, as in NumPy."""
    square = x * x
    simple = {0.5: call("llvm.sqrt", x), 1.0: x, 2.0: square, 3.0: square * x, 4.0: square * square}
    return None if exponent is None else simple.get(exponent)


def _signed(x: Value, y: Value, magnitude: Value) -> Value:
    """The power of an x of any sign: below 0 there is one for a whole y only, and its sign is that of x if y is odd."""
    half = y * 0.5
    whole = floor(y).equals(y)
    odd = whole & ~floor(half).equals(half)
    value = select(odd, copysign(magnitude, x), magnitude)
    return select((x < 0.0) & (x > -inf) & ~whole, nan, value)


def _log2(x: Value) -> Value:
    """log2 of what is not below 0."""
    exponent, mantissa = split(x, _HALF_ROOT)
    f = mantissa - 1.0
    value = fma(f, polynomial(f, _LOG2), exponent.to_float())
    return select(x.equals(0.0), -inf, select(x < inf, value, x))


def _exp2(x: Value) -> Value:
    """2^x, where it is not 0 or inf as float32; what is."""
    x = select(x > 200.0, 200.0, x)
    x = select(x < -200.0, -200.0, x)
    shifted = x + _SHIFTER
    r = x - (shifted - _SHIFTER)
    return polynomial(r, _EXP2) * (shifted.bits() << 52).as_float()
