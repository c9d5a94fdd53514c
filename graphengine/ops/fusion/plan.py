"""How a region is computed on arrays of given layouts: by which kernels, on which of the arrays, with which numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from graphengine.ir.kernel import Kernel
from graphengine.ir.types import DType, check_dtype
from graphengine.ops.fusion.codegen import Form, kernel, numbers
from graphengine.ops.fusion.nest import Nest, Strides, aligned, nest
from graphengine.ops.fusion.region import Region, Result, part, sums, totals
from graphengine.ops.fusion.walk import Walk

__all__ = ["Layout", "Planned", "plan"]

Layout = tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]]
"""An array's shape, its strides in bytes, and its dtype."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One call: a kernel, the places of the arrays that it is given, and its numbers."""

    kernel: Kernel
    arrays: tuple[int, ...]
    numbers: tuple[int | float, ...]


@dataclass(frozen=True, slots=True)
class _Space:
    """The places at which a region is computed, and how its arrays lie over them: results, operands, rows of pieces."""

    region: Region
    shape: tuple[int, ...]
    strides: tuple[Strides, ...]
    dtypes: tuple[DType, ...]
    counts: tuple[int, ...]
    """How many values each result is reduced from; 1 for one that is not."""

    @property
    def reductions(self) -> list[int]:
        """The places of the results that are reductions."""
        return [place for place, result in enumerate(self.region.results) if result.reduction is not None]

    def row(self, place: int) -> int:
        """How many elements a result has."""
        return math.prod(self.shape) // self.counts[place]

    def nest(self) -> Nest:
        """The loops, in the order of what is written at every place, and else of what is read at most places."""
        reductions = self.reductions
        whole = [place for place in range(len(self.region.results)) if place not in reductions]
        operands = range(len(self.region.results), len(self.strides) - len(reductions))
        read = sorted(operands, key=lambda place: -sum(map(bool, self.strides[place])))
        return nest(self.shape, self.strides, [*whole, *read, *reductions], reductions)


@lru_cache(maxsize=8192)
def plan(region: Region, layouts: tuple[Layout, ...], same: tuple[int, ...], pieces: int) -> tuple[Planned, ...] | None:
    """The calls that compute `region`; None where there are none.

    The arrays are those of the results and those of the operands, and if there are `pieces`, for every reduction one
    more, with a row for each piece. `same` gives for every result and operand the first that is the same memory.
    """
    space = _space(region, layouts)
    if space is None or not _agrees(space, same):
        return None
    if 0 in space.shape:
        return None if space.reductions else ()
    if _walk(space, space.nest(), 0, ()).is_mixed:
        return _apart(region, layouts, same)
    return _planned(space, same, pieces)


def _apart(region: Region, layouts: tuple[Layout, ...], same: tuple[int, ...]) -> tuple[Planned, ...] | None:
    """The calls that compute reductions over different axes one after the other, and what is not reduced at last.

    That may be written over what the others read.
    """
    reductions = [place for place, result in enumerate(region.results) if result.reduction is not None]
    whole = [place for place in range(len(region.results)) if place not in reductions]
    calls: list[Planned] = []
    for group in (*([place] for place in reductions), *([whole] if whole else [])):
        places = [*group, *range(len(region.results), len(layouts))]
        first = [same[place] for place in places]
        own = tuple([first.index(each) for each in first])
        planned = plan(part(region, tuple(group)), tuple([layouts[place] for place in places]), own, 0)
        if planned is None:
            return None
        calls += [replace(call, arrays=tuple([places[place] for place in call.arrays])) for call in planned]
    return tuple(calls)


def _space(region: Region, layouts: Sequence[Layout]) -> _Space | None:
    results = [*region.results, *[Result(0)] * (len(layouts) - len(region.results))]
    pairs = list(zip(layouts, results, strict=True))
    shape = np.broadcast_shapes(*(layout[0] for layout, result in pairs if result.reduction is None))
    rows = [(_in_order(layout), result) for layout, result in pairs if result.reduction is not None]
    strides = [_strides(layout, result, len(shape)) for layout, result in (*pairs, *rows)]
    dtypes = tuple([check_dtype(dtype) for (_, _, dtype), _ in (*pairs, *rows)])
    counts = tuple([math.prod(shape[axis] for axis in result.axes) for result in region.results])
    known = tuple([each for each in strides if each is not None])
    return _Space(region, shape, known, dtypes, counts) if len(known) == len(strides) else None


def _in_order(layout: Layout) -> Layout:
    """The layout of an array of this shape in C order."""
    shape, _, dtype = layout
    return shape, tuple(dtype.itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))), dtype


def _strides(layout: Layout, result: Result, ndim: int) -> Strides | None:
    """How the array of a result, or of an operand, lies over a space of so many axes."""
    shape, strides, dtype = layout
    if not result.keepdims:
        for axis in result.axes:
            shape, strides = (*shape[:axis], 1, *shape[axis:]), (*strides[:axis], 0, *strides[axis:])
    return aligned(shape, strides, dtype.itemsize, ndim)


def _agrees(space: _Space, same: Sequence[int]) -> bool:
    """Whether a result is the memory of no other result, and of no operand but one that is read just there."""
    results = len(space.region.results)
    pairs = [(first, place) for place, first in enumerate(same) if first < results and first != place]
    return all(place >= results and space.strides[first] == space.strides[place] for first, place in pairs)


def _planned(space: _Space, same: Sequence[int], pieces: int) -> tuple[Planned, ...] | None:
    """The kernel, and those that reduce what it leaves of the reductions that are cut into pieces."""
    loops = space.nest()
    rows = {place: len(same) + number for number, place in enumerate(space.reductions)}
    in_order = all(space.strides[place] == space.strides[row] for place, row in rows.items())
    cut = [place for place in rows if pieces and in_order and loops.sizes and not loops.strides[place][0]]
    writes = [rows[place] if place in cut else place for place in range(len(space.region.results))]
    calls = [_call(space, loops, (*writes, *same[len(writes) :]), pieces if cut else 0)]
    for size in dict.fromkeys(space.row(place) for place in cut):
        group = [place for place in cut if space.row(place) == size]
        calls.append(_total(space, group, [rows[place] for place in group], pieces))
    known = tuple([call for call in calls if call is not None])
    return known if len(known) == len(calls) else None


def _call(space: _Space, loops: Nest, places: Sequence[int], pieces: int) -> Planned | None:
    """The kernel that computes the region over `loops`, from and into the arrays at `places`."""
    count = len(space.region.results)
    cut = tuple([place for place in range(count) if places[place] != place])
    chosen = sorted(dict.fromkeys(places), key=lambda place: space.dtypes[place] != "float64")
    rows = {places[place]: space.row(place) for place in cut}
    walk = _walk(space, loops, pieces, tuple([rows.get(place, 0) for place in chosen]), chosen)
    steps, sizes = walk.steps()
    form = Form(
        loops=tuple(walk.loops()),
        dtypes=tuple([space.dtypes[place] for place in chosen]),
        steps=tuple(steps),
        sizes=tuple(sizes),
        loads=tuple([chosen.index(place) for place in places[count:]]),
        stores=tuple([chosen.index(place) for place in places[:count]]),
        kept=tuple([walk.kept(loops.strides[place]) for place in range(count)]),
        cell=walk.cell,
    )
    region = sums(space.region, cut)
    text = kernel(region, form)
    given = numbers(region, space.counts)
    return None if text is None else Planned(text, tuple(chosen), (*sizes.values(), *given.values()))


def _walk(space: _Space, loops: Nest, pieces: int, rows: tuple[int, ...], chosen: Sequence[int] = ()) -> Walk:
    """The walk over `loops` with the arrays at the places `chosen`."""
    own = Nest(loops.sizes, tuple([loops.strides[place] for place in chosen]))
    return Walk(own, tuple([loops.strides[place] for place in space.reductions]), pieces, rows)


def _total(space: _Space, group: Sequence[int], rows: Sequence[int], pieces: int) -> Planned | None:
    """The kernel that reduces rows of pieces, of one size, to the results that they are of."""
    size = space.row(group[0])
    kinds = tuple([space.region.results[place].reduction or "" for place in group])
    dtypes = tuple([np.dtype(space.dtypes[place]) for place in group])
    layouts: list[Layout] = [((size,), (dtype.itemsize,), dtype) for dtype in dtypes]
    layouts += [_in_order(((pieces, size), (), dtype)) for dtype in dtypes]
    total = _space(totals(kinds, tuple([space.dtypes[place] for place in group])), layouts)
    assert total is not None  # contiguous arrays have strides
    total = replace(total, counts=tuple([space.counts[place] for place in group]))
    call = _call(total, total.nest(), range(len(layouts)), 0)
    arrays = (*group, *rows)
    return call and replace(call, arrays=tuple([arrays[place] for place in call.arrays]))
