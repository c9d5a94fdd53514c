"""Views of views: transpositions, reshapes and broadcasts in a row made one or none, or moved to where they cost less.

A view takes no time by itself. What is won is what it hides: a value computed once instead of for every copy of
it, a product written in the order in which it is read, and neighbours that other rules can see.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.types import broadcast_shapes
from graphengine.ops.activation import Identity
from graphengine.ops.broadcast import BroadcastTo, Reduction, Reshape
from graphengine.ops.compare import LogicalNot, Mask, Where
from graphengine.ops.custom import CustomVJP
from graphengine.ops.elementwise import StopGradient
from graphengine.ops.matmul import MatMul
from graphengine.ops.norm import BatchStatistic
from graphengine.ops.shape import ExpandDims, Squeeze, Transpose
from graphengine.ops.support.pointwise import Elementwise
from graphengine.transform.rewrite.walk import Apply, Expression, Site, Table


def same_value(y: Site) -> Expression | None:
    """y = x, for the ops that matter only to a derivative, or not even to that."""
    return y.parents[0]


def double_not(y: Site) -> Expression | None:
    """not not x = x."""
    (x,) = y.parents
    return x.parents[0] if isinstance(x.op, LogicalNot) else None


def merged_transpose(y: Site) -> Expression | None:
    """A transposition of a transposed value is one, or none; so is one of a value that has one number throughout."""
    (x,) = y.parents
    order = axis_order(y.op, x.ndim)
    if order == tuple(range(x.ndim)):
        return x
    if isinstance(x.op, Transpose):
        inner = axis_order(x.op, x.ndim)
        return Apply(Transpose(axes=tuple(inner[axis] for axis in order)), x.parents[0])
    return _repeated_scalar(y)


def absorbed_transpose(y: Site) -> Expression | None:
    """(a b)^T = b^T a^T: a product is computed as it is read, and one of its operands is a transposed one anyway."""
    (product,) = y.parents
    swap = (*range(product.ndim - 2), product.ndim - 1, product.ndim - 2)
    if not isinstance(product.op, MatMul) or not y.once(product) or axis_order(y.op, product.ndim) != swap:
        return None
    a, b = product.parents
    if a.ndim != product.ndim or b.ndim != product.ndim or not any(isinstance(x.op, Transpose) for x in (a, b)):
        return None
    return Apply(MatMul(), _swapped(b, swap), _swapped(a, swap))


def merged_reshape(y: Site) -> Expression | None:
    """A reshape of a reshaped value is one, or none. Squeezing and putting in axes are reshapes of any layout."""
    (x,) = y.parents
    if x.type == y.type:
        return x
    if not isinstance(x.op, Reshape | ExpandDims | Squeeze):
        return _repeated_scalar(y)
    source = x.parents[0]
    if source.type == y.type:
        return source
    copies = isinstance(y.op, Reshape) or isinstance(x.op, Reshape)
    return Apply(Reshape(shape=y.type.shape), source) if copies and y.once(x) else None


def merged_broadcast(y: Site) -> Expression | None:
    """A broadcast of a broadcast value is one; of a value that has its shape already, none."""
    (x,) = y.parents
    if x.type == y.type:
        return x
    if isinstance(x.op, BroadcastTo) or (isinstance(x.op, Reshape | ExpandDims) and _puts_axes_ahead(x)):
        return Apply(BroadcastTo(shape=y.type.shape), x.parents[0])
    return None


def narrow_operands(y: Site) -> Expression | None:
    """f(broadcast x, z) = f(x, z) where f broadcasts x as well, and else the broadcast of f(x, z), computed once.

    The latter only where all that reads it reads a repeated value as fast as another.
    """
    if not y.op.is_elementwise or not any(isinstance(parent.op, BroadcastTo) for parent in y.parents):
        return None
    narrow = [parent.parents[0] if isinstance(parent.op, BroadcastTo) else parent for parent in y.parents]
    shape = broadcast_shapes(*(node.shape for node in narrow))
    if shape == y.type.shape:
        return Apply(y.op, *narrow)
    readers = y.readers()
    if readers is not None and all(map(_reads_repeated, readers)):
        return Apply(BroadcastTo(shape=y.type.shape), Apply(y.op, *narrow))
    return _with_one_wide(y, narrow)


def axis_order(op: Op, ndim: int) -> tuple[int, ...]:
    """Which axis of its operand each axis of the value of a transposition is, counted from the front."""
    assert isinstance(op, Transpose)
    return tuple(range(ndim))[::-1] if op.axes is None else tuple(axis % ndim for axis in op.axes)


def _reads_repeated(op: Op) -> bool:
    return op.is_elementwise or isinstance(op, Reduction | BroadcastTo)


def _with_one_wide(y: Site, narrow: Sequence[Node]) -> Expression | None:
    """`y` with one operand as it is and the others not broadcast, where that makes a difference."""
    for index, parent in enumerate(y.parents):
        operands = [*narrow[:index], parent, *narrow[index + 1 :]]
        changed = any(a is not b for a, b in zip(operands, y.parents, strict=True))
        if changed and broadcast_shapes(*(node.shape for node in operands)) == y.type.shape:
            return Apply(y.op, *operands)
    return None


def _repeated_scalar(y: Site) -> Expression | None:
    """Another arrangement of one number is that number, in the shape of the arrangement."""
    (x,) = y.parents
    if isinstance(x.op, BroadcastTo) and x.parents[0].ndim == 0:
        return Apply(BroadcastTo(shape=y.type.shape), x.parents[0])
    return None


def _swapped(x: Node, swap: tuple[int, ...]) -> Expression:
    is_swapped = isinstance(x.op, Transpose) and axis_order(x.op, x.ndim) == swap
    return x.parents[0] if is_swapped else Apply(Transpose(axes=None if x.ndim == 2 else swap), x)


def _puts_axes_ahead(x: Node) -> bool:
    """Whether x is its parent with axes of size 1 ahead, which broadcasting puts there by itself."""
    ahead = x.ndim - x.parents[0].ndim
    return ahead >= 0 and x.shape == (*[1] * ahead, *x.parents[0].shape)


ARRANGEMENT: Table = {
    Identity: (same_value,),
    StopGradient: (same_value,),
    BatchStatistic: (same_value,),
    CustomVJP: (same_value,),
    LogicalNot: (double_not,),
    Transpose: (merged_transpose, absorbed_transpose),
    Reshape: (merged_reshape,),
    ExpandDims: (merged_reshape,),
    Squeeze: (merged_reshape,),
    BroadcastTo: (merged_broadcast,),
    Elementwise: (narrow_operands,),
    Where: (narrow_operands,),
    Mask: (narrow_operands,),
}
