"""Arithmetic that is spared: neutral elements, double negations, factors that meet, powers by what they are.

Values stay as they are but for rounding, with two exceptions. The sign of a zero may change, as -0.0 + 0.0 is 0.0. And
where the first of two factors over- or underflows, and both together do not, the value is now the right one.
What is not there: 0 x is not 0, nor x - x, nor is x / x 1, for x may be infinite or NaN; and sums of floats are not
regrouped, as (x + a) - a may be meant to round x.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ops.elementwise import Add, Divide, Multiply, Negative, Power, Reciprocal, Sqrt, Square, Subtract
from graphengine.transform.rewrite.numbers import as_type, both_ways, combined, magnitudes, number, times
from graphengine.transform.rewrite.walk import Apply, Expression, Rule, Site

SAFE = 2.0**100
"""Scalars whose product lies within these bounds, and those of its inverse, may be multiplied in either dtype."""


def neutral_factor(y: Site) -> Expression | None:
    """x * 1 = x; x * -1 = -x."""
    for x, factor in both_ways(y):
        value = number(factor)
        if value == 1:
            return as_type(x, y.type)
        if value == -1 and x.type == y.type:
            return Apply.to(Negative(), x)
    return None


def neutral_divisor(y: Site) -> Expression | None:
    """x / 1 = x."""
    x, divisor = y.parents
    return as_type(x, y.type) if number(divisor) == 1 else None


def neutral_term(y: Site) -> Expression | None:
    """x + 0 = x."""
    return next((as_type(x, y.type) for x, term in both_ways(y) if number(term) == 0), None)


def neutral_subtrahend(y: Site) -> Expression | None:
    """x - 0 = x; 0 - x = -x."""
    x, term = y.parents
    if number(term) == 0:
        return as_type(x, y.type)
    return Apply.to(Negative(), term) if number(x) == 0 and term.type == y.type else None


def negative_term(y: Site) -> Expression | None:
    """a + (-b) = a - b."""
    for a, b in both_ways(y):
        if isinstance(b.op, Negative) and y.once(b):
            return Apply.to(Subtract(), a, b.parents[0])
    return None


def negative_subtrahend(y: Site) -> Expression | None:
    """a - (-b) = a + b."""
    a, b = y.parents
    return Apply.to(Add(), a, b.parents[0]) if isinstance(b.op, Negative) and y.once(b) else None


def negated(y: Site) -> Expression | None:
    """-(-x) = x; -(a - b) = b - a; -(x * c) = x * (-c); -(x / c) = x / (-c), for scalars c."""
    (x,) = y.parents
    if isinstance(x.op, Negative):
        return x.parents[0]
    if not y.once(x):
        return None
    if isinstance(x.op, Subtract):
        return Apply.to(Subtract(), *reversed(x.parents))
    if isinstance(x.op, Multiply | Divide):
        for core, factor in _scalar_factors(x):
            return Apply.to(x.op, core, _negative(factor))
    return None


def merged_factors(y: Site) -> Expression | None:
    """(x * a) * b = x * (a b), (x / a) * b = x * (b / a), (-x) * b = x * (-b), for scalars a and b; quotients too."""
    for x, b in _ways(y):
        if not _is_factor(b, x) or not y.once(x) or x.type != y.type:
            continue
        if isinstance(x.op, Negative):
            return Apply.to(y.op, x.parents[0], _negative(b))
        for core, a in _scalar_factors(x):
            merged = _merged(x.op, a, y.op, b)
            if merged is not None:
                return Apply.to(merged[0], core, merged[1])
    return None


def merged_numerators(y: Site) -> Expression | None:
    """(a / x) * b = (a b) / x, (a / x) / b = (a / b) / x, for numbers a and b."""
    for x, factor in _ways(y):
        if isinstance(x.op, Divide) and y.once(x) and x.type == x.parents[1].type == y.type:
            (a, b), ufunc = (number(x.parents[0]), number(factor)), getattr(np, y.op.kind)
            value = None if a is None or b is None else combined(ufunc, a, b)
            if value is not None:
                return Apply.to(Divide(), value, x.parents[1])
    return None


def plain_power(y: Site) -> Expression | None:
    """x ** 1, 2, 3, 0.5 and -1 by multiplications, root and reciprocal. A root of -inf is NaN, where a power is inf."""
    x, exponent = y.parents
    value = number(exponent)
    if value is None or x.type != y.type:
        return None
    if value == 3:
        return Apply.to(Multiply(), Apply.to(Square(), x), x)
    if value == 1:
        return x
    op = {2.0: Square, 0.5: Sqrt, -1.0: Reciprocal}.get(float(value))
    return None if op is None else Apply.to(op(), x)


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
    return Apply.to(Negative(), factor) if value is None else np.negative(np.array([value])).item()


def _merged(inner: Op, a: Node, outer: Op, b: Node) -> tuple[Op, Expression] | None:
    """What x is multiplied or divided by, instead of by a in `inner` and by b in `outer`."""
    if type(inner) is type(outer):
        factor = _combined(Multiply(), a, b)
        return None if factor is None else (outer, factor)
    over, under = (b, a) if isinstance(inner, Divide) else (a, b)
    factor = _combined(Divide(), over, under)
    return None if factor is None else (Multiply(), factor)


def _combined(op: Op, a: Node, b: Node) -> Expression | None:
    """a * b or a / b; None where it may over- or underflow."""
    ufunc = np.multiply if isinstance(op, Multiply) else np.divide
    first, second = number(a), number(b)
    if first is not None and second is not None:
        return combined(ufunc, first, second)
    bounds = [magnitudes(node) for node in (a, b)]
    known = [bound for bound in bounds if bound is not None]
    if len(known) < 2 or a.ndim or b.ndim:
        return None
    low, high = times(known[0], known[1], isinstance(op, Divide))
    return Apply.to(op, a, b) if low > 1 / SAFE and high < SAFE else None


ARITHMETIC: Mapping[type[Op], Sequence[Rule]] = MappingProxyType(
    {
        Multiply: (neutral_factor, merged_factors, merged_numerators),
        Divide: (neutral_divisor, merged_factors, merged_numerators),
        Add: (neutral_term, negative_term),
        Subtract: (neutral_subtrahend, negative_subtrahend),
        Negative: (negated,),
        Power: (plain_power,),
    }
)
