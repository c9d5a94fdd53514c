"""The chain rule written out for every parameter element by itself: path by path, with nothing shared between them."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise

from graphengine.baselines.one_by_one import AlongOne
from graphengine.ir.copying import copy_nodes
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Input
from graphengine.ir.node import Node
from graphengine.ir.op import GetItem
from graphengine.ir.pullback import active_nodes
from graphengine.ir.subgraph import needed_nodes
from graphengine.ir.types import TupleType
from graphengine.ops.broadcast import full
from graphengine.ops.elementwise import add
from graphengine.schedule.memory import plan
from graphengine.transform.linear import push

PATHS = 128
"""Of how many paths the programs are made; where there are more, these are drawn from all."""

Path = tuple[Node, ...]
"""From a leaf, child after child, to the loss."""


class Unshared(AlongOne):
    """dL/dw as the sum over all paths from w to the loss of the product of the derivatives along it (Bauer 1974).

    For each element of each parameter the values of the forward pass are computed anew, once. Then every path is
    followed by itself, from the element to the loss: each factor on it is evaluated for this path alone, also where
    other paths pass the same place. Factors are between nodes, whole arrays where nodes are that: a network declared
    number by number has a path for every way from number to number. Paths may be exponentially many; how many, and what
    all of them cost, is exact nevertheless.
    """

    rewrites = ()
    """They would find what can be shared."""

    def __init__(self, graph: Graph, loss: str, seed: int = 0, paths: int = PATHS) -> None:
        """At most `paths` of a parameter's paths are followed, and the derivative is then their part of the sum."""
        super().__init__(graph, loss, seed)
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

    def along(self, loss: Node, parameter: Node, direction: Node) -> Node:
        """The sum over the paths, written out."""
        own = self._graph[parameter.name]
        if not self.followed(own.name):
            return full(loss.graph, 0.0, loss.shape, loss.dtype)
        whole = self.followed(own.name) == self.paths(own.name)
        paths = self._paths.of(own) if whole else self._paths.sample(own, self._limit)
        return reduce(add, (self._product(loss.graph, path, direction) for path in paths))

    def _product(self, graph: Graph, path: Path, tangent: Node) -> Node:
        for node, child in pairwise(path):
            tangent = self._paths.children[node][child].emit(graph.nodes[child.index], tangent)
        return tangent


class Paths:
    """All paths from `leaves` to `loss` along which a derivative passes.

    A child that reads a node twice, as in x * x, is one child. Tuples are passed by: their items are the children.
    """

    def __init__(self, loss: Node, leaves: Sequence[Node]) -> None:
        self.loss = loss
        self._kinds: dict[Hashable, Edge | None] = {}
        self._active = [node for node in active_nodes([loss], leaves) if not isinstance(node.type, TupleType)]
        self.children: dict[Node, dict[Node, Edge]] = {node: {} for node in self._active}
        for node in self._active:
            for operand in dict.fromkeys(_operation(node).parents):
                edge = self._edge(operand, node) if operand in self.children else None
                if edge:
                    self.children[operand][node] = edge

    @cached_property
    def counts(self) -> dict[Node, int]:
        """How many paths lead from each active node to the loss; exact, however many."""
        counts = {self.loss: 1}
        for node in reversed(self._active):
            if node is not self.loss:
                counts[node] = sum(counts[child] for child in self.children[node])
        return counts

    def flops(self, binding: Mapping[str, int]) -> dict[Node, int]:
        """What it costs, for each active node, to follow every path from there to the loss by itself; exact."""
        of_edges = {edge: edge.flops(binding) for edge in self._kinds.values() if edge}
        flops = {self.loss: 0}
        for node in reversed(self._active):
            if node is not self.loss:
                steps = self.children[node].items()
                flops[node] = sum(self.counts[child] * of_edges[edge] + flops[child] for child, edge in steps)
        return flops

    def of(self, leaf: Node) -> Iterator[Path]:
        """Every path from `leaf`."""
        pending: list[Path] = [(leaf,)] if self.counts.get(leaf) else []
        while pending:
            path = pending.pop()
            if path[-1] is self.loss:
                yield path
            else:
                pending.extend((*path, child) for child in self.children[path[-1]] if self.counts[child])

    def sample(self, leaf: Node, size: int, seed: int = 0) -> list[Path]:
        """`size` paths from `leaf`, each drawn from all of them, any as likely as any other."""
        generator = random.Random(seed)
        return [self._draw(leaf, generator) for _ in range(size)]

    def _draw(self, leaf: Node, generator: random.Random) -> Path:
        path = [leaf]
        while path[-1] is not self.loss:
            number = generator.randrange(self.counts[path[-1]])
            for child in self.children[path[-1]]:
                number -= self.counts[child]
                if number < 0:
                    path.append(child)
                    break
        return tuple(path)

    def _edge(self, operand: Node, node: Node) -> Edge | None:
        key = Edge.key(operand, node)
        if key not in self._kinds:
            self._kinds[key] = Edge.between(operand, node)
        return self._kinds[key]


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """The map from a tangent of one operand x to that of a value y, all other operands held: x_dot -> dy/dx x_dot.

    Its nodes are in a graph of its own, and are emitted into another as often as asked. In x * x both operands move.
    """

    operands: tuple[Node, ...]
    values: tuple[Node, ...]
    """y, and before it the tuple that it is an item of."""
    argument: Node
    result: Node

    @staticmethod
    def between(operand: Node, node: Node) -> Edge | None:
        """The edge from `operand` to `node`; None if no derivative passes."""
        graph, parents = Graph("edge", node.graph.dtype), _operation(node).parents
        twins: dict[Node, Node] = {}
        for parent in dict.fromkeys(parents):
            leaf = parent.op if isinstance(parent.op, Constant) else Input(shape=parent.shape, dtype=parent.dtype)
            twins[parent] = graph.add(leaf)
        operands = tuple(twins[parent] for parent in parents)
        values = [graph.add(_operation(node).op, operands)]
        if _operation(node) is not node:
            values.append(graph.add(node.op, values))
        linear = push(values[-1:], twins[operand])
        (argument,), (result,) = linear.arguments, linear.results
        return None if result is None else Edge(operands, tuple(values), argument, result)

    @staticmethod
    def key(operand: Node, node: Node) -> Hashable:
        """What is the same for all edges that are alike."""
        parents = _operation(node).parents
        types = tuple(parent if isinstance(parent.op, Constant) else parent.type for parent in parents)
        return _operation(node).op, node.op, types, tuple(map(parents.index, parents)), parents.index(operand)

    def emit(self, node: Node, tangent: Node) -> Node:
        """The tangent of `node` for this one of its operand, by new nodes."""
        graph = tangent.graph
        given = (*_operation(node).parents, *dict.fromkeys((_operation(node), node)), tangent)
        copies = dict(zip((*self.operands, *self.values, self.argument), given, strict=True))
        return copy_nodes(self._nodes(), graph, copies, rename=lambda _: None, keep_phase=False)[self.result]

    def flops(self, binding: Mapping[str, int]) -> int:
        """What it costs, with the values of y and of its operands known."""
        inner = {node.name for node in self._nodes()}
        program = plan("edge", {"tangent": self.result}, {}, binding)
        return sum(step.flops for step in program.instructions if step.name in inner)

    def _nodes(self) -> list[Node]:
        return needed_nodes([self.result], [*self.operands, *self.values, self.argument])


def _operation(node: Node) -> Node:
    """The node whose operands `node` is computed from: for an item of a tuple, the tuple."""
    return node.parents[0] if isinstance(node.op, GetItem) else node
