"""The arguments of kernels: what a compiler has to know of them, the words that they are passed as, where they lie."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from graphengine.ir.op import Array

__all__ = ["kind", "overlap", "span", "word"]


def kind(argument: Any) -> str:
    """What a parameter is, as `build` has it."""
    if isinstance(argument, np.ndarray):
        return f"{argument.dtype.name}*"
    return "int" if isinstance(argument, int | np.integer) else "float"


def word(argument: Any) -> int:
    """What stands for an argument in a table: an address, a whole number, or the bits of a double."""
    if isinstance(argument, np.ndarray):
        return int(argument.ctypes.data)
    if isinstance(argument, int | np.integer):
        return int(argument)
    return int(struct.unpack("q", struct.pack("d", argument))[0])


def overlap(arguments: Sequence[Any]) -> bool:
    """Whether memory between the first and the last element of an array is also another's."""
    spans = sorted(span(argument) for argument in arguments if isinstance(argument, np.ndarray))
    return any(before[1] > after[0] for before, after in pairwise(spans))


def span(array: Array) -> tuple[int, int]:
    """Where the memory of an array begins and ends."""
    begin = int(array.ctypes.data)
    reach = sum((size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True) if stride > 0)
    return begin, begin + reach + array.itemsize
