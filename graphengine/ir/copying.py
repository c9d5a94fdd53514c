"""Graphs made of graphs: nodes copied with replacements, a graph joined to another, nodes laid out anew in their graph.

Whoever makes a graph out of another says which nodes and what replaces them; `copy_nodes` does the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from graphengine.errors import DTypeError, GraphError, NamingError, ShapeError
from graphengine.ir.dims import Dim
from graphengine.ir.leaf import Constant, Input, State
from graphengine.ir.names import check_name, did_you_mean, stream_of
from graphengine.ir.node import Node, check_single
from graphengine.ir.op import Op

if TYPE_CHECKING:
    from graphengine.ir.graph import Graph


def copy_nodes(
    nodes: Iterable[Node],
    graph: Graph,
    copies: dict[Node, Node] | None = None,
    *,
    replace: Callable[[Node], Node | tuple[Op, Sequence[Node]] | None] | None = None,
    rename: Callable[[Node], str | None] | None = None,
    keep_phase: bool = True,
) -> dict[Node, Node]:
    """Emit `nodes`, parents first, into `graph`, and return `copies`: what each is there.

    `copies` gives what is there already for some nodes. A parent without a copy is read where it is: in `graph` itself,
    or in the graph around it if that is a body.

    `replace` gives the replacement of a node: a node of `graph`, or an op and its operands among the old nodes, or None
    for its own op and parents. `rename` gives its name; None for a new one.

    A copy is declared where its node was. It has the phase of the node and what that was emitted of; without
    `keep_phase`, those of any node that is added now. A type is inferred only if the op or the type of an operand is
    another one.
    """
    copies = {} if copies is None else copies
    is_exact = replace is None and not copies  # then all types are as they were
    for node in nodes:
        if node in copies:
            continue
        op, parents = node.op, node.parents
        if replace is not None and (found := replace(node)) is not None:
            if isinstance(found, Node):
                copies[node] = found
                continue
            op, parents = found[0], tuple(found[1])
        operands = tuple([copies[parent] if parent in copies else graph.own(parent) for parent in parents])
        name = rename(node) if rename else node.name
        is_known = is_exact or (op is node.op and [x.type for x in operands] == [x.type for x in node.parents])
        if is_known and name is not None and name not in graph:
            phase, of = (node.phase, node.of) if keep_phase else (graph.emission[0], graph.emission[2])
            copies[node] = graph.append(op, operands, node.type, name, phase, node.where, of)
        else:
            with graph.emitting_like(node) if keep_phase else graph.declared_at(node.where):
                copies[node] = graph.add(op, operands, name)
    return copies


def as_input(node: Node) -> tuple[Op, Sequence[Node]]:
    """For `copy_nodes`: an input of the type of `node`."""
    return Input(shape=node.shape, dtype=node.dtype), ()


def import_graph(graph: Graph, other: Graph, prefix: str, inputs: Mapping[str, Node]) -> dict[str, Node]:
    """See `Graph.import_graph`."""
    given = {name: graph.own(node) for name, node in inputs.items()}
    binding = _unify(other, given)
    start, updates = len(graph), dict(graph.updates)

    def with_dims(node: Node) -> tuple[Op, Sequence[Node]]:
        op = node.op.bind_dims(binding) if binding else node.op
        if isinstance(op, Input):
            op.check_dims()
        return op, node.parents

    try:
        replaced = {other[name]: node for name, node in given.items()}
        replaced |= {node: graph[node.name] for node in other.nodes if _is_common(node) and node.name in graph}
        nodes, copies = list(other.nodes), dict(replaced)
        copy_nodes(nodes, graph, copies, replace=with_dims, rename=lambda node: _name(graph, node, prefix))
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
    if name in graph and re.fullmatch(rf"{node.op.kind}_\d+", node.name):
        return None
    return check_name(name)


def _is_common(node: Node) -> bool:
    """Whether a graph has one such state for all its nodes, as `random.seed` is."""
    return isinstance(node.op, State) and node.name.startswith("random.")


def _unify(other: Graph, given: Mapping[str, Node]) -> dict[str, Dim]:
    """The dims for the names in `other` with which its leaves have the types of the nodes given for them."""
    binding: dict[str, Dim] = {}
    said_by: dict[str, str] = {}
    known = [node.name for node in (*other.inputs, *other.parameters)]
    for name, node in given.items():
        if name not in known:
            raise NamingError(f"graph {other.name!r} has no input or parameter {name!r}{did_you_mean(name, known)}")
        leaf = other[name]
        check_single(f"{name!r} of {other.name!r}", node)
        misfit = f"{name!r} of {other.name!r} is {leaf.type}, and is given {node!r}"
        if leaf.dtype != node.dtype:
            raise DTypeError(misfit)
        if leaf.ndim != node.ndim:
            raise ShapeError(misfit)
        for dim, size in zip(leaf.shape, node.shape, strict=True):
            if isinstance(dim, int) and dim != size:
                raise ShapeError(misfit)
            if isinstance(dim, str) and binding.setdefault(dim, size) != size:
                raise ShapeError(f"{misfit}, but {said_by[dim]!r} says that its {dim} is {binding[dim]}")
            if isinstance(dim, str):
                said_by.setdefault(dim, name)
    return {name: dim for name, dim in binding.items() if name != dim}


class Rebuild:
    """The nodes of `graph` from index `start` on, given back one by one, in any order that has parents first.

    Each of `old` is retained, or replaced by something that is there by then: a node from before, or a new one, which
    has been appended to the graph and may have its name. `finish` ends it.
    """

    def __init__(self, graph: Graph, start: int = 0) -> None:
        self.graph = graph
        self.old = graph.nodes[start:]
        self.replacements: dict[Node, Node] = {}
        """The replacements of nodes that are not retained."""
        del graph.nodes[start:]

    def relink(self, node: Node) -> None:
        """Let `node` read the replacements of its parents."""
        replacements = self.replacements
        for parent in node.parents:
            if parent in replacements:
                node.parents = tuple([replacements.get(parent, parent) for parent in node.parents])
                return

    def keep(self, node: Node) -> None:
        """Give back a node, which has been relinked."""
        nodes = self.graph.nodes
        node.index = len(nodes)
        nodes.append(node)

    def finish(self, keep: Iterable[Node] = ()) -> None:
        """Replace results by their replacements, and drop what nothing needs, except what is in `keep`."""
        graph, replacements = self.graph, self.replacements
        graph.outputs = {name: replacements.get(node, node) for name, node in graph.outputs.items()}
        graph.updates = {leaf: replacements.get(node, node) for leaf, node in graph.updates.items()}
        graph.forget(replacements)
        drop_unneeded(graph, keep)


def drop_unneeded(graph: Graph, keep: Iterable[Node] = ()) -> None:
    """Take out of `graph` what neither its outputs and updates nor `keep` need. What `is_held` stays."""
    held = [node for node in graph.nodes if is_held(node)]
    graph.discard(0, keep=[*held, *keep, *graph.updates.values()])


def is_held(node: Node) -> bool:
    """Whether a node is a leaf, but no constant: an operand of a scan's body, or what an executable holds."""
    return node.op.is_leaf and type(node.op) is not Constant
