"""Functions written out by hand, where rounding or overflow hurts, in the form that is safe from it.

log(softmax(x)) is -inf as soon as a probability underflows, log(1 + exp(x)) is inf as soon as the power overflows, and
the derivatives of both are NaN there. The forms on the right of these rules are finite wherever the function is, and
equal to those on the left, but for rounding, wherever those are finite.

`compile` makes this rewrite before it differentiates, too: an adjoint then is that of the safe form. What a user has
differentiated by `ge.grad` is the adjoint of the unsafe form, in which the rules here find the quotients that are lost
to 0 / 0: y_bar is divided by p, the operand of the logarithm, and multiplied by p again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.types import check_axes
from graphengine.ops.activation import LogSoftmax, Sigmoid, Softmax, Softplus
from graphengine.ops.broadcast import BroadcastTo, Reduction, Reshape, Sum, reduced
from graphengine.ops.elementwise import (
    Add,
    Divide,
    Exp,
    Log,
    Log1p,
    Multiply,
    Negative,
    Reciprocal,
    StopGradient,
    Subtract,
)
from graphengine.ops.index import OneHot
from graphengine.ops.loss import CrossEntropy
from graphengine.ops.reduce import LogSumExp, Max, Mean
from graphengine.transform.rewrite.numbers import number
from graphengine.transform.rewrite.walk import Apply, Expression, Rule, Rules, Site, apply_rules

__all__ = ["make_stable"]


def make_stable(graph: Graph, keep_names: bool = False) -> bool:
    """Put safe forms in the place of those written out, in the bodies of scans too.

    With `keep_names`, nodes stay that nothing needs any more.
    """
    return apply_rules(graph, _RULES, keep_names)


def log_of_softmax(y: Site) -> Expression | None:
    """log softmax(x) = log_softmax(x)."""
    (x,) = y.parents
    return Apply.to(LogSoftmax(axis=x.op.axis), x.parents[0]) if isinstance(x.op, Softmax) else None


def log_of_sigmoid(y: Site) -> Expression | None:
    """log sigmoid(x) = -softplus(-x); log(1 - sigmoid(x)) = -softplus(x)."""
    (p,) = y.parents
    if isinstance(p.op, Sigmoid):
        return _negative_softplus(Apply.to(Negative(), p.parents[0]))
    if isinstance(p.op, Subtract) and number(p.parents[0]) == 1:
        q = p.parents[1]
        return _negative_softplus(q.parents[0]) if isinstance(q.op, Sigmoid) and q.type == p.type else None
    return None


def log_of_exp(y: Site) -> Expression | None:
    """log exp(x) = x; log(1 + exp(x)) = softplus(x); log sum exp(x) = logsumexp(x)."""
    (x,) = y.parents
    if isinstance(x.op, Exp):
        return x.parents[0]
    power = _one_plus(x)
    if power is not None and isinstance(power.op, Exp):
        return Apply.to(Softplus(), power.parents[0])
    if isinstance(x.op, Sum) and isinstance(x.parents[0].op, Exp) and _has_elements(x.op, x.parents[0]):
        return Apply.to(LogSumExp(axis=x.op.axis, keepdims=x.op.keepdims), x.parents[0].parents[0])
    return None


def log1p_of_exp(y: Site) -> Expression | None:
    """log1p exp(x) = softplus(x); log1p(-sigmoid(x)) = -softplus(x)."""
    (x,) = y.parents
    if isinstance(x.op, Exp):
        return Apply.to(Softplus(), x.parents[0])
    if isinstance(x.op, Negative) and isinstance(x.parents[0].op, Sigmoid):
        return _negative_softplus(x.parents[0].parents[0])
    return None


def softmax_by_hand(y: Site) -> Expression | None:
    """exp(x) / sum exp(x) = softmax(x), along one axis."""
    powers, total = y.parents
    if isinstance(powers.op, Exp) and isinstance(total.op, Sum) and total.parents[0] is powers:
        axis = _kept_axis(total)
        return None if axis is None else Apply.to(Softmax(axis=axis), powers.parents[0])
    return None


def log_softmax_by_hand(y: Site) -> Expression | None:
    """x - logsumexp(x) = log_softmax(x), along one axis."""
    x, total = y.parents
    if isinstance(total.op, LogSumExp) and total.parents[0] is x:
        axis = _kept_axis(total)
        return None if axis is None else Apply.to(LogSoftmax(axis=axis), x)
    return None


def shifted_softmax(y: Site) -> Expression | None:
    """softmax(x - max x) = softmax(x), which takes out the greatest by itself."""
    (x,) = y.parents
    if not isinstance(x.op, Subtract) or not isinstance(y.op, Softmax | LogSoftmax):
        return None
    source, greatest = x.parents
    while isinstance(greatest.op, StopGradient):
        (greatest,) = greatest.parents
    is_shift = isinstance(greatest.op, Max) and greatest.parents[0] is source
    return Apply.to(y.op, source) if is_shift and _kept_axis(greatest) == y.op.axis % x.ndim else None


def sigmoid_by_hand(y: Site) -> Expression | None:
    """1 / (1 + exp(-x)) = sigmoid(x); exp(x) / (1 + exp(x)) = sigmoid(x)."""
    over, under = y.parents[0], y.parents[-1]
    power = _one_plus(under)
    if power is None or not isinstance(power.op, Exp) or power.type != y.type:
        return None
    (x,) = power.parents
    if over is power:
        return Apply.to(Sigmoid(), x)
    if isinstance(y.op, Divide) and number(over) != 1:
        return None
    return Apply.to(Sigmoid(), x.parents[0] if isinstance(x.op, Negative) else Apply.to(Negative(), x))


def cross_entropy_by_hand(y: Site) -> Expression | None:
    """sum(one_hot(c) * log_softmax(z)) = -cross_entropy(z, c): over the classes, or over all axes."""
    (product,) = y.parents
    if not isinstance(product.op, Multiply):
        return None
    for hot, log in _both_ways(product):
        if isinstance(log.op, LogSoftmax) and _picks_classes(hot, log):
            return _negative_cross_entropy(y, log.parents[0], hot.parents[0])
    return None


def log_of_picked_probability(y: Site) -> Expression | None:
    """log sum(one_hot(c) * softmax(z)) = -cross_entropy(z, c), over the classes."""
    (total,) = y.parents
    if not isinstance(total.op, Sum) or not isinstance(total.parents[0].op, Multiply):
        return None
    for hot, p in _both_ways(total.parents[0]):
        over_classes = check_axes(total.op.axis, p.ndim) == (p.ndim - 1,) and not total.op.keepdims
        if isinstance(p.op, Softmax) and _picks_classes(hot, p) and over_classes:
            return Apply.to(Negative(), Apply.to(CrossEntropy(reduction="none"), p.parents[0], hot.parents[0]))
    return None


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
    """(g / p) p = g, and (g / p) (p q) = g q, where p is a softmax, a sigmoid or a power, of which none is 0.

    So it stands in the adjoint of log p, where p has underflown and g / p is infinite.
    """
    for quotient, factor in ((a, b) for a, b in _both_ways(y)):
        if not isinstance(quotient.op, Divide) or quotient.type != y.type:
            continue
        g, p = quotient.parents
        if not isinstance(p.op, Softmax | Sigmoid | Exp) or g.type != y.type:
            continue
        if factor is p:
            return g
        if isinstance(factor.op, Multiply) and p in factor.parents and factor.type == y.type:
            a, b = factor.parents
            return Apply.to(Multiply(), g, b if a is p else a)
    return None


def power_over_sum(y: Site) -> Expression | None:
    """(g / (1 + e)) e = g sigmoid(x), sigmoid(-x) e = sigmoid(x), and (g / sum e) e = g softmax(x), for e = exp(x).

    So they stand in the adjoints of log(1 + exp(x)) and log sum exp(x), where e has overflown.
    """
    for share, power in _both_ways(y):
        wide = share.parents[0] if isinstance(share.op, BroadcastTo) else share
        quotient = wide.parents[0] if isinstance(wide.op, Reshape) else wide
        if not isinstance(power.op, Exp) or power.type != y.type:
            continue
        if isinstance(quotient.op, Sigmoid) and _is_negative(quotient.parents[0], power.parents[0]):
            return Apply.to(Sigmoid(), power.parents[0])
        if not isinstance(quotient.op, Divide):
            continue
        g, under = quotient.parents
        if _one_plus(under) is power and g.type == y.type:
            return Apply.to(Multiply(), g, Apply.to(Sigmoid(), power.parents[0]))
        if isinstance(under.op, Sum) and under.parents[0] is power and g.type == under.type:
            return _over_sum(under, power, g, wide)
    return None


def _over_sum(total: Node, power: Node, g: Node, wide: Node) -> Expression | None:
    """g softmax(x), for g of the type of `total`, in the shape of `wide` as it broadcasts to the power."""
    assert isinstance(total.op, Sum)
    axes = check_axes(total.op.axis, power.ndim)
    if len(axes) != 1 or wide.shape != reduced(power.shape, axes, keepdims=power.ndim > 1):
        return None
    y_bar = g if g.shape == wide.shape else Apply.to(Reshape(shape=wide.shape), g)
    return Apply.to(Multiply(), y_bar, Apply.to(Softmax(axis=axes[0]), power.parents[0]))


def _is_negative(a: Node, b: Node) -> bool:
    return isinstance(a.op, Negative) and a.parents[0] is b


def _negative_softplus(x: Expression) -> Expression:
    return Apply.to(Negative(), Apply.to(Softplus(), x))


def _both_ways(node: Node | Site) -> Iterator[tuple[Node, Node]]:
    a, b = node.parents
    yield a, b
    yield b, a


def _one_plus(x: Node) -> Node | None:
    """What 1 is added to; None if x is no such sum."""
    if not isinstance(x.op, Add):
        return None
    return next((b for a, b in _both_ways(x) if number(a) == 1 and b.type == x.type), None)


def _has_elements(op: Reduction, x: Node) -> bool:
    """Whether no axis that is reduced is known to be empty: there is no logarithm of no elements."""
    return all(x.shape[axis] != 0 for axis in check_axes(op.axis, x.ndim))


def _kept_axis(total: Node) -> int | None:
    """The one axis of a reduction that keeps its axes; None if there are several, or it does not."""
    assert isinstance(total.op, Reduction)
    axes = check_axes(total.op.axis, total.parents[0].ndim)
    if len(axes) != 1 or (not total.op.keepdims and total.parents[0].ndim > 1):
        return None
    return axes[0]


def _picks_classes(hot: Node, log: Node) -> bool:
    """Whether `hot` are one-hot rows, one for each example of a matrix of classes."""
    assert isinstance(log.op, Softmax | LogSoftmax)
    is_row_wise = log.ndim == 2 and log.op.axis % log.ndim == 1
    return isinstance(hot.op, OneHot) and is_row_wise and hot.type == log.type


def _negative_cross_entropy(y: Site, logits: Node, labels: Node) -> Expression | None:
    assert isinstance(y.op, Sum)
    axes = check_axes(y.op.axis, 2)
    if y.op.keepdims or axes == (0,):
        return None
    op = CrossEntropy(reduction="none" if axes == (1,) else "sum")
    return Apply.to(Negative(), Apply.to(op, logits, labels))


_TABLE: Mapping[type[Op], Sequence[Rule]] = MappingProxyType(
    {
        Log: (log_of_softmax, log_of_sigmoid, log_of_exp, log_of_picked_probability),
        Log1p: (log1p_of_exp,),
        Divide: (softmax_by_hand, sigmoid_by_hand),
        Reciprocal: (sigmoid_by_hand,),
        Subtract: (log_softmax_by_hand,),
        Softmax: (shifted_softmax,),
        LogSoftmax: (shifted_softmax,),
        Sum: (cross_entropy_by_hand, reduced_cross_entropy),
        Mean: (reduced_cross_entropy,),
        Negative: (double_negative,),
        Multiply: (quotient_times_divisor, power_over_sum),
    }
)
_RULES = Rules(_TABLE)
