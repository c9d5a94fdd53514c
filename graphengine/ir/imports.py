"""One graph copied into another, joined to it where its inputs, or its parameters, are replaced by nodes there."""

from __future__ import annotations

import re
from collections.abc import Mapping

from graphengine.errors import DTypeError, GraphError, NamingError, ShapeError
from graphengine.ir.copying import copy_nodes
from graphengine.ir.dims import Dim
from graphengine.ir.get_item import check_single
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Input, State
from graphengine.ir.names import check_name, did_you_mean, stream_of
from graphengine.ir.node import Node
from graphengine.ir.op import Op


def import_graph(graph: Graph, other: Graph, prefix: str, inputs: Mapping[str, Node]) -> dict[str, Node]:
    """See `Graph.import_graph`."""
    given = {name: graph.own(node) for name, node in inputs.items()}
    binding = _unify(other, given)
    start, updates = len(graph), dict(graph.updates)
    try:
        replaced = {other[name]: node for name, node in given.items()}
        replaced |= {node: graph[node.name] for node in other.nodes if _is_common(node) and node.name in graph}
        copies = copy_nodes(
            list(other.nodes),
            graph,
            dict(replaced),
            replace=lambda node: (_with_dims(node.op, binding), node.parents),
            rename=lambda node: _name(graph, node, prefix),
        )
        _draw_anew({node: copy for node, copy in copies.items() if node not in replaced}, copies)
        for target, node in list(other.updates.items()):
            if target.name not in given and copies[target] not in updates:
                graph.update(copies[target], copies[node])
    except GraphError as error:
        graph.updates = updates
        graph.discard(start, keep=[])
        error.quote(f"in the import of graph {other.name!r}{f' under {prefix!r}' if prefix else ''}")
        raise
    return {name: copies[node] for name, node in other.outputs.items()}


def _with_dims(op: Op, binding: Mapping[str, Dim]) -> Op:
    op = op.bind_dims(binding) if binding else op
    if isinstance(op, Input):
        op.check_dims()
    return op


def _draw_anew(new: Mapping[Node, Node], copies: Mapping[Node, Node]) -> None:
    """Let those of the `new` nodes that have another name than before draw from streams of their own."""
    streams: dict[int, int] = {}
    for node, copy in new.items():
        of = node.of
        copy.of = copies[node.graph[of]].name if of is not None and of in node.graph else None
        for stream in sorted(copy.op.streams()):
            streams.setdefault(stream, stream if copy.name == node.name else stream_of(f"{copy.name}.{stream}"))
        copy.op = copy.op.with_streams(streams)


def _name(graph: Graph, node: Node, prefix: str) -> str | None:
    """The name of a copy; None, for a new one, where that of a node whose name was made from its kind is taken."""
    if _is_common(node):
        return node.name
    joint = "" if not prefix or prefix[-1] in "._" else "."
    name = f"{prefix}{joint}{node.name}"
    made = re.fullmatch(rf"{node.op.kind}_\d+", node.name)
    if made and name in graph:
        return None
    check_name(name)
    return name


def _is_common(node: Node) -> bool:
    """Whether a graph has one such state for all its nodes, as `random.seed` is."""
    return isinstance(node.op, State) and node.name.startswith("random.")


def _unify(other: Graph, given: Mapping[str, Node]) -> dict[str, Dim]:
    """What stands for the named dims of `other`, so that its leaves have the types of the nodes given for them."""
    binding: dict[str, Dim] = {}
    said_by: dict[str, str] = {}
    for name, node in given.items():
        leaf = _replaceable(other, name)
        check_single(f"{name!r} of {other.name!r}", node)
        if leaf.dtype != node.dtype:
            raise DTypeError(f"{name!r} of {other.name!r} is {leaf.type}, and is given {node!r}")
        if leaf.ndim != node.ndim:
            raise ShapeError(f"{name!r} of {other.name!r} is {leaf.type}, and is given {node!r}")
        for dim, size in zip(leaf.shape, node.shape, strict=True):
            if isinstance(dim, int) and dim != size:
                raise ShapeError(f"{name!r} of {other.name!r} is {leaf.type}, and is given {node!r}")
            if isinstance(dim, str) and binding.setdefault(dim, size) != size:
                before = f"{said_by[dim]!r} says that its {dim} is {binding[dim]}"
                raise ShapeError(f"{name!r} of {other.name!r} is {leaf.type}, and is given {node!r}, but {before}")
            if isinstance(dim, str):
                said_by.setdefault(dim, name)
    return {name: dim for name, dim in binding.items() if name != dim}


def _replaceable(other: Graph, name: str) -> Node:
    known = [node.name for node in (*other.inputs, *other.parameters)]
    if name not in known:
        raise NamingError(f"graph {other.name!r} has no input or parameter {name!r}{did_you_mean(name, known)}")
    return other[name]
