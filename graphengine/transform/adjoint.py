"""Reverse-mode differentiation: from a graph to the same graph with the nodes of its adjoints.

Children first, the adjoint of each active node is the sum of what its children's VJP rules give it, so it is emitted
once however many paths lead to the loss (Linnainmaa 1970; Griewank and Walther 2008, ch. 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphengine.errors import DTypeError, GraphError, ShapeError
from graphengine.ir.graph import Node, Phase
from graphengine.ops.broadcast import full

__all__ = ["Derivative", "differentiate", "grad"]


@dataclass(slots=True)
class Derivative:
    """The adjoints of a loss."""

    loss: Node
    adjoints: dict[Node, Node] = field(default_factory=dict)
    """The adjoint of every active node that a gradient reaches."""
    blocked: dict[Node, Node] = field(default_factory=dict)
    """An active node that a child's rule gave no adjoint, and that child."""

    def of(self, node: Node) -> Node:
        """The adjoint of `node`; zeros where no gradient reaches it."""
        if node in self.adjoints:
            return self.adjoints[node]
        return full(node.graph, 0.0, node.shape, node.dtype)


def grad(loss: Node, wrt: Sequence[Node]) -> list[Node]:
    """The nodes of d loss / d w for each w of `wrt`, emitted into the loss's graph; zeros where no path leads.

    They are ordinary nodes, so the gradient of a function of them is the second derivative. The loss is a float scalar.
    """
    graph = loss.graph
    start = len(graph)
    derivative = differentiate(loss, wrt)
    graph.discard(start, keep=[derivative.adjoints[node] for node in wrt if node in derivative.adjoints])
    return [derivative.of(node) for node in wrt]


def differentiate(loss: Node, wrt: Sequence[Node], phase: Phase = Phase.FORWARD) -> Derivative:
    """Emit the adjoint of every active node, children first, bearing `phase`."""
    graph = loss.graph
    check_loss(loss)
    for node in wrt:
        if not graph.own(node).type.is_float:
            raise DTypeError(f"no derivative with respect to {node!r}: it does not hold floats")
    derivative = Derivative(loss)
    active = active_nodes(loss, wrt)
    shares: dict[Node, Node] = {}
    with graph.emitting(phase, loss):
        shares[loss] = full(graph, 1.0, loss.shape, loss.dtype)
    for node in reversed(active):
        y_bar = shares.pop(node, None)
        if y_bar is None:
            continue
        derivative.adjoints[node] = y_bar
        with graph.emitting(phase, node):
            for parent, share in zip(node.parents, _shares(node, y_bar, active), strict=True):
                if parent not in active:
                    continue
                if share is None:
                    derivative.blocked.setdefault(parent, node)
                else:
                    shares[parent] = shares[parent] + share if parent in shares else share
    return derivative


def active_nodes(loss: Node, wrt: Sequence[Node]) -> dict[Node, None]:
    """The float nodes on a path from `wrt` to the loss, parents first."""
    graph = loss.graph
    reached = [False] * (loss.index + 1)
    for node in wrt:
        if node.index <= loss.index:
            reached[node.index] = True
    for node in graph.nodes[: loss.index + 1]:
        if not reached[node.index] and node.type.is_float:
            reached[node.index] = any(reached[parent.index] for parent in node.parents)
    needed = [False] * (loss.index + 1)
    needed[loss.index] = True
    for node in reversed(graph.nodes[: loss.index + 1]):
        if needed[node.index]:
            for parent in node.parents:
                needed[parent.index] = True
    return {node: None for node in graph.nodes[: loss.index + 1] if reached[node.index] and needed[node.index]}


def check_loss(loss: Node) -> None:
    """Raise unless `loss` is one float."""
    if loss.type.shape != ():
        raise ShapeError(f"a loss is a scalar, and {loss!r} is not; reduce it by ge.sum or ge.mean")
    if not loss.type.is_float:
        raise DTypeError(f"a loss is a float, and {loss!r} is not")


def unreached(derivative: Derivative, parameters: Sequence[Node]) -> dict[str, str]:
    """For every parameter that no gradient reaches, by name, the reason."""
    return {node.name: _reason(node, derivative) for node in parameters if node not in derivative.adjoints}


def _reason(parameter: Node, derivative: Derivative) -> str:
    graph, loss = parameter.graph, derivative.loss
    below = {parameter}
    blockers = []
    for node in graph.nodes[parameter.index + 1 : loss.index + 1]:
        if any(parent in below for parent in node.parents):
            below.add(node)
            if any(derivative.blocked.get(parent) is node for parent in node.parents if parent in below):
                blockers.append(node)
    if loss not in below:
        return f"the loss {loss.name!r} does not depend on it"
    if blockers:
        node = blockers[0]
        return f"no gradient passes {node.name} = {node.op.kind}(...), declared at {node.where}"
    return "every path to the loss passes a value that is not a float"


def _shares(node: Node, y_bar: Node, active: dict[Node, None]) -> Sequence[Node | None]:
    shares = node.op.vjp(node, y_bar, *node.parents) if node.parents else ()
    for parent, share in zip(node.parents, shares, strict=True):
        if share is not None and parent in active and share.type != parent.type:
            raise GraphError(
                f"the vjp of {node.op.kind} gives {parent.name}, which is {parent.type}, an adjoint of type {share.type}"
            )
    return shares
