"""A step in two halves: a graph that computes gradients, and one that updates parameters by them."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from graphengine.errors import ExecutionError
from graphengine.ir.copying import copy_nodes
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Input, Parameter, State
from graphengine.ir.names import free_name
from graphengine.ir.node import Node, Phase
from graphengine.ir.subgraph import needed_nodes
from graphengine.transform.rewrite.cse import merge_common_subexpressions


@dataclass(frozen=True, slots=True)
class Halves:
    """The two graphs. What the first one leaves in states, the second one reads there."""

    gradients: Graph
    """The loss, the updates that FORWARD makes, and each gradient as the next value of a state."""
    update: Graph
    """The updates that an optimizer makes, of these states, parameters and its own states."""
    states: Mapping[str, Node]
    """The states that hold the gradients, by the name of the parameter."""


def split(graph: Graph, loss: Node, gradients: Mapping[str, Node]) -> Halves:
    """The halves of a step, where the updates of an optimizer read `gradients`, each of which is a node of its own.

    Raises ExecutionError if they read anything else that the first half computes.
    """
    second = _updates_by(graph, set(gradients.values()))
    first = {leaf: node for leaf, node in graph.updates.items() if leaf not in second}
    _check(graph, first, second, gradients)
    names = {name: free_name(f"{name}.gradient", graph) for name in gradients}
    one = Graph(graph.name, graph.dtype)
    copies = copy_nodes(needed_nodes([loss, *first, *first.values(), *gradients.values()]), one)
    one.outputs = {loss.name: copies[loss]}
    one.updates = {copies[leaf]: copies[node] for leaf, node in first.items()}
    one.updates |= {_state(one, names[name], node): copies[node] for name, node in gradients.items()}
    two = Graph(graph.name, graph.dtype)
    copies = {node: _state(two, names[name], node) for name, node in gradients.items()}
    states = {name: copies[node] for name, node in gradients.items()}
    copy_nodes(needed_nodes([*second, *second.values()], given=copies), two, copies)
    two.updates = {copies[leaf]: copies[node] for leaf, node in second.items()}
    return Halves(one, two, states)


def read_gradients(graph: Graph, gradients: Mapping[str, Node]) -> dict[str, Node]:
    """For the updates of a declared graph: the nodes that they read which compute the same as `gradients`."""
    updating = [node for node in graph.nodes if node.phase is Phase.UPDATE]
    read = list(dict.fromkeys(parent for node in updating for parent in node.parents if parent.phase is Phase.BACKWARD))
    copy = graph.copy()
    follow = [copy.nodes[node.index] for node in (*read, *gradients.values())]
    merge_common_subexpressions(copy, follow)
    found: dict[str, Node] = {}
    for name, merged in zip(gradients, follow[len(read) :], strict=True):
        needed = set(needed_nodes([graph.updates.get(graph[name], graph[name])]))
        equal = (node for node, other in zip(read, follow, strict=False) if other is merged and node in needed)
        node = next((node for node in equal if node not in found.values()), None)
        if node is not None:
            found[name] = node
    return found


def _updates_by(graph: Graph, gradients: Set[Node]) -> dict[Node, Node]:
    """The updates that an optimizer makes: those that depend on gradients, and those of what these read beside them."""
    below = set(gradients)
    for node in graph.nodes:
        if not below.isdisjoint(node.parents):
            below.add(node)
    found: set[Node] = set()
    more = {leaf for leaf, node in graph.updates.items() if node in below}
    while more:
        found |= more
        read = needed_nodes([graph.updates[leaf] for leaf in found], given=gradients)
        more = {node for node in read if node in graph.updates} - found
    return {leaf: node for leaf, node in graph.updates.items() if leaf in found}


def _check(
    graph: Graph, first: Mapping[Node, Node], second: Mapping[Node, Node], gradients: Mapping[str, Node]
) -> None:
    for leaf, node in first.items():
        if isinstance(leaf.op, Parameter) and leaf.op.trainable:
            raise ExecutionError(
                f"a step of graph {graph.name!r} has no two halves: the next value of {leaf.name!r}, {node.name}, "
                f"declared at {node.where}, is no optimizer's"
            )
    for node in needed_nodes(second.values(), given=gradients.values()):
        is_computed = not node.is_leaf and node.phase is not Phase.UPDATE
        if is_computed or isinstance(node.op, Input):
            raise ExecutionError(
                f"a step of graph {graph.name!r} has no two halves: an update reads {node.name}, "
                f"declared at {node.where}, which is no gradient"
            )


def _state(graph: Graph, name: str, like: Node) -> Node:
    op = State(shape=like.type.static_shape, dtype=like.dtype)
    return graph.append(op, (), like.type, name, Phase.BACKWARD, like.where, like.name)
