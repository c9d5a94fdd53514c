"""Arithmetic that is spared: neutral elements, double negations, factors that meet, powers by what they are.

Values stay as they are but for rounding, with two exceptions. The sign of a zero may change, as -0.0 + 0.0 is 0.0. And
where the first of two factors over- or underflows, and both together do not, the value is now the right one.
What is not there: 0 x is not 0, nor x - x, nor is x / x 1, for x may be infinite or NaN; and sums of floats are not
regrouped, as (x + a) - a may be meant to round x.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ops.elementwise import (
    Add,
    Divide,
    Multiply,
    Negative,
    Power,
    Subtract,
    negative,
    reciprocal,
    sqrt,
    square,
)
from graphengine.transform.rewrite.identities import Identities, identities, once
from graphengine.transform.rewrite.numbers import both_ways, combined, magnitudes, number, times
from graphengine.transform.rewrite.walk import Apply, Expression, Site, Table

SAFE = 2.0**100
"""Scalars whose product lies within these bounds, and those of its inverse, may be multiplied in either dtype."""


@identities
def neutral_factor(x: Node) -> Identities:
    """x * 1 = x; x * -1 = -x."""
    yield x * 1, x
    yield x * -1, -x


@identities
def neutral_divisor(x: Node) -> Identities:
    """x / 1 = x."""
    yield x / 1, x


@identities
def neutral_term(x: Node) -> Identities:
    """x + 0 = x."""
    yield x + 0, x


@identities
def neutral_subtrahend(x: Node) -> Identities:
    """x - 0 = x; 0 - x = -x."""
    yield x - 0, x
    yield 0 - x, -x


@identities
def negative_term(a: Node, b: Node) -> Identities:
    """a + (-b) = a - b."""
    yield a + once(-b), a - b


@identities
def negative_subtrahend(a: Node, b: Node) -> Identities:
    """a - (-b) = a + b."""
    yield a - once(-b), a + b


@identities
def negated(a: Node, b: Node) -> Identities:
    """-(-a) = a; -(a - b) = b - a."""
    yield -negative(a), a
    yield -once(a - b), b - a


@identities
def plain_power(x: Node) -> Identities:
    """x ** 1, 2, 3, 0.5 and -1 by multiplications, root and reciprocal. A root of -inf is NaN, where a power is inf."""
    yield x**1, x
    yield x**2, square(x)
    yield x**3, square(x) * x
    yield x**0.5, sqrt(x)
    yield x**-1, reciprocal(x)


def negated_factor(y: Site) -> Expression | None:
    """-(x * c) = x * (-c); -(x / c) = x / (-c), for scalars c."""
    (x,) = y.parents
    core, factor = next(_scalar_factors(x), (x, None))
    return None if factor is None or not y.once(x) else Apply(x.op, core, _negative(factor))


def merged_factors(y: Site) -> Expression | None:
    """(x * a) * b = x * (a b), (x / a) * b = x * (b / a), (-x) * b = x * (-b), for scalars a and b; quotients too."""
    for x, b in _ways(y):
        if not _is_factor(b, x) or not y.once(x) or x.type != y.type:
            continue
        if isinstance(x.op, Negative):
            return Apply(y.op, x.parents[0], _negative(b))
        for core, a in _scalar_factors(x):
            merged = _merged(x.op, a, y.op, b)
            if merged is not None:
                return Apply(merged[0], core, merged[1])
    return None


def merged_numerators(y: Site) -> Expression | None:
    """(a / x) * b = (a b) / x, (a / x) / b = (a / b) / x, for numbers a and b."""
    for x, factor in _ways(y):
        if isinstance(x.op, Divide) and y.once(x) and x.type == x.parents[1].type == y.type:
            a, b = number(x.parents[0]), number(factor)
            value = None if a is None or b is None else combined(getattr(np, y.op.kind), a, b)
            if value is not None:
                return Apply(Divide(), value, x.parents[1])
    return None


def _ways(y: Node | Site) -> Sequence[tuple[Node, Node]]:
    """The ways to see a product or a quotient as a value and what that is multiplied or divided by."""
    return both_ways(y)[: 1 if isinstance(y.op, Divide) else 2]


def _is_factor(factor: Node, x: Node) -> bool:
    """Whether `factor` is one number for all elements of x, which has more of them, or a number known by now."""
    return number(factor) is not None or (factor.ndim == 0 < x.ndim)


def _scalar_factors(x: Node) -> Iterator[tuple[Node, Node]]:
    """The ways to see x, a product or quotient, as one of a node of its own type and a scalar behind it."""
    for core, factor in _ways(x) if isinstance(x.op, Multiply | Divide) else ():
        if core.type == x.type and _is_factor(factor, core):
            yield core, factor


def _negative(factor: Node) -> Expression:
    value = number(factor)
    return Apply(Negative(), factor) if value is None else np.negative(np.array([value])).item()


def _merged(inner: Op, a: Node, outer: Op, b: Node) -> tuple[Op, Expression] | None:
    """What x is multiplied or divided by, instead of by a in `inner` and by b in `outer`."""
    if type(inner) is type(outer):
        op, factor = outer, _combined(Multiply(), a, b)
    else:
        op, factor = Multiply(), _combined(Divide(), *((b, a) if isinstance(inner, Divide) else (a, b)))
    return None if factor is None else (op, factor)


def _combined(op: Op, a: Node, b: Node) -> Expression | None:
    """a * b or a / b; None where it may over- or underflow."""
    first, second = number(a), number(b)
    if first is not None and second is not None:
        return combined(getattr(np, op.kind), first, second)
    bounds = magnitudes(a), magnitudes(b)
    if bounds[0] is None or bounds[1] is None or a.ndim or b.ndim:
        return None
    low, high = times(bounds[0], bounds[1], isinstance(op, Divide))
    return Apply(op, a, b) if low > 1 / SAFE and high < SAFE else None


ARITHMETIC: Table = {
    Multiply: (neutral_factor, merged_factors, merged_numerators),
    Divide: (neutral_divisor, merged_factors, merged_numerators),
    Add: (neutral_term, negative_term),
    Subtract: (neutral_subtrahend, negative_subtrahend),
    Negative: (negated, negated_factor),
    Power: (plain_power,),
}
