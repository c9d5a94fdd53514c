"""One factor of the chain rule: the derivative of a node by one of its operands, times what came before it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from graphengine.ir.copying import copy_nodes
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Input
from graphengine.ir.node import Node
from graphengine.ir.op import GetItem
from graphengine.ir.subgraph import needed_nodes
from graphengine.schedule.memory import plan
from graphengine.transform.linear import push


def operation(node: Node) -> Node:
    """The node whose operands `node` is computed from: for an item of a tuple, the tuple."""
    return node.parents[0] if isinstance(node.op, GetItem) else node


@dataclass(frozen=True, slots=True)
class Edge:
    """The map from a tangent of one operand x to that of a value y, all other operands held: x_dot -> dy/dx x_dot.

    It stands as nodes of a graph of its own, to be emitted into another as often as is asked. In x * x, where x stands
    twice, both places move.
    """

    operands: tuple[Node, ...]
    values: tuple[Node, ...]
    """y, and before it the tuple that it is an item of."""
    argument: Node
    result: Node

    @staticmethod
    def between(operand: Node, node: Node) -> Edge | None:
        """The edge from `operand` to `node`; None if no derivative passes."""
        graph, parents = Graph("edge", node.graph.dtype), operation(node).parents
        twins = {parent: graph.add(_given(parent)) for parent in parents}
        operands = tuple(twins[parent] for parent in parents)
        values = [graph.add(operation(node).op, operands)]
        if operation(node) is not node:
            values.append(graph.add(node.op, values))
        linear = push(values[-1:], twins[operand])
        (argument,), (result,) = linear.arguments, linear.results
        return None if result is None else Edge(operands, tuple(values), argument, result)

    @staticmethod
    def key(operand: Node, node: Node) -> Hashable:
        """What is the same for all edges that are alike."""
        parents = operation(node).parents
        types = tuple(parent if isinstance(parent.op, Constant) else parent.type for parent in parents)
        return operation(node).op, node.op, types, tuple(map(parents.index, parents)), parents.index(operand)

    def emit(self, node: Node, tangent: Node) -> Node:
        """The tangent of `node` for this one of its operand, by new nodes."""
        graph = tangent.graph
        given = (*operation(node).parents, *dict.fromkeys((operation(node), node)), tangent)
        copies = dict(zip((*self.operands, *self.values, self.argument), given, strict=True))
        return copy_nodes(self._nodes(), graph, copies, rename=lambda _: None, keep_phase=False)[self.result]

    def flops(self, binding: Mapping[str, int]) -> int:
        """What it costs, with the values of y and of its operands known."""
        inner = {node.name for node in self._nodes()}
        program = plan("edge", {"tangent": self.result}, {}, binding)
        return sum(step.flops for step in program.instructions if step.name in inner)

    def _nodes(self) -> list[Node]:
        return needed_nodes([self.result], [*self.operands, *self.values, self.argument])


def _given(parent: Node) -> Constant | Input:
    return parent.op if isinstance(parent.op, Constant) else Input(shape=parent.shape, dtype=parent.dtype)
