"""Ways of computing a gradient number by number: each run gives one derivative, and the next begins anew."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy.typing as npt

from graphengine.baselines.elements import Element, check_element
from graphengine.compile import compile
from graphengine.executable import Executable
from graphengine.ir.composite import layer_name
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ops.broadcast import reshape
from graphengine.ops.index import one_hot

Along = Callable[[Node, Node, Node], Node]
"""What emits the derivative of a loss along a direction of one parameter: (loss, parameter, direction) -> scalar."""


class OneByOne(ABC):
    """The derivative of a loss by one element of one parameter in each run."""

    def __init__(self, graph: Graph, loss: str) -> None:
        """`loss` is the name of a scalar output; nothing else of `graph` is computed."""
        self._graph = graph.copy()
        self._graph.outputs, self._graph.updates = {loss: self._graph.outputs[loss]}, {}
        self._loss = loss

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


class AlongOne(OneByOne):
    """Each run gives the derivative along the direction that is 1 at one element and 0 elsewhere.

    There is a program for every parameter, made on first use, which computes the loss too. Parameters have their first
    values under `seed`.
    """

    def __init__(
        self, graph: Graph, loss: str, along: Along, seed: int = 0, rewrites: Sequence[str] | None = None
    ) -> None:
        """`along` emits the derivative; `rewrites` are those of compile."""
        super().__init__(graph, loss)
        self._along = along
        self._seed = seed
        self._rewrites = rewrites
        self._place = layer_name(graph, "place")
        self._programs: dict[str, Executable] = {}

    def derivative(self, feeds: Mapping[str, npt.ArrayLike], element: Element) -> float:
        """The derivative that the program of that parameter gives."""
        executable = self.executable(element.parameter)
        check_element(element, executable.parameters)
        results = executable.forward({**feeds, self._place: element.place})
        return float(results["derivative"])

    def flops(self, binding: Mapping[str, int]) -> dict[str, int]:
        """What the programs cost, by parameter."""
        used = [w.name for w in self._graph.parameters if w.type.size]
        return {name: self.executable(name).cost(**binding).total_flops for name in used}

    def executable(self, parameter: str) -> Executable:
        """What is run for the elements of `parameter`."""
        if parameter not in self._programs:
            self._programs[parameter] = compile(self._emit(parameter), seed=self._seed, rewrites=self._rewrites)
        return self._programs[parameter]

    def _emit(self, parameter: str) -> Graph:
        graph = self._graph.copy()
        loss, w = graph.outputs[self._loss], graph[parameter]
        place = graph.input(self._place, (), dtype="int64")
        direction = reshape(one_hot(place, w.type.size, w.dtype), w.shape)
        graph.outputs = {"loss": loss, "derivative": self._along(loss, w, direction)}
        return graph
