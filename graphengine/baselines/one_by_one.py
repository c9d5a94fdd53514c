"""Ways of computing a gradient number by number: each run gives one derivative, and the next begins anew."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from graphengine.compile import compile
from graphengine.errors import ExecutionError
from graphengine.executable import Executable
from graphengine.ir.composite import layer_name
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.types import Array
from graphengine.ops.broadcast import reshape
from graphengine.ops.index import one_hot
from graphengine.transform.derivatives import jvp


class Element(NamedTuple):
    """One number among the parameters: a parameter's name, and the index of the element in C order."""

    parameter: str
    place: int


def every_element(arrays: Mapping[str, Array]) -> list[Element]:
    """All elements of these arrays, which have the names of parameters, in their order."""
    return [Element(name, place) for name, value in arrays.items() for place in range(value.size)]


def sample_elements(elements: Sequence[Element], count: int, seed: int = 0) -> list[Element]:
    """`count` of `elements`, each as likely as any other, in order; all if there are fewer."""
    chosen = np.random.default_rng(seed).permutation(len(elements))[:count]
    return [elements[index] for index in sorted(chosen)]


def loss_alone(graph: Graph, loss: str) -> Graph:
    """A copy of `graph` whose one output is `loss`, and which updates nothing."""
    alone = graph.copy()
    alone.outputs, alone.updates = {loss: alone.outputs[loss]}, {}
    return alone


class OneByOne(ABC):
    """The derivative of a loss by one element of one parameter in each run."""

    def __init__(self, graph: Graph, loss: str, seed: int = 0) -> None:
        """`loss` is the name of a scalar output; parameters have their first values under `seed`."""
        self._graph = loss_alone(graph, loss)
        self._loss = loss
        self._seed = seed

    @abstractmethod
    def derivative(self, feeds: Mapping[str, npt.ArrayLike], element: Element) -> float:
        """dL/dw for the w at `element`, or as much of it as is followed."""

    @abstractmethod
    def flops(self, binding: Mapping[str, int]) -> dict[str, int]:
        """What the derivative by one element costs, by parameter, for these sizes of the named dims; exact."""

    def paths(self, parameter: str) -> int:
        """How many paths lead from an element of this parameter to the loss, for a way that goes by these."""
        return 1

    def followed(self, parameter: str) -> int:
        """How many of them a run follows; a derivative is whole if these are all."""
        return 1


class Differences(OneByOne):
    """Central differences: (L(w + step) - L(w - step)) / (2 step), by two runs of one program for every element.

    The program computes the loss alone. The error is of order step^2, and that of rounding of order eps |L| / step, so
    this is for graphs in float64.
    """

    step: ClassVar[float] = 1e-5

    def __init__(self, graph: Graph, loss: str, seed: int = 0) -> None:
        super().__init__(graph, loss, seed)
        self.executable = compile(self._graph, seed=seed)

    def derivative(self, feeds: Mapping[str, npt.ArrayLike], element: Element) -> float:
        """dL/dw for the w at `element`, up to the error of differences; the parameters are then what they were."""
        name, place = element
        parameters = self.executable.parameters
        present = parameters[name]
        _check_place(name, place, present)
        moved = present.copy()
        losses = []
        try:
            for change in (self.step, -self.step):
                moved.flat[place] = present.flat[place] + change
                parameters[name] = moved
                losses.append(float(self.executable.forward(feeds, outputs=[self._loss])[self._loss]))
        finally:
            parameters[name] = present
        return (losses[0] - losses[1]) / (2 * self.step)

    def flops(self, binding: Mapping[str, int]) -> dict[str, int]:
        """Two forward passes, and beside them w + h, w - h, a difference and a quotient."""
        one = 2 * self.executable.cost(**binding).total_flops + 4
        return dict.fromkeys(self.executable.parameters, one)


class AlongOne(OneByOne):
    """Each run gives the derivative along the direction that is 1 at one element and 0 elsewhere.

    There is a program for every parameter, made on first use, which computes the loss too.
    """

    rewrites: ClassVar[Sequence[str] | None] = None
    """Those that `compile` makes in the programs; None for all."""

    def __init__(self, graph: Graph, loss: str, seed: int = 0) -> None:
        super().__init__(graph, loss, seed)
        self._place = layer_name(graph, "place")
        self._programs: dict[str, Executable] = {}

    @abstractmethod
    def along(self, loss: Node, parameter: Node, direction: Node) -> Node:
        """Emit the derivative of `loss` along `direction` of `parameter`, a scalar."""

    def derivative(self, feeds: Mapping[str, npt.ArrayLike], element: Element) -> float:
        """The derivative that the program of that parameter gives."""
        executable = self.executable(element.parameter)
        _check_place(*element, executable.parameters[element.parameter])
        return float(executable.forward({**feeds, self._place: element.place})["derivative"])

    def flops(self, binding: Mapping[str, int]) -> dict[str, int]:
        """What the programs cost, by parameter."""
        used = [w.name for w in self._graph.parameters if w.type.size]
        return {name: self.executable(name).cost(**binding).total_flops for name in used}

    def executable(self, parameter: str) -> Executable:
        """What is run for the elements of `parameter`."""
        if parameter not in self._programs:
            graph = self._graph.copy()
            loss, w = graph.outputs[self._loss], graph[parameter]
            place = graph.input(self._place, (), dtype="int64")
            direction = reshape(one_hot(place, w.type.size, w.dtype), w.shape)
            graph.outputs = {"loss": loss, "derivative": self.along(loss, w, direction)}
            self._programs[parameter] = compile(graph, seed=self._seed, rewrites=self.rewrites)
        return self._programs[parameter]


class ForwardMode(AlongOne):
    """dL/dw as the tangent of L that w_dot = 1 gives (Wengert 1964).

    Only what depends on the parameter has a tangent, so that a pass costs a forward pass, and about as much again for
    what comes after the parameter. Its error is that of rounding alone.
    """

    def along(self, loss: Node, parameter: Node, direction: Node) -> Node:
        """The tangent of the loss."""
        return jvp([loss], [parameter], [direction])[0]


def _check_place(parameter: str, place: int, value: Array) -> None:
    if not 0 <= place < value.size:
        raise ExecutionError(f"parameter {parameter!r} has elements 0 to {value.size - 1}, and not {place}")
