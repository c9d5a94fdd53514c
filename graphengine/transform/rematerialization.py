"""Values computed again instead of being kept: a graph whose nodes are computed in some order, some more than once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from graphengine.ir.copying import copy_nodes
from graphengine.ir.graph import Graph
from graphengine.ir.names import free_name
from graphengine.ir.node import Node, Phase


@dataclass(slots=True)
class Repeated:
    """A graph that computes what another does."""

    graph: Graph
    again: set[str] = field(default_factory=set)
    """The names of the nodes that compute what another has computed before them."""


def repeated(graph: Graph, order: Iterable[Node], views: Collection[Node] = ()) -> Repeated:
    """The graph that computes the nodes of `order` one after the other, each from the latest values of its parents.

    A node that stands there for the second time is computed again, as `name.again`, and bears the phase of what it is
    computed for: once `order` has come to BACKWARD nodes, that phase. `views` need not stand in `order`: they are made
    when they are read, and again when what they show has been computed again. Outputs are what is computed first.
    """
    copier = _Copier(graph, set(views))
    for node in order:
        copier.compute(node)
    return copier.finished()


class _Copier:
    """The copy as it grows."""

    def __init__(self, graph: Graph, views: Collection[Node]) -> None:
        self._source = graph
        self._views = views
        self._result = Repeated(Graph(graph.name, graph.dtype))
        self._latest: dict[Node, Node] = {}
        self._first: dict[Node, Node] = {}
        self._phase = Phase.FORWARD
        self._names = {node.name for node in graph.nodes}
        self._first |= copy_nodes([node for node in graph.nodes if node.is_leaf], self._result.graph)
        self._latest |= self._first

    def compute(self, node: Node) -> None:
        if node.phase is not Phase.UPDATE:
            self._phase = max(self._phase, node.phase)
        self._append(node, tuple([self._current(parent) for parent in node.parents]), self._phase)

    def finished(self) -> Repeated:
        """The copy, with the outputs and the updates of the graph."""
        source, copy = self._source, self._result.graph
        copy.updates = {self._latest[leaf]: self._current(node) for leaf, node in source.updates.items()}
        copy.outputs = {name: self._as_first_computed(node) for name, node in source.outputs.items()}
        return self._result

    def _as_first_computed(self, node: Node) -> Node:
        """`node` from its first computation, which FORWARD makes, and keeps: another may be left to BACKWARD."""
        for view in self._views_in(node):
            parents = tuple([self._first[parent] for parent in view.parents])
            if view not in self._first or self._first[view].parents != parents:
                self._first[view] = self._append(view, parents, view.phase)
        return self._first[node]

    def _current(self, node: Node) -> Node:
        """The latest value of `node`; where that is a view of what has been computed again since, a new view."""
        for view in self._views_in(node):
            parents = tuple([self._latest[parent] for parent in view.parents])
            if view not in self._latest or self._latest[view].parents != parents:
                self._append(view, parents, self._phase)
        return self._latest[node]

    def _views_in(self, node: Node) -> list[Node]:
        """The views through which `node` shows what it is a view of, itself included, parents first."""
        found: set[Node] = set()
        pending = [node]
        while pending:
            node = pending.pop()
            if node in self._views and node not in found:
                found.add(node)
                pending.extend(node.parents)
        return sorted(found, key=lambda view: view.index)

    def _append(self, node: Node, parents: tuple[Node, ...], again: Phase) -> Node:
        """Compute `node`; if that has been done before, in the phase `again`."""
        copy = self._result.graph
        if node not in self._first:
            phase = max(node.phase, *(parent.phase for parent in parents), Phase.FORWARD)
            new = self._first[node] = copy.append(node.op, parents, node.type, node.name, phase, node.where, node.of)
        else:
            name = free_name(f"{node.name}.again", self._names)
            new = copy.append(node.op, parents, node.type, name, again, node.where, node.name)
            self._names.add(name)
            self._result.again.add(name)
        self._latest[node] = new
        return new
