"""Ops that pick rows by number, add them up by number, and mark places."""

from __future__ import annotations

from collections.abc import Sequence

from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.ir.types import Array, check_axis
from graphengine.ops.index import Gather, OneHot, ScatterAdd
from graphengine.ops.kernels.rows import gathers, one_hots, scatters


@register_lowering(Gather)
def lower_gather(op: Gather, out: Array, x: Array, indices: Array, *, scratch: Sequence[Array]) -> Calls:
    return gathers(out, x, indices, check_axis(op.axis, x.ndim))


@register_lowering(ScatterAdd)
def lower_scatter_add(op: ScatterAdd, out: Array, x: Array, indices: Array, *, scratch: Sequence[Array]) -> Calls:
    _, *rest = scratch
    return scatters(out, x, indices, check_axis(op.axis, out.ndim), rest[0] if rest else None)


@register_lowering(OneHot)
def lower_one_hot(op: OneHot, out: Array, labels: Array, *, scratch: Sequence[Array]) -> Calls:
    return one_hots(out, labels)
