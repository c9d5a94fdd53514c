"""Regions of pointwise ops as one op each, with the reductions at their ends.

The nodes are walked once, in the order of their phases. A region is open as long as no node outside reads one of its
members; as it then stands where its last member stood, whoever reads it comes later, and no circle can arise.

A region is of one phase, as FORWARD may be run without BACKWARD. In a step both are run always: there, what BACKWARD
computes of values that are at hand joins the region that made them, and these need not be kept.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import count

from graphengine.ir.bundle import BundleType, Item
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Input
from graphengine.ir.node import Node, Phase
from graphengine.ir.rebuild import Rebuild
from graphengine.ir.types import FLOATS, DType
from graphengine.ops.broadcast import Reduction
from graphengine.ops.fused import Fused
from graphengine.ops.fused_blocks import REDUCTIONS
from graphengine.ops.fused_body import Body
from graphengine.transform.rewrite.bodies import in_bodies

__all__ = ["fuse"]

MOST_MEMBERS = 64
"""A region of more is not made: the time to compile one grows with it."""


def fuse(graph: Graph) -> bool:
    """Make every region of two nodes and more one node, in the bodies of scans too."""
    has_changed = in_bodies(graph, fuse)
    walk = _Walk(joins_phases=bool(graph.updates))
    # Leaves go first: a number keeps the phase in which it was first needed, and nodes of earlier phases may read it.
    order = sorted(graph.nodes, key=lambda node: (not node.op.is_leaf, node.phase))
    for node in order:
        walk.visit(node)
    regions = {node: region for node, region in walk.region_of.items() if len(region.members) > 1}
    if regions:
        _Fusion(graph, order, regions)
    return bool(regions) or has_changed


@dataclass(slots=True, eq=False)
class _Region:
    """Pointwise nodes of one shape, the space, and reductions of them."""

    members: list[Node]
    floats: DType | None
    """The dtype of all floats that are read or written; None as long as there are none."""
    joins_phases: bool
    is_open: bool = True

    def takes(self, node: Node, floats: DType | None, more: int = 1) -> bool:
        """Whether it may grow by `more` nodes that are as `node` is."""
        phases = {node.phase, self.members[0].phase}
        fits = len(phases) == 1 or (self.joins_phases and Phase.UPDATE not in phases)
        alike = floats is None or self.floats in (None, floats)
        return self.is_open and fits and alike and len(self.members) + more <= MOST_MEMBERS

    def add(self, members: Sequence[Node], floats: DType | None) -> None:
        """Let it grow."""
        self.members.extend(members)
        self.floats = self.floats or floats


class _Walk:
    """The regions as they grow, node by node, parents first."""

    def __init__(self, joins_phases: bool) -> None:
        self._joins_phases = joins_phases
        self.region_of: dict[Node, _Region] = {}
        self._reader_of: dict[Node, Node] = {}
        """Of an operand of a space, the last member that reads it."""

    def visit(self, node: Node) -> None:
        """Let `node` join a region or begin one, and close those that it reads from outside."""
        if node.is_leaf:
            return
        region = self._reduced(node) if isinstance(node.op, Reduction) else self._grown(node)
        for parent in node.parents:
            other = self.region_of.get(parent)
            if other is not None and other is not region:
                other.is_open = False
        if region is not None:
            self.region_of[node] = region

    def _reduced(self, node: Node) -> _Region | None:
        """The region whose pointwise member `node` reduces."""
        (x,) = node.parents
        region = self.region_of.get(x)
        if region is None or isinstance(x.op, Reduction) or node.op.kind not in REDUCTIONS:
            return None
        if not region.takes(node, node.dtype):
            return None
        region.add([node], node.dtype)
        return region

    def _grown(self, node: Node) -> _Region | None:
        """The regions that `node` may join, as one with it; a new one if there is none; None if it is not pointwise."""
        if node.op.is_view or isinstance(node.type, BundleType):
            return None
        dtypes = {node.dtype, *[parent.dtype for parent in node.parents]} & FLOATS
        if len(dtypes) > 1 or not _is_pointwise(node):
            return None
        floats = next(iter(dtypes), None)
        region: _Region | None = None
        for other in self._near(node):
            if region is None and other.takes(node, floats):
                region = other
                region.add([node], floats)
            elif region is not None and other.takes(node, region.floats, len(region.members)):
                self._merge(other, region)
        for parent in node.parents:
            if parent.shape == node.shape:
                self._reader_of[parent] = node
        return region or _Region([node], floats, self._joins_phases)

    def _near(self, node: Node) -> list[_Region]:
        """The regions of the same space in which parents of `node` are members, or read by members."""
        full = [parent for parent in node.parents if parent.shape == node.shape]
        near = [*full, *[self._reader_of[parent] for parent in full if parent in self._reader_of]]
        found = dict.fromkeys([self.region_of[other] for other in near if other in self.region_of])
        if not found:
            return []
        reduced = [self.region_of.get(parent) for parent in node.parents if isinstance(parent.op, Reduction)]
        return [other for other in found if other not in reduced and other.members[0].shape == node.shape]

    def _merge(self, region: _Region, into: _Region) -> None:
        """Make two regions one, which is no circle: as both are open, neither reads the other, by any way."""
        into.add(region.members, region.floats)
        for member in region.members:
            self.region_of[member] = into


def _is_pointwise(node: Node) -> bool:
    """Whether an op's value may be a member: a scalar is none, as there is nothing to gain."""
    has_space = any(dim != 1 for dim in node.shape) and (node.type.is_float or node.dtype == "bool")
    return has_space and node.op.scalar(*[parent.name for parent in node.parents]) is not None


class _Fusion:
    """A graph as its nodes are laid out anew, those of a region as one."""

    def __init__(self, graph: Graph, order: Sequence[Node], regions: dict[Node, _Region]) -> None:
        self._bodies = _Bodies()
        self._names = (name for number in count(1) if (name := f"fused_{number}") not in graph)
        self._read_outside = {*graph.outputs.values(), *graph.updates.values()}
        for node in order:
            region = regions.get(node)
            for parent in node.parents:
                if region is None or regions.get(parent) is not region:
                    self._read_outside.add(parent)
        last = {max(region.members, key=_turn): region for region in dict.fromkeys(regions.values())}
        self._rebuild = Rebuild(graph)
        for node in order:
            if node not in regions:
                self._rebuild.relink(node)
                self._rebuild.keep(node)
            elif node in last:
                self._append(sorted(last[node].members, key=_turn))
        self._rebuild.finish()

    def _append(self, members: Sequence[Node]) -> None:
        """Append a region, and what takes its results apart if there are several."""
        inside = set(members)
        read = dict.fromkeys(parent for node in members for parent in node.parents)
        inputs = [node for node in read if node not in inside and not _is_number(node)]
        outputs = [node for node in members if node in self._read_outside]
        computes = tuple([(node.name, node.phase) for node in members])
        op = Fused(kind="fused", body=self._bodies.of(inputs, members, outputs), computes=computes)
        last, stand_ins = members[-1], self._rebuild.stand_ins
        parents = tuple([stand_ins.get(node, node) for node in inputs])
        name = outputs[0].name if len(outputs) == 1 else next(self._names)
        fused = self._rebuild.add(op, parents, op.body.type, name, last.phase, last.where, last.of)
        stand_ins.update(dict.fromkeys(members, fused))
        for index, node in enumerate(outputs if len(outputs) > 1 else ()):
            like = node if node.phase is last.phase else last
            item = Item(index=index)
            type_ = item.infer(fused.type)
            stand_ins[node] = self._rebuild.add(item, (fused,), type_, node.name, like.phase, like.where, like.of)


def _turn(node: Node) -> tuple[Phase, int]:
    """When a node is visited."""
    return node.phase, node.index


def _is_number(node: Node) -> bool:
    return isinstance(node.op, Constant) and node.ndim == 0


class _Bodies:
    """The bodies of regions: one for all that compute the same of operands of the same types."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Body] = {}

    def of(self, inputs: Sequence[Node], members: Sequence[Node], outputs: Sequence[Node]) -> Body:
        """The body of `members`: of the first ones that compute this."""
        places = {node: place for place, node in enumerate(inputs)}
        steps = []
        for node in members:
            operands = tuple([places.get(parent, parent.op) for parent in node.parents])  # the op, if it is a number
            places[node] = len(places)
            steps.append((node.op.exactly(), operands))
        types, results = tuple([node.type for node in inputs]), tuple([places[node] for node in outputs])
        key = types, tuple(steps), results
        try:
            body = self._known.get(key)
        except TypeError:  # an op has no hash, as one of somebody's own may have none, with a list for an attribute
            return Body(_body(inputs, members, outputs))
        if body is None:
            body = self._known[key] = Body(_body(inputs, members, outputs))
        return body


def _body(inputs: Sequence[Node], members: Sequence[Node], outputs: Sequence[Node]) -> Graph:
    """The graph of `members` alone, under their names."""
    body = Graph("region", members[0].graph.dtype)
    copies: dict[Node, Node] = {}
    for node in inputs:
        with body.declared_at(node.where):
            copies[node] = body.add(Input(shape=node.shape, dtype=node.dtype), name=node.name)
    for node in members:
        for parent in node.parents:
            if parent not in copies:  # a number, as all else is an input or a member
                copies[parent] = body.append_copy(parent, ())
        copies[node] = body.append_copy(node, tuple([copies[parent] for parent in node.parents]))
    body.outputs = {node.name: copies[node] for node in outputs}
    return body
