"""Chains of linear maps made one map, where that takes fewer FLOPs: for a network whose weights are final."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graphengine.errors import NamingError
from graphengine.ir.array import assignable
from graphengine.ir.copying import copy_nodes
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.names import free_name
from graphengine.ir.node import Node
from graphengine.ir.subgraph import needed_nodes
from graphengine.ir.types import Array, TupleType
from graphengine.ops.elementwise import add
from graphengine.ops.matmul import matmul
from graphengine.transform.extract import finish
from graphengine.transform.inference import for_inference
from graphengine.transform.linear_chains import Chain, Link, fixed_nodes, linear_chains, worth_merging


def collapse(graph: Graph, values: Mapping[str, npt.ArrayLike]) -> Graph:
    """Linear folding: returns the graph for inference with these weights, with each chain of linear maps as one.

    x W1 W2 + b is x (W1 W2) + b, with the product computed here, in float64, and held as a constant. So is every part
    of a chain that takes fewer FLOPs as one map, whatever the size of the batch; W3 (W2 (W1 x)) likewise, and scales
    and shifts of the units in between. What is narrow in the middle takes more as one map, and stays as it is, as does
    a value that is an output, or is read twice. A product that overflows is not made. Values are equal to rounding.

    `values` holds the parameters, and the states if outputs need any: {**exe.parameters, **exe.state}. They become
    constants, and what is computed from them alone is computed here. All else is as `for_inference` leaves it. The cost
    of either graph, `ge.compile(graph).cost(batch=...)`, shows what is won.

    Raises NamingError if a value is missing, ShapeError or DTypeError if one does not fit.
    """
    graph = for_inference(graph)
    known = {}
    for node in (*graph.parameters, *graph.states):
        if node.name not in values:
            raise NamingError(f"no value is given for {node!r}; give {{**exe.parameters, **exe.state}}")
        known[node] = assignable(values[node.name], node.type, repr(node.name))
    maps = _maps(graph, known)
    inside = {link.node for map_ in maps.values() for link in map_.part.links}
    fixed = {node for node in fixed_nodes(graph.nodes) if _is_computed(node)}
    twin = Graph(graph.name, graph.dtype)
    copies: dict[Node, Node] = {}

    def replaced(node: Node) -> Node | tuple[Constant, tuple[()]] | None:
        if node in maps:
            with twin.declared_at(node.where):
                return _emit(maps[node], copies[maps[node].part.source], graph)
        return (Constant(value=_value(node, known), dtype=node.dtype), ()) if node in fixed else None

    left = [node for node in graph.nodes if node in maps or node not in inside]
    copy_nodes(left, twin, copies, replace=replaced, keep_phase=False)
    return finish(twin, graph, copies)


@dataclass(frozen=True, slots=True)
class _Map:
    """x W + b, what a part of a chain is."""

    part: Chain
    weight: Array
    shift: Array


def _maps(graph: Graph, known: dict[Node, Array]) -> dict[Node, _Map]:
    """The maps that are cheaper than the parts of chains that they replace, by the node where the part ends."""
    maps = {}
    for chain in linear_chains(graph):
        for part in worth_merging(chain):
            map_ = _merged(part, known)
            if np.isfinite(map_.weight).all() and np.isfinite(map_.shift).all():
                maps[part.last] = map_
    return maps


def _merged(part: Chain, known: dict[Node, Array]) -> _Map:
    first, *others = part.links
    with np.errstate(all="ignore"):  # what is not finite is not used
        weight = _matrix(first, known)
        shift = np.zeros(weight.shape[1])
        for link in others:
            if link.is_matrix:
                matrix = _matrix(link, known)
                weight, shift = weight @ matrix, shift @ matrix
            else:
                scale, more = link.scale_and_shift(None if link.weight is None else _exact(link.weight, known).ravel())
                weight, shift = weight * scale, shift * scale + more
        dtype = part.last.dtype
        return _Map(part, weight.astype(dtype), shift.astype(dtype))


def _matrix(link: Link, known: dict[Node, Array]) -> Array:
    """The W of x W, in float64."""
    assert link.weight is not None  # a product has two operands
    matrix = _exact(link.weight, known)
    return matrix if link.flows_first else matrix.T


def _exact(weight: Node, known: dict[Node, Array]) -> Array:
    return _value(weight, known).astype(np.float64)


def _value(node: Node, known: dict[Node, Array]) -> Array:
    """The value of a node that no input reaches; what it is computed from is put into `known`."""
    for needed in needed_nodes([node], known):
        known[needed] = needed.op.eval(np, *(known[parent] for parent in needed.parents))
    return known[node]


def _is_computed(node: Node) -> bool:
    """Whether a run would fill a buffer with it, so that a constant takes no more memory: a wide view takes none."""
    return not (node.op.is_view or isinstance(node.op, Constant) or isinstance(node.type, TupleType))


def _emit(map_: _Map, x: Node, names: Graph) -> Node:
    """The nodes of the map, under names that are those of the part or that `names` has no node of."""
    part, graph = map_.part, x.graph
    shifted = bool(map_.shift.any())
    product = part.links[0].node.name if shifted else part.last.name
    on_left = part.axis == -2
    weight = graph.constant(free_name(f"{part.last.name}.weight", names, 1), map_.weight.T if on_left else map_.weight)
    y = matmul(weight, x, name=product) if on_left else matmul(x, weight, name=product)
    if not shifted:
        return y
    shift = map_.shift[:, None] if on_left else map_.shift
    return add(y, graph.constant(free_name(f"{part.last.name}.bias", names, 1), shift), name=part.last.name)
