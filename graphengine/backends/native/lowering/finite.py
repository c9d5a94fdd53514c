"""The check of a step for numbers that are not finite."""

from __future__ import annotations

from collections.abc import Sequence

from graphengine.backends.native.kernel import kernel_of
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.backends.native.vocabulary import share
from graphengine.ir.types import Array
from graphengine.ops.finite import CheckFinite


@register_lowering(CheckFinite)
def _check_finite(op: CheckFinite, out: Array, x: Array, scratch: Sequence[Array]) -> Calls:
    return [(kernel_of(check_finite), (x, x.size))] if x.flags.c_contiguous else None


def check_finite(x: Array, n: int, fault: Array, rank: int, ranks: int) -> None:
    """Refuses NaN and the infinities: what x - x is not 0 of."""
    found = 0
    for i in share(n, rank, ranks):
        found += 0 if x[i] - x[i] == 0.0 else 1
    if found != 0:
        fault[0] = 1
