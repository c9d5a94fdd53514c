"""Numerically unstable formulas replaced by stable ones.

log(softmax(x)) is -inf as soon as a probability underflows, log(1 + exp(x)) is inf as soon as the power overflows, and
the derivatives of both are NaN there. The forms on the right of these rules are finite wherever the function is, and
equal to those on the left, but for rounding, wherever those are finite.

`compile` makes this rewrite before it differentiates, too: an adjoint is then that of the stable form. What a user has
differentiated by `ge.grad` is the adjoint of the unstable form. The rules find the quotients in it that are lost to
0 / 0: y_bar is divided by p, the operand of the logarithm, and multiplied by p again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from graphengine.ir import dims
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.types import check_axes
from graphengine.ops.activation import LogSoftmax, Sigmoid, Softmax, Softplus
from graphengine.ops.broadcast import BroadcastTo, DimSize, Reduction, Reshape, Sum, reduced
from graphengine.ops.elementwise import (
    Add,
    Divide,
    Exp,
    Expm1,
    Log,
    Log1p,
    Multiply,
    Negative,
    Power,
    Reciprocal,
    Square,
    StopGradient,
    Subtract,
)
from graphengine.ops.index import Gather, OneHot, Slice
from graphengine.ops.loss import CrossEntropy
from graphengine.ops.reduce import LogSumExp, Max, Mean
from graphengine.ops.scan import Scan
from graphengine.ops.shape import ExpandDims, Squeeze, Stack, Transpose
from graphengine.ops.support.keys import read_key
from graphengine.transform.rewrite.arrangement import axis_order
from graphengine.transform.rewrite.cse import merge_common_subexpressions
from graphengine.transform.rewrite.numbers import both_ways, number
from graphengine.transform.rewrite.walk import Apply, Expression, Rule, Rules, Site, apply_rules


def stabilize_formulas(graph: Graph, follow: list[Node] | None = None) -> bool:
    """Stabilization: replace numerically unstable formulas by stable ones, in the bodies of scans too.

    Equal nodes are made one first: exp(x) / sum(exp(x)) is the same whether exp(x) is written once or twice. `follow`
    is as in `merge_common_subexpressions`.
    """
    if not _may_apply(graph):
        return False
    has_merged = merge_common_subexpressions(graph, follow)
    return apply_rules(graph, _RULES, follow) or has_merged


def _may_apply(graph: Graph) -> bool:
    """Whether a node is there, or in the body of a scan, that each form written out has; most networks have none."""
    return any(
        isinstance(node.op, _WRITTEN_OUT) or (isinstance(node.op, Scan) and _may_apply(node.op.body))
        for node in graph.nodes
    )


_WRITTEN_OUT = (CrossEntropy, Exp, Expm1, Log, Log1p, LogSoftmax, LogSumExp, Negative, Sigmoid, Softmax)


def stable_log(y: Site) -> Expression | None:
    """The logarithm of a function that under- or overflows, without taking that: see `_log`."""
    return _log(y.parents[0])


def stable_log1p(y: Site) -> Expression | None:
    """log1p exp(x) = softplus(x); log1p(-sigmoid(x)) = -softplus(x); log1p expm1(x) = x."""
    (x,) = y.parents
    if (z := _of(Exp, x)) is not None:
        return Apply.to(Softplus(), z)
    if (z := _of(Expm1, x)) is not None:
        return z
    z = _of(Sigmoid, _of(Negative, x))
    return None if z is None else _negative_softplus(z)


def _log(p: Node) -> Expression | None:
    """The logarithm of p, where p is one of these, rearranged or not, or a quotient of them; None for any other.

    log exp(x) = x; log softmax(x) = log_softmax(x); log sum exp(x) = logsumexp(x); log(1 + exp(x)) = softplus(x);
    log sigmoid(x) = -softplus(-x); log(1 - sigmoid(x)) = -softplus(x).
    """
    if isinstance(p.op, Exp):
        return p.parents[0]
    if isinstance(p.op, Softmax):
        return Apply.to(LogSoftmax(axis=p.op.axis), p.parents[0])
    if isinstance(p.op, Sum | Mean) and isinstance(p.parents[0].op, Exp) and _has_elements(p.op, p.parents[0]):
        return _log_of_powers(p.op, p.parents[0].parents[0])
    if isinstance(p.op, Sigmoid):
        return _negative_softplus(Apply.to(Negative(), p.parents[0]))
    if isinstance(p.op, Add | Subtract):
        return _log_of_two_terms(p)
    if isinstance(p.op, _REARRANGES):
        inner = _log(p.parents[0])
        return None if inner is None else Apply.to(p.op, inner, *p.parents[1:])
    if isinstance(p.op, Multiply):
        return _log_of_two(Add(), p, *p.parents)
    over, under = _quotient(p)
    if under is None:
        return None
    if over is None or number(over) == 1:
        inner = _log(under) if under.type == p.type else None
        return None if inner is None else Apply.to(Negative(), inner)
    return _log_of_two(Subtract(), p, over, under)


def _log_of_two(op: Op, p: Node, a: Node, b: Node) -> Expression | None:
    """The sum or difference of the logarithms of a and b, of which one may be a number."""
    sides = []
    for node, other in ((a, b), (b, a)):
        value = number(node)
        is_factor = value is not None and value > 0 and other.type == p.type
        sides.append(math.log(value) if is_factor else _log(node))
    if sides[0] is None or sides[1] is None or all(isinstance(side, float) for side in sides):
        return None
    return Apply.to(op, sides[0], sides[1])


def _log_of_powers(op: Reduction, x: Node) -> Expression:
    """log sum exp(x); log mean exp(x) is less by the logarithm of how many there are."""
    total = Apply.to(LogSumExp(axis=op.axis, keepdims=op.keepdims), x)
    if isinstance(op, Sum):
        return total
    count = dims.product(x.shape[axis] for axis in check_axes(op.axis, x.ndim))
    size = Apply.to(DimSize(size=count, dtype=x.dtype))
    log = math.log(count) if isinstance(count, int) else Apply.to(Log(), size)
    return Apply.to(Subtract(), total, log)


_REARRANGES = (BroadcastTo, ExpandDims, Gather, Reshape, Slice, Squeeze, Transpose)


def _log_of_two_terms(p: Node) -> Expression | None:
    """log(1 + exp(x)), log(1 + expm1(x)), log(1 - sigmoid(x)) and log(exp(x) + exp(y))."""
    if isinstance(p.op, Add) and all(isinstance(term.op, Exp) and term.type == p.type for term in p.parents):
        both = Apply.to(Stack(axis=0), *[term.parents[0] for term in p.parents])
        return Apply.to(LogSumExp(axis=(0,)), both)
    power = _one_plus(p)
    if (x := _of(Expm1, power)) is not None:
        return x
    if (x := _of(Exp, power)) is not None:
        return Apply.to(Softplus(), x)
    q = p.parents[1] if isinstance(p.op, Subtract) and number(p.parents[0]) == 1 else _of(Negative, power)
    x = _of(Sigmoid, q)
    return None if q is None or x is None or q.type != p.type else _negative_softplus(x)


def softmax_by_hand(y: Site) -> Expression | None:
    """exp(x) / sum exp(x) = softmax(x), over one axis, or over several as exp(x - logsumexp(x))."""
    powers, total = y.parents
    if powers.type != y.type:
        return None
    if isinstance(powers.op, Multiply):
        ways = ((_softmax(power, total), other) for power, other in both_ways(powers) if power.type == y.type)
        return _first(_product(*way) for way in ways)
    return _softmax(powers, total)


def _softmax(powers: Node, total: Node) -> Expression | None:
    """`powers` / `total`, where those are exp(x), maybe transposed, and this is their sum."""
    turn = powers.op if isinstance(powers.op, Transpose) else None
    order = range(powers.ndim) if turn is None else axis_order(turn, powers.ndim)
    power = powers if turn is None else powers.parents[0]
    axes = _axes_of(total, Sum, power, order) if isinstance(power.op, Exp) else None
    if axes is None or any(power.shape[axis] == 0 for axis in axes):
        return None
    result = _softmax_over(power.parents[0], axes)
    return result if turn is None else Apply.to(turn, result)


def _softmax_over(x: Node, axes: tuple[int, ...]) -> Expression:
    """The softmax along `axes`: by one axis that they are made where they stand in a row."""
    if len(axes) == 1:
        return Apply.to(Softmax(axis=axes[0]), x)
    if not axes or axes != tuple(range(axes[0], axes[-1] + 1)):
        return Apply.to(Exp(), Apply.to(Subtract(), x, Apply.to(LogSumExp(axis=axes, keepdims=True), x)))
    shape = (*x.shape[: axes[0]], dims.product(x.shape[axis] for axis in axes), *x.shape[axes[-1] + 1 :])
    return Apply.to(Reshape(shape=x.shape), Apply.to(Softmax(axis=axes[0]), Apply.to(Reshape(shape=shape), x)))


def log_softmax_by_hand(y: Site) -> Expression | None:
    """x - logsumexp(x) = log_softmax(x), along one axis, in whatever order they stand."""
    a, b = y.parents
    if isinstance(y.op, Subtract):
        opposite = _log_softmax(b, a, y)
        return _log_softmax(a, b, y) if opposite is None else Apply.to(Negative(), opposite)
    return _first(_log_softmax(x, total.parents[0], y) for x, total in both_ways(y) if isinstance(total.op, Negative))


def _log_softmax(x: Node, total: Node, y: Site) -> Expression | None:
    """x - `total`, where this is the logarithm of the sum of the powers of x, in the type of y."""
    axes = _axes_of(total, LogSumExp, x)
    return Apply.to(LogSoftmax(axis=axes[0]), x) if axes is not None and len(axes) == 1 and x.type == y.type else None


def shifted_softmax(y: Site) -> Expression | None:
    """softmax(x - max x) = softmax(x), which subtracts the maximum by itself."""
    (x,) = y.parents
    if not isinstance(x.op, Subtract) or not isinstance(y.op, Softmax | LogSoftmax):
        return None
    source, maximum = x.parents
    axes = _axes_of(maximum, Max, source)
    return Apply.to(y.op, source) if axes == (y.op.axis % x.ndim,) and source.type == y.type else None


def sigmoid_by_hand(y: Site) -> Expression | None:
    """1 / (1 + exp(-x)) = exp(x) / (1 + exp(x)) = sigmoid(x), and so with a factor above."""
    over, under = _quotient(y)
    power = None if under is None else _one_plus(under)
    if power is None or not isinstance(power.op, Exp):
        return None
    (x,) = power.parents
    if over is power:
        return Apply.to(Sigmoid(), x)
    if over is not None and isinstance(over.op, Multiply) and power in over.parents and over.type == power.type:
        return Apply.to(Multiply(), over.parents[over.parents[0] is power], Apply.to(Sigmoid(), x))
    result = Apply.to(Sigmoid(), x.parents[0] if isinstance(x.op, Negative) else Apply.to(Negative(), x))
    sign = 1 if over is None else number(over) if power.type == y.type else None
    if sign in (1, -1):
        return result if sign == 1 else Apply.to(Negative(), result)
    return None if over is None else Apply.to(Multiply(), over, result)


def inverse_power(y: Site) -> Expression | None:
    """1 / exp(x) = exp(-x)."""
    over, under = _quotient(y)
    is_one = over is None or number(over) == 1
    if under is None or not isinstance(under.op, Exp) or not is_one or under.type != y.type:
        return None
    return Apply.to(Exp(), Apply.to(Negative(), under.parents[0]))


def cross_entropy_by_hand(y: Site) -> Expression | None:
    """sum(one_hot(c) * log_softmax(z)) = -cross_entropy(z, c): over the classes, or over all axes."""
    assert isinstance(y.op, Sum)
    picked = _picked(y.parents[0], LogSoftmax)
    axes = check_axes(y.op.axis, y.parents[0].ndim)
    if picked is None or y.op.keepdims or axes == (0,):
        return None
    return Apply.to(Negative(), Apply.to(CrossEntropy(reduction="none" if axes == (1,) else "sum"), *picked))


def log_of_picked_probability(y: Site) -> Expression | None:
    """log sum(one_hot(c) * softmax(z)) = -cross_entropy(z, c), over the classes."""
    (total,) = y.parents
    picked = _picked(total.parents[0], Softmax) if isinstance(total.op, Sum) else None
    if picked is None or not isinstance(total.op, Sum) or total.op.keepdims or check_axes(total.op.axis, 2) != (1,):
        return None
    return Apply.to(Negative(), Apply.to(CrossEntropy(reduction="none"), *picked))


def reduced_cross_entropy(y: Site) -> Expression | None:
    """The mean or the sum of the cross entropies of the examples is one op; that of their negatives, its negative."""
    (x,) = y.parents
    assert isinstance(y.op, Reduction)
    source = x.parents[0] if isinstance(x.op, Negative) else x
    is_loss = isinstance(source.op, CrossEntropy) and source.op.reduction == "none"
    if not is_loss or not y.once(x) or not y.once(source) or y.op.keepdims or y.type.ndim:
        return None
    loss = Apply.to(CrossEntropy(reduction="mean" if isinstance(y.op, Mean) else "sum"), *source.parents)
    return loss if source is x else Apply.to(Negative(), loss)


def double_negative(y: Site) -> Expression | None:
    """-(-x) = x, of a cross entropy, which the rules above have given a sign."""
    (x,) = y.parents
    is_loss = isinstance(x.op, Negative) and isinstance(x.parents[0].op, CrossEntropy)
    return x.parents[0] if is_loss else None


def quotient_times_divisor(y: Site) -> Expression | None:
    """(g / p) p = g, and (g / p) (p q) = g q, where p is a probability or a power, of which none is 0.

    So it stands in the adjoint of log p, where p has underflown and g / p is infinite.
    """
    return _first(_times(a, b, LOOKED_INTO) for a, b in both_ways(y) if a.type == b.type == y.type)


def _times(quotient: Node, factor: Node, steps: int) -> Expression | None:
    """`quotient` times `factor`, where that spares a division by what is in the factor; both are of one type."""
    if isinstance(quotient.op, Add | Subtract):
        terms = [
            _times(term, factor, steps - 1) if steps and term.type == quotient.type else None
            for term in quotient.parents
        ]
        if terms == [None, None]:
            return None
        pairs = zip(quotient.parents, terms, strict=True)
        return Apply.to(
            quotient.op, *(Apply.to(Multiply(), node, factor) if term is None else term for node, term in pairs)
        )
    g, p = _quotient(quotient) if isinstance(quotient.op, Divide) else (None, None)
    if g is not None and p is not None and g.type == quotient.type and _is_above_zero(p):
        if _are_equal(p, factor):
            return g
        if isinstance(factor.op, Multiply):
            left = next((other for part, other in both_ways(factor) if _are_equal(p, part)), None)
            if left is not None:
                return Apply.to(Multiply(), g, left)
    return _inside(
        quotient, lambda node: _times(node, factor, steps - 1) if node.type == quotient.type else None, steps
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
    """sigmoid(-x) exp(x) = sigmoid(x), also where other factors stand between the two.

    So it stands in adjoints of log(1 + exp(x)) and of 1 / (1 + exp(x)), where the power has overflown.
    """
    return _first(
        _with_sigmoid(falling, power.parents[0], LOOKED_INTO)
        for falling, power in both_ways(y)
        if isinstance(power.op, Exp) and power.type == falling.type == y.type
    )


def _with_sigmoid(value: Node, x: Node, steps: int) -> Expression | None:
    """`value`, which is linear in sigmoid(-x), or in its square, with sigmoid(x) in the place of one factor."""
    if isinstance(value.op, Sigmoid) and _are_negatives(value.parents[0], x):
        return Apply.to(Sigmoid(), x)
    if isinstance(value.op, Square) and isinstance(value.parents[0].op, Sigmoid):
        (falling,) = value.parents
        is_right = _are_negatives(falling.parents[0], x)
        return Apply.to(Multiply(), falling, Apply.to(Sigmoid(), x)) if is_right else None
    return _inside(value, lambda node: _with_sigmoid(node, x, steps - 1) if node.type == x.type else None, steps)


def power_over_sum(y: Site) -> Expression | None:
    """exp(x) (1 / sum exp(x)) = softmax(x); exp(x) f(g / sum exp(x)) = softmax(x) f(g), for f that is linear.

    So it stands in adjoints of log sum exp(x) and of exp(x) / sum exp(x), where the power has overflown.
    """
    for value, power in both_ways(y):
        if not isinstance(power.op, Exp) or power.type != y.type:
            continue
        over, under = _quotient(value.parents[0] if isinstance(value.op, BroadcastTo) else value)
        if under is not None and (over is None or number(over) == 1):
            found = _softmax(power, under)
            if found is not None:
                return found
        total = _sum_under(value, power, LOOKED_INTO)
        if total is not None:
            sums = _SumOfPowers(total, power)
            found = sums.spared(value, LOOKED_INTO) if sums.fits(value) else None
            if found is not None:
                return Apply.to(Multiply(), found, _softmax_over(power.parents[0], sums.axes))
    return None


LOOKED_INTO = 8
"""How many nodes in a row are looked into for a factor."""


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


_LINEAR_IN_FIRST = (BroadcastTo, Divide, ExpandDims, Negative, Reshape, Sum)


class _SumOfPowers:
    """What is divided by the sum of powers, in the shape of the powers, or with one element for each sum."""

    def __init__(self, total: Node, power: Node) -> None:
        assert isinstance(total.op, Sum)
        self.total, self.power = total, power
        self.axes = check_axes(total.op.axis, power.ndim)
        self.kept = reduced(power.shape, self.axes, keepdims=True)
        self.gone = reduced(power.shape, self.axes, keepdims=False)

    def fits(self, node: Node) -> bool:
        """Whether `node` broadcasts so that each sum meets the powers that it is of."""
        return node.shape in (self.power.shape, self.kept[self.power.ndim - node.ndim :])

    def spared(self, node: Node, steps: int) -> Expression | None:
        """`node` times the sum, by not dividing by it."""
        if isinstance(node.op, Divide) and node.parents[0].type == node.type and self._is_sum(node.parents[1], node):
            return node.parents[0]
        return _inside(
            node, lambda parent: self.spared(parent, steps - 1) if self._leads(parent, node) else None, steps
        )

    def _is_sum(self, under: Node, node: Node) -> bool:
        return _axes_of(under, Sum, self.power) == self.axes or (under is self.total and node.shape == self.gone)

    def _leads(self, parent: Node, node: Node) -> bool:
        if isinstance(node.op, Sum):
            is_same = check_axes(node.op.axis, parent.ndim) == self.axes
            return is_same and parent.shape == self.power.shape
        if isinstance(node.op, Reshape | ExpandDims):
            return {parent.shape, node.shape} <= {self.kept, self.gone}
        return parent.shape == node.shape or self.fits(parent)


def _inside(node: Node, changed: Callable[[Node], Expression | None], steps: int) -> Expression | None:
    """`node`, with what it is linear in changed; None where that gives None."""
    if not steps:
        return None
    if isinstance(node.op, _LINEAR_IN_FIRST):
        inner = changed(node.parents[0])
        return None if inner is None else Apply.to(node.op, inner, *node.parents[1:])
    if isinstance(node.op, Multiply):
        return _first(_product(changed(factor), other) for factor, other in both_ways(node))
    if isinstance(node.op, Add | Subtract):
        terms = [changed(parent) for parent in node.parents]
        return Apply(node.op, (terms[0], terms[1])) if terms[0] is not None and terms[1] is not None else None
    return None


def _quotient(y: Node | Site) -> tuple[Node | None, Node | None]:
    """What is divided, None if that is 1, and by what; twice None if y is no quotient."""
    if isinstance(y.op, Divide):
        return y.parents[0], y.parents[1]
    is_inverse = isinstance(y.op, Reciprocal)
    if isinstance(y.op, Power):
        is_inverse = number(y.parents[1]) == -1 and y.parents[0].type == y.type
    return None, y.parents[0] if is_inverse else None


def _axes_of(total: Node, kind: type[Reduction], x: Node, order: Sequence[int] | None = None) -> tuple[int, ...] | None:
    """The axes over which `total` is x reduced by `kind`, if it has size 1 there or is repeated; None if it is not.

    With `order`, it is to meet x with its axes in this order.
    """
    if isinstance(total.op, BroadcastTo):
        (total,) = total.parents
    shape = (*[1] * (x.ndim - total.ndim), *total.shape)
    while _keeps_order(total.op) or (kind is Max and isinstance(total.op, StopGradient)):
        (total,) = total.parents
    if not isinstance(total.op, kind) or total.parents[0] is not x:
        return None
    axes = check_axes(total.op.axis, x.ndim)
    kept = reduced(x.shape, axes, keepdims=True)
    turned = range(x.ndim) if order is None else order
    left = [axis for axis in turned if axis not in axes]
    return axes if left == sorted(left) and shape == tuple(kept[axis] for axis in turned) else None


def _keeps_order(op: Op) -> bool:
    """Whether all elements stay, in their order, in another shape."""
    if isinstance(op, Slice):
        return all(key is None or key in (Ellipsis, slice(None)) for key in read_key(op.key))
    return isinstance(op, Reshape | ExpandDims | Squeeze)


def _are_negatives(a: Node, b: Node) -> bool:
    return any(isinstance(x.op, Negative) and x.parents[0] is y for x, y in ((a, b), (b, a)))


def _negative_softplus(x: Expression) -> Expression:
    return Apply.to(Negative(), Apply.to(Softplus(), x))


def _of(kind: type[Op], x: Node | None) -> Node | None:
    """The operand of x, if x is a function of this kind."""
    return x.parents[0] if x is not None and isinstance(x.op, kind) else None


def _first(found: Iterable[Expression | None]) -> Expression | None:
    return next((expression for expression in found if expression is not None), None)


def _product(a: Expression | None, b: Expression) -> Expression | None:
    return None if a is None else Apply.to(Multiply(), a, b)


def _one_plus(x: Node) -> Node | None:
    """What 1 is added to; None if x is no such sum."""
    if not isinstance(x.op, Add):
        return None
    return next((b for a, b in both_ways(x) if number(a) == 1 and b.type == x.type), None)


def _has_elements(op: Reduction, x: Node) -> bool:
    """Whether no axis that is reduced is known to be empty: there is no logarithm of no elements."""
    return all(x.shape[axis] != 0 for axis in check_axes(op.axis, x.ndim))


def _picked(product: Node, kind: type[Softmax] | type[LogSoftmax]) -> tuple[Node, Node] | None:
    """z and c of one_hot(c) * f(z), for f of this kind along the classes; one row for each example."""
    for hot, p in both_ways(product) if isinstance(product.op, Multiply) else ():
        is_row_wise = isinstance(p.op, kind) and p.ndim == 2 and p.op.axis % 2 == 1
        if is_row_wise and isinstance(hot.op, OneHot) and hot.type == p.type:
            return p.parents[0], hot.parents[0]
    return None


_TABLE: Mapping[type[Op], Sequence[Rule]] = MappingProxyType(
    {
        Log: (stable_log, log_of_picked_probability),
        Log1p: (stable_log1p,),
        Divide: (softmax_by_hand, sigmoid_by_hand, inverse_power),
        Reciprocal: (sigmoid_by_hand, inverse_power),
        Power: (sigmoid_by_hand, inverse_power),
        Add: (log_softmax_by_hand,),
        Subtract: (log_softmax_by_hand,),
        Softmax: (shifted_softmax,),
        LogSoftmax: (shifted_softmax,),
        Sum: (cross_entropy_by_hand, reduced_cross_entropy),
        Mean: (reduced_cross_entropy,),
        Negative: (double_negative,),
        Multiply: (quotient_times_divisor, power_over_one_more, power_over_sum),
    }
)
_RULES = Rules(_TABLE)
