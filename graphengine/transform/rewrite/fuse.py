"""Regions of pointwise ops as one op each, with the reductions at their ends.

The nodes are walked once, in the order of their phases. A region is open as long as no node outside reads one of its
members; as it is then where its last member was, whoever reads it comes later, and no circle can arise.

A region is of one phase, as FORWARD may be run without BACKWARD. In a step both are run always: there, what BACKWARD
computes of values that are at hand joins the region that made them, and these need not be saved.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from graphengine.ir.copying import Rebuild
from graphengine.ir.dims import Shape
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node, Phase
from graphengine.ir.op import GetItem
from graphengine.ir.subgraph import cut
from graphengine.ir.types import FLOATS, DType, TensorType
from graphengine.ops.broadcast import Reduction
from graphengine.ops.fusion.fused import Fused
from graphengine.ops.fusion.numpy import REDUCTIONS
from graphengine.ops.fusion.region import Region
from graphengine.transform.rewrite.bodies import in_bodies
from graphengine.transform.rewrite.cse import OpNumbers

MOST_MEMBERS = 64
"""A region of more is not made: the time to compile one grows with it."""


def fuse(graph: Graph) -> bool:
    """Make every region of two nodes and more one node, in the bodies of scans too."""
    has_changed = in_bodies(graph, fuse)
    # Leaves go first: a number keeps the phase in which it was first needed, and nodes of earlier phases may read it.
    leaves: list[Node] = []
    phases: dict[Phase, list[Node]] = {phase: [] for phase in Phase}
    for node in graph.nodes:
        (leaves if node.op.is_leaf else phases[node.phase]).append(node)
    order = [node for nodes in phases.values() for node in nodes]
    walk = _RegionFinder(joins_phases=bool(graph.updates))
    for node in order:
        walk.visit(node)
    regions = {node: region for node, region in walk.region_of.items() if len(region.members) > 1}
    if regions:
        _Fusion(graph, regions).run([*leaves, *order])
    return bool(regions) or has_changed


@dataclass(slots=True, eq=False)
class _OpenRegion:
    """Pointwise nodes of one shape, the space, and reductions of them."""

    members: list[Node]
    """In the order in which they are visited."""
    space: Shape
    floats: DType | None
    """The dtype of all floats that are read or written; None as long as there are none."""
    joins_phases: bool
    is_open: bool = True

    def takes(self, node: Node, floats: DType | None, more: int = 1) -> bool:
        """Whether it may grow by `more` nodes that are as `node` is."""
        phase, own = node.phase, self.members[0].phase
        fits = phase is own or (self.joins_phases and phase is not Phase.UPDATE and own is not Phase.UPDATE)
        alike = floats is None or self.floats is None or self.floats == floats
        return self.is_open and fits and alike and len(self.members) + more <= MOST_MEMBERS

    def add(self, node: Node, floats: DType | None) -> None:
        """Let it grow by a node that is visited."""
        self.members.append(node)
        self.floats = self.floats or floats


class _RegionFinder:
    """The regions as they grow, node by node, parents first."""

    def __init__(self, joins_phases: bool) -> None:
        self._joins_phases = joins_phases
        self.region_of: dict[Node, _OpenRegion] = {}
        self._reader_of: dict[Node, Node] = {}
        """Of an operand of a space, the last member that reads it."""
        self._has_scalar: dict[tuple[int, int], bool] = {}
        """Whether an op, by its identity, has a scalar form for so many operands."""

    def visit(self, node: Node) -> None:
        """Let `node` join a region or begin one, and close those that it reads from outside."""
        region = self._reduced(node) if isinstance(node.op, Reduction) else self._grown(node)
        region_of = self.region_of
        for parent in node.parents:
            other = region_of.get(parent)
            if other is not None and other is not region:
                other.is_open = False
        if region is not None:
            region_of[node] = region

    def _reduced(self, node: Node) -> _OpenRegion | None:
        """The region whose pointwise member `node` reduces."""
        (x,) = node.parents
        region = self.region_of.get(x)
        if region is None or isinstance(x.op, Reduction) or node.op.kind not in REDUCTIONS:
            return None
        if not region.takes(node, node.dtype):
            return None
        region.add(node, node.dtype)
        return region

    def _grown(self, node: Node) -> _OpenRegion | None:
        """The regions that `node` may join, as one with it; a new one if there is none; None if it is not pointwise."""
        if node.op.is_view or not self._is_pointwise(node):
            return None
        dtype, space = node.type.dtype, node.type.shape
        floats: DType | None = dtype if dtype in FLOATS else None
        for parent in node.parents:
            read = parent.type.dtype
            if read != floats and read in FLOATS:
                if floats is not None:
                    return None
                floats = read
        region: _OpenRegion | None = None
        for other in self._near(node, space):
            if region is None and other.takes(node, floats):
                region = other
                region.add(node, floats)
            elif region is not None and other.takes(node, region.floats, len(region.members)):
                self._merge(other, region)
        for parent in node.parents:
            if parent.type.shape == space:
                self._reader_of[parent] = node
        return region or _OpenRegion([node], space, floats, self._joins_phases)

    def _near(self, node: Node, space: Shape) -> Iterable[_OpenRegion]:
        """The regions of this space in which parents of `node` are members, or read by members."""
        region_of, reader_of = self.region_of, self._reader_of
        full = [parent for parent in node.parents if parent.type.shape == space]
        near = [*full, *[reader_of[parent] for parent in full if parent in reader_of]]
        found = {region: None for other in near if (region := region_of.get(other)) and region.space == space}
        for parent in node.parents if found else ():
            if isinstance(parent.op, Reduction) and parent in region_of:
                found.pop(region_of[parent], None)
        return found

    def _merge(self, region: _OpenRegion, into: _OpenRegion) -> None:
        """Make two regions one, which is no circle: as both are open, neither reads the other, by any way."""
        into.members = sorted([*into.members, *region.members], key=lambda node: (node.phase, node.index))
        into.floats = into.floats or region.floats
        for member in region.members:
            self.region_of[member] = into

    def _is_pointwise(self, node: Node) -> bool:
        """Whether the value may be a member: a scalar is none, as there is nothing to gain."""
        op, type_ = node.op, node.type
        if not isinstance(type_, TensorType) or type_.shape.count(1) == len(type_.shape):
            return False
        if type_.dtype not in FLOATS and type_.dtype != "bool":
            return False
        key = id(op), len(node.parents)
        if key not in self._has_scalar:
            self._has_scalar[key] = op.scalar(*[parent.name for parent in node.parents]) is not None
        return self._has_scalar[key]


class _Fusion:
    """A graph as its nodes are laid out anew, those of a region as one."""

    def __init__(self, graph: Graph, regions: dict[Node, _OpenRegion]) -> None:
        self._graph = graph
        self._regions = regions
        self._rebuild = Rebuild(graph)
        self._numbers = OpNumbers()
        self._known: dict[Hashable, Region] = {}
        self._read_outside = {*graph.outputs.values(), *graph.updates.values()}

    def run(self, order: Sequence[Node]) -> None:
        """Lay out the nodes in this order."""
        regions = self._regions
        for node in order:
            own = regions.get(node)
            for parent in node.parents:
                region = regions.get(parent)
                if region is not None and region is not own:
                    self._read_outside.add(parent)
        for node in order:
            region = regions.get(node)
            if region is None:
                self._rebuild.relink(node)
                self._rebuild.keep(node)
            elif node is region.members[-1]:
                self._append(region.members)
        self._rebuild.finish()

    def _append(self, members: Sequence[Node]) -> None:
        """Append a region, and what takes its results apart if there are several."""
        inside = set(members)
        read = dict.fromkeys(parent for node in members for parent in node.parents)
        inputs = [node for node in read if node not in inside and not _is_number(node)]
        outputs = [node for node in members if node in self._read_outside]
        computes = tuple([(node.name, node.phase) for node in members])
        op = Fused(kind="fused", region=self._region(inputs, members, outputs), computes=computes)
        last, replacements = members[-1], self._rebuild.replacements
        parents = tuple([replacements.get(node, node) for node in inputs])
        name = outputs[0].name if len(outputs) == 1 else self._graph.new_name("fused")
        fused = self._graph.append(op, parents, op.region.type, name, last.phase, last.where, last.of)
        replacements.update(dict.fromkeys(members, fused))
        for index, node in enumerate(outputs if len(outputs) > 1 else ()):
            like = node if node.phase is last.phase else last
            item = GetItem(index=index)
            type_ = item.infer(fused.type)
            replacements[node] = self._graph.append(item, (fused,), type_, node.name, like.phase, like.where, like.of)

    def _region(self, inputs: Sequence[Node], members: Sequence[Node], outputs: Sequence[Node]) -> Region:
        """The region of `members`: one for all that compute the same of operands of the same types."""
        index_of = {node: index for index, node in enumerate(inputs)}
        number_of = self._numbers.of
        steps: list[int | None] = []
        for node in members:
            steps += (None, number_of(node.op))
            for parent in node.parents:
                index = index_of.get(parent)
                steps.append(-1 - number_of(parent.op) if index is None else index)  # the op, if it is a number
            index_of[node] = len(index_of)
        key = tuple([node.type for node in inputs]), tuple(steps), tuple([index_of[node] for node in outputs])
        region = self._known.get(key)
        if region is None:
            region = self._known[key] = Region(cut("region", inputs, {node.name: node for node in outputs}))
        return region


def _is_number(node: Node) -> bool:
    return isinstance(node.op, Constant) and node.ndim == 0
