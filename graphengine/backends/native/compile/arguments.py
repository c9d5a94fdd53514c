"""The arguments of kernels: what a compiler has to know of them, the words that they are passed as, where they lie."""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphengine.backends.native.kernel import Kernel, parameters, specialized, written
from graphengine.ir.types import Array


def kind(argument: Any) -> str:
    """What a parameter is, as `build` has it."""
    if isinstance(argument, np.ndarray):
        return f"{argument.dtype.name}*"
    return "int" if isinstance(argument, int | np.integer) else "float"


def word(argument: Any) -> int:
    """The word of an argument in a table: an address, a whole number, or the bits of a double."""
    if isinstance(argument, np.ndarray):
        return int(argument.ctypes.data)
    if isinstance(argument, int | np.integer):
        return int(argument)
    return int(struct.unpack("q", struct.pack("d", argument))[0])


def apart(kernel: Kernel, arguments: Sequence[Any]) -> tuple[Kernel, Sequence[Any]]:
    """A call in which one parameter is used for all that are the same memory as an array that is written to.

    Its loops then run on vectors as they do elsewhere, with no need to find out what overlaps. Where arrays overlap
    in another way, its kernel is one that allows that.
    """
    if kernel.may_overlap or not overlap(arguments) or not overlap(arguments, written(kernel)):
        return kernel, arguments
    names = parameters(kernel)
    arrays = {index: x for index, x in enumerate(arguments) if isinstance(x, np.ndarray)}
    memory = {index: (word(x), x.dtype) for index, x in arrays.items()}
    own = {memory[index]: index for index in sorted(written(kernel) & arrays.keys(), reverse=True)}
    same = {index: own[memory[index]] for index in arrays if own.get(memory[index], index) != index}
    kernel = specialized(kernel, **{names[index]: names[first] for index, first in same.items()})
    arguments = [argument for index, argument in enumerate(arguments) if index not in same]
    return replace(kernel, may_overlap=overlap(arguments, written(kernel))), arguments


def overlap(arguments: Sequence[Any], written: Collection[int] | None = None) -> bool:
    """Whether memory between the first and the last element of an array is also another's.

    If it is said which of the arguments are `written`, one of both has to be among these.
    """
    arrays = [(index, argument) for index, argument in enumerate(arguments) if isinstance(argument, np.ndarray)]
    end = end_of_written = 0
    for begin, stop, is_written in sorted((*span(x), written is None or index in written) for index, x in arrays):
        if begin < (end if is_written else end_of_written):
            return True
        end = max(end, stop)
        end_of_written = max(end_of_written, stop) if is_written else end_of_written
    return False


def span(array: Array) -> tuple[int, int]:
    """Where the memory of an array begins and ends."""
    begin = int(array.ctypes.data)
    reach = sum((size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True) if stride > 0)
    return begin, begin + reach + array.itemsize
