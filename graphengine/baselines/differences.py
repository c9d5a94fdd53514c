"""Differentiation by differences: two forward passes for every parameter element, with nothing shared between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from graphengine.baselines.elements import Element, check_element
from graphengine.baselines.one_by_one import OneByOne
from graphengine.compile import compile
from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from graphengine.ir.types import Array


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
    for index, element in enumerate(elements):
        check_element(element, executable.parameters)
        name, place = element
        present = executable.parameters[name]
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


class Differences(OneByOne):
    """The derivative by one element in each run: two runs of one program, which computes the loss alone."""

    def __init__(self, graph: Graph, loss: str, seed: int = 0) -> None:
        """`loss` is the name of a scalar output; parameters have their first values under `seed`."""
        super().__init__(graph, loss)
        self._executable = compile(self._graph, seed=seed)

    def derivative(self, feeds: Mapping[str, npt.ArrayLike], element: Element) -> float:
        """dL/dw for the w at `element`, up to the error of differences."""
        return float(central_differences(self._executable, feeds, self._loss, [element])[0])

    def flops(self, binding: Mapping[str, int]) -> dict[str, int]:
        """Two forward passes, and beside them w + h, w - h, a difference and a quotient."""
        one = 2 * self._executable.cost(**binding).total_flops + 4
        return dict.fromkeys(self._executable.parameters, one)
