"""Pools as NumPy runs them: windows along one axis, then along the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphengine.ir.op import Call
from graphengine.ir.types import Array
from graphengine.ops.support.window import Part, Sweep, Sweeps


def reduce_calls(
    function: Callable[..., object], out: Array, between: Array, x: Array, moves: Sweeps, start: float
) -> list[Call]:
    """The calls that reduce every window by `function`: along the height, where memory is contiguous, then the width.

    So a window of h * w elements takes h + w calls and not h * w.
    """
    calls: list[Call] = []
    for axis, sweep, source, target in ((-2, moves[0], x, between), (-1, moves[1], between, out)):
        parts = [_parts(axis, sweep, k, target, source) for k in range(sweep.window)]
        if sweep.is_padded or len(parts) == 1:
            calls.append((target.fill, (start,)))
        else:
            (_, first), (_, second), *parts = parts
            calls.append((function, (first, second, target)))
        calls += [(function, (to, part, to)) for to, part in parts]
    return calls


def spread_calls(out: Array, between: Array, share: Array, moves: Sweeps) -> list[Call]:
    """The calls that do the adjoint of summing over windows: along the width, then the height."""
    calls: list[Call] = []
    for axis, sweep, source, target in ((-1, moves[1], share, between), (-2, moves[0], between, out)):
        calls.append((target.fill, (0,)))
        for k in range(sweep.window):
            part, to = _parts(axis, sweep, k, source, target)
            calls.append((np.copyto, (to, part)) if sweep.is_disjoint else (np.add, (to, part, to)))
    return calls


def _parts(axis: int, sweep: Sweep, k: int, pooled: Array, images: Array) -> tuple[Array, Array]:
    """Views of the places whose window has its element `k` inside of the images, and of these elements."""
    places, met = sweep.meets(k)
    behind = (slice(None),) * (-1 - axis)
    ahead: Part = (...,)
    return pooled[(*ahead, places, *behind)], images[(*ahead, met, *behind)]
