"""The derivative of a loss: from a graph to the same graph with the nodes of its adjoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir.composite import scaffold
from graphengine.ir.node import Node, Phase, check_single
from graphengine.ir.pullback import Pullback, pullback
from graphengine.ops.broadcast import full


@dataclass(frozen=True, slots=True)
class Derivative:
    """The adjoints of a loss."""

    loss: Node
    flow: Pullback

    @property
    def adjoints(self) -> dict[Node, Node]:
        """The adjoint of every active node that a gradient reaches, children first."""
        return self.flow.adjoints

    def of(self, node: Node) -> Node:
        """The adjoint of `node`; zeros where no gradient reaches it."""
        if node in self.adjoints:
            return self.adjoints[node]
        return full(node.graph, 0.0, node.shape, node.dtype)


def grad(loss: Node, wrt: Sequence[Node]) -> list[Node]:
    """Reverse mode: returns the nodes of d loss / d w for each w of `wrt`; zeros where w does not influence the loss.

    They are ordinary nodes of the loss's graph, so they can be differentiated again. Each has the type of its w.
    Raises ShapeError or DTypeError for a loss that is no float scalar, DTypeError for a w that holds no floats,
    GraphError for nodes of another graph.

    >>> graph = ge.Graph("example")
    >>> w = graph.parameter("w", (3,))
    >>> print(ge.grad(ge.l2(w), [w])[0].type)
    float32[3]

    In the body of a scan, gradients pass through the nodes outside that the body reads, but not through the carries and
    the rows of sequences, which are constants there.
    """
    graph = loss.graph
    wrt = [graph.own(node) for node in wrt]
    with scaffold(graph) as keep:
        derivative = differentiate(loss, wrt)
        keep.extend(derivative.adjoints[node] for node in wrt if node in derivative.adjoints)
    return [derivative.of(node) for node in wrt]


def differentiate(loss: Node, wrt: Sequence[Node], phase: Phase = Phase.FORWARD) -> Derivative:
    """Emit the adjoint of every active node, in `phase`."""
    graph = loss.graph
    check_loss(loss)
    for node in wrt:
        check_single("each of wrt", graph.own(node))
        if not graph.own(node).type.is_float:
            raise DTypeError(f"no derivative with respect to {node!r}: it does not hold floats")
    with graph.emitting(phase, loss):
        seed = full(graph, 1.0, loss.shape, loss.dtype)
    return Derivative(loss, pullback({loss: seed}, wrt, phase))


def check_loss(loss: Node) -> None:
    """Raise unless `loss` is one float."""
    check_single("a loss", loss)
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
            if any(derivative.flow.blocked.get(parent) is node for parent in node.parents if parent in below):
                blockers.append(node)
    if loss not in below:
        return f"the loss {loss.name!r} does not depend on it"
    if blockers:
        node = blockers[0]
        return f"no gradient passes {node.name} = {node.op.kind}(...), declared at {node.where}"
    return "every path to the loss passes a value that is not a float"
