"""Softmax and its logarithm, written out by exponentials and their sums."""

from __future__ import annotations

from collections.abc import Sequence

from graphengine.ir import dims
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.types import check_axes
from graphengine.ops.activation import LogSoftmax, Softmax
from graphengine.ops.broadcast import BroadcastTo, Reduction, Reshape, Sum, reduced
from graphengine.ops.elementwise import Add, Divide, Exp, Multiply, Negative, StopGradient, Subtract
from graphengine.ops.index import Slice
from graphengine.ops.reduce import LogSumExp, Max
from graphengine.ops.shape import ExpandDims, Squeeze, Transpose
from graphengine.ops.support.keys import read_key
from graphengine.transform.rewrite.arrangement import axis_order
from graphengine.transform.rewrite.numbers import both_ways
from graphengine.transform.rewrite.walk import Apply, Expression, Site, Table, first


def softmax_by_hand(y: Site) -> Expression | None:
    """exp(x) / sum exp(x) = softmax(x), over one axis, or over several as exp(x - logsumexp(x))."""
    powers, total = y.parents
    if powers.type != y.type:
        return None
    if not isinstance(powers.op, Multiply):
        return quotient_of_powers(powers, total)
    for power, other in both_ways(powers):
        found = quotient_of_powers(power, total) if power.type == y.type else None
        if found is not None:
            return Apply(Multiply(), found, other)
    return None


def quotient_of_powers(powers: Node, total: Node) -> Expression | None:
    """`powers` / `total`, where those are exp(x), maybe transposed, and this is their sum."""
    turn = powers.op if isinstance(powers.op, Transpose) else None
    order = range(powers.ndim) if turn is None else axis_order(turn, powers.ndim)
    power = powers if turn is None else powers.parents[0]
    axes = axes_of(total, Sum, power, order) if isinstance(power.op, Exp) else None
    if axes is None or any(power.shape[axis] == 0 for axis in axes):
        return None
    result = softmax_over(power.parents[0], axes)
    return result if turn is None else Apply(turn, result)


def softmax_over(x: Node, axes: tuple[int, ...]) -> Expression:
    """The softmax along `axes`: by one axis that they are made where they are in a row."""
    if len(axes) == 1:
        return Apply(Softmax(axis=axes[0]), x)
    if not axes or axes != tuple(range(axes[0], axes[-1] + 1)):
        return Apply(Exp(), Apply(Subtract(), x, Apply(LogSumExp(axis=axes, keepdims=True), x)))
    shape = (*x.shape[: axes[0]], dims.product(x.shape[axis] for axis in axes), *x.shape[axes[-1] + 1 :])
    return Apply(Reshape(shape=x.shape), Apply(Softmax(axis=axes[0]), Apply(Reshape(shape=shape), x)))


def log_softmax_by_hand(y: Site) -> Expression | None:
    """x - logsumexp(x) = log_softmax(x), along one axis, in either order."""
    a, b = y.parents
    if isinstance(y.op, Subtract):
        opposite = _log_softmax(b, a, y)
        return _log_softmax(a, b, y) if opposite is None else Apply(Negative(), opposite)
    return first(_log_softmax(x, total.parents[0], y) for x, total in both_ways(y) if isinstance(total.op, Negative))


def _log_softmax(x: Node, total: Node, y: Site) -> Expression | None:
    """x - `total`, where this is the logarithm of the sum of the powers of x, in the type of y."""
    axes = axes_of(total, LogSumExp, x)
    return Apply(LogSoftmax(axis=axes[0]), x) if axes is not None and len(axes) == 1 and x.type == y.type else None


def shifted_softmax(y: Site) -> Expression | None:
    """softmax(x - max x) = softmax(x), which subtracts the maximum by itself."""
    (x,) = y.parents
    if not isinstance(x.op, Subtract) or not isinstance(y.op, Softmax | LogSoftmax):
        return None
    source, maximum = x.parents
    axes = axes_of(maximum, Max, source)
    return Apply(y.op, source) if axes == (y.op.axis % x.ndim,) and source.type == y.type else None


def axes_of(total: Node, kind: type[Reduction], x: Node, order: Sequence[int] | None = None) -> tuple[int, ...] | None:
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
    single = reduced(x.shape, axes, keepdims=True)
    axes_of_x = range(x.ndim) if order is None else order
    left = [axis for axis in axes_of_x if axis not in axes]
    return axes if left == sorted(left) and shape == tuple(single[axis] for axis in axes_of_x) else None


def _keeps_order(op: Op) -> bool:
    """Whether all elements stay, in their order, in another shape."""
    if isinstance(op, Slice):
        return all(key is None or key in (Ellipsis, slice(None)) for key in read_key(op.key))
    return isinstance(op, Reshape | ExpandDims | Squeeze)


SOFTMAX_FORMS: Table = {
    Divide: (softmax_by_hand,),
    Add: (log_softmax_by_hand,),
    Subtract: (log_softmax_by_hand,),
    Softmax: (shifted_softmax,),
    LogSoftmax: (shifted_softmax,),
}
