"""The Mills ratio of the normal law, by which its tail keeps all its digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphengine.ir.op import Array
from graphengine.ops.erf import polynomial, polynomial_into

__all__ = ["MILLS", "mills", "mills_into"]

# P and Q, lowest power first: minimax fits by Remez exchange, relative 2^-27.3 on x < 14.5 and 2^-54.1 on x < 39. No
# coefficient is below 0, so nothing cancels; further out P(x) / Q(x) goes on as 1 / x does, to within a few per cent.
MILLS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "float32": (
        (1.2533141, 1.0986392, 0.45929983, 0.101851515, 0.010317921),
        (1.0, 1.6744722, 1.202499, 0.46946794, 0.10185796, 0.010317801),
    ),
    "float64": (
        (
            1.2533141373155001,
            1.9423350942291338,
            1.4890745550160687,
            0.7252651708439146,
            0.24490328773474843,
            0.05921495363975324,
            0.010250896433175396,
            0.0012293698188349737,
            9.338944868918842e-05,
            3.4737679625030454e-06,
        ),
        (
            1.0,
            2.3476437443938596,
            2.5612582952493304,
            1.7144059803787837,
            0.7820563665732573,
            0.25496739355518827,
            0.06043737634803752,
            0.010344285870678918,
            0.001232843586996735,
            9.338944868705403e-05,
            3.4737679625133538e-06,
        ),
    ),
}
"""Its numerator and denominator by dtype; each coefficient is rounded for itself."""


def mills(x: Any) -> Any:
    """(1 - Phi(x)) / phi(x) for x from 0 up: the chance of a normal variable to be above x, over the density at x.

    It falls slowly from 1.25, like 1 / x far out, so a product with exp(-x^2 / 2) loses nothing where 1 - Phi cancels.
    """
    above, below = MILLS["float64"]
    return polynomial(above[::-1], x) / polynomial(below[::-1], x)


def mills_into(out: Array, x: Array, work: Array) -> None:
    """Write it to `out`, not `x`; `work` is of the same type."""
    above, below = MILLS["float32" if out.dtype == np.float32 else "float64"]
    polynomial_into(out, above[::-1], x)
    polynomial_into(work, below[::-1], x)
    np.divide(out, work, out)
