"""Paths from leaves to a loss, from node to child: how many there are, what following them all costs, and which."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property

from graphengine.baselines.edge import Edge, operation
from graphengine.ir.node import Node
from graphengine.ir.pullback import active_nodes
from graphengine.ir.types import TupleType

Path = tuple[Node, ...]
"""From a leaf, child after child, to the loss."""


class Paths:
    """All paths from `leaves` to `loss` along which a derivative passes.

    A child that reads a node twice, as in x * x, is one child. Tuples are passed by: their items are the children.
    """

    def __init__(self, loss: Node, leaves: Sequence[Node]) -> None:
        self.loss = loss
        self._kinds: dict[Hashable, Edge | None] = {}
        self._active = [node for node in active_nodes([loss], leaves) if not isinstance(node.type, TupleType)]
        self.children: dict[Node, dict[Node, Edge]] = {node: {} for node in self._active}
        for node in self._active:
            for operand in dict.fromkeys(operation(node).parents):
                edge = self._edge(operand, node) if operand in self.children else None
                if edge:
                    self.children[operand][node] = edge

    @cached_property
    def counts(self) -> dict[Node, int]:
        """How many paths lead from each active node to the loss; exact, however many."""
        counts = {self.loss: 1}
        for node in reversed(self._active):
            if node is not self.loss:
                counts[node] = sum(counts[child] for child in self.children[node])
        return counts

    def flops(self, binding: Mapping[str, int]) -> dict[Node, int]:
        """What it costs, for each active node, to follow every path from there to the loss by itself; exact."""
        of_edges = {id(edge): edge.flops(binding) for edge in self._kinds.values() if edge}
        flops = {self.loss: 0}
        for node in reversed(self._active):
            if node is not self.loss:
                steps = self.children[node].items()
                flops[node] = sum(self.counts[child] * of_edges[id(edge)] + flops[child] for child, edge in steps)
        return flops

    def of(self, leaf: Node) -> Iterator[Path]:
        """Every path from `leaf`."""
        pending: list[Path] = [(leaf,)] if self.counts.get(leaf) else []
        while pending:
            path = pending.pop()
            if path[-1] is self.loss:
                yield path
            else:
                pending.extend((*path, child) for child in self.children[path[-1]] if self.counts[child])

    def sample(self, leaf: Node, size: int, seed: int = 0) -> list[Path]:
        """`size` paths from `leaf`, each drawn from all of them, any as likely as any other."""
        generator = random.Random(seed)
        return [self._draw(leaf, generator) for _ in range(size)]

    def _draw(self, leaf: Node, generator: random.Random) -> Path:
        path = [leaf]
        while path[-1] is not self.loss:
            place = generator.randrange(self.counts[path[-1]])
            for child in self.children[path[-1]]:
                place -= self.counts[child]
                if place < 0:
                    path.append(child)
                    break
        return tuple(path)

    def _edge(self, operand: Node, node: Node) -> Edge | None:
        key = Edge.key(operand, node)
        if key not in self._kinds:
            self._kinds[key] = Edge.between(operand, node)
        return self._kinds[key]
