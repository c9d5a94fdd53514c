"""The order of a graph, by networkx: what depends on what, which goes first, and whether there is a circle."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from graphengine.errors import CycleError

if TYPE_CHECKING:
    import networkx as nx

    from graphengine.ir.graph import Graph

Key = TypeVar("Key", bound=Hashable)


def parents_first(parents: Mapping[Key, Collection[Key]], rank: Callable[[Key], tuple[int, ...]]) -> list[Key]:
    """The keys in an order in which parents precede children, the lowest `rank` first among those that are free to go.

    Raises CycleError, with the circle written out, if there is no such order.
    """
    by_rank = sorted(parents, key=rank)
    if _is_parents_first(by_rank, parents):  # as most graphs are declared
        return by_rank
    import networkx as nx  # on first use: it takes as long to import as all the rest

    digraph = nx.DiGraph()  # parallel edges say nothing more about order
    digraph.add_nodes_from(parents)
    digraph.add_edges_from((parent, child) for child, slots in parents.items() for parent in slots)
    try:
        return list(nx.lexicographical_topological_sort(digraph, key=rank))
    except nx.NetworkXUnfeasible:
        circle = [edge[0] for edge in nx.find_cycle(digraph)]
        text = " -> ".join(map(str, (*circle, circle[0])))
        raise CycleError(f"nodes depend on each other in a cycle: {text}", circle) from None


def _is_parents_first(keys: Iterable[Key], parents: Mapping[Key, Collection[Key]]) -> bool:
    past: set[Key] = set()
    for key in keys:
        if not past.issuperset(parents[key]):
            return False
        past.add(key)
    return True


def to_networkx(graph: Graph) -> nx.MultiDiGraph[str]:
    """The nodes by name with op, type and phase; an edge a parent, keyed by its place among the operands.

    `x * x` has two edges from x, which a DiGraph would merge into one.
    """
    import networkx as nx

    view: nx.MultiDiGraph[str] = nx.MultiDiGraph(name=graph.name)
    for node in graph.nodes:
        view.add_node(node.name, op=node.op.kind, type=str(node.type), phase=node.phase.name)
        view.add_edges_from((parent.name, node.name, slot) for slot, parent in enumerate(node.parents))
    return view
