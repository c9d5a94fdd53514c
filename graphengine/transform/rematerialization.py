"""Values computed again instead of being retained: graphs whose nodes are computed in an order, some more than once."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from graphengine.ir.copying import copy_nodes
from graphengine.ir.graph import Graph
from graphengine.ir.names import free_name
from graphengine.ir.node import Node, Phase


class Repeated:
    """A graph that computes the nodes of `order` one after the other, each from the latest values of its parents.

    A node that is in `order` for the second time is computed again, as `name.again`, and has the phase of what it is
    computed for: once `order` has come to BACKWARD nodes, that phase. `views` need not be in `order`: they are made
    when they are read, and again when what they show has been computed again. Outputs are what is computed first.
    """

    def __init__(self, source: Graph, order: Iterable[Node], views: Collection[Node] = ()) -> None:
        self.graph = Graph(source.name, source.dtype)
        self.again: set[str] = set()
        """The names of the nodes that compute what another has computed before them."""
        self._views = set(views)
        self._names = {node.name for node in source.nodes}
        self._first = copy_nodes([node for node in source.nodes if node.is_leaf], self.graph)
        self._latest = dict(self._first)
        phase = Phase.FORWARD
        for node in order:
            phase = phase if node.phase is Phase.UPDATE else max(phase, node.phase)
            self._append(node, tuple([self._value(parent, self._latest, phase) for parent in node.parents]), phase)
        for leaf, node in source.updates.items():
            self.graph.updates[self._latest[leaf]] = self._value(node, self._latest, phase)
        for name, node in source.outputs.items():  # of FORWARD, which keeps them: another may be left to BACKWARD
            self.graph.outputs[name] = self._value(node, self._first, None)

    def _value(self, node: Node, values: dict[Node, Node], phase: Phase | None) -> Node:
        """What `values` has for `node`; a new view, of this phase or its own, where what it shows is another since."""
        for view in self._views_in(node):
            parents = tuple([values[parent] for parent in view.parents])
            if view not in values or values[view].parents != parents:
                values[view] = self._append(view, parents, view.phase if phase is None else phase)
        return values[node]

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
        if node not in self._first:
            phase = max(node.phase, *(parent.phase for parent in parents), Phase.FORWARD)
            new = self.graph.append(node.op, parents, node.type, node.name, phase, node.where, node.of)
            self._first[node] = new
        else:
            name = free_name(f"{node.name}.again", self._names)
            new = self.graph.append(node.op, parents, node.type, name, again, node.where, node.name)
            self._names.add(name)
            self.again.add(name)
        self._latest[node] = new
        return new
