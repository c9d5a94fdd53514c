"""The order of a graph, by networkx: what depends on what, which goes first, and whether there is a circle."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from typing import TypeVar

from graphengine.errors import CycleError

Key = TypeVar("Key", bound=Hashable)


def parents_first(
    parents: Mapping[Key, Collection[Key]], rank: Callable[[Key], int | tuple[int, ...]] | None = None
) -> list[Key]:
    """The keys in an order in which parents precede children, the lowest `rank` first among those that are free to go.

    Without a rank, the first of `parents` goes first. Raises CycleError, with the circle written out, if there is no
    such order.
    """
    rank = rank or {key: index for index, key in enumerate(parents)}.__getitem__
    by_rank = sorted(parents, key=rank)
    past: set[Key] = set()
    for key in by_rank:
        if not past.issuperset(parents[key]):
            break
        past.add(key)
    else:
        return by_rank  # as most graphs are declared
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
