"""One work array for several: an op whose kernels need different ones asks for as much as the greediest of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from graphengine.ir.op import Array
from graphengine.ir.types import TensorType

__all__ = ["cut", "work_type"]

Shape = tuple[int, ...]

_STEP = 16
"""Arrays begin at multiples of so many elements, which are at least those of a cache line for float32."""


def work_type(like: TensorType, *kernels: Sequence[Shape]) -> TensorType:
    """The type of an array that holds arrays of the shapes that any one of the kernels needs."""
    return TensorType((max(sum(map(_rounded, shapes)) for shapes in kernels),), like.dtype)


def cut(work: Array, shapes: Sequence[Shape]) -> list[Array]:
    """Arrays of these shapes, one behind the other."""
    found, start = [], 0
    for shape in shapes:
        found.append(work[start : start + prod(shape)].reshape(shape))
        start += _rounded(shape)
    return found


def _rounded(shape: Shape) -> int:
    return -(-prod(shape) // _STEP) * _STEP
