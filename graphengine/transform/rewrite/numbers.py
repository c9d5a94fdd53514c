"""Numbers among nodes: which nodes hold the same number everywhere, how such numbers combine, and what bounds them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphengine.ir import dims
from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node
from graphengine.ops.broadcast import BroadcastTo, DimSize
from graphengine.ops.elementwise import Divide, Multiply, Negative, Power, Reciprocal
from graphengine.transform.rewrite.walk import Site

LOOKED_AT = 64
"""The size up to which a constant is looked at for one number everywhere."""

LARGEST_DIM = 2.0**40
"""No array has more elements, so that none of these counts is more."""


def number(node: Node) -> Any:
    """The number that `node` holds in all its elements, as a NumPy scalar of its dtype; None if it is not known to."""
    if isinstance(node.op, BroadcastTo):
        (node,) = node.parents
    if not isinstance(node.op, Constant) or not 0 < node.op.value.size <= LOOKED_AT:
        return None
    value = node.op.value
    first = value.reshape(-1)[0]
    is_one = value.size == 1 or value.tobytes() == first.tobytes() * value.size  # which tells -0.0 from 0.0
    return first if is_one else None


def combined(ufunc: np.ufunc, a: Any, b: Any) -> float | int | None:
    """`ufunc(a, b)` of two numbers, rounded to their dtype; None if it over- or underflows, or is not a number.

    A factor that is not lost in rounding stands for two: where x a over- or underflows, and x (a b) does not, the
    latter is the better value. Integers wrap around as they do when the factors are applied one by one.
    """
    with np.errstate(all="ignore"):
        value = ufunc(np.array([a]), np.array([b]))[0]
    if value.dtype.kind != "f":
        return int(value)
    is_normal = np.isfinite(value) and abs(value) >= np.finfo(value.dtype).tiny
    return float(value) if is_normal else None


def magnitudes(node: Node, steps: int = 3) -> tuple[float, float] | None:
    """Bounds of the absolute value of a scalar that is made of numbers and sizes of axes; None for any other.

    They tell whether factors that are known only at run time may be multiplied with each other before anything else.
    """
    if isinstance(node.op, DimSize):
        return (1.0, LARGEST_DIM) if dims.is_positive(node.op.size) else None
    if isinstance(node.op, Constant):
        size = abs(float(node.op.value)) if node.ndim == 0 and node.type.is_float else 0.0
        return (size, size) if size and math.isfinite(size) else None
    if not isinstance(node.op, Multiply | Divide | Negative) or not steps:
        return None
    bounds = [bound for parent in node.parents if (bound := magnitudes(parent, steps - 1)) is not None]
    if len(bounds) < len(node.parents):
        return None
    return times(bounds[0], bounds[1], isinstance(node.op, Divide)) if len(bounds) == 2 else bounds[0]


def times(a: tuple[float, float], b: tuple[float, float], inverse: bool = False) -> tuple[float, float]:
    """The bounds of a product of two numbers within bounds, or of their quotient."""
    low, high = (1 / b[1], 1 / b[0]) if inverse else b
    return a[0] * low, a[1] * high


def both_ways(y: Node | Site) -> tuple[tuple[Node, Node], tuple[Node, Node]]:
    """The two operands, in either order."""
    a, b = y.parents
    return (a, b), (b, a)


def quotient(y: Node | Site) -> tuple[Node | None, Node | None]:
    """What is divided, None if that is 1, and by what; twice None if y is no quotient."""
    if isinstance(y.op, Divide):
        return y.parents[0], y.parents[1]
    is_inverse = isinstance(y.op, Reciprocal)
    if isinstance(y.op, Power):
        is_inverse = number(y.parents[1]) == -1 and y.parents[0].type == y.type
    return None, y.parents[0] if is_inverse else None
