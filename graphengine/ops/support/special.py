"""What forms take for the error function and the Mills ratio of the normal law, which NumPy lacks."""

from __future__ import annotations

from collections.abc import Mapping

from graphengine.ops.support import form
from graphengine.ops.support.form import Scalar, expansion, polynomial

# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969), 631-637; the digits are
# those of his CALERF, highest power first. Near 0, erf x = x P(x^2)/Q(x^2); beyond, erf x = 1 - exp(-x^2) R(x)/S(x).
# Cody has a third form for x > 4, by which erfc stays accurate; in erf that gains nothing, as erfc(4) is 1.5e-8.
_NEAR = 0.46875
_P = (
    1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
    3.20937758913846947e3,
)  # rows of numbers  # fmt: skip
_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_R = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
    2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
    1.23033935479799725e3,
)  # rows of numbers  # fmt: skip
_S = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
    3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)  # rows of numbers  # fmt: skip
FAR = 1e4
"""Where every float of exp(-x) has vanished; bounds x that is multiplied by what vanishes, as inf * 0 is NaN."""

_FLAT = 6.0
"""From here on erf x is 1 to the last bit."""

# For float32 one form does everywhere, in a third of the passes: erf x = tanh(x P(x^2)). tanh is quick, and flattens as
# erf does. P is fitted for the least relative error of erf, which is 1e-7; rounding adds 2e-7. Highest power first.
_SINGLE = (1.4189783e-07, -5.6691046e-06, 8.7640371e-05, -0.00061979101, -0.00019182512, 0.10276905, 1.1283793)


@expansion("erf")
def _erf(x: Scalar, is_single: bool) -> Scalar:
    if is_single:
        return form.tanh(x * polynomial(_SINGLE, x * x))
    size = form.minimum(form.absolute(x), _FLAT)
    squared = size * size
    near = size * polynomial(_P, squared) / polynomial(_Q, squared)
    far = 1.0 - form.exp(-squared) * polynomial(_R, size) / polynomial(_S, size)
    return form.copysign(form.where(size <= _NEAR, near, far), x)


# The Mills ratio (1 - Phi(x)) / phi(x), the chance of a normal variable to be above x over the density at x. It falls
# slowly from 1.25, like 1 / x far out, so a product with exp(-x^2 / 2) loses nothing where 1 - Phi cancels.

# P and Q, lowest power first: minimax fits by Remez exchange, relative 2^-27.3 on x < 14.5 and 2^-54.1 on x < 39. No
# coefficient is below 0, so nothing cancels; further out P(x) / Q(x) goes on as 1 / x does, to within a few per cent.
MILLS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "float32": (
        (1.2533141, 1.0986392, 0.45929983, 0.101851515, 0.010317921),
        (1.0, 1.6744722, 1.202499, 0.46946794, 0.10185796, 0.010317801),
    ),
    "float64": (
        (
            1.2533141373155001, 1.9423350942291338, 1.4890745550160687, 0.7252651708439146,
            0.24490328773474843, 0.05921495363975324, 0.010250896433175396, 0.0012293698188349737,
            9.338944868918842e-05, 3.4737679625030454e-06,
        ),
        (
            1.0, 2.3476437443938596, 2.5612582952493304, 1.7144059803787837, 0.7820563665732573,
            0.25496739355518827, 0.06043737634803752, 0.010344285870678918, 0.001232843586996735,
            9.338944868705403e-05, 3.4737679625133538e-06,
        ),
    ),
}  # rows of numbers  # fmt: skip
"""Its numerator and denominator by dtype; each coefficient is rounded for itself."""


@expansion("mills")
def _mills(x: Scalar, is_single: bool) -> Scalar:
    above, below = MILLS["float32" if is_single else "float64"]
    return polynomial(above[::-1], x) / polynomial(below[::-1], x)
