"""What the zoo's classifiers have in common: what is fed, what is asked for, and the loss."""

from __future__ import annotations

from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ops.loss import cross_entropy
from graphengine.ops.reduce import argmax


def begin(name: str, pixels: int) -> tuple[Graph, Node, Node]:
    """A graph with the inputs "pixels", float32[batch, pixels] in [0, 1], and "label", int64[batch]."""
    graph = Graph(name)
    return graph, graph.input("pixels", ("batch", pixels)), graph.input("label", ("batch",), dtype="int64")


def end(logits: Node, label: Node) -> Graph:
    """The graph, with the outputs "logits", "prediction", the class of the greatest, and "loss", the cross entropy."""
    graph = logits.graph
    graph.output("logits", logits)
    graph.output("prediction", argmax(logits, axis=-1, name="prediction"))
    graph.output("loss", cross_entropy(logits, label, name="loss"))
    return graph
