"""Copying: nodes emitted into a graph, with others in the place of some.

Whoever makes a graph out of another says which nodes and what replaces them; `copy_nodes` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from graphengine.ir.leaf import Input
from graphengine.ir.node import Node
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

    `replace` gives what stands for a node: a node of `graph`, or an op and its operands among the old nodes, or None
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
    """For `copy_nodes`: an input of the type of `node`, in its place."""
    return Input(shape=node.shape, dtype=node.dtype), ()
