"""Along which axis a value holds the examples of a batch, and which ops keep examples apart.

A rule is asked about a node that holds one example at each index of one axis. It says along which axis each operand
holds them, and None for an operand that all examples read whole, as weights are read. An op that mixes what lies along
that axis, or that there is no rule for, has no answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphengine.ir import dims
from graphengine.ir.node import Node
from graphengine.ir.op import GetItem, Op
from graphengine.ir.types import check_axes, check_axis
from graphengine.ops.activation import LogSoftmax, Softmax
from graphengine.ops.broadcast import BroadcastTo, Reduction, Reshape
from graphengine.ops.convolution import Conv2D, Conv2DTranspose
from graphengine.ops.index import Gather, OneHot, Slice
from graphengine.ops.loss import Loss
from graphengine.ops.matmul import MatMul
from graphengine.ops.norm import BatchStatistic, GroupNorm, LayerNorm, RMSNorm
from graphengine.ops.pool import AvgPool2D, MaxPool2D
from graphengine.ops.random import Dropout
from graphengine.ops.scan import Scan
from graphengine.ops.shape import Concat, Crop, ExpandDims, Pad, Squeeze, Stack, Transpose
from graphengine.ops.support.keys import one_an_axis, read_key

Axes = list[int | None]
Rule = Callable[[Any, int], Axes | None]
"""The node is an Any, as rules read the attributes of the one kind that they are for."""


def example_axes(node: Node, axis: int) -> Axes | None:
    """For each parent of `node` the axis of its examples, if those of `node` lie along `axis`; None for no answer."""
    rule = rule_of(type(node.op))
    return None if rule is None else rule(node, axis)


def rule_of(kind: type[Op]) -> Rule | None:
    """The rule for ops of a class: that of all elementwise ops, or that of the class or of one that it derives from."""
    if kind.is_elementwise:
        return _aligned
    return next((RULES[base] for base in kind.__mro__ if base in RULES), None)


def is_aligned(op: Op) -> bool:
    """Whether the value holds the examples along the same axis as the operands, counted from the last one."""
    return rule_of(type(op)) is _aligned


def _aligned(y: Any, axis: int) -> Axes:
    return [_counted_from_last(y, axis, parent, y.ndim) for parent in y.parents]


def _counted_from_last(y: Any, axis: int, parent: Node, ndim: int) -> int | None:
    """The axis of `parent` that meets `axis` of y, if as long, where its last axis meets number `ndim` - 1 of y."""
    index = axis - (ndim - parent.ndim)
    return index if index >= 0 and parent.shape[index] == y.shape[axis] else None


def _apart_from_axis(y: Any, axis: int) -> Axes | None:
    return None if check_axis(y.op.axis, y.ndim) == axis else _same_axis(y, axis)


def _same_axis(y: Any, axis: int) -> Axes:
    return [axis for _ in y.parents]


def _of_first(y: Any, axis: int) -> Axes:
    """The axis of the first operand; the others are read whole."""
    return [axis, *(None for _ in y.parents[1:])]


def _last_axes(y: Any, axis: int) -> Axes | None:
    return _of_first(y, axis) if axis < y.ndim - y.op.axes else None


def _of_images(y: Any, axis: int) -> Axes | None:
    return _of_first(y, axis) if axis == 0 else None


def _one_hot(y: Any, axis: int) -> Axes | None:
    return _of_first(y, axis) if axis < y.ndim - 1 else None


def _reduction(y: Any, axis: int) -> Axes | None:
    """Of `squeeze`, too, which keeps no axis that it takes out."""
    (x,) = y.parents
    gone = check_axes(y.op.axis, x.ndim)
    left = range(x.ndim) if getattr(y.op, "keepdims", False) else [axis for axis in range(x.ndim) if axis not in gone]
    return None if left[axis] in gone else [left[axis]]


def _new_axes(y: Any, axis: int) -> Axes | None:
    """Of `expand_dims` and `stack`."""
    new = check_axes([y.op.axis] if isinstance(y.op.axis, int) else y.op.axis, y.ndim)
    return None if axis in new else _same_axis(y, axis - sum(index < axis for index in new))


def _matmul(y: Any, axis: int) -> Axes:
    a, b = y.parents
    rows, columns = a.ndim > 1, b.ndim > 1
    if columns and axis == y.ndim - 1:
        return [None, b.ndim - 1]
    if rows and axis == y.ndim - 1 - columns:
        return [a.ndim - 2, None]
    return [_counted_from_last(y, axis, parent, y.ndim - rows - columns + 2) for parent in (a, b)]


def _transpose(y: Any, axis: int) -> Axes:
    order = range(y.ndim)[::-1] if y.op.axes is None else y.op.axes
    return [check_axis(order[axis], y.ndim)]


def _reshape(y: Any, axis: int) -> Axes | None:
    """The axis of the same size, with as many elements ahead of it: then rows stay rows."""
    (x,) = y.parents
    ahead = dims.product(y.shape[:axis])
    for index, size in enumerate(x.shape):
        if size == y.shape[axis] and dims.product(x.shape[:index]) == ahead:
            return [index]
    return None


def _untouched(y: Any, axis: int) -> Axes | None:
    """Of `pad` and `crop`: an axis with nothing put ahead of it or taken away there."""
    first = y.op.before if y.op.kind == "pad" else y.op.start
    return [axis] if first[axis] == 0 and y.shape[axis] == y.parents[0].shape[axis] else None


def _gather(y: Any, axis: int) -> Axes:
    x, indices = y.parents
    first = check_axis(y.op.axis, x.ndim)
    if first <= axis < first + indices.ndim:
        return [None, axis - first]
    return [axis if axis < first else axis - indices.ndim + 1, None]


def _slice(y: Any, axis: int) -> Axes | None:
    """An axis that is picked whole."""
    index = new = 0
    for key in one_an_axis(read_key(y.op.key), y.parents[0].shape):
        if new == axis and not isinstance(key, int):
            return [index] if key == slice(None) else None
        index += key is not None
        new += not isinstance(key, int)
    return None


def _mixes(_: Any, __: int) -> None:
    """Examples meet in the op, or may meet in it."""


RULES: dict[type[Op], Rule] = {
    ExpandDims: _new_axes,
    Gather: _gather,
    MatMul: _matmul,
    OneHot: _one_hot,
    Reshape: _reshape,
    Slice: _slice,
    Stack: _new_axes,
    Transpose: _transpose,
    Loss: _same_axis,
    **dict.fromkeys([BatchStatistic, GetItem, Scan], _mixes),
    **dict.fromkeys([BroadcastTo, Dropout], _aligned),
    **dict.fromkeys([Concat, Softmax, LogSoftmax], _apart_from_axis),
    **dict.fromkeys([Conv2D, Conv2DTranspose, MaxPool2D, AvgPool2D, GroupNorm], _of_images),
    **dict.fromkeys([Crop, Pad], _untouched),
    **dict.fromkeys([LayerNorm, RMSNorm], _last_axes),
    **dict.fromkeys([Reduction, Squeeze], _reduction),
}
"""By class: a rule holds for the classes that derive from it, too."""
