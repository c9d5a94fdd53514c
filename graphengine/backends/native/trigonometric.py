"""sin and cos.

x = n pi/2 + r with |r| <= pi/4, found in double precision; then a polynomial in r is sin(r), another is cos(r), and n
says which of them it is, with which sign. Coefficients are minimax fits by Remez exchange, each rounded in turn and the
rest fitted anew.
"""

from __future__ import annotations

from math import nan

from graphengine.backends.native.formula import Value, absolute, call, fma, polynomial, select

__all__ = ["cos", "sin"]

# (sin(r) - r) / r^3 in r^2 on |r| < 0.786, relative to sin(r) 2^-32.5
_SIN = (-0.1666666716337204, 0.008333379402756691, -0.00019853064441122115, 2.8325030143605545e-06)
# (cos(r) - 1 + r^2/2) / r^4 in r^2 on |r| < 0.786, relative to cos(r) 2^-32.9
_COS = (0.04166664555668831, -0.0013887309469282627, 2.4432287318632007e-05)

_SHIFTER = 1.5 * 2.0**52  # added to a number, it rounds it to a whole n, and leaves n in the lowest bits
_LARGEST = 2.0**50
_HALF_PI_HIGH = 1.5707963267948966
_HALF_PI_LOW = 6.123233995736766e-17


def sin(x: Value) -> Value:
    """The sine. Measured: 1.6 ulp in float32 up to 2^50, beyond which it is NaN; float64 calls the math library."""
    if x.is_double:
        return call("sin", x)
    quadrant, r = _split(x)
    return select(x.equals(0.0), x, _wave(quadrant, r))


def cos(x: Value) -> Value:
    """The cosine, which is the sine a quadrant further. Measured and limited as the sine is."""
    if x.is_double:
        return call("cos", x)
    quadrant, r = _split(x)
    return _wave(quadrant + 1, r)


def _split(x: Value) -> tuple[Value, Value]:
    """n, in its lowest bits, and r, which is NaN where x is too large for n to be whole."""
    wide = select(absolute(x) < _LARGEST, x, nan).double()
    shifted = fma(wide, 1.0 / _HALF_PI_HIGH, _SHIFTER)
    n = shifted - _SHIFTER
    r = fma(n, -_HALF_PI_LOW, fma(n, -_HALF_PI_HIGH, wide))
    return shifted.bits().low_half(), r.single()


def _wave(quadrant: Value, r: Value) -> Value:
    """sin(r), cos(r), -sin(r), -cos(r) for quadrants 0, 1, 2, 3."""
    square = r * r
    sine = fma(square * polynomial(square, _SIN), r, r)
    cosine = fma(square * square, polynomial(square, _COS), fma(square, -0.5, 1.0))
    value = select((quadrant & 1).equals(0), sine, cosine)
    return (value.bits() ^ ((quadrant & 2) << 30)).as_float()
