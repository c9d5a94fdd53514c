"""Arrays as loops see them: flat memory, walked along few axes, each with a size and a step in every array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphengine.ir.types import Array


@dataclass(frozen=True, slots=True)
class Axis:
    """How often a loop runs, and by how many elements it moves on in each array."""

    size: int
    steps: tuple[int, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """What a kernel is told of it."""
        return self.size, *self.steps


def nest(*arrays: Array) -> list[Axis]:
    """The loops over arrays of one shape, the outermost first: without axes of size 1, and with neighbours joined.

    Neighbours are joined where every array goes on from the end of the inner one as the outer one says.
    """
    axes: list[Axis] = []
    for place, size in enumerate(arrays[0].shape):
        if size == 1:
            continue
        steps = tuple(array.strides[place] // array.itemsize for array in arrays)
        if axes and all(outer == size * step for outer, step in zip(axes[-1].steps, steps, strict=True)):
            axes[-1] = Axis(axes[-1].size * size, steps)
        else:
            axes.append(Axis(size, steps))
    return axes


def outspread(axes: Sequence[Axis], count: int, arrays: int) -> list[Axis] | None:
    """`axes` as `count` loops, some of which run once, but neither the first nor the last if there are two or more.

    Threads share the first, and the last is the inner loop. None if there are more axes.
    """
    if len(axes) > count:
        return None
    once = Axis(1, (0,) * arrays)
    head = 1 if len(axes) > 1 else 0
    return [*axes[:head], *[once] * (count - len(axes)), *axes[head:]]


def ascending(x: Array) -> tuple[Array, int]:
    """A view of the same elements with no step below 0, and where the first element of x stands in its memory.

    A loop that steps backwards starts there, so that no index is negative.
    """
    back = tuple(place for place, step in enumerate(x.strides) if step < 0)
    start = sum((1 - x.shape[place]) * (x.strides[place] // x.itemsize) for place in back)
    return np.flip(x, back), start


def merged(x: Array) -> Array | None:
    """x, which has elements, with all axes ahead of the last as one; None if that cannot be seen without a copy."""
    axes = nest(x[..., 0])
    if len(axes) > 1:
        return None
    size, step = (axes[0].size, axes[0].steps[0] * x.itemsize) if axes else (1, x.shape[-1] * x.itemsize)
    return np.lib.stride_tricks.as_strided(x, (size, x.shape[-1]), (step, x.strides[-1]))


def starts(x: Array) -> Array:
    """The index in memory of the first element of each matrix of a stack, counted from the first matrix."""
    found = np.zeros((), np.int64)
    for size, stride in zip(x.shape[:-2], x.strides[:-2], strict=True):
        found = np.add.outer(found, np.arange(size) * (stride // x.itemsize))
    return found.reshape(-1)
