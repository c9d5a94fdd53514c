"""Chains of linear maps: what is between two nonlinearities, and is one map x -> x W + b however many nodes it has.

W3 (W2 (W1 x)) = (W3 W2 W1) x, of a rank that is at most the smallest size on the way. A chain begins with a product by
a matrix that no input reaches. More such products follow, on the same side, and scales and shifts of the units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from graphengine.ir import dims
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Input
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.subgraph import needed_nodes
from graphengine.ir.types import TensorType
from graphengine.ops.activation import Identity
from graphengine.ops.elementwise import Add, Divide, Multiply, Negative, Subtract
from graphengine.ops.matmul import MatMul

_SCALE_AND_SHIFT: Mapping[type[Op], Callable[[Any], tuple[Any, Any]]] = {
    Identity: lambda _: (1.0, 0.0),
    Negative: lambda _: (-1.0, 0.0),
    Add: lambda c: (1.0, c),
    Subtract: lambda c: (1.0, -c),
    Multiply: lambda c: (c, 0.0),
    Divide: lambda c: (1.0 / c, 0.0),
}
"""Of ops that map each unit by itself: y = scale * x + shift, for the operand c besides x."""


@dataclass(frozen=True, slots=True)
class Link:
    """One node of a chain: it maps `flow`, what inputs reach, by `weight`, what they do not."""

    node: Node
    flow: Node
    weight: Node | None

    @property
    def is_matrix(self) -> bool:
        """Whether it mixes the units."""
        return isinstance(self.node.op, MatMul)

    @property
    def flows_first(self) -> bool:
        """Whether `flow` is before the weight: in x @ W, where W is (units in, units out), and not in W @ x."""
        return self.node.parents[0] is self.flow

    @property
    def axis(self) -> int:
        """Of a matrix: the axis of the units, counted from the end."""
        return -1 if self.flows_first or self.flow.ndim == 1 else -2

    @property
    def shifts(self) -> bool:
        """Whether it adds something."""
        return isinstance(self.node.op, Add | Subtract)

    def acts_along(self, axis: int) -> bool:
        """Whether it maps the values along `axis`, in the same way at all other indices."""
        if self.is_matrix:
            return self.axis == axis
        shape = () if self.weight is None else self.weight.shape
        return self.node.type == self.flow.type and all(
            dim == 1 for index, dim in enumerate(shape, -len(shape)) if index != axis
        )

    def scale_and_shift(self, weight: Any) -> tuple[Any, Any]:
        """Of what is no matrix: by what it multiplies, and what it adds, where the weight has this value."""
        if isinstance(self.node.op, Subtract) and not self.flows_first:
            return -1.0, weight
        return _SCALE_AND_SHIFT[type(self.node.op)](weight)


@dataclass(frozen=True, slots=True)
class Chain:
    """Links, each reading the one before, that map the values along one axis (-1 or -2)."""

    links: tuple[Link, ...]
    axis: int

    @property
    def source(self) -> Node:
        """What is mapped."""
        return self.links[0].flow

    @property
    def last(self) -> Node:
        """What comes out."""
        return self.links[-1].node

    @property
    def matrices(self) -> tuple[Link, ...]:
        """The links that mix the units."""
        return tuple(link for link in self.links if link.is_matrix)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many units there are: in the source, and after each link."""
        nodes = (self.source, *(link.node for link in self.links))
        return tuple(dims.bind(node.shape[self.axis], {}) for node in nodes)

    @property
    def flops(self) -> int:
        """FLOPs for one example, as it is."""
        return sum(_flops(link, size) for link, size in zip(self.links, pairwise(self.sizes), strict=True))

    @property
    def merged_flops(self) -> int:
        """FLOPs for one example, as one map."""
        return _map_flops(self.sizes[0], self.sizes[-1], any(link.shifts for link in self.links))


def fixed_nodes(nodes: Iterable[Node]) -> set[Node]:
    """Those of `nodes`, parents first, that no input reaches, not even by the size of a named dim."""
    fixed: set[Node] = set()
    for node in nodes:
        if not isinstance(node.op, Input) and fixed.issuperset(node.parents) and not node.dim_names():
            fixed.add(node)
    return fixed


def linear_chains(graph: Graph, shared: bool = False) -> list[Chain]:
    """The chains of two or more links among what the outputs and updates of `graph` need, in order of their ends.

    A value on the way has no reader but the next link, so that it need not be computed. With `shared`, it may have
    others, or be an output, and several chains may begin with the same links.
    """
    results = [*graph.outputs.values(), *graph.updates.values()]
    nodes = needed_nodes(results)
    reads = Counter([*results, *(parent for node in nodes for parent in node.parents)])
    fixed = fixed_nodes(nodes)
    links: dict[Node, Link] = {}
    axes: dict[Node, int] = {}
    first, passed = set[Node](), set[Node]()
    for link in (_link(node, fixed) for node in nodes if node not in fixed):
        if link is None:
            continue
        node = link.node
        if link.flow in links and link.acts_along(axes[link.flow]) and (shared or reads[link.flow] == 1):
            links[node], axes[node] = link, axes[link.flow]
            passed.add(link.flow)
        elif link.is_matrix:
            links[node], axes[node] = link, link.axis
            first.add(node)
    ends = [node for node in links if node not in passed and node not in first]
    return [Chain(tuple(_back(end, links, first)), axes[end]) for end in ends]


def worth_merging(chain: Chain) -> list[Chain]:
    """The parts of `chain` that leave it with the fewest FLOPs when each is made one map; none of only one link.

    The cheapest way to the value after a link is the cheapest one to the value before it and the link itself, or the
    cheapest one to where a part begins and the part as one map, which costs the same from every index of equal size.
    """
    sizes = chain.sizes
    ways = [(0, 0)]  # at each index between links: the FLOPs of the cheapest way there, and where its last part begins
    starts: dict[tuple[int, bool], int] = {}  # by size, and by whether something was added since: the cheapest index
    for index, link in enumerate(chain.links):
        begun = [*starts.items(), ((sizes[index], False), index)] if link.is_matrix else [*starts.items()]
        starts = {}
        for (size, shifted), start in begun:
            key = size, shifted or link.shifts
            starts[key] = min(starts.get(key, start), start, key=lambda index: ways[index][0])
        alone = ways[index][0] + _flops(link, sizes[index : index + 2]), index
        merged = [(ways[i][0] + _map_flops(size, sizes[index + 1], shift), i) for (size, shift), i in starts.items()]
        ways.append(min(alone, *merged, key=lambda way: (way[0], -way[1])))
    parts, stop = [], len(chain.links)
    while stop:
        _, start = ways[stop]
        if stop - start > 1:
            parts.append(Chain(chain.links[start:stop], chain.axis))
        stop = start
    return parts[::-1]


def _back(end: Node, links: Mapping[Node, Link], first: Collection[Node]) -> list[Link]:
    """The links that lead to `end`, from the one that is `first`."""
    chain = [links[end]]
    while chain[-1].node not in first:
        chain.append(links[chain[-1].flow])
    return chain[::-1]


def _link(node: Node, fixed: Collection[Node]) -> Link | None:
    """`node` as a link, if it maps one operand linearly by what is fixed."""
    flows = [parent for parent in node.parents if parent not in fixed]
    others = [parent for parent in node.parents if parent in fixed]
    if len(flows) != 1 or not isinstance(node.op, (MatMul, *_SCALE_AND_SHIFT)):
        return None
    if isinstance(node.op, MatMul) and others[0].ndim != 2:
        return None
    if isinstance(node.op, Divide) and node.parents[0] not in flows:
        return None
    return Link(node, flows[0], others[0] if others else None)


def _flops(link: Link, sizes: tuple[int, ...]) -> int:
    before, after = sizes
    if link.is_matrix:
        return _map_flops(before, after, shifted=False)
    y = TensorType((after,), link.node.dtype)
    return link.node.op.flops(y, *[y] * len(link.node.parents))


def _map_flops(before: int, after: int, shifted: bool) -> int:
    """FLOPs of x W, or of x W + b, for one x."""
    x, w, y = (TensorType(shape, "float64") for shape in ((before,), (before, after), (after,)))
    return MatMul().flops(y, x, w) + (y.size if shifted else 0)
