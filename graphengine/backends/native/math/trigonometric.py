"""sin and cos.

x = (n/4 + r) turns of 2 pi, with |r| <= 1/8 turn, found in double precision; then a polynomial in r, in radians, is
sin(r), another is cos(r), and n says which of them it is, with which sign. Coefficients are minimax fits by Remez
exchange, each rounded in turn and the rest fitted anew.

x / (2 pi) is wanted without its whole turns, of which there may be 2^125. A float32 has 24 bits, so its product with
the first 29 bits of 1 / (2 pi) is an exact float64, and loses its whole turns without an error; what the bits
behind them add is small enough for the last three steps. Where x is a multiple of 2^51, a factor that is 1 / (2 pi)
but for a multiple of 2^-51 gives the same but for whole turns, and its bits go further down.
"""

from __future__ import annotations

from graphengine.backends.native.llvm.formula import Value, absolute, call, fma, polynomial, select, whole

# (sin(r) - r) / r^3 in r^2 on |r| < 0.786, relative to sin(r) 2^-32.5
_SIN = (-0.1666666716337204, 0.008333379402756691, -0.00019853064441122115, 2.8325030143605545e-06)
# (cos(r) - 1 + r^2/2) / r^4 in r^2 on |r| < 0.786, relative to cos(r) 2^-32.9
_COS = (0.04166664555668831, -0.0013887309469282627, 2.4432287318632007e-05)

# 1 / (2 pi), then the same but for a multiple of 2^-51: in parts of 29, 53 and 53 bits
_TURNS = (0.15915494319051504, -9.86197055824346e-11, 6.317065088957875e-27)
_TURNS_OF_LARGE = (7.342738843835495e-17, 7.094055044466316e-26, -1.7646902509521956e-42)
_LARGE = 2.0**75  # from where on x is a multiple of 2^51, and before which the first three parts are enough

_SHIFTER = 1.5 * 2.0**50  # added to a number, it rounds it to whole n/4, and leaves n in the lowest bits
_TURN = 6.283185307179586


def sin(x: Value) -> Value:
    """The sine. Measured: 1.6 ulp in float32; float64 calls the math library."""
    if x.is_double:
        return call("sin", x)
    quadrant, r = _split(x)
    return select(x.equals(0.0), x, _wave(quadrant, r))


def cos(x: Value) -> Value:
    """The cosine, which is the sine a quadrant further. Measured as the sine is."""
    if x.is_double:
        return call("cos", x)
    quadrant, r = _split(x)
    return _wave(quadrant + 1, r)


def _split(x: Value) -> tuple[Value, Value]:
    """n, in its lowest bits, and r in radians; NaN for inf and NaN."""
    is_large, wide = absolute(x) > _LARGE, x.double()
    high, middle, low = (
        select(is_large, wide.like(large), usual) for large, usual in zip(_TURNS_OF_LARGE, _TURNS, strict=True)
    )
    turns = fma(wide, high, -whole(wide * high))
    shifted = fma(wide, middle, turns) + _SHIFTER
    r = fma(wide, low, fma(wide, middle, turns - (shifted - _SHIFTER)))
    return shifted.bits().low_half(), (r * _TURN).single()


def _wave(quadrant: Value, r: Value) -> Value:
    """sin(r), cos(r), -sin(r), -cos(r) for quadrants 0, 1, 2, 3."""
    square = r * r
    sine = fma(square * polynomial(square, _SIN), r, r)
    cosine = fma(square * square, polynomial(square, _COS), fma(square, -0.5, 1.0))
    value = select((quadrant & 1).equals(0), sine, cosine)
    return (value.bits() ^ ((quadrant & 2) << 30)).as_float()
