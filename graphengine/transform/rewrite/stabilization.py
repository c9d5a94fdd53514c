"""Numerically unstable formulas replaced by stable ones.

log(softmax(x)) is -inf as soon as a probability underflows, log(1 + exp(x)) is inf as soon as the power overflows, and
the derivatives of both are NaN there. The forms on the right of these rules are finite wherever the function is, and
equal to those on the left, but for rounding, wherever those are finite.

`compile` makes this rewrite before it differentiates, too: an adjoint is then that of the stable form. What a user has
differentiated by `ge.grad` is the adjoint of the unstable form; `stable_adjoints.py` has the rules for that.
"""

from __future__ import annotations

import math

from graphengine.ir import dims
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.types import check_axes
from graphengine.ops.activation import LogSoftmax, Sigmoid, Softmax, sigmoid, softplus
from graphengine.ops.broadcast import BroadcastTo, DimSize, Reduction, Reshape, Sum
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
    Subtract,
    exp,
    expm1,
    log1p,
)
from graphengine.ops.index import Gather, OneHot, Slice
from graphengine.ops.loss import CrossEntropy
from graphengine.ops.reduce import LogSumExp, Mean
from graphengine.ops.scan import Scan
from graphengine.ops.shape import ExpandDims, Squeeze, Stack, Transpose
from graphengine.transform.rewrite.cse import merge_common_subexpressions
from graphengine.transform.rewrite.identities import Identities, identities
from graphengine.transform.rewrite.numbers import both_ways, number, quotient
from graphengine.transform.rewrite.softmax_forms import SOFTMAX_FORMS
from graphengine.transform.rewrite.stable_adjoints import STABLE_ADJOINTS
from graphengine.transform.rewrite.walk import Apply, Expression, Rules, Site, Table, apply_rules


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


@identities
def stable_log1p(x: Node) -> Identities:
    """log1p exp(x) = softplus(x); log1p(-sigmoid(x)) = -softplus(x); log1p expm1(x) = x."""
    yield log1p(exp(x)), softplus(x)
    yield log1p(-sigmoid(x)), -softplus(x)
    yield log1p(expm1(x)), x


@identities
def sigmoid_by_hand(x: Node, a: Node) -> Identities:
    """1 / (1 + exp(-x)) = exp(x) / (1 + exp(x)) = sigmoid(x), and so with a factor above."""
    yield exp(x) / (1 + exp(x)), sigmoid(x)
    yield a * exp(x) / (1 + exp(x)), a * sigmoid(x)
    yield 1 / (1 + exp(-x)), sigmoid(x)
    yield 1 / (1 + exp(x)), sigmoid(-x)
    yield -1 / (1 + exp(-x)), -sigmoid(x)
    yield -1 / (1 + exp(x)), -sigmoid(-x)
    yield a / (1 + exp(-x)), a * sigmoid(x)
    yield a / (1 + exp(x)), a * sigmoid(-x)


@identities
def inverse_power(x: Node) -> Identities:
    """1 / exp(x) = exp(-x)."""
    yield 1 / exp(x), exp(-x)


def stable_log(y: Site) -> Expression | None:
    """The logarithm of a function that under- or overflows, without taking that: see `_log`."""
    return _log(y.parents[0])


@identities
def _logarithm(x: Node) -> Identities:
    """Of each left side, the right one is the logarithm."""
    yield exp(x), x
    yield sigmoid(x), -softplus(-x)
    yield 1 + exp(x), softplus(x)
    yield 1 + expm1(x), x
    yield 1 - sigmoid(x), -softplus(x)
    yield 1 + -sigmoid(x), -softplus(x)


def _log(p: Node) -> Expression | None:
    """The logarithm of p, where p is one of these, rearranged or not, or a quotient of them; None for any other.

    log softmax(x) = log_softmax(x); log sum exp(x) = logsumexp(x); log(exp(x) + exp(y)) = logsumexp([x, y]); and those
    of `_logarithm`.
    """
    found = _logarithm(p)
    if found is not None:
        return found
    if isinstance(p.op, Softmax):
        return Apply(LogSoftmax(axis=p.op.axis), p.parents[0])
    if isinstance(p.op, Sum | Mean) and isinstance(p.parents[0].op, Exp):
        return _log_of_powers(p.op, p.parents[0].parents[0])
    if isinstance(p.op, Add) and all(isinstance(term.op, Exp) and term.type == p.type for term in p.parents):
        return Apply(LogSumExp(axis=(0,)), Apply(Stack(axis=0), *[term.parents[0] for term in p.parents]))
    if isinstance(p.op, _REARRANGES):
        inner = _log(p.parents[0])
        return None if inner is None else Apply(p.op, inner, *p.parents[1:])
    if isinstance(p.op, Multiply):
        return _log_of_two(Add(), p, *p.parents)
    over, under = quotient(p)
    if under is None:
        return None
    if over is None or number(over) == 1:
        inner = _log(under) if under.type == p.type else None
        return None if inner is None else Apply(Negative(), inner)
    return _log_of_two(Subtract(), p, over, under)


_REARRANGES = (BroadcastTo, ExpandDims, Gather, Reshape, Slice, Squeeze, Transpose)


def _log_of_two(op: Op, p: Node, a: Node, b: Node) -> Expression | None:
    """The sum or difference of the logarithms of a and b, of which one may be a number."""
    sides = []
    for node, other in ((a, b), (b, a)):
        value = number(node)
        is_factor = value is not None and value > 0 and other.type == p.type
        sides.append(math.log(value) if is_factor else _log(node))
    if sides[0] is None or sides[1] is None or all(isinstance(side, float) for side in sides):
        return None
    return Apply(op, sides[0], sides[1])


def _log_of_powers(op: Reduction, x: Node) -> Expression | None:
    """log sum exp(x); log mean exp(x) is less by the logarithm of how many there are. None if there may be none."""
    sizes = [x.shape[axis] for axis in check_axes(op.axis, x.ndim)]
    if 0 in sizes:
        return None
    total, count = Apply(LogSumExp(axis=op.axis, keepdims=op.keepdims), x), dims.product(sizes)
    if isinstance(op, Sum):
        return total
    size = Apply(DimSize(size=count, dtype=x.dtype))
    return Apply(Subtract(), total, math.log(count) if isinstance(count, int) else Apply(Log(), size))


def cross_entropy_by_hand(y: Site) -> Expression | None:
    """sum(one_hot(c) * log_softmax(z)) = -cross_entropy(z, c): over the classes, or over all axes."""
    assert isinstance(y.op, Sum)
    picked = _picked(y.parents[0], LogSoftmax)
    axes = check_axes(y.op.axis, y.parents[0].ndim)
    if picked is None or y.op.keepdims or axes == (0,):
        return None
    return Apply(Negative(), Apply(CrossEntropy(reduction="none" if axes == (1,) else "sum"), *picked))


def log_of_picked_probability(y: Site) -> Expression | None:
    """log sum(one_hot(c) * softmax(z)) = -cross_entropy(z, c), over the classes."""
    (total,) = y.parents
    picked = _picked(total.parents[0], Softmax) if isinstance(total.op, Sum) else None
    if picked is None or not isinstance(total.op, Sum) or total.op.keepdims or check_axes(total.op.axis, 2) != (1,):
        return None
    return Apply(Negative(), Apply(CrossEntropy(reduction="none"), *picked))


def _picked(product: Node, kind: type[Softmax] | type[LogSoftmax]) -> tuple[Node, Node] | None:
    """z and c of one_hot(c) * f(z), for f of this kind along the classes; one row for each example."""
    for hot, p in both_ways(product) if isinstance(product.op, Multiply) else ():
        is_row_wise = isinstance(p.op, kind) and p.ndim == 2 and p.op.axis % 2 == 1
        if is_row_wise and isinstance(hot.op, OneHot) and hot.type == p.type:
            return p.parents[0], hot.parents[0]
    return None


def reduced_cross_entropy(y: Site) -> Expression | None:
    """The mean or the sum of the cross entropies of the examples is one op; that of their negatives, its negative."""
    (x,) = y.parents
    assert isinstance(y.op, Reduction)
    source = x.parents[0] if isinstance(x.op, Negative) else x
    is_loss = isinstance(source.op, CrossEntropy) and source.op.reduction == "none"
    if not is_loss or not y.once(x) or not y.once(source) or y.op.keepdims or y.type.ndim:
        return None
    loss = Apply(CrossEntropy(reduction="mean" if isinstance(y.op, Mean) else "sum"), *source.parents)
    return loss if source is x else Apply(Negative(), loss)


def double_negative(y: Site) -> Expression | None:
    """-(-x) = x, of a cross entropy, which the rules above have given a sign."""
    (x,) = y.parents
    is_loss = isinstance(x.op, Negative) and isinstance(x.parents[0].op, CrossEntropy)
    return x.parents[0] if is_loss else None


_TABLE: Table = {
    Log: (stable_log, log_of_picked_probability),
    Log1p: (stable_log1p,),
    Divide: (sigmoid_by_hand, inverse_power),
    Reciprocal: (sigmoid_by_hand, inverse_power),
    Power: (sigmoid_by_hand, inverse_power),
    Sum: (cross_entropy_by_hand, reduced_cross_entropy),
    Mean: (reduced_cross_entropy,),
    Negative: (double_negative,),
}
_RULES = Rules(SOFTMAX_FORMS, _TABLE, STABLE_ADJOINTS)
