"""Normalizations by given statistics, folded into the linear maps before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from graphengine.ir.copying import copy_nodes
from graphengine.ir.dims import Shape
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Input
from graphengine.ir.names import free_name
from graphengine.ir.node import Node
from graphengine.ops.batch_norm import Normalize
from graphengine.ops.broadcast import Reshape
from graphengine.ops.convolution import Conv2D
from graphengine.ops.elementwise import Add, Multiply
from graphengine.ops.matmul import MatMul
from graphengine.transform.extract import finish


def fold_batch_norms(graph: Graph) -> Graph:
    """`graph`, with each normalization right behind a product or a conv2d, with or without a bias, folded into it:

        normalize(x w + b) = x (w f) + (b - mean) f + shift,    f = scale / sqrt(variance + epsilon),

    exact but for rounding. It needs a weight, a bias and statistics that depend on no input, and values in between that
    nobody else reads. What is folded are nodes, so they follow the parameters: every run computes w f, one operation a
    weight, and a few operations a channel, and spares 2 of the 3 operations a value of the output that normalizing
    takes. So it pays where the values of the output outnumber half the weights: in convolutions nearly always, in dense
    layers from batches of half as many examples as there are features.
    """
    folds = {fold.norm: fold for fold in _folded_norms(graph)}
    if not folds:
        return graph
    twin = Graph(graph.name, graph.dtype)
    copies: dict[Node, Node] = {}
    prefixes = {node.name.partition(".")[0] for node in graph.nodes}

    def replaced(node: Node) -> Node | None:
        if node not in folds:
            return None
        prefix = free_name("folded", prefixes, 1, bare=False)
        prefixes.add(prefix)
        with twin.declared_at(node.where):
            return folds[node].emit(twin, copies, prefix)

    copy_nodes(graph.nodes, twin, copies, replace=replaced, keep_phase=False)
    return finish(twin, graph, copies)


@dataclass(frozen=True, slots=True)
class _FoldedNorm:
    """A normalization, and the linear map behind which it stands."""

    norm: Node
    linear: Node
    bias: Node | None

    @property
    def along_weight(self) -> Shape:
        """The shape in which a number for each channel broadcasts to the weight."""
        weight = self.linear.parents[1]
        return (weight.shape[0], 1, 1, 1) if isinstance(self.linear.op, Conv2D) else weight.shape[1:]

    def is_right(self, given: set[Node], readers: Mapping[Node, int]) -> bool:
        """Whether it can be folded, where `given` nodes depend on no input, and every node has so many readers."""
        value, *fixed = self.norm.parents
        if self.bias is not None:
            fixed.append(self.bias)
        along_values = self.along_weight[:3] if isinstance(self.linear.op, Conv2D) else self.along_weight
        return (
            readers[value] == readers[self.linear] == 1
            and given.issuperset([self.linear.parents[1], *fixed])
            and len(along_values) in (1, 3)
            and all(node.shape == along_values for node in fixed)
        )

    def emit(self, twin: Graph, copies: Mapping[Node, Node], name: str) -> Node:
        """Add the map with another weight and another bias; the nodes that are new have names after `name`."""
        x, weight = (copies[parent] for parent in self.linear.parents)
        mean, variance, scale, shift = (copies[parent] for parent in self.norm.parents[1:])
        shape = scale.type.static_shape
        zero = twin.add(Constant(value=np.zeros(shape), dtype=scale.dtype), name=f"{name}.zero")
        one = twin.add(Constant(value=np.ones(shape), dtype=scale.dtype), name=f"{name}.one")
        factor = twin.add(self.norm.op, [one, zero, variance, scale, zero], f"{name}.factor")
        aligned = twin.add(Reshape(shape=self.along_weight), [factor], f"{name}.aligned")
        scaled = twin.add(Multiply(), [weight, aligned], f"{name}.weight")
        bias = zero if self.bias is None else copies[self.bias]
        moved = twin.add(self.norm.op, [bias, mean, variance, scale, shift], f"{name}.bias")
        product = twin.add(self.linear.op, [x, scaled], f"{name}.product")
        return twin.add(Add(), [product, moved], self.norm.name)


def _folded_norms(graph: Graph) -> Iterator[_FoldedNorm]:
    readers = Counter([*(parent for node in graph.nodes for parent in node.parents), *graph.outputs.values()])
    given: set[Node] = set()
    for node in graph.nodes:
        if not isinstance(node.op, Input) and given.issuperset(node.parents):
            given.add(node)
        fold = _folded_norm(node) if isinstance(node.op, Normalize) else None
        if fold and fold.is_right(given, readers):
            yield fold


def _folded_norm(norm: Node) -> _FoldedNorm | None:
    """The normalization with the linear map, and the bias, that it stands behind; None if there is none."""
    value = norm.parents[0]
    if _is_linear(value):
        return _FoldedNorm(norm, value, None)
    if isinstance(value.op, Add):
        for linear, bias in (value.parents, value.parents[::-1]):
            if _is_linear(linear):
                return _FoldedNorm(norm, linear, bias)
    return None


def _is_linear(node: Node) -> bool:
    return isinstance(node.op, MatMul | Conv2D)
