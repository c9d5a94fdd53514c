"""Normalizations by given statistics, folded into the linear maps before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np

from graphengine.ir.copying import copy_nodes
from graphengine.ir.dims import Shape
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.names import free_name
from graphengine.ir.node import Node
from graphengine.ops.broadcast import Reshape
from graphengine.ops.convolution import Conv2D
from graphengine.ops.elementwise import Add, Multiply
from graphengine.ops.matmul import MatMul
from graphengine.ops.norm import Normalize
from graphengine.transform.extract import finish
from graphengine.transform.linear_chains import fixed_nodes


def fold_batch_norms(graph: Graph) -> Graph:
    """`graph`, with each normalization right behind a product or a conv2d, with or without a bias, folded into it:

        normalize(x w + b) = x (w f) + (b - mean) f + shift,    f = scale / sqrt(variance + epsilon),

    exact but for rounding. It needs a weight, a bias and statistics that depend on no input, and values in between that
    nobody else reads. What is folded are nodes, so they follow the parameters: every run computes w f, one operation a
    weight, and a few operations a channel, and spares 2 of the 3 operations a value of the output that normalizing
    takes. So it pays where the values of the output outnumber half the weights: in convolutions nearly always, in dense
    layers from batches of half as many examples as there are features.
    """
    readers = Counter([*(parent for node in graph.nodes for parent in node.parents), *graph.outputs.values()])
    fixed = fixed_nodes(graph.nodes)
    norms = [node for node in graph.nodes if isinstance(node.op, Normalize)]
    folds = {norm: found for norm in norms if (found := _linear_map(norm, fixed, readers)) is not None}
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
            return _emit(node, *folds[node], twin, copies, prefix)

    copy_nodes(graph.nodes, twin, copies, replace=replaced, keep_phase=False)
    return finish(twin, graph, copies)


def _linear_map(norm: Node, fixed: Collection[Node], readers: Mapping[Node, int]) -> tuple[Node, Node | None] | None:
    """The linear map, and the bias, that `norm` can be folded into; None if there is none.

    `fixed` nodes depend on no input, and every node has so many `readers`.
    """
    value, *statistics = norm.parents
    sums: list[tuple[Node, list[Node]]] = [(value, [])]
    if isinstance(value.op, Add):
        a, b = value.parents
        sums = [(a, [b]), (b, [a])]
    for linear, bias in sums:
        if isinstance(linear.op, MatMul | Conv2D) and readers[value] == readers[linear] == 1:
            shape = _along_weight(linear)[: 3 if isinstance(linear.op, Conv2D) else None]
            beside = [*bias, *statistics]
            is_fixed = all(node in fixed for node in (linear.parents[1], *beside))
            if is_fixed and len(shape) in (1, 3) and all(node.shape == shape for node in beside):
                return linear, bias[0] if bias else None
    return None


def _along_weight(linear: Node) -> Shape:
    """The shape in which a number for each channel broadcasts to the weight."""
    weight = linear.parents[1]
    return (weight.shape[0], 1, 1, 1) if isinstance(linear.op, Conv2D) else weight.shape[1:]


def _emit(norm: Node, linear: Node, bias: Node | None, twin: Graph, copies: Mapping[Node, Node], name: str) -> Node:
    """Add the map with another weight and another bias; the nodes that are new have names after `name`."""
    x, weight = (copies[parent] for parent in linear.parents)
    mean, variance, scale, shift = (copies[parent] for parent in norm.parents[1:])
    shape = scale.type.static_shape
    zero = twin.add(Constant(value=np.zeros(shape), dtype=scale.dtype), name=f"{name}.zero")
    one = twin.add(Constant(value=np.ones(shape), dtype=scale.dtype), name=f"{name}.one")
    factor = twin.add(norm.op, [one, zero, variance, scale, zero], f"{name}.factor")
    aligned = twin.add(Reshape(shape=_along_weight(linear)), [factor], f"{name}.aligned")
    scaled = twin.add(Multiply(), [weight, aligned], f"{name}.weight")
    moved = twin.add(norm.op, [zero if bias is None else copies[bias], mean, variance, scale, shift], f"{name}.bias")
    product = twin.add(linear.op, [x, scaled], f"{name}.product")
    return twin.add(Add(), [product, moved], norm.name)
