"""The error function, which NumPy lacks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any, ClassVar, Literal

import numpy as np

from graphengine.ir.node import Node
from graphengine.ir.op import Array, Call
from graphengine.ir.types import TensorType
from graphengine.ops.compare import clip
from graphengine.ops.elementwise import UnaryOp, exp, square, unary

__all__ = ["erf"]

# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969), 631-637; the digits are
# those of his CALERF, highest power first. Near 0, erf x = x P(x^2)/Q(x^2); beyond, erf x = 1 - exp(-x^2) R(x)/S(x).
# Cody has a third form for x > 4, by which erfc stays accurate; in erf that gains nothing, as erfc(4) is 1.5e-8.
_NEAR = 0.46875
_P = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_R = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e0,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
_S = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)
FAR = 1e4
"""Where every float of exp(-x) has vanished; bounds x that is multiplied by what vanishes, as inf * 0 is NaN."""

_FLAT = 6.0
"""From here on erf x is 1 to the last bit."""

# For float32 one form does everywhere, in a third of the passes: erf x = tanh(x P(x^2)). tanh is quick, and flattens as
# erf does. P is fitted for the least relative error of erf, which is 1e-7; rounding adds 2e-7. Highest power first.
_SINGLE = (1.4189783e-07, -5.6691046e-06, 8.7640371e-05, -0.00061979101, -0.00019182512, 0.10276905, 1.1283793)


class Erf(UnaryOp):
    """y = 2 / sqrt(pi) times the integral of exp(-t^2) over t from 0 to x.

    In float64 it is right to about 1e-16 (Cody 1969), in float32 to 4e-7.
    """

    kind: Literal["erf"] = "erf"
    form: ClassVar[str | None] = "erf({0})"
    floats_only: ClassVar[bool] = True

    def eval(self, xp: Any, x: Any) -> Any:
        size = xp.minimum(xp.abs(x), _FLAT)
        squared = size * size
        near = size * polynomial(_P, squared) / polynomial(_Q, squared)
        far = 1.0 - xp.exp(-squared) * polynomial(_R, size) / polynomial(_S, size)
        return xp.copysign(xp.where(size <= _NEAR, near, far), x)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return (y, y, y, y, TensorType(y.shape, "bool"))

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return erf_into, (out, *operands, *scratch)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar * (2 / math.sqrt(math.pi) * exp(-square(clip(x, -FAR, FAR)))),)


def erf_into(out: Array, x: Array, size: Array, near: Array, far: Array, work: Array, is_near: Array) -> None:
    """Write erf of `x` to `out`, which may be `x`; what follows is work memory of the same type, the last of bools."""
    if out.dtype == np.float32:
        _single_into(out, x, size, near)
        return
    np.abs(x, size)
    np.minimum(size, _FLAT, out=size)
    np.multiply(size, size, far)
    polynomial_into(near, _P, far)
    np.multiply(near, size, near)
    polynomial_into(work, _Q, far)
    np.divide(near, work, near)
    np.negative(far, far)
    np.exp(far, far)
    polynomial_into(work, _R, size)
    np.multiply(far, work, far)
    polynomial_into(work, _S, size)
    np.divide(far, work, far)
    np.subtract(1.0, far, far)
    np.less_equal(size, _NEAR, is_near)
    np.copyto(far, near, "no", is_near)
    np.copysign(far, x, out)


def _single_into(out: Array, x: Array, squared: Array, work: Array) -> None:
    np.multiply(x, x, squared)
    polynomial_into(work, _SINGLE, squared)
    np.multiply(x, work, work)
    np.tanh(work, out)


def polynomial(coefficients: Sequence[float], x: Any) -> Any:
    """Horner's rule, from the highest power on."""
    return reduce(lambda value, coefficient: value * x + coefficient, coefficients)


def polynomial_into(out: Array, coefficients: Sequence[float], x: Array) -> None:
    """Write it to `out`, which is not `x`."""
    first, second, *others = coefficients
    np.multiply(x, first, out)
    np.add(out, second, out)
    for coefficient in others:
        np.multiply(out, x, out)
        np.add(out, coefficient, out)


erf = unary(Erf)
