"""Powers, whose derivative has a point to mind: 0 ** 0."""

from __future__ import annotations

from typing import Literal

from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node
from graphengine.ops.broadcast import sum_to
from graphengine.ops.compare import equal, logical_and, where
from graphengine.ops.elementwise import BinaryOp, binary, log

__all__ = ["power"]


class Power(BinaryOp):
    """y = a ** b, of floats; NaN for a < 0 unless b is whole.

    dy/da = b a^(b-1), 0 where b = 0; dy/db = y ln a, 0 where a = 0 <= b, NaN where a < 0.
    An exponent of 0.5 may take the root, which is NaN at -inf, where the power is inf.
    """

    kind: Literal["power"] = "power"

    def vjp(self, y: Node, y_bar: Node, a: Node, b: Node) -> tuple[Node | None, ...]:
        b_bar = y_bar * (y * log(where(logical_and(equal(a, 0.0), b >= 0.0), 1.0, a)))
        return sum_to(y_bar * _slope(a, b), a.shape), sum_to(b_bar, b.shape)


def _slope(a: Node, b: Node) -> Node:
    """b a^(b-1), and 0 for b = 0, where a^(b-1) may be infinite."""
    if isinstance(b.op, Constant) and b.ndim == 0 and (exponent := float(b.op.value)) != 0:
        return 2.0 * a if exponent == 2 else exponent * a ** (exponent - 1)
    return b * where(equal(b, 0.0), 1.0, a) ** (b - 1.0)


power = binary(Power)
