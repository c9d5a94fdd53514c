"""The chain rule written out for every parameter element by itself: path by path, with nothing shared between them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from itertools import pairwise

from graphengine.baselines.one_by_one import AlongOne
from graphengine.baselines.paths import Paths
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ops.broadcast import full
from graphengine.ops.elementwise import add
from graphengine.schedule.memory import plan

PATHS = 128
"""Of how many paths the programs are made; where there are more, these are drawn from all."""


class Unshared(AlongOne):
    """dL/dw as the sum over all paths from w to the loss of the product of the derivatives along it (Bauer 1974).

    For each element of each parameter the values of the forward pass are computed anew, once. Then every path is
    followed by itself, from the element to the loss: each factor on it is evaluated for this path alone, also where
    other paths pass the same place. Factors are between nodes, whole arrays where nodes are that: a network declared
    number by number has a path for every way from number to number. Paths may be exponentially many; how many, and what
    all of them cost, is exact nevertheless.
    """

    def __init__(self, graph: Graph, loss: str, seed: int = 0, paths: int = PATHS) -> None:
        """At most `paths` of a parameter's paths are followed, and the derivative is then their part of the sum."""
        super().__init__(graph, loss, self._written_out, seed, rewrites=())  # they would find what can be shared
        self._limit = paths
        self._paths = Paths(self._graph.outputs[loss], self._graph.parameters)

    def paths(self, parameter: str) -> int:
        """How many paths lead from `parameter`, as a node, to the loss."""
        return self._paths.counts.get(self._graph[parameter], 0)

    def followed(self, parameter: str) -> int:
        """How many of them the program follows."""
        return min(self.paths(parameter), self._limit)

    def flops(self, binding: Mapping[str, int]) -> dict[str, int]:
        """What the derivative by one element costs, by parameter, all paths followed; exact."""
        loss = self._paths.loss
        forward = sum(plan("forward", {"loss": loss}, {}, binding).flops().values())
        along = self._paths.flops(binding)
        sums = {w: max(self.paths(w.name) - 1, 0) for w in self._graph.parameters}
        return {w.name: forward + along.get(w, 0) + sums[w] for w in self._graph.parameters}

    def _written_out(self, loss: Node, parameter: Node, direction: Node) -> Node:
        own = self._graph[parameter.name]
        if not self.followed(own.name):
            return full(loss.graph, 0.0, loss.shape, loss.dtype)
        whole = self.followed(own.name) == self.paths(own.name)
        paths = self._paths.of(own) if whole else self._paths.sample(own, self._limit)
        return reduce(add, (self._product(loss.graph, path, direction) for path in paths))

    def _product(self, graph: Graph, path: tuple[Node, ...], tangent: Node) -> Node:
        for node, child in pairwise(path):
            tangent = self._paths.children[node][child].emit(graph.nodes[child.index], tangent)
        return tangent
