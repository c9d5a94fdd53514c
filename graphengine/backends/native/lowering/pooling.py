"""Kernels of pooling: their text is made for a window and a stride, from what is done with the elements of a window.

Windows that lie inside of the image are taken some at a time, side by side, with all elements of the window written
out; others go element by element. Elements are met last to first, so that the first one has the last word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from graphengine.backends.native.kernel import Kernel
from graphengine.backends.native.lowering.copies import copies_of
from graphengine.backends.native.lowering.images import strides
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.ir import dims
from graphengine.ir.types import Array
from graphengine.ops.pool import (
    AvgPool2D,
    AvgPool2DAdjoint,
    MaxPool2D,
    MaxPool2DGather,
    MaxPool2DPlace,
    MaxPool2DScatter,
    Pool,
)
from graphengine.ops.support.layout import ascending
from graphengine.ops.support.sums import BLOCK
from graphengine.ops.support.window import Sweep, Sweeps

MOST = 25
"""The most elements of a window that are written out."""

_TOGETHER = ((16, 32), (8, 16), (4, 4))
"""How many windows are taken side by side where there are at least so many. The last ones overlap those before."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """What is done with a window of `image`: `begin`, then `each` for every element, then `end`.

    `e` is the index of an element in `image`, in `begin` that of some element, and `t` its number in the window; `i` is
    the index of the window in `values`, `other` and `out`. `size` is the number of all elements, `count` of those
    inside of the image. `<-` is `=`, or `+=` where windows overlap.
    """

    name: str
    arrays: str
    begin: str
    each: str
    end: str = "pass"


_MAX = _Rule("max_pool", "image, out", "y = image[e]", "a = image[e]; y = a if a > y or a != a else y", "out[i] = y")
_INDEX_OF_MAX = _Rule(
    "max_pool_place",
    "image, other, out",
    "y = size; o = other[i]",
    "a = image[e]; y = t if a == o or a != a else y",
    "out[i] = y",
)
_AT_INDEX = _Rule(
    "max_pool_gather", "image, other, out", "y = 0.0; o = other[i]", "y = image[e] if t == o else y", "out[i] = y"
)
_TO_INDEX = _Rule(
    "max_pool_scatter", "values, other, image", "v = values[i]; o = other[i]", "image[e] <- v if t == o else 0.0"
)
_DIVISORS = {False: ("", "real(count)"), True: ("_of_all", "real(size)")}
"""A suffix of names, and what a mean divides by, by whether the padding counts."""


def _lower_max(rule: _Rule, op: Pool, out: Array, x: Array, *others: Array, scratch: Sequence[Array]) -> Calls:
    return _reduced(rule, out, (x, *others), op.moves(x.shape))


register_lowering(MaxPool2D)(partial(_lower_max, _MAX))
register_lowering(MaxPool2DPlace)(partial(_lower_max, _INDEX_OF_MAX))
register_lowering(MaxPool2DGather)(partial(_lower_max, _AT_INDEX))


@register_lowering(AvgPool2D)
def lower_mean(op: AvgPool2D, out: Array, x: Array, *, scratch: Sequence[Array]) -> Calls:
    suffix, divisor = _DIVISORS[op.count_include_pad]
    rule = _Rule(f"avg_pool{suffix}", "image, out", "y = 0.0", "y = y + image[e]", f"out[i] = y / {divisor}")
    if op.window[0] * op.window[1] > BLOCK:  # sums have twice the digits
        begin, each = "y = float64(0.0); rest = float64(0.0)", "a = image[e]; rest += lost(y, a); y += a"
        rule = _Rule(f"avg_pool_long{suffix}", "image, out", begin, each, f"out[i] = real(y + rest) / {divisor}")
    return _reduced(rule, out, (x,), op.moves(x.shape))


@register_lowering(MaxPool2DScatter)
def lower_scatter(op: Pool, out: Array, x: Array, other: Array, *, scratch: Sequence[Array]) -> Calls:
    return _spread_out(_TO_INDEX, out, (x, other), op.moves(out.shape), scratch[1])


@register_lowering(AvgPool2DAdjoint)
def lower_mean_adjoint(op: AvgPool2DAdjoint, out: Array, x: Array, *, scratch: Sequence[Array]) -> Calls:
    suffix, divisor = _DIVISORS[op.count_include_pad]
    rule = _Rule(f"avg_pool_adjoint{suffix}", "values, image", "v = values[i]", f"image[e] <- v / {divisor}")
    return _spread_out(rule, out, (x,), op.moves(out.shape), scratch[0])


def _reduced(rule: _Rule, out: Array, operands: Sequence[Array], moves: Sweeps) -> Calls:
    """The calls that write what is made of each window into `out`; None where rows of x are not contiguous."""
    x, *others = operands
    if (x.strides[3] != x.itemsize and x.shape[3] > 1) or not all(other.flags.c_contiguous for other in others):
        return None
    image, start = ascending(x)
    form = _Form.of(moves, side_by_side=True)
    return [(_kernel(rule, form), (image, *others, out, start, *form.sizes(x, moves)))] if out.size else []


def _spread_out(rule: _Rule, out: Array, operands: Sequence[Array], moves: Sweeps, work: Array) -> Calls:
    """The calls that write the sum of what all windows give to it into each element of `out`.

    `work` is as large as x. None where x has too many axes to be copied.
    """
    x, *others = operands
    ahead = [] if x.flags.c_contiguous else copies_of([(work, x)])
    if ahead is None or not all(other.flags.c_contiguous for other in others):
        return None
    is_disjoint = all(sweep.is_disjoint for sweep in moves)
    is_covered = is_disjoint and all(sweep.met_in_all == sweep.size for sweep in moves)
    kernel = _kernel(rule, form := _Form.of(moves, is_disjoint), "=" if is_disjoint else "+=", not is_covered)
    return [*ahead, (kernel, (work if ahead else x, *others, out, 0, *form.sizes(out, moves)))] if out.size else []


@dataclass(frozen=True, slots=True)
class _Form:
    """Windows of which size, how many columns apart, how many of them side by side (0: none)."""

    height: int
    width: int
    stride: int
    together: int
    is_inside: bool
    """Whether all are taken side by side, and lie inside of the image."""

    @classmethod
    def of(cls, moves: Sweeps, side_by_side: bool) -> _Form:
        """The form of windows that move so, with as many side by side as can be if that is wanted."""
        rows, columns = moves
        count = len(_whole(columns)) if side_by_side and rows.window * columns.window <= MOST else 0
        together = next((number for number, least in _TOGETHER if count >= least), 0)
        is_inside = together > 0 and all(len(_whole(sweep)) == sweep.positions for sweep in moves)
        return cls(rows.window, columns.window, columns.stride, together, is_inside)

    def sizes(self, image: Array, moves: Sweeps) -> tuple[int, ...]:
        """What a kernel is told: of the image, of the windows, and from which column to which they are side by side."""
        rows, columns = moves
        whole = _whole(columns) if self.together else range(columns.positions, columns.positions)
        windows = rows.positions, columns.positions, rows.stride, rows.before, columns.before, whole.start, whole.stop
        return *image.shape, *strides(image)[:3], *windows


def _whole(sweep: Sweep) -> range:
    """The positions of windows that lie inside of the axis."""
    first = -(-sweep.before // sweep.stride)
    last = (dims.bind(sweep.size, {}) + sweep.before - sweep.window) // sweep.stride + 1
    return range(first, max(first, min(last, sweep.positions)))


@lru_cache(maxsize=1024)
def _kernel(rule: _Rule, form: _Form, sets: str = "=", clears: bool = False) -> Kernel:
    name = f"{rule.name}_{form.height}x{form.width}_{form.stride}_{form.together}{'' if form.is_inside else '_padded'}"
    each = rule.each.replace("<-", sets)
    elements = [
        (t, f"e = at + {t // form.width} * pitch + {form.stride} * p + {t % form.width}")
        for t in reversed(range(form.height * form.width if form.together else 1))
    ]
    parts = [_ROWS, _CLEARED if clears else "", _ROW]
    parts += [_SIDE_BY_SIDE] if form.together else []
    parts += [] if form.is_inside else [_ONE_BY_ONE]
    return Kernel(
        name,
        "".join(parts).format(
            name=name,
            form=form,
            rule=rule,
            each=each,
            some=elements[0][1],
            written="; ".join(f"{element}; t = {t}; {each}" for t, element in elements),
        ),
    )


_ROWS = """\
def {name}(
    {rule.arrays}, origin, images, channels, height, width, by_image, by_channel, pitch, rows, columns, down, top, left,
    begin, end, rank, ranks
):
    size = {form.height} * {form.width}
    for plane in share(images * channels, rank, ranks):
        number = plane // channels
        start = origin + number * by_image + (plane - number * channels) * by_channel - left
"""

_CLEARED = """\
        for p in range(height * width):
            image[start + left + p] = 0.0
"""

_ROW = """\
        for line in range(rows):
            row = line * down - top
            high = -row if row < 0 else 0
            low = height - row if height - row < {form.height} else {form.height}
            first = begin if low - high == {form.height} else columns
            last = end if low - high == {form.height} else columns
"""

_SIDE_BY_SIDE = """\
            count = size
            for block in range(first, last, {form.together}):
                column = block if block + {form.together} <= last else last - {form.together}
                at = start + row * pitch + column * {form.stride}
                to = (plane * rows + line) * columns + column
                for p in range({form.together}):
                    i = to + p
                    {some}
                    {rule.begin}
                    {written}
                    {rule.end}
"""

_ONE_BY_ONE = """\
            for outer in range(columns - last + first):
                column = outer if outer < first else outer - first + last
                i = (plane * rows + line) * columns + column
                near = left - column * {form.stride} if left > column * {form.stride} else 0
                far = width + left - column * {form.stride}
                far = far if far < {form.width} else {form.width}
                count = (low - high) * (far - near)
                at = start + row * pitch + column * {form.stride}
                e = at + low * pitch - pitch + far - 1
                {rule.begin}
                for k in range(low - 1, high - 1, -1):
                    for j in range(far - 1, near - 1, -1):
                        e = at + k * pitch + j
                        t = k * {form.width} + j
                        {each}
                {rule.end}
"""
