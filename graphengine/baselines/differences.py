"""Differentiation by differences: two forward passes for every parameter element, with nothing shared between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphengine.errors import ExecutionError
from graphengine.executable import Executable
from graphengine.ir.op import Array

__all__ = ["Element", "central_differences", "every_element", "sample_elements"]


class Element(NamedTuple):
    """One number among the parameters: a parameter's name, and a place in its elements in C order."""

    parameter: str
    place: int


def central_differences(
    executable: Executable,
    feeds: Mapping[str, npt.ArrayLike],
    loss: str,
    elements: Sequence[Element],
    step: float = 1e-5,
) -> Array:
    """dL/dw for every w of `elements`, each as (L(w + step) - L(w - step)) / (2 step), in float64.

    `loss` is the name of a scalar output. The executable's parameters are what they were when this returns. The error
    is of order step^2, and that of rounding of order eps |L| / step, so this is for graphs in float64.
    """
    derivatives = np.empty(len(elements))
    for index, (name, place) in enumerate(elements):
        present = executable.parameters[name]
        if not 0 <= place < present.size:
            raise ExecutionError(f"parameter {name!r} has elements 0 to {present.size - 1}, and not {place}")
        moved = present.copy()
        try:
            losses = []
            for change in (step, -step):
                moved.flat[place] = present.flat[place] + change
                executable.parameters[name] = moved
                losses.append(float(executable.forward(feeds, outputs=[loss])[loss]))
        finally:
            executable.parameters[name] = present
        derivatives[index] = (losses[0] - losses[1]) / (2 * step)
    return derivatives


def every_element(executable: Executable) -> list[Element]:
    """All elements of all parameters, in order of declaration."""
    return [Element(name, place) for name, value in executable.parameters.items() for place in range(value.size)]


def sample_elements(executable: Executable, count: int, seed: int = 0) -> list[Element]:
    """`count` different elements of the parameters, each as likely as any other, in order; all if there are fewer."""
    elements = every_element(executable)
    chosen = np.random.default_rng(seed).permutation(len(elements))[:count]
    return [elements[index] for index in sorted(chosen)]
