"""The numbers of a gradient, one by one: which there are, and a sample of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from graphengine.errors import ExecutionError
from graphengine.executable import Executable
from graphengine.ir.types import Array


class Element(NamedTuple):
    """One number among the parameters: a parameter's name, and a place in its elements in C order."""

    parameter: str
    place: int


def every_element(executable: Executable) -> list[Element]:
    """All elements of all parameters, in order of declaration."""
    return elements_of(executable.parameters)


def elements_of(arrays: Mapping[str, Array]) -> list[Element]:
    """All elements of these arrays, which bear the names of parameters."""
    return [Element(name, index) for name, value in arrays.items() for index in range(value.size)]


def sample_elements(executable: Executable, count: int, seed: int = 0) -> list[Element]:
    """`count` different elements of the parameters, each as likely as any other, in order; all if there are fewer."""
    return sample_of(every_element(executable), count, seed)


def sample_of(elements: Sequence[Element], count: int, seed: int) -> list[Element]:
    """`count` of `elements`, each as likely as any other, in order; all if there are fewer."""
    chosen = np.random.default_rng(seed).permutation(len(elements))[:count]
    return [elements[index] for index in sorted(chosen)]


def check_element(element: Element, parameters: Mapping[str, Array]) -> None:
    """Raise NamingError or ExecutionError unless there is such an element."""
    name, place = element
    size = parameters[name].size
    if not 0 <= place < size:
        raise ExecutionError(f"parameter {name!r} has elements 0 to {size - 1}, and not {place}")
