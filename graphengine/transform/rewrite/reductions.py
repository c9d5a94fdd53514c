"""Reductions that are spared: over axes of one element, over repeated values, one after another, of negated values."""

from __future__ import annotations

from collections.abc import Sequence

from graphengine.ir import dims
from graphengine.ir.dims import Shape
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.types import check_axes
from graphengine.ops.broadcast import BroadcastTo, DimSize, Reduction, Reshape, Sum, reduced
from graphengine.ops.elementwise import Multiply, Negative
from graphengine.ops.reduce import Max, Mean, Min
from graphengine.ops.shape import ExpandDims, Squeeze, Transpose
from graphengine.transform.rewrite.walk import Apply, Expression, Site, Table


def of_one_element(y: Site) -> Expression | None:
    """A sum, mean or extreme over axes of size 1 is the value, without these axes."""
    (x,) = y.parents
    if any(x.shape[axis] != 1 for axis in _axes(y)):
        return None
    return x if x.type == y.type else Apply(Reshape(shape=y.type.shape), x)


def in_a_row(y: Site) -> Expression | None:
    """A sum of sums is one over all their axes. A mean of means is not: the sum may overflow where theirs do not."""
    (x,) = y.parents
    if type(x.op) is not type(y.op) or not y.once(x):
        return None
    (source,) = x.parents
    assert isinstance(x.op, Reduction)
    inner = check_axes(x.op.axis, source.ndim)
    left = range(source.ndim) if x.op.keepdims else [axis for axis in range(source.ndim) if axis not in inner]
    axes = tuple(sorted({*inner, *(left[axis] for axis in _axes(y))}))
    return _shaped(y, _reduction(y.op, axes), source)


def of_rearranged(y: Site) -> Expression | None:
    """The sum, or the mean, over all axes is that of the values in whatever order."""
    (x,) = y.parents
    if not isinstance(x.op, Reshape | ExpandDims | Squeeze | Transpose) or len(_axes(y)) < x.ndim:
        return None
    (source,) = x.parents
    return _shaped(y, _reduction(y.op, tuple(range(source.ndim))), source)


def of_negated(y: Site) -> Expression | None:
    """sum(-x) = -sum(x)."""
    (x,) = y.parents
    return Apply(Negative(), Apply(y.op, x.parents[0])) if isinstance(x.op, Negative) and y.once(x) else None


def of_repeated(y: Site) -> Expression | None:
    """The sum over axes along which x is repeated n times is n x; the mean is x; other axes are reduced as they are."""
    (x,) = y.parents
    if not isinstance(x.op, BroadcastTo) or not x.type.is_float:
        return None
    (source,) = x.parents
    aligned: Shape = (*[1] * (x.ndim - source.ndim), *source.shape)
    repeated = [axis for axis in _axes(y) if aligned[axis] != x.shape[axis]]
    if not repeated or not all(dims.is_positive(x.shape[axis]) for axis in repeated):
        return None
    value = _over_the_rest(y, source, aligned, repeated)
    if isinstance(y.op, Sum):
        count = dims.product(x.shape[axis] for axis in repeated)
        factor = count if isinstance(count, int) else Apply(DimSize(size=count, dtype=x.dtype))
        value = Apply(Multiply(), value, factor)
    return Apply(BroadcastTo(shape=y.type.shape), value)


def _over_the_rest(y: Site, source: Node, aligned: Shape, repeated: Sequence[int]) -> Expression:
    """The reduction of `source` over those axes of `y` along which it is not repeated, as it broadcasts to `y`."""
    ahead = len(aligned) - source.ndim
    rest = tuple(axis - ahead for axis in _axes(y) if axis not in repeated and aligned[axis] != 1)
    value: Expression = Apply(_reduction(y.op, rest, keepdims=True), source) if rest else source
    assert isinstance(y.op, Reduction)
    left = reduced(aligned, _axes(y), y.op.keepdims)
    return Apply(Reshape(shape=left[next((i for i, dim in enumerate(left) if dim != 1), len(left)) :]), value)


def _axes(y: Site) -> tuple[int, ...]:
    assert isinstance(y.op, Reduction)
    return check_axes(y.op.axis, y.parents[0].ndim)


def _reduction(op: Op, axes: tuple[int, ...], keepdims: bool = False) -> Op:
    """A reduction of the kind of `op`."""
    return type(op)(axis=axes, keepdims=keepdims)  # type: ignore[call-arg]  # every Reduction has these fields


def _shaped(y: Site, op: Op, source: Node) -> Expression:
    """`op` of `source`, in the shape of `y`."""
    value = Apply(op, source)
    return value if op.infer(source.type) == y.type else Apply(Reshape(shape=y.type.shape), value)


REDUCTIONS: Table = {
    Sum: (of_one_element, of_repeated, in_a_row, of_rearranged, of_negated),
    Mean: (of_one_element, of_repeated, of_rearranged, of_negated),
    Max: (of_one_element,),
    Min: (of_one_element,),
}
