"""Which buffer lives when: lifetimes to slots, views to no memory at all, results over operands where ops allow it.

The order is walked once. A buffer lives from the instruction that writes it to the last that reads it or a view of
it, and has a slot for that time. Where the slots stand in the arena is found once all of them are known.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence

from graphengine.ir.bundle import BundleType, Item
from graphengine.ir.node import Node, Phase
from graphengine.ir.op import Op
from graphengine.ir.subgraph import needed_nodes
from graphengine.ir.types import TensorType
from graphengine.ops.elementwise import Copy
from graphengine.ops.scan import Scan
from graphengine.schedule.arena import pack, rounded
from graphengine.schedule.binding import Binding
from graphengine.schedule.branches import Memory, by_branch
from graphengine.schedule.loop import Layout
from graphengine.schedule.order import schedule
from graphengine.schedule.program import Buffer, Instruction, Loop, Program, Slot

__all__ = ["plan"]

_ALWAYS = sys.maxsize


def plan(
    name: str,
    results: Mapping[str, Node],
    updates: Mapping[Node, Node],
    binding: Mapping[str, int],
    strided: Collection[str] = (),
) -> Program:
    """The program that computes `results`, which are held to its end, and gives leaves their next values.

    A result bears its key as its name.

    `binding` gives every name of a dim its size; `strided` names the leaves whose arrays are not contiguous.
    """
    nodes = needed_nodes([*results.values(), *updates.values()])
    planner = _Planner(schedule(nodes, updates), results, dict(updates), dict(binding), strided)
    program = planner.program(name)
    order = by_branch(nodes, planner.memory())
    if order is None:
        return program
    other = _Planner(schedule(order, updates), results, dict(updates), dict(binding), strided)
    return min((program, other.program(name)), key=lambda found: found.peak_bytes)


class _Planner:
    """The walk over one order: what is known at each place of it."""

    def __init__(
        self,
        order: Sequence[Node],
        results: Mapping[str, Node],
        updates: Mapping[Node, Node],
        binding: dict[str, int],
        strided: Collection[str],
    ) -> None:
        self.order = order
        self.results = results
        self.updates = updates
        self.binding = binding
        self.strided = strided
        self.loops: dict[Node, Loop] = {}
        self.slots: list[Slot] = []
        self.instructions: list[Instruction] = []
        self.ops: dict[Node, Op] = {}
        self.buffers: dict[Node, Buffer] = {}
        self.operands: dict[Node, tuple[Buffer, ...]] = {}
        """What each node reads: of a bundle, the one item that an `item` node is."""
        self.last_read: dict[Buffer, int] = {}
        self.written_over: dict[Buffer, Node] = {}
        """The leaf over which a value is written: its next value, with nobody left to read the present one."""

    def program(self, name: str) -> Program:
        """Walk the order, then write what could not be written over a leaf in passing."""
        self._declare()
        self._plan_loops()
        self._find_last_reads()
        self._find_overwritten_leaves()
        for place, node in enumerate(self.order):
            if not node.is_leaf:
                self._instruct(place, node)
        results = {name: self._kept(name, node) for name, node in self.results.items()}
        self._assign_rest()
        return Program(
            name=name,
            instructions=tuple(self.instructions),
            slots=tuple(self.slots),
            peak_bytes=pack(self.slots),
            leaves={buffer.leaf: buffer for buffer in self._leaf_buffers() if buffer.leaf is not None},
            results=results,
            inputs=tuple(node.name for node in self.order if node.op.kind == "input"),
            binding=self.binding,
        )

    def memory(self) -> Memory:
        """What the values take in any order; of a bundle, the items that are read."""
        views = {node for node in self.order if self.buffers[node].source}
        owned = [(node, self.buffers[node]) for node in self.order if node not in views]
        nbytes = {
            node: sum(part.type.nbytes for part in buffer.parts.values()) if buffer.parts else buffer.type.nbytes
            for node, buffer in owned
        }
        return Memory(nbytes | dict.fromkeys(views, 0), views, tuple(self.results.values()))

    def _leaf_buffers(self) -> list[Buffer]:
        return [self.buffers[node] for node in self.buffers if node.is_leaf]

    def _declare(self) -> None:
        """Make every buffer, without a place yet; a view knows what it is a view of."""
        binding = Binding(self.binding)
        for node in dict.fromkeys((*self.updates, *self.order)):
            op, type_ = binding.of(node) if self.binding else (node.op, node.type)
            self.ops[node] = op
            leaf = node.name if op.is_leaf else None
            buffer = self.buffers[node] = Buffer(node.name, type_, leaf=leaf, contiguous=leaf not in self.strided)
            if isinstance(type_, BundleType) and not isinstance(op, Scan) and not op.is_view:
                for index in range(len(type_.items)):  # a scan spares itself the items that nobody reads
                    self._part(buffer, index)
            operands = self.operands[node] = self._read_by(node)
            if op.is_view:
                source = operands[0]
                if op.can_view(source.contiguous):
                    buffer.source = source.root  # so that a chain of views is walked once, not once for each
                    buffer.contiguous = source.contiguous and op.keeps_layout()

    def _plan_loops(self) -> None:
        for node in self.order:
            op, out = self.ops[node], self.buffers[node]
            if isinstance(op, Scan):
                layout = Layout(op, out, self.operands[node])
                body = plan(op.body.name, {}, layout.updates, {}, layout.strided)
                self.loops[node] = layout.loop(body)

    def _read_by(self, node: Node) -> tuple[Buffer, ...]:
        buffers = self.buffers
        operands = tuple([buffers[parent] for parent in node.parents])
        if type(node.op) is Item:
            return (self._part(operands[0], node.op.index),)
        return operands

    @staticmethod
    def _part(bundle: Buffer, index: int) -> Buffer:
        """The buffer of one item of a bundle; where the bundle is a view, so are its items."""
        if index not in bundle.parts:
            assert isinstance(bundle.type, BundleType)  # only bundles have items
            part = bundle.parts[index] = Buffer(f"{bundle.name}[{index}]", bundle.type.items[index])
            part.source, part.contiguous = bundle.source, bundle.source is None
        return bundle.parts[index]

    def _find_last_reads(self) -> None:
        last_read = self.last_read
        for place, node in enumerate(self.order):
            for operand in self.operands[node]:
                last_read[operand.root] = place
        for node in self.results.values():
            self.last_read[self.buffers[node].root] = len(self.order)

    def _find_overwritten_leaves(self) -> None:
        """Choose the next values that are written where the present ones stand; the others wait for the end.

        None is written before the values of the results are there: a kernel may refuse what it meets, as a label out of
        range is refused, and then the step leaves everything as it was.
        """
        places = {node: place for place, node in enumerate(self.order)}
        values = [node for node in needed_nodes(self.results.values()) if node.phase is Phase.FORWARD]
        last_value = max((places[node] for node in values), default=-1)
        waiting = {}
        for leaf, node in self.updates.items():
            value, maker = self.buffers[node].root, self._maker(node)
            if maker is None or value in waiting:
                self.last_read[value] = len(self.order)
            else:
                waiting[value] = leaf, *maker
        for value, (leaf, node, item) in waiting.items():
            in_time = last_value <= places[node] and self.last_read.get(value, -1) < len(self.order)
            if in_time and self._may_write(self.buffers[leaf], places[node], node, item):
                self.written_over[value] = leaf
            else:
                self.last_read[value] = len(self.order)

    def _maker(self, node: Node) -> tuple[Node, int] | None:
        """The node whose kernel writes the value of `node`, and as which of its results; None for leaves and views."""
        if isinstance(node.op, Item):
            (bundle,) = node.parents
            is_written = bundle not in self.loops and self.buffers[bundle].source is None
            return (bundle, node.op.index) if is_written else None
        return None if node.is_leaf or self.buffers[node].source else (node, 0)

    def _instruct(self, place: int, node: Node) -> None:
        op, out, operands, loop = self.ops[node], self.buffers[node], self.operands[node], self.loops.get(node)
        types = [operand.type for operand in operands]
        scratch: tuple[Buffer, ...] = ()
        if out.source is None:
            overwritten = self._place(place, node)
            scratch = self._scratch(node, out.type, types)
            for buffer in scratch:
                self._release(buffer)
            self._release_dying(place, out, operands, overwritten)
        elif self.last_read[out.root] == place:
            self._release(out.root)
        flops, moved = _work(loop, op, out, types)
        self.instructions.append(
            Instruction(node.phase, node.name, node.of, op, out, operands, scratch, node.where, flops, moved, loop)
        )

    def _release_dying(
        self, place: int, out: Buffer, operands: Sequence[Buffer], overwritten: Collection[Buffer]
    ) -> None:
        """Release what this instruction is the last to read, and results of it that nobody reads."""
        last_read = self.last_read
        for operand in operands:
            root = operand.root
            if last_read[root] == place and root not in overwritten:
                self._release(root)
        for part in out.parts.values():
            if part.root not in last_read:
                self._release(part.root)

    def _scratch(self, node: Node, type_: TensorType, types: Sequence[TensorType]) -> tuple[Buffer, ...]:
        """The work memory of an instruction."""
        if node in self.loops:
            buffers = self.loops[node].scratch(self.buffers[node])
        else:
            wanted = self.ops[node].scratch(type_, *types)
            buffers = [Buffer(f"{node.name}.scratch", work) for work in wanted] if wanted else []
        for buffer in buffers:
            buffer.slot = self._take(buffer.type)
        return tuple(buffers)

    def _place(self, place: int, node: Node) -> set[Buffer]:
        """Give each result of `node` its memory: the leaf that it updates, a dying operand's, or a slot.

        Returns the operands that are overwritten.
        """
        out, overwritten = self.buffers[node], set[Buffer]()
        results = {part.root: item for item, part in sorted(out.parts.items())} if out.parts else {out: 0}
        for result, item in results.items():
            if result in self.written_over:
                result.leaf = self.written_over[result].name
                continue
            operand = self._dying(place, node, result, item, overwritten)
            if operand is None:
                result.slot = self._take(result.type)
            else:
                result.slot = operand.slot
                overwritten.add(operand)
        return overwritten

    def _dying(self, place: int, node: Node, result: Buffer, item: int, taken: Collection[Buffer]) -> Buffer | None:
        """The operand over which a result is written, if there is one that nobody needs afterwards."""
        allowed = self.ops[node].may_overwrite(item)
        operands = self._memories(node) if allowed else ()
        for position in allowed:
            operand = operands[position] if position < len(operands) else None
            if operand is None or operand.slot is None or operand.type != result.type or operand in taken:
                continue
            if self._may_write(operand, place, node, item):
                return operand
        return None

    def _memories(self, node: Node) -> Sequence[Buffer]:
        """The buffers that `node` reads; where one sees all of a bundle's item, and so is that memory, the item."""
        if Item not in [type(parent.op) for parent in node.parents]:
            return self.operands[node]
        made = [self._maker(parent) if isinstance(parent.op, Item) else None for parent in node.parents]
        return [
            operand if maker is None else self.buffers[maker[0]].parts[maker[1]]
            for operand, maker in zip(self.operands[node], made, strict=True)
        ]

    def _may_write(self, target: Buffer, place: int, node: Node, item: int) -> bool:
        """Whether nothing reads `target` after this instruction, and this one's result may be written over it."""
        last = self.last_read.get(target, -1)
        if last != place:
            return last < place
        allowed = self.ops[node].may_overwrite(item)
        type_ = self.buffers[node].parts[item].type if self.buffers[node].parts else self.buffers[node].type
        return all(
            operand is target and position in allowed and operand.type == type_
            for position, operand in enumerate(self._memories(node))
            if operand.root is target
        )

    def _take(self, type_: TensorType) -> Slot:
        """A slot from the coming instruction on."""
        slot = Slot(rounded(type_.nbytes), len(self.instructions), _ALWAYS)
        self.slots.append(slot)
        return slot

    def _release(self, buffer: Buffer) -> None:
        """Let the slot of `buffer` live up to the coming instruction."""
        if buffer.slot is not None:
            buffer.slot.last = len(self.instructions)

    def _kept(self, name: str, node: Node) -> Buffer:
        """Where a result stands at the end: aside, if it is seen in a leaf that is yet to get its next value."""
        value = self.buffers[node]
        if value.root.leaf not in {leaf.name for leaf in self.updates}:
            return value
        held = Buffer(f"{name}.kept", value.type, slot=self._take(value.type))
        self._copy(node, value, held)
        return held

    def _assign_rest(self) -> None:
        """Copy into their leaves the next values that stand elsewhere, all read before any is written."""
        pending = [
            (leaf, value)
            for leaf, node in self.updates.items()
            if self.written_over.get((value := self.buffers[node]).root) is not leaf and node is not leaf
        ]
        moves = []
        targets = {leaf.name for leaf in self.updates}
        for leaf, value in pending:
            if value.root.leaf in targets:
                held = Buffer(f"{leaf.name}.next", value.type, slot=self._take(value.type))
                self._copy(leaf, value, held)
                value = held
            moves.append((leaf, value))
        for leaf, value in moves:
            self._copy(leaf, value, self.buffers[leaf])

    def _copy(self, leaf: Node, value: Buffer, target: Buffer) -> None:
        moved = 2 * value.type.nbytes
        self.instructions.append(
            Instruction(Phase.UPDATE, target.name, leaf.name, Copy(), target, (value,), (), leaf.where, 0, moved)
        )


def _work(loop: Loop | None, op: Op, out: Buffer, types: Sequence[TensorType]) -> tuple[int, int]:
    """The FLOPs of an instruction, and the bytes that it moves."""
    if loop is not None:
        moved = sum(step.bytes_moved for step in loop.body.instructions)
        copied = sum(2 * first.type.nbytes for first in loop.firsts.values())
        return len(loop.order) * sum(loop.body.flops().values()), len(loop.order) * moved + copied
    return op.flops(out.type, *types), 0 if out.source else sum([type.nbytes for type in (out.type, *types)])
