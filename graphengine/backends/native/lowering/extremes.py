"""Kernels that meet the elements of a reduction in order: where an extreme is, and norms whose squares overflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphengine.backends.native.kernel import Read, kernel_of
from graphengine.backends.native.lowering.index import marks
from graphengine.backends.native.lowering.norms import safe_squares
from graphengine.backends.native.lowering.reductions import Calls, joined, reduced
from graphengine.backends.native.lowering.registry import register_lowering
from graphengine.backends.native.vocabulary import float64, real, share, sqrt
from graphengine.ir.node import Node
from graphengine.ir.types import Array, check_axes
from graphengine.ops.reduce import ExtremeIndex, First, memory_offsets, with_behind
from graphengine.ops.support.layout import Axis, nest, outspread


@dataclass(frozen=True, slots=True)
class Fold:
    """A reduction as loops: over two axes that stay and three that go, of which some may run once."""

    retained: list[Axis]
    gone: list[Axis]

    @property
    def sizes(self) -> Array:
        """What kernels are told: sizes, with the steps in x and out of what stays, and in x alone of what goes."""
        retained, gone = (
            (n for axis in self.retained for n in axis.numbers),
            (n for axis in self.gone for n in axis.numbers[:2]),
        )
        return np.array([*retained, *gone], np.int64)

    @property
    def is_across(self) -> bool:
        """Whether the inner loop of both arrays stays, so that whole lines make one line."""
        return self.retained[-1].size > 1 and self.retained[-1].steps == (1, 1)


def fold(x: Array, out: Array, axes: Sequence[int], in_order: bool = False) -> Fold | None:
    """The loops of a reduction of x over `axes` into `out`; None if there are too many, or some go backwards.

    With `in_order` what goes is met row by row, and else as it is in memory, as far as may be.
    """
    if any(step < 0 for step in x.strides):
        return None
    whole = out.reshape([1 if i in axes else size for i, size in enumerate(x.shape)])
    loops = nest(x, np.broadcast_to(whole, x.shape))
    retained = outspread([axis for axis in loops if axis.steps[1] != 0], 2, arrays=2)
    inwards = [axis for axis in loops if axis.steps[1] == 0]
    if not in_order:
        inwards.sort(key=lambda axis: -axis.steps[0])
    gone = outspread(inwards, 3, arrays=2)
    return None if retained is None or gone is None else Fold(retained, gone)


def lengths(out: Array, x: Array, axes: Sequence[int]) -> Calls:
    """The calls that write the root of the sum of x^2 over `axes` into `out`."""
    loops = fold(x, out, axes) if out.size else None
    if loops is None:
        return None if out.size else []
    roots = kernel_of(root_places), (x, out, loops.sizes, *safe_squares(x))
    return joined(reduced("sum", out, [x], axes, value=_square), [roots])


def _square(x: Node) -> Node:
    return x * x


@register_lowering(ExtremeIndex)
def _place(op: ExtremeIndex, out: Array, *operands: Array, scratch: Sequence[Array]) -> Calls:
    return _places(op.kind.removeprefix("arg"), out, operands[0], check_axes(op.axis, operands[0].ndim), scratch[0])


@register_lowering(First)
def _first(op: First, out: Array, *operands: Array, scratch: Sequence[Array]) -> Calls:
    (x,), (work, numbers, _) = operands, scratch
    axes = check_axes(op.axis, x.ndim)
    retained = with_behind(x.ndim, axes)[: x.ndim - len(axes)]
    found = _places(op.of, numbers, x, axes, work)
    return joined(found, marks(out, numbers, memory_offsets(x.shape, axes), memory_offsets(x.shape, retained)))


def _places(kind: str, out: Array, x: Array, axes: Sequence[int], work: Array) -> Calls:
    """The calls that write the number of the first maximum ("max") or minimum of x along `axes` into `out`.

    `work` has an element for each extreme.
    """
    loops = fold(x, out, axes, in_order=True) if out.size and x.dtype.kind == "f" else None
    if loops is None:
        return None if out.size else []
    found = work.reshape(-1)[: out.size].reshape(out.shape)
    kernel = kernel_of(number_lines if loops.is_across else number_places)
    keepdims = out.ndim == x.ndim
    return joined(reduced(kind, found, [x], axes, keepdims=keepdims), [(kernel, (x, found, out, loops.sizes))])


def root_places(
    x: Array, out: Array, sizes: Read, least: float, most: float, power: float, rank: int, ranks: int
) -> None:
    """The root of a sum of squares; where these are too small or too large for the dtype, of those of x and `power`."""
    x_i, out_i, j, x_j, out_j = sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    a, x_a, b, x_b, c, x_c = sizes[6], sizes[7], sizes[8], sizes[9], sizes[10], sizes[11]
    for index in share(sizes[0] * j, rank, ranks):
        row = index // j
        column = index - row * j
        to = row * out_i + column * out_j
        if out[to] > least and out[to] <= most:
            out[to] = sqrt(out[to])
        else:
            k = power if out[to] <= least else 1.0 / power
            total = float64(0.0)
            for outer in range(a):
                for inner in range(b):
                    first = row * x_i + column * x_j + outer * x_a + inner * x_b
                    for p in range(c):
                        total += float64(x[first + p * x_c] * k * (x[first + p * x_c] * k))
            out[to] = sqrt(real(total)) / k


def number_places(x: Array, extremes: Array, out: Array, sizes: Read, rank: int, ranks: int) -> None:
    """The first element that is equal to the extreme, or NaN as it is."""
    x_i, out_i, j, x_j, out_j = sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    a, x_a, b, x_b, c, x_c = sizes[6], sizes[7], sizes[8], sizes[9], sizes[10], sizes[11]
    for index in share(sizes[0] * j, rank, ranks):
        row = index // j
        column = index - row * j
        to = row * out_i + column * out_j
        extreme = extremes[to]
        found = a * b * c
        for outer in range(a):
            for inner in range(b):
                first = row * x_i + column * x_j + outer * x_a + inner * x_b
                ahead = (outer * b + inner) * c
                for p in range(c):
                    value = x[first + p * x_c]
                    number = ahead + p if value == extreme or value != value else a * b * c
                    found = number if number < found else found
        out[to] = found


def number_lines(x: Array, extremes: Array, out: Array, sizes: Read, rank: int, ranks: int) -> None:
    """The same of lines, element by element: from the last line to the first."""
    x_i, out_i, n = sizes[1], sizes[2], sizes[3]
    a, x_a, b, x_b, c, x_c = sizes[6], sizes[7], sizes[8], sizes[9], sizes[10], sizes[11]
    stretches = (n + 63) // 64
    for stretch in share(sizes[0] * stretches, rank, ranks):
        row = stretch // stretches
        begin = (stretch - row * stretches) * 64
        count = 64 if n - begin > 64 else n - begin
        to = row * out_i + begin
        for outer in range(a):
            for inner in range(b):
                for line in range(c):
                    number = a * b * c - 1 - ((outer * b + inner) * c + line)
                    first = row * x_i + begin + (a - 1 - outer) * x_a + (b - 1 - inner) * x_b + (c - 1 - line) * x_c
                    for p in range(count):
                        value = x[first + p]
                        out[to + p] = number if value == extremes[to + p] or value != value else out[to + p]
