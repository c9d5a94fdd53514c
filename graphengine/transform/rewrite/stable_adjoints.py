"""Stable forms of adjoints of unstable formulas: quotients that are lost to 0 / 0, or to inf / inf.

In the adjoint of log p, y_bar is divided by p, and multiplied by p again; in those of functions of exp(x), something
that falls as the power grows is multiplied by the power.
"""

from __future__ import annotations

from collections.abc import Callable

from graphengine.ir.node import Node
from graphengine.ir.types import check_axes
from graphengine.ops.activation import Sigmoid, Softmax
from graphengine.ops.broadcast import BroadcastTo, Reshape, Sum, reduced
from graphengine.ops.elementwise import Add, Divide, Exp, Multiply, Negative, Square, Subtract
from graphengine.ops.shape import ExpandDims
from graphengine.transform.rewrite.numbers import both_ways, number, quotient
from graphengine.transform.rewrite.softmax_forms import axes_of, quotient_of_powers, softmax_over
from graphengine.transform.rewrite.walk import Apply, Expression, Site, Table, first

LOOKED_INTO = 8
"""How many nodes in a row are looked into for a factor."""


def quotient_times_divisor(y: Site) -> Expression | None:
    """(g / p) p = g, and (g / p) (p q) = g q, where p is a probability or a power, of which none is 0.

    So it is in the adjoint of log p, where p has underflown and g / p is infinite.
    """
    return first(_times(a, b) for a, b in both_ways(y) if a.type == b.type == y.type)


def _times(value: Node, factor: Node) -> Expression | None:
    """`value` times `factor`, where that spares a division by what is in the factor; both are of one type."""

    def spared(node: Node) -> Expression | None:
        if not isinstance(node.op, Divide):
            return None
        g, p = node.parents
        if g.type != node.type or not _is_above_zero(p):
            return None
        if _are_equal(p, factor):
            return g
        factors = both_ways(factor) if isinstance(factor.op, Multiply) else ()
        return next((Apply(Multiply(), g, other) for part, other in factors if _are_equal(p, part)), None)

    return _within(
        value,
        spared,
        leads=lambda parent, node: parent.type == node.type,
        other_term=lambda term: Apply(Multiply(), term, factor),
    )


def _is_above_zero(p: Node) -> bool:
    """Whether p is a softmax, a sigmoid, 1 less one, or a power."""
    if isinstance(p.op, Subtract):
        return number(p.parents[0]) == 1 and isinstance(p.parents[1].op, Sigmoid)
    return isinstance(p.op, Softmax | Sigmoid | Exp)


def _are_equal(a: Node, b: Node) -> bool:
    """Whether both are one, or would be if they were merged."""
    return a is b or (not a.is_leaf and a.op == b.op and a.parents == b.parents)


def power_over_one_more(y: Site) -> Expression | None:
    """sigmoid(-x) exp(x) = sigmoid(x), also with other factors between the two.

    So it is in adjoints of log(1 + exp(x)) and of 1 / (1 + exp(x)), where the power has overflown.
    """
    ways = [(value, power) for value, power in both_ways(y) if power.type == value.type == y.type]
    return first(_with_sigmoid(value, power.parents[0]) for value, power in ways if isinstance(power.op, Exp))


def _with_sigmoid(value: Node, x: Node) -> Expression | None:
    """`value`, which is linear in sigmoid(-x), or in its square, with sigmoid(x) for one factor."""

    def risen(node: Node) -> Expression | None:
        falling = node.parents[0] if isinstance(node.op, Square) else node
        if not isinstance(falling.op, Sigmoid) or not _are_negatives(falling.parents[0], x):
            return None
        rising = Apply(Sigmoid(), x)
        return rising if falling is node else Apply(Multiply(), falling, rising)

    return _within(value, risen, leads=lambda parent, _: parent.type == x.type)


def _are_negatives(a: Node, b: Node) -> bool:
    return any(isinstance(x.op, Negative) and x.parents[0] is y for x, y in ((a, b), (b, a)))


def power_over_sum(y: Site) -> Expression | None:
    """exp(x) (1 / sum exp(x)) = softmax(x); exp(x) f(g / sum exp(x)) = softmax(x) f(g), for f that is linear.

    So it is in adjoints of log sum exp(x) and of exp(x) / sum exp(x), where the power has overflown.
    """
    for value, power in both_ways(y):
        if not isinstance(power.op, Exp) or power.type != y.type:
            continue
        over, under = quotient(value.parents[0] if isinstance(value.op, BroadcastTo) else value)
        if under is not None and (over is None or number(over) == 1):
            found = quotient_of_powers(power, under)
            if found is not None:
                return found
        total = _sum_under(value, power, LOOKED_INTO)
        found = None if total is None else _times_sum(value, total, power)
        if total is not None and found is not None:
            assert isinstance(total.op, Sum)
            return Apply(Multiply(), found, softmax_over(power.parents[0], check_axes(total.op.axis, power.ndim)))
    return None


def _sum_under(value: Node, power: Node, steps: int) -> Node | None:
    """The sum of `power` that `value`, or what it is computed from, is divided by."""
    if isinstance(value.op, Divide):
        total = value.parents[1]
        while isinstance(total.op, BroadcastTo | Reshape | ExpandDims):
            (total,) = total.parents
        if isinstance(total.op, Sum) and total.parents[0] is power:
            return total
    inside = (*_LINEAR_IN_FIRST, Multiply, Add, Subtract)
    found = (_sum_under(node, power, steps - 1) for node in value.parents if steps and isinstance(value.op, inside))
    return next((total for total in found if total is not None), None)


def _times_sum(value: Node, total: Node, power: Node) -> Expression | None:
    """`value` times `total`, the sum of powers, by not dividing by it; each sum is to meet the powers that it is of."""
    assert isinstance(total.op, Sum)
    axes = check_axes(total.op.axis, power.ndim)
    single, gone = (reduced(power.shape, axes, keepdims) for keepdims in (True, False))

    def fits(node: Node) -> bool:
        return node.shape in (power.shape, single[power.ndim - node.ndim :])

    def spared(node: Node) -> Expression | None:
        if not isinstance(node.op, Divide) or node.parents[0].type != node.type:
            return None
        over, under = node.parents
        is_sum = axes_of(under, Sum, power) == axes or (under is total and node.shape == gone)
        return over if is_sum else None

    def leads(parent: Node, node: Node) -> bool:
        if isinstance(node.op, Sum):
            return check_axes(node.op.axis, parent.ndim) == axes and parent.shape == power.shape
        if isinstance(node.op, Reshape | ExpandDims):
            return {parent.shape, node.shape} <= {single, gone}
        return parent.shape == node.shape or fits(parent)

    return _within(value, spared, leads) if fits(value) else None


_LINEAR_IN_FIRST = (BroadcastTo, Divide, ExpandDims, Negative, Reshape, Sum)


def _within(
    node: Node,
    change: Callable[[Node], Expression | None],
    leads: Callable[[Node, Node], bool],
    other_term: Callable[[Node], Expression] | None = None,
    steps: int = LOOKED_INTO,
) -> Expression | None:
    """`node`, with one factor of it changed; None where `change` gives None for all that it is linear in.

    `leads` tells whether an operand of a node is looked into. In a sum all terms are to be changed, or else
    `other_term` says what becomes of the others.
    """
    found = change(node)
    if found is not None or not steps:
        return found

    def inner(parent: Node) -> Expression | None:
        return _within(parent, change, leads, other_term, steps - 1) if leads(parent, node) else None

    if isinstance(node.op, _LINEAR_IN_FIRST):
        found = inner(node.parents[0])
        return None if found is None else Apply(node.op, found, *node.parents[1:])
    if isinstance(node.op, Multiply):
        pairs = ((inner(factor), other) for factor, other in both_ways(node))
        return next((Apply(Multiply(), factor, other) for factor, other in pairs if factor is not None), None)
    if isinstance(node.op, Add | Subtract):
        terms = [inner(parent) for parent in node.parents]
        if other_term is not None and any(term is not None for term in terms):
            terms = [other_term(p) if term is None else term for p, term in zip(node.parents, terms, strict=True)]
        if terms[0] is not None and terms[1] is not None:
            return Apply(node.op, terms[0], terms[1])
    return None


STABLE_ADJOINTS: Table = {Multiply: (quotient_times_divisor, power_over_one_more, power_over_sum)}
