"""tanh: near 0 a polynomial, further out 1 - 2 / (1 + e^2x).

Coefficients are minimax fits by Remez exchange, each rounded in turn and the rest fitted anew.
"""

from __future__ import annotations

from graphengine.backends.native.llvm.formula import Value, absolute, copysign, fma, polynomial, power_of_two, select
from graphengine.backends.native.math.exponential import LOG2_E, expm1

# (tanh(x) - x) / x^3 in x^2 on |x| < 0.55, relative to tanh(x) 2^-29.7
_NEAR = (
    -0.33333316445350647, 0.13332544267177582, -0.0538475476205349, 0.02105071023106575, -0.006242832168936729,
)  # rows of numbers  # fmt: skip
# e^2r on |r| < 0.1736, relative 2^-28.2
_EXP = (1.0, 2.0, 1.999999761581421, 1.3333218097686768, 0.6666927933692932, 0.2677941620349884, 0.08843455463647842)
_HALF_LN2 = 0.34657359027997264
_SINGLE_ONE, _DOUBLE_ONE = 10.0, 20.0  # from here up tanh rounds to 1


def tanh(x: Value) -> Value:
    """The hyperbolic tangent. Measured: 1.6 ulp in float32, 2.2 in float64."""
    magnitude = absolute(x)
    if x.is_double:
        e = expm1(select(magnitude > _DOUBLE_ONE, 2 * _DOUBLE_ONE, magnitude + magnitude))
        return copysign(e / (e + 2.0), x)
    square = x * x
    near = fma(square * polynomial(square, _NEAR), magnitude, magnitude)
    return copysign(select(magnitude < 0.55, near, _far(magnitude)), x)


def _far(x: Value) -> Value:
    """1 - 2 / (1 + e^2x), where an error of ln 2 in its last bit is too small to be seen."""
    x = select(x > _SINGLE_ONE, _SINGLE_ONE, x)
    shifter = 1.5 * 2.0**x.places + x.bias
    shifted = fma(x, 2 * LOG2_E, shifter)
    r = fma(shifted - shifter, -_HALF_LN2, x)
    return 1.0 - 2.0 / fma(polynomial(r, _EXP), power_of_two(shifted.bits()), 1.0)
