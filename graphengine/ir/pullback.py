"""Reverse-mode differentiation of a graph: from adjoints of some nodes to those of others.

Children first, the adjoint of each active node is the sum of what its children's VJP rules give it, so it is emitted
once however many paths lead on (Linnainmaa 1970; Griewank and Walther 2008, ch. 3).

A body under declaration captures nodes of the graph around it. A path leads on through them: the adjoint of what is
captured is passed on from node to node out there, by nodes that are emitted in the body.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from graphengine.errors import GraphError
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node, Phase, innermost
from graphengine.ir.op import GetItem
from graphengine.ir.subgraph import between

Key = TypeVar("Key")


@dataclass(slots=True)
class Pullback:
    """The adjoints that some seeds give."""

    adjoints: dict[Node, Node] = field(default_factory=dict)
    """The adjoint of every active node that a seed reaches, children first; of a tuple's items instead of a tuple."""
    visited: dict[Node, None] = field(default_factory=dict)
    """The nodes whose VJP rule was asked, children first."""
    blocked: dict[Node, Node] = field(default_factory=dict)
    """An active node that a child's rule gave no adjoint, and that child."""
    _contributions: dict[Node, Node] = field(default_factory=dict)
    _parts: dict[Node, dict[int, Node]] = field(default_factory=dict)
    _origins: dict[Node, Node] = field(default_factory=dict)


def pullback(seeds: Mapping[Node, Node], wrt: Sequence[Node], phase: Phase) -> Pullback:
    """Emit the adjoint of every node between `wrt` and the keys of `seeds`, whose own adjoints are the values.

    What is emitted has `phase`, and inherits from the node it is the adjoint of where that was declared.
    """
    result = Pullback()
    if not seeds:
        return result
    graph = innermost([*seeds, *seeds.values()])
    result._origins = origins(graph)
    active = active_nodes(seeds, wrt)
    result._contributions.update({node: seed for node, seed in seeds.items() if node in active})
    for node in reversed(active):
        y_bar = _adjoint(node, result)
        if y_bar is None:
            continue
        result.visited[node] = None
        if isinstance(y_bar, Node):
            y_bar = result.adjoints[node] = graph.own(y_bar)
        with node.graph.emitting(phase, node), graph.emitting(phase, node):
            _pass_on(node, y_bar, active, result)
    for node in wrt:
        if node in result._origins and result._origins[node] in result.adjoints:
            result.adjoints[node] = result.adjoints[result._origins[node]]
    return result


def origins(graph: Graph) -> dict[Node, Node]:
    """For the inputs by which a body and those around it capture nodes, these nodes, where they are computed or given.

    Empty for a graph that is no body under declaration.
    """
    if graph.outer is None:
        return {}
    around = origins(graph.outer)
    return around | {inside: around.get(node, node) for node, inside in graph.captures.items()}


def active_nodes(targets: Iterable[Node], wrt: Iterable[Node]) -> dict[Node, None]:
    """The float nodes on a path from `wrt` to `targets`, parents first; those around a body come first."""
    ends, sources = list(targets), list(wrt)
    around = _active_around(ends[0].graph, sources)
    captured = (inside for node, inside in ends[0].graph.captures.items() if node in around)
    return around | dict.fromkeys(between([*sources, *captured], ends, lambda node: node.type.is_float))


def _active_around(graph: Graph, wrt: Sequence[Node]) -> dict[Node, None]:
    """For a body, the nodes of the graphs around it on a path from what `wrt` captures to what it captures besides."""
    given = set(wrt)
    sources = [node for node, inside in graph.captures.items() if inside in given]
    return active_nodes(graph.captures, sources) if sources else {}


def _adjoint(node: Node, result: Pullback) -> Node | tuple[Node | None, ...] | None:
    """What the children of `node` have added up to: for a tuple, an adjoint or None for each item."""
    parts = result._parts.pop(node, None)
    if parts is None:
        return result._contributions.pop(node, None)
    count = 1 + max(parts)
    return tuple(parts.get(index) for index in range(count))


def _pass_on(node: Node, y_bar: Node | tuple[Node | None, ...], active: Mapping[Node, None], result: Pullback) -> None:
    """Add to the adjoint of every parent what the rule of `node` contributes."""
    if isinstance(node.op, GetItem) and isinstance(y_bar, Node):
        accumulate(result._parts.setdefault(node.parents[0], {}), node.op.index, y_bar)
        return
    if node in result._origins and isinstance(y_bar, Node):
        accumulate(result._contributions, result._origins[node], y_bar)
        return
    wanted = {parent for parent in node.parents if parent in active}
    if not wanted:
        return
    found = node.op.contributions(node, y_bar, wanted)  # type: ignore[arg-type]  # a tuple's op is given a tuple
    for parent, contribution in zip(node.parents, found, strict=True):
        if parent not in wanted:
            continue
        if contribution is None:
            result.blocked.setdefault(parent, node)
            continue
        if contribution.type != parent.type:
            given = f"{parent.name}, which is {parent.type}, an adjoint of type {contribution.type}"
            raise GraphError(f"the vjp of {node.op.kind} gives {given}")
        accumulate(result._contributions, parent, contribution)


def accumulate(sums: dict[Key, Node], key: Key, contribution: Node) -> None:
    """Add what a child contributes to the adjoint of `key`."""
    sums[key] = sums[key] + contribution if key in sums else contribution
