"""The loops over the space of a region: which of them are cut into blocks, strips or pieces, and which are shared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphengine.backends.native.fusion.codegen import Loop, Steps

Strides = tuple[int, ...]
"""By how many elements an array moves on along each axis; 0 where it is repeated, or reduced."""

BLOCK = 128
"""How many elements, or lines, are added up in the dtype before they are added to a total."""

STRIPS = 8
"""Into how many strips lines are cut at least, for as many threads, unless these are narrow."""

NARROWEST, WIDEST = 64, 512
"""How many elements of lines a strip has at least, and at most: as many as `totals` of kernels are."""

FEW = 16
"""Of fewer lines than these, threads share the elements of each rather than the lines, if these are long."""


@dataclass(frozen=True, slots=True)
class Nest:
    """Loops, the outermost first: how often each runs, and the strides of every array along them."""

    sizes: tuple[int, ...]
    strides: tuple[Strides, ...]

    def taken(self, axes: Sequence[int]) -> Nest:
        """The loops over these axes, in this order."""
        strides = tuple(tuple(array[axis] for axis in axes) for array in self.strides)
        return Nest(tuple(self.sizes[axis] for axis in axes), strides)

    def merged(self) -> Nest:
        """Neighbours as one loop, where every array goes on from the end of the inner one as the outer one says."""
        sizes: list[int] = []
        strides: list[list[int]] = [[] for _ in self.strides]
        for size, steps in zip(self.sizes, zip(*self.strides, strict=True), strict=True):
            if sizes and all(array[-1] == size * step for array, step in zip(strides, steps, strict=True)):
                sizes[-1] *= size
                for array, step in zip(strides, steps, strict=True):
                    array[-1] = step
            else:
                sizes.append(size)
                for array, step in zip(strides, steps, strict=True):
                    array.append(step)
        return Nest(tuple(sizes), tuple(map(tuple, strides)))


@dataclass(frozen=True, slots=True)
class Walk:
    """A nest of loops over a space. `reduced` are the strides of the results that are reductions.

    `rounds` says whether one of them is a sum of floats. With `pieces`, the outermost loop is cut into so many; `rows`
    says how far each array moves on from one to the next.
    """

    nest: Nest
    reduced: tuple[Strides, ...]
    rounds: bool
    pieces: int
    rows: tuple[int, ...]

    @property
    def adds_lines(self) -> bool:
        """Whether all reductions are of so many lines that these are added up in blocks, strip by strip."""
        if not self.is_across:
            return False
        lines = math.prod(self._reduced_sizes)
        return -(-lines // max(1, self.pieces)) > BLOCK

    @property
    def is_across(self) -> bool:
        """Whether a reduction keeps the innermost loop, but not all others."""
        return any(any(strides[-1:]) and not all(strides) for strides in self.reduced)

    @property
    def is_mixed(self) -> bool:
        """Whether lines would have to be added up in blocks, and cannot, as not all reductions are over the same."""
        return self.adds_lines and len({tuple(map(bool, strides)) for strides in self.reduced}) > 1

    @property
    def blocks(self) -> int:
        """The number of blocks of the loop that is cut into them; 0 if it is short, or none is cut.

        It is the innermost loop if one reduces that, and the one around it if lines are added up.
        """
        if not self.nest.sizes or (not self.adds_lines and all(strides[-1] for strides in self.reduced)):
            return 0
        if not self.rounds:
            return 0
        size = self.nest.sizes[self._cut]
        pieces = self.pieces if self._cut == 0 else 0
        return -(-size // BLOCK) if size > BLOCK * max(1, pieces) else 0

    @property
    def strips(self) -> int:
        """The number of strips of lines that are added up; 0 if none are."""
        return -(-self.nest.sizes[-1] // self.width) if self.adds_lines else 0

    @property
    def width(self) -> int:
        """How many elements of lines a strip has."""
        return min(WIDEST, max(NARROWEST, self.nest.sizes[-1] // STRIPS))

    @property
    def _cut(self) -> int:
        """The loop that is cut into blocks."""
        return len(self.nest.sizes) - (2 if self.adds_lines else 1)

    @property
    def _reduced_sizes(self) -> list[int]:
        """Of the loops around the innermost that a reduction does not keep."""
        pairs = zip(self.nest.sizes[:-1], *(strides[:-1] for strides in self.reduced), strict=True)
        return [size for size, *steps in pairs if not all(steps)]

    @property
    def shared(self) -> int | None:
        """Which of the loops threads share: one that all reductions keep, the outermost or the innermost."""
        sizes = self.nest.sizes
        ends = (0, len(sizes) - 1) if sizes and not self.pieces else ()
        retained = [loop for loop in ends if all(strides[loop] for strides in self.reduced)]
        if retained and retained[-1] == len(sizes) - 1 and sizes[0] < FEW and sizes[-1] >= BLOCK:
            return retained[-1]
        return retained[0] if retained else None

    def loops(self) -> list[Loop]:
        """The loops as text, those over pieces and over blocks among them."""
        loops: list[Loop] = [Loop("piece", "share(pieces, rank, ranks)", None)] if self.pieces else []
        for number in range(len(self.nest.sizes)):
            whole = f"share(n{number}, rank, ranks)" if number == self.shared else f"range(n{number})"
            part = self.pieces > 0 and number == 0
            if self.strips and number == self._first:
                innermost = self.shared == len(self.nest.sizes) - 1
                loops.append(Loop("strip", "share(strips, rank, ranks)" if innermost else "range(strips)", None))
            if self.blocks and number == self._cut:
                loops.append(Loop("block", "share(blocks, piece, pieces)" if part else "range(blocks)", None))
            if self.strips and number == len(self.nest.sizes) - 1:
                end = "width * strip + width"
                whole = f"range(width * strip, {end} if {end} < n{number} else n{number})"
            span, ends = whole, ("0", f"n{number}")
            if self.blocks and number == self._cut:
                end = f"{BLOCK} * block + {BLOCK}"
                ends = f"{BLOCK} * block", f"{end} if {end} < n{number} else n{number}"
                span = f"range({', '.join(ends)})"
            elif part:
                span = f"share(n{number}, piece, pieces)"
                ends = f"n{number} * piece // pieces", f"n{number} * (piece + 1) // pieces"
            loops.append(Loop(f"i{number}", span, whole, ends))
        return loops

    @property
    def cell(self) -> str | None:
        """Where a total of the innermost loop's element is among those of the strip; None if there are no strips."""
        return f"i{len(self.nest.sizes) - 1} - width * strip" if self.strips else None

    @property
    def _first(self) -> int:
        """The outermost loop that reductions of lines do not keep."""
        return next(number for number, step in enumerate(self.reduced[0]) if not step)

    def retained(self, strides: Strides) -> tuple[bool, ...]:
        """Along which of the loops a result moves: for every piece it has an element of its own."""
        return tuple([bool(step) for step in self._along(strides, 1, 1, strides[self._cut] if self.blocks else 0)])

    def steps(self) -> tuple[list[Steps], dict[str, int]]:
        """The strides of every array along the loops, by name; and the sizes and strides that a kernel is given."""
        given = {f"n{number}": size for number, size in enumerate(self.nest.sizes)}
        more = {"pieces": self.pieces, "strips": self.strips, "blocks": self.blocks}
        more |= {"width": self.width} if self.strips else {}
        given |= {name: count for name, count in more.items() if count}
        names: dict[tuple[int, int], str] = {}

        def name(loop: int, stride: int) -> str:
            if stride in (0, 1):
                return str(stride)
            if (loop, stride) not in names:
                names[loop, stride] = f"s{len(names)}"
                given[names[loop, stride]] = stride
            return names[loop, stride]

        along = [self._along(strides, row, 0, 0) for strides, row in zip(self.nest.strides, self.rows, strict=True)]
        return [tuple([name(loop, stride) for loop, stride in enumerate(strides)]) for strides in along], given

    def _along(self, strides: Strides, piece: int, strip: int, block: int) -> Strides:
        """`strides`, and those from piece to piece, from strip to strip and from block to block, if there are such."""
        found = [piece] if self.pieces else []
        for number, stride in enumerate(strides):
            found += [strip] if self.strips and number == self._first else []
            found += [block] if self.blocks and number == self._cut else []
            found.append(stride)
        return tuple(found)


def aligned(shape: Sequence[int], strides: Sequence[int], itemsize: int, ndim: int) -> Strides | None:
    """An array's strides along the axes of a space of `ndim`, to which it broadcasts; None if some are below 0."""
    if any(stride < 0 or stride % itemsize for stride in strides):
        return None
    own = (0 if size == 1 else stride // itemsize for size, stride in zip(shape, strides, strict=True))
    return (*(0,) * (ndim - len(shape)), *own)


def nest(sizes: Sequence[int], strides: Sequence[Strides], leaders: Sequence[int], reduced: Sequence[int]) -> Nest:
    """The loops over a space of `sizes`.

    They follow the memory of the arrays numbered `leaders`, the first of them most of all. Axes that all of the arrays
    `reduced` keep come first, but for the innermost: then a sum is complete when the loops over its axes end.
    """
    space = Nest(tuple(sizes), tuple(strides))
    axes = [axis for axis, size in enumerate(sizes) if size != 1]
    axes.sort(key=lambda axis: [strides[array][axis] for array in leaders], reverse=True)
    space = space.taken(axes).merged()
    outer = range(len(space.sizes) - 1)
    retained = [axis for axis in outer if all(space.strides[array][axis] for array in reduced)]
    order = [*retained, *(axis for axis in outer if axis not in retained), *range(len(space.sizes))[-1:]]
    return space.taken(order).merged()
