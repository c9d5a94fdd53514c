"""Linear maps that are nodes of a graph: cut out, and applied to other operands, in their graph or in a loop.

An adjoint is linear in the adjoint it starts from, and a tangent in the tangent. So the nodes between the two, emitted
once, are the map itself; what they read besides, the values of the forward pass, is shared by all who apply it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphengine.errors import GraphError
from graphengine.ir.copying import copy_nodes
from graphengine.ir.node import Node, Phase, apply
from graphengine.ir.pullback import accumulate, pullback
from graphengine.ir.subgraph import between
from graphengine.ops.broadcast import BroadcastTo, full
from graphengine.ops.scan import scan
from graphengine.transform.scan_dce import narrow_scans


@dataclass(frozen=True, slots=True)
class LinearMap:
    """The map from `arguments` to `results`; a result that is None is zero, of the type of its node in `like`."""

    arguments: tuple[Node, ...]
    results: tuple[Node | None, ...]
    like: tuple[Node, ...]

    def __call__(self, arguments: Sequence[Node]) -> list[Node]:
        """The results for other arguments, emitted in their graph: that of the map, or the body of a loop in it."""
        graph = arguments[0].graph
        copies = dict(zip(self.arguments, arguments, strict=True))
        copy_nodes(self._nodes(), graph, copies, rename=lambda _: None)
        results = []
        for result, like in zip(self.results, self.like, strict=True):
            if result is None:
                results.append(full(graph, 0.0, like.shape, like.dtype))
            else:
                results.append(copies[result] if result in copies else graph.own(result))
        return results

    def size(self) -> int:
        """How many nodes one application emits."""
        return len(self._nodes())

    def _nodes(self) -> list[Node]:
        return depending_on(self.arguments, [node for node in self.results if node is not None])

    def reached(self) -> LinearMap:
        """The same map without the results that are zero."""
        pairs = [(node, like) for node, like in zip(self.results, self.like, strict=True) if node is not None]
        results, like = zip(*pairs, strict=True) if pairs else ((), ())
        return LinearMap(self.arguments, results, like)


def map_rows(function: Callable[[Sequence[Node]], Sequence[Node]], sequences: Sequence[Node]) -> list[Node]:
    """What `function` gives for a row of each of `sequences`, stacked along a new first axis: by a scan."""
    _, results = scan(lambda _, rows: ((), function(rows)), (), sequences)
    return list(results)


def pull(ys: Sequence[Node], xs: Sequence[Node]) -> LinearMap:
    """The map from adjoints of `ys` to those of `xs` that they give: v -> v^T dy/dx."""
    bars = {y: placeholder(y) for y in ys}
    adjoints = pullback(bars, xs, Phase.FORWARD).adjoints
    return LinearMap(tuple(bars.values()), tuple(adjoints.get(x) for x in xs), tuple(xs))


def push(ys: Sequence[Node], x: Node) -> LinearMap:
    """The map from a tangent of `x` to those of `ys` that it gives: v -> dy/dx v."""
    dot = placeholder(x)
    tangents = tangents_of(ys, {x: dot})
    return LinearMap((dot,), tuple(tangents.get(y) for y in ys), tuple(ys))


def tangents_of(ys: Sequence[Node], given: Mapping[Node, Node]) -> dict[Node, Node]:
    """Emit the tangents of `ys` for given ones of other nodes; those that a path leads to.

    An adjoint is a linear function of that which it starts from, x_bar = J^T y_bar. So the adjoint of this function,
    started from x_dot, is J x_dot: forward mode by reversing twice (Townsend 2017). y_bar is a placeholder that
    nothing depends on in the end.
    """
    start = len(ys[0].graph)
    bars = {y: placeholder(y) for y in ys}
    x_bars = pullback(bars, list(given), Phase.FORWARD).adjoints
    seeds: dict[Node, Node] = {}
    for x, x_dot in given.items():
        if x in x_bars:
            accumulate(seeds, x_bars[x], x_dot)
    adjoints = pullback(seeds, list(bars.values()), Phase.FORWARD).adjoints
    reached = [y for y, bar in bars.items() if bar in adjoints]
    tangents = narrow_scans([adjoints[bars[y]] for y in reached], start) if reached else []
    _check_linear(bars.values(), tangents, start)
    return dict(zip(reached, tangents, strict=True))


def placeholder(node: Node) -> Node:
    """A node of the type of `node`, and no other node's, for a value yet to come."""
    graph = node.graph
    with graph.emitting(Phase.FORWARD, node):
        return apply(BroadcastTo(shape=node.shape), graph.scalar(0.0, node.dtype))


def depending_on(sources: Iterable[Node], targets: Iterable[Node]) -> list[Node]:
    """The nodes on paths from `sources` to `targets`, parents first; `sources` themselves are not among them."""
    given = set(sources)
    return [node for node in between(given, targets) if node not in given]


def _check_linear(bars: Iterable[Node], tangents: Iterable[Node], start: int) -> None:
    """Raise GraphError if a tangent depends on an adjoint: then a rule in between is not linear in it.

    What reads the adjoint was emitted of a node, from index `start` on, that was itself emitted of the one at fault.
    """
    readers = depending_on(bars, tangents)
    if readers:
        graph = readers[0].graph
        emitted = [graph[node.of] for node in readers if node.of is not None and node.of in graph]
        names = [node.of for node in emitted if node.index >= start and node.of is not None]
        what = f"{graph[names[0]]!r}, declared at {graph[names[0]].where}" if names else repr(readers[0])
        raise GraphError(f"no tangent passes {what}: its vjp is not linear in the adjoint that it is given")
