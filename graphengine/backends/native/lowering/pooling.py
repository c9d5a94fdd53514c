"""Kernels of pooling: their text is made for a window and a stride, from what is done with the elements of a window.

Windows that lie inside of the image are taken some at a time, side by side, with all elements of the window written
out; others go element by element. Elements are met last to first, so that what the first one says stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from graphengine.backends.native.kernel import Kernel, LoopCall
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
from graphengine.ops.sums import BLOCK
from graphengine.ops.support.layout import ascending
from graphengine.ops.window import Sweep, Sweeps

MOST = 25
"""The most elements of a window that are written out."""

_TOGETHER = ((16, 32), (8, 16), (4, 4))
"""How many windows are taken side by side where there are at least so many. The last ones overlap those before."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """What is made of a window: `y`, from its elements `a`, of number #, and from `o`, which `other` has at its place.

    `nearest` is some element; `size` is the number of all elements, `count` of those inside of the image.
    """

    name: str
    start: str
    step: str
    end: str = "y"
    has_other: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """What element number # of a window gets, from `v` and `o`, which x and `other` have at its place; see above."""

    name: str
    form: str
    has_other: bool = False


_GREATEST = Reduction("max_pool", "y = nearest", "y = a if a > y or a != a else y")
_PLACE = Reduction("max_pool_place", "y = size", "y = # if a == o or a != a else y", has_other=True)
_AT_PLACE = Reduction("max_pool_gather", "y = 0.0", "y = a if # == o else y", has_other=True)
_MEAN = Reduction("avg_pool", "y = 0.0", "y = y + a", "y / real(count)")
_MEAN_OF_ALL = Reduction("avg_pool_of_all", "y = 0.0", "y = y + a", "y / real(size)")
_IN_TWICE_THE_DIGITS = "y = float64(0.0); rest = float64(0.0)", "rest += lost(y, a); y += a"
_LONG_MEAN = Reduction("avg_pool_long", *_IN_TWICE_THE_DIGITS, "real(y + rest) / real(count)")
_LONG_MEAN_OF_ALL = Reduction("avg_pool_long_of_all", *_IN_TWICE_THE_DIGITS, "real(y + rest) / real(size)")
"""Of windows of more than `BLOCK` elements."""
_TO_PLACE = Share("max_pool_scatter", "v if # == o else 0.0", has_other=True)
_SHARE = Share("avg_pool_adjoint", "v / real(count)")
_SHARE_OF_ALL = Share("avg_pool_adjoint_of_all", "v / real(size)")


@register_lowering(MaxPool2D)
def lower_max(op: Pool, out: Array, x: Array, *, scratch: Sequence[Array]) -> Calls:
    return _reduced(_GREATEST, out, (x,), op.moves(x.shape))


@register_lowering(MaxPool2DPlace)
def lower_place(op: Pool, out: Array, x: Array, other: Array, *, scratch: Sequence[Array]) -> Calls:
    return _reduced(_PLACE, out, (x, other), op.moves(x.shape))


@register_lowering(MaxPool2DGather)
def lower_gather(op: Pool, out: Array, x: Array, other: Array, *, scratch: Sequence[Array]) -> Calls:
    return _reduced(_AT_PLACE, out, (x, other), op.moves(x.shape))


@register_lowering(MaxPool2DScatter)
def lower_scatter(op: Pool, out: Array, x: Array, other: Array, *, scratch: Sequence[Array]) -> Calls:
    return _spread_out(_TO_PLACE, out, (x, other), op.moves(out.shape), scratch[1])


@register_lowering(AvgPool2D)
def lower_mean(op: AvgPool2D, out: Array, x: Array, *, scratch: Sequence[Array]) -> Calls:
    is_long = op.window[0] * op.window[1] > BLOCK
    means = (_LONG_MEAN, _LONG_MEAN_OF_ALL) if is_long else (_MEAN, _MEAN_OF_ALL)
    return _reduced(means[op.count_include_pad], out, (x,), op.moves(x.shape))


@register_lowering(AvgPool2DAdjoint)
def lower_mean_adjoint(op: AvgPool2DAdjoint, out: Array, x: Array, *, scratch: Sequence[Array]) -> Calls:
    of = _SHARE_OF_ALL if op.count_include_pad else _SHARE
    return _spread_out(of, out, (x,), op.moves(out.shape), scratch[0])


@dataclass(frozen=True, slots=True)
class _Form:
    """Windows of which size, how many columns apart, how many of them side by side (0: none)."""

    height: int
    width: int
    stride: int
    together: int
    is_disjoint: bool
    """Whether none overlap."""
    is_inside: bool
    """Whether all are taken side by side, and lie inside of the image."""

    @property
    def name(self) -> str:
        return f"{self.height}x{self.width}_{self.stride}_{self.together}{'' if self.is_inside else '_padded'}"

    def parts(self, side_by_side: str, one_by_one: str) -> str:
        """What is needed of the two parts of a kernel's text."""
        return (side_by_side if self.together else "") + ("" if self.is_inside else one_by_one)

    @property
    def elements(self) -> list[tuple[int, int, int]]:
        """Number, row and column of each element of a window, the last one first."""
        numbers = reversed(range(self.height * self.width))
        return [(t, *divmod(t, self.width)) for t in numbers]


def _reduced(of: Reduction, out: Array, operands: Sequence[Array], moves: Sweeps) -> list[LoopCall] | None:
    """The calls that write what is made of each window into `out`; None where rows of x are not contiguous."""
    x, *others = operands
    if (x.strides[3] != x.itemsize and x.shape[3] > 1) or not all(other.flags.c_contiguous for other in others):
        return None
    if not out.size:
        return []
    form = _form(moves)
    first, start = ascending(x)
    sizes = start, *x.shape, *strides(x)[:3], *out.shape[2:], *_places(moves), *_inside(moves[1], form)
    return [(_reduction(of, form), (first, *others, out, *sizes))]


def _spread_out(of: Share, out: Array, operands: Sequence[Array], moves: Sweeps, work: Array) -> list[LoopCall] | None:
    """The calls that write the sum of what all windows give to it into each element of `out`.

    `work` is as large as x. None where x has too many axes to be copied.
    """
    x, *others = operands
    ahead = [] if x.flags.c_contiguous else copies_of([(work, x)])
    if ahead is None or not all(other.flags.c_contiguous for other in others):
        return None
    if not out.size:
        return []
    form = _form(moves)
    if not form.is_disjoint:
        form = replace(form, together=0, is_inside=False)
    covered = form.is_disjoint and all(sum(sweep.met()) == sweep.size for sweep in moves)
    planes = out.shape[0] * out.shape[1]
    sizes = planes, *out.shape[2:], *x.shape[2:], *_places(moves), *_inside(moves[1], form), int(covered)
    return [*ahead, (_spread(of, form), (work if ahead else x, *others, out, *sizes))]


def _form(moves: Sweeps) -> _Form:
    rows, columns = moves
    count = len(_whole(columns)) if rows.window * columns.window <= MOST else 0
    together = next((number for number, least in _TOGETHER if count >= least), 0)
    inside = together > 0 and all(len(_whole(sweep)) == sweep.places for sweep in moves)
    disjoint = all(sweep.is_disjoint for sweep in moves)
    return _Form(rows.window, columns.window, columns.stride, together, disjoint, inside)


def _whole(sweep: Sweep) -> range:
    """The places whose windows lie inside of the axis."""
    first = -(-sweep.before // sweep.stride)
    last = (dims.bind(sweep.size, {}) + sweep.before - sweep.window) // sweep.stride + 1
    return range(first, max(first, min(last, sweep.places)))


def _inside(columns: Sweep, form: _Form) -> tuple[int, int]:
    """From which column to which windows are taken side by side."""
    whole = _whole(columns)
    return (whole.start, whole.stop) if form.together else (columns.places, columns.places)


def _places(moves: Sweeps) -> tuple[int, int, int]:
    """By how many rows windows move on, and what lies ahead of the first row and of the first column."""
    return moves[0].stride, moves[0].before, moves[1].before


@lru_cache(maxsize=1024)
def _reduction(of: Reduction, form: _Form) -> Kernel:
    name = f"{of.name}_{form.name}"
    elements = [(t, f"x[at + {k} * x_row + {form.stride} * p + {j}]") for t, k, j in form.elements]
    written = [line for t, element in elements for line in (f"a = {element}", of.step.replace("#", str(t)))]
    text = (_REDUCTION + form.parts(_REDUCED_SIDE_BY_SIDE, _REDUCED_ONE_BY_ONE)).format(
        name=name,
        form=form,
        other="other, " if of.has_other else "",
        many=f"o = other[to + p]; {of.start}" if of.has_other else of.start,
        one=f"o = other[to]; {of.start}" if of.has_other else of.start,
        nearest=elements[0][1],
        written="; ".join(written),
        step=of.step.replace("#", "t"),
        end=of.end,
    )
    return Kernel(name, text)


@lru_cache(maxsize=1024)
def _spread(of: Share, form: _Form) -> Kernel:
    name = f"{of.name}_{form.name}"
    written = [
        f"out[at + {k} * width + {form.stride} * p + {j}] = {of.form.replace('#', str(t))}" for t, k, j in form.elements
    ]
    text = (_SPREAD + form.parts(_SPREAD_SIDE_BY_SIDE, _SPREAD_ONE_BY_ONE)).format(
        name=name,
        form=form,
        other="other, " if of.has_other else "",
        many="v = x[to + p]; o = other[to + p]" if of.has_other else "v = x[to + p]",
        one="v = x[to]; o = other[to]" if of.has_other else "v = x[to]",
        written="; ".join(written),
        sign="=" if form.is_disjoint else "+=",
        value=of.form.replace("#", "t"),
    )
    return Kernel(name, text)


_ROW = """\
            row = line * down - top
            high = -row if row < 0 else 0
            low = height - row if height - row < {form.height} else {form.height}
            first = begin if low - high == {form.height} else columns
            last = end if low - high == {form.height} else columns
"""

_REDUCTION = (
    """\
def {name}(
    x, {other}out, origin, images, channels, height, width, x_image, x_channel, x_row, rows, columns, down, top, left,
    begin, end, rank, ranks
):
    size = {form.height} * {form.width}
    for plane in share(images * channels, rank, ranks):
        image = plane // channels
        start = origin + image * x_image + (plane - image * channels) * x_channel - left
        for line in range(rows):
"""
    + _ROW
)

_REDUCED_SIDE_BY_SIDE = """\
            count = size
            for block in range(first, last, {form.together}):
                column = block if block + {form.together} <= last else last - {form.together}
                at = start + row * x_row + column * {form.stride}
                to = (plane * rows + line) * columns + column
                for p in range({form.together}):
                    nearest = {nearest}
                    {many}
                    {written}
                    out[to + p] = {end}
"""

_WINDOW = """\
            for place in range(columns - last + first):
                column = place if place < first else place - first + last
                to = (plane * rows + line) * columns + column
                near = left - column * {form.stride} if left > column * {form.stride} else 0
                far = width + left - column * {form.stride}
                far = far if far < {form.width} else {form.width}
                count = (low - high) * (far - near)
"""

_REDUCED_ONE_BY_ONE = (
    _WINDOW
    + """\
                at = start + row * x_row + column * {form.stride}
                nearest = x[at + low * x_row - x_row + far - 1]
                {one}
                for k in range(low - 1, high - 1, -1):
                    for j in range(far - 1, near - 1, -1):
                        a = x[at + k * x_row + j]
                        t = k * {form.width} + j
                        {step}
                out[to] = {end}
"""
)

_SPREAD = (
    """\
def {name}(
    x, {other}out, planes, height, width, rows, columns, down, top, left, begin, end, covered, rank, ranks
):
    size = {form.height} * {form.width}
    for plane in share(planes, rank, ranks):
        start = plane * height * width - left
        if covered == 0:
            for p in range(height * width):
                out[start + left + p] = 0.0
        for line in range(rows):
"""
    + _ROW
)

_SPREAD_SIDE_BY_SIDE = """\
            count = size
            for block in range(first, last, {form.together}):
                column = block if block + {form.together} <= last else last - {form.together}
                at = start + row * width + column * {form.stride}
                to = (plane * rows + line) * columns + column
                for p in range({form.together}):
                    {many}
                    {written}
"""

_SPREAD_ONE_BY_ONE = (
    _WINDOW
    + """\
                at = start + row * width + column * {form.stride}
                {one}
                for k in range(low - 1, high - 1, -1):
                    for j in range(far - 1, near - 1, -1):
                        t = k * {form.width} + j
                        out[at + k * width + j] {sign} {value}
"""
)
