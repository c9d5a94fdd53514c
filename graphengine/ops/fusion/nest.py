"""The loops over a space: few, in the order of memory, the same for all arrays whose layouts are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Nest", "Strides", "aligned", "nest"]

Strides = tuple[int, ...]
"""By how many elements an array moves on along each axis; 0 where it is repeated, or reduced."""


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
    kept = [axis for axis in outer if all(space.strides[array][axis] for array in reduced)]
    order = [*kept, *(axis for axis in outer if axis not in kept), *range(len(space.sizes))[-1:]]
    return space.taken(order).merged()
