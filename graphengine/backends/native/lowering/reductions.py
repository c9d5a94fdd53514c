"""Reductions as regions: sums, means, maxima and minima of what is computed at every place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from graphengine.backends.native.fusion.loops import loops, pieces_of
from graphengine.backends.native.fusion.regions import operands_of
from graphengine.backends.native.kernel import LoopCall
from graphengine.backends.native.lowering.registry import register_lowering
from graphengine.ir.node import Node
from graphengine.ir.types import Array, DType, check_axes, check_dtype
from graphengine.ops.broadcast import Reduction, Sum
from graphengine.ops.compare import maximum, minimum
from graphengine.ops.elementwise import exp, log
from graphengine.ops.fusion.region import Region, Result
from graphengine.ops.reduce import LogSumExp, Max, Mean, Min, Variance

Calls = list[LoopCall] | None
"""Calls one after the other; None if NumPy has to make them."""

Value = Callable[..., Node]
"""The node of a value, from those of its operands."""


def reduced(
    kind: str,
    out: Array,
    operands: Sequence[Array],
    axes: Sequence[int],
    *,
    keepdims: bool = False,
    value: Value | None = None,
    divisor: float | None = None,
    work: Array | None = None,
) -> Calls:
    """The calls that reduce a value of the operands, the first of them by default, over `axes` into `out`.

    `divisor` is what a mean divides by, if that is not how many values it is of. If there is `work`, of the dtype of
    `out`, threads share a large reduction to few results.
    """
    region = _region(kind, value, tuple([check_dtype(x.dtype) for x in operands]), tuple(axes), keepdims, divisor)
    pieces = 0 if work is None else pieces_of(operands[0].size, out.size, out.size)
    rows = () if work is None or not pieces else (work.reshape(-1)[: pieces * out.size].reshape(pieces, out.size),)
    return loops(region, (out,), operands, rows)


def pointwise(value: Value, out: Array, *operands: Array) -> Calls:
    """The calls that compute a value of the operands at every place of `out`."""
    region = _region(None, value, tuple([check_dtype(x.dtype) for x in operands]), (), False, None)
    return loops(region, (out,), operands)


def joined(*parts: Sequence[LoopCall] | None) -> Calls:
    """Calls one after the other; None if some are."""
    known = [part for part in parts if part is not None]
    return [call for part in known for call in part] if len(known) == len(parts) else None


@lru_cache(maxsize=4096)
def _region(
    kind: str | None,
    value: Value | None,
    dtypes: tuple[DType, ...],
    axes: tuple[int, ...],
    keepdims: bool,
    divisor: float | None,
) -> Region:
    graph, operands = operands_of(dtypes)
    node = operands[0] if value is None else value(*operands)
    return Region(graph, [Result(node, kind, axes, keepdims, divisor)])


@register_lowering(Sum)
@register_lowering(Mean)
@register_lowering(Max)
@register_lowering(Min)
def _reduction(op: Reduction, out: Array, *operands: Array, scratch: Sequence[Array]) -> Calls:
    return reduced(op.kind, out, operands, check_axes(op.axis, operands[0].ndim), keepdims=op.keepdims)


@register_lowering(Variance)
def _variance(op: Variance, out: Array, *operands: Array, scratch: Sequence[Array]) -> Calls:
    (x,), (work, means, *_) = operands, scratch
    axes = check_axes(op.axis, x.ndim)
    return joined(
        reduced("mean", means, [x], axes, keepdims=True, work=work),
        reduced("mean", out, [x, means], axes, keepdims=op.keepdims, value=_squared_difference, work=work),
    )


@register_lowering(LogSumExp)
def _logsumexp(op: LogSumExp, out: Array, *operands: Array, scratch: Sequence[Array]) -> Calls:
    (x,), (work, greatest, *_) = operands, scratch
    axes = check_axes(op.axis, x.ndim)
    limited = _limited_by(float(np.finfo(x.dtype).max))
    return joined(
        reduced("max", greatest, [x], axes, keepdims=True, work=work),
        pointwise(limited, greatest, greatest),
        reduced("sum", out, [x, greatest], axes, keepdims=op.keepdims, value=_shifted_power, work=work),
        pointwise(_shifted_logarithm, out, out, greatest.reshape(out.shape)),
    )


def _squared_difference(x: Node, mean: Node) -> Node:
    difference = x - mean
    return difference * difference


def _shifted_power(x: Node, shift: Node) -> Node:
    return exp(x - shift)


def _shifted_logarithm(total: Node, shift: Node) -> Node:
    return log(total) + shift


@lru_cache
def _limited_by(limit: float) -> Value:
    """x between -limit and limit, so that inf - inf does not come up."""
    return lambda x: maximum(minimum(x, limit), -limit)
