"""Which buffer lives when: lifetimes to slots, views to no memory at all, results over operands where ops allow it.

The order is walked once. A buffer lives from the instruction that writes it to the last that reads it or a view of
it, and has a slot for that time. Where the slots stand in the arena is found once all of them are known.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence

from graphengine.ir.node import Node, Phase
from graphengine.ir.op import GetItem, Op
from graphengine.ir.subgraph import needed_nodes
from graphengine.ir.types import TupleType, ValueType
from graphengine.ops.elementwise import Copy
from graphengine.ops.scan import Scan
from graphengine.schedule.arena import pack, rounded
from graphengine.schedule.binding import Binding
from graphengine.schedule.branches import Memory, by_branch
from graphengine.schedule.loop import Layout
from graphengine.schedule.order import schedule
from graphengine.schedule.program import Buffer, Instruction, Loop, Program, Slot

_ALWAYS = sys.maxsize

Scratch = Callable[..., Sequence[ValueType]]


def numpy_scratch(op: Op, y: ValueType, *types: ValueType) -> Sequence[ValueType]:
    """The work memory of an op's NumPy kernel."""
    return op.scratch(y, *types)


_Step = tuple[Node, Op, Buffer, tuple[Buffer, ...]]
"""A node that computes something, with its op for these sizes, and what it writes and reads."""


def plan(
    name: str,
    results: Mapping[str, Node],
    updates: Mapping[Node, Node],
    binding: Mapping[str, int],
    strided: Collection[str] = (),
    scratch: Scratch = numpy_scratch,
) -> Program:
    """The program that computes `results`, which are held to its end, and gives leaves their next values.

    A result bears its key as its name.

    `binding` gives every name of a dim its size; `strided` names the leaves whose arrays are not contiguous.
    `scratch(op, y, *types)` gives the work memory of an op, for results and operands of these types.
    """
    nodes = needed_nodes([*results.values(), *updates.values()])
    planner = _Planner(schedule(nodes, updates), results, dict(updates), dict(binding), strided, scratch)
    program = planner.program(name)
    order = by_branch(nodes, planner.memory())
    if order is None:
        return program
    other = _Planner(schedule(order, updates), results, dict(updates), dict(binding), strided, scratch)
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
        scratch: Scratch = numpy_scratch,
    ) -> None:
        self.order = order
        self.results = results
        self.updates = updates
        self.binding = binding
        self.strided = strided
        self.scratch = scratch
        self.loops: dict[Node, Loop] = {}
        self.slots: list[Slot] = []
        self.instructions: list[Instruction] = []
        self.buffers: dict[Node, Buffer] = {}
        self.steps: list[_Step] = []
        """By number: an instruction each, and of an `item` node the operand is the one item that it is."""
        self.written_over: dict[Buffer, Node] = {}
        """The leaf over which a value is written: its next value, with nobody left to read the present one."""

    def program(self, name: str) -> Program:
        """Walk the order, then write what could not be written over a leaf in passing."""
        self._declare()
        self._plan_loops()
        self._find_last_reads()
        self._find_overwritten_leaves()
        for number in range(len(self.steps)):
            self._instruct(number)
        results = {name: self._kept(name, node) for name, node in self.results.items()}
        self._assign_rest()
        return Program(
            name=name,
            instructions=tuple(self.instructions),
            slots=tuple(self.slots),
            peak_bytes=pack(self.slots),
            leaves={node.name: buffer for node, buffer in self.buffers.items() if node.op.is_leaf},
            results=results,
            inputs=tuple([node.name for node in self.order if node.op.kind == "input"]),
            binding=self.binding,
        )

    def memory(self) -> Memory:
        """What the values take in any order; of a tuple, the items that are read."""
        buffers = self.buffers
        views = {node for node in self.order if buffers[node].source}
        nbytes = {
            node: 0 if buffer.source else sum(part.type.nbytes for part in (buffer.parts or {0: buffer}).values())
            for node, buffer in buffers.items()
        }
        return Memory(nbytes, views, tuple(self.results.values()))

    def _declare(self) -> None:
        """Make every buffer, without a place yet; a view knows what it is a view of."""
        binding, buffers = Binding(self.binding), self.buffers
        for node in dict.fromkeys((*self.updates, *self.order)):
            op, type_ = binding.of(node) if self.binding else (node.op, node.type)
            if op.is_leaf:
                buffers[node] = Buffer(node.name, type_, leaf=node.name, contiguous=node.name not in self.strided)
                continue
            buffer = buffers[node] = Buffer(node.name, type_)
            if isinstance(type_, TupleType) and not isinstance(op, Scan) and not op.is_view:
                for index in range(len(type_.items)):  # a scan spares itself the items that nobody reads
                    self._part(buffer, index)
            operands = tuple([buffers[parent] for parent in node.parents])
            if isinstance(op, GetItem):
                operands = (self._part(operands[0], op.index),)
            self.steps.append((node, op, buffer, operands))
            if op.is_view:
                source = operands[0]
                if op.can_view(source.contiguous):
                    buffer.source = source.root  # so that a chain of views is walked once, not once for each
                    buffer.contiguous = source.contiguous and op.keeps_layout()

    def _plan_loops(self) -> None:
        for node, op, out, operands in self.steps:
            if isinstance(op, Scan):
                layout = Layout(op, out, operands)
                body = plan(op.body.name, {}, layout.updates, {}, layout.strided, self.scratch)
                self.loops[node] = layout.loop(body)

    @staticmethod
    def _part(whole: Buffer, index: int) -> Buffer:
        """The buffer of one item of a tuple; where the tuple is a view, so are its items."""
        if index not in whole.parts:
            assert isinstance(whole.type, TupleType)  # only tuples have items
            part = whole.parts[index] = Buffer(f"{whole.name}[{index}]", whole.type.items[index])
            part.source, part.contiguous = whole.source, whole.source is None
        return whole.parts[index]

    def _find_last_reads(self) -> None:
        for number, (_, _, _, operands) in enumerate(self.steps):
            for operand in operands:
                operand.root.last_read = number
        for node in self.results.values():
            self.buffers[node].root.last_read = len(self.steps)

    def _find_overwritten_leaves(self) -> None:
        """Choose the next values that are written where the present ones stand; the others wait for the end.

        None is written before the values of the results are there: a kernel may refuse what it meets, as a label out of
        range is refused, and then the step leaves everything as it was.
        """
        end = len(self.steps)
        numbers = {step[0]: number for number, step in enumerate(self.steps)}
        values = [node for node in needed_nodes(self.results.values()) if node.phase is Phase.FORWARD]
        last_value = max((numbers.get(node, -1) for node in values), default=-1)
        waiting = {}
        for leaf, node in self.updates.items():
            value, maker = self.buffers[node].root, self._maker(node)
            if maker is None or value in waiting:
                value.last_read = end
            else:
                waiting[value] = leaf, *maker
        for value, (leaf, node, item) in waiting.items():
            number = numbers[node]
            in_time = last_value <= number and value.last_read < end
            if in_time and self._may_write(self.buffers[leaf], number, item):
                self.written_over[value] = leaf
            else:
                value.last_read = end

    def _maker(self, node: Node) -> tuple[Node, int] | None:
        """The node whose kernel writes the value of `node`, and as which of its results; None for leaves and views."""
        if isinstance(node.op, GetItem):
            (whole,) = node.parents
            is_written = whole not in self.loops and self.buffers[whole].source is None
            return (whole, node.op.index) if is_written else None
        return None if node.op.is_leaf or self.buffers[node].source else (node, 0)

    def _instruct(self, number: int) -> None:
        node, op, out, operands = self.steps[number]
        loop = self.loops.get(node)
        types = [operand.type for operand in operands]
        scratch: tuple[Buffer, ...] = ()
        if out.source is None:
            overwritten = self._place(number)
            scratch = self._scratch(number, types)
            self._release_dying(number, overwritten)
        elif out.root.last_read == number:
            self._release(out.root)
        flops, moved = _work(loop, op, out, types)
        self.instructions.append(
            Instruction(node.phase, node.name, node.of, op, out, operands, scratch, node.where, flops, moved, loop)
        )

    def _release_dying(self, number: int, overwritten: Collection[Buffer]) -> None:
        """Release what this instruction is the last to read, and results of it that nobody reads."""
        _, _, out, operands = self.steps[number]
        for operand in operands:
            root = operand.root
            if root.last_read == number and root not in overwritten:
                self._release(root)
        for part in out.parts.values():
            if part.root.last_read < 0:
                self._release(part.root)

    def _scratch(self, number: int, types: Sequence[ValueType]) -> tuple[Buffer, ...]:
        """The work memory of an instruction, which is needed while it runs."""
        node, op, out, _ = self.steps[number]
        if node in self.loops:
            buffers = self.loops[node].scratch(out)
        else:
            buffers = [Buffer(f"{node.name}.scratch", type_) for type_ in self.scratch(op, out.type, *types)]
        for buffer in buffers:
            buffer.slot = self._take(buffer.type)
            self._release(buffer)
        return tuple(buffers)

    def _place(self, number: int) -> set[Buffer]:
        """Give each result of an instruction its memory: the leaf that it updates, a dying operand's, or a slot.

        Returns the operands that are overwritten.
        """
        out, overwritten = self.steps[number][2], set[Buffer]()
        results = {part.root: item for item, part in sorted(out.parts.items())} if out.parts else {out: 0}
        for result, item in results.items():
            if result in self.written_over:
                result.leaf = self.written_over[result].name
                continue
            operand = self._dying(number, result, item, overwritten)
            if operand is None:
                result.slot = self._take(result.type)
            else:
                result.slot = operand.slot
                overwritten.add(operand)
        return overwritten

    def _dying(self, number: int, result: Buffer, item: int, taken: Collection[Buffer]) -> Buffer | None:
        """The operand over which a result is written, if there is one that nobody needs afterwards."""
        allowed = self.steps[number][1].may_overwrite(item)
        operands = self._memories(number) if allowed else ()
        for position in allowed:
            operand = operands[position] if position < len(operands) else None
            if operand is None or operand.slot is None or operand.type != result.type or operand in taken:
                continue
            if self._may_write(operand, number, item):
                return operand
        return None

    def _memories(self, number: int) -> Sequence[Buffer]:
        """What an instruction reads; of what sees all of a tuple's item, and so is that memory, the item."""
        node, _, _, operands = self.steps[number]
        if GetItem not in [type(parent.op) for parent in node.parents]:
            return operands
        made = [self._maker(parent) if isinstance(parent.op, GetItem) else None for parent in node.parents]
        return [
            operand if maker is None else self.buffers[maker[0]].parts[maker[1]]
            for operand, maker in zip(operands, made, strict=True)
        ]

    def _may_write(self, target: Buffer, number: int, item: int) -> bool:
        """Whether nothing reads `target` after this instruction, and this one's result may be written over it."""
        if target.last_read != number:
            return target.last_read < number
        _, op, out, _ = self.steps[number]
        allowed = op.may_overwrite(item)
        type_ = out.parts[item].type if out.parts else out.type
        for position, operand in enumerate(self._memories(number)):
            if operand.root is target and (operand is not target or position not in allowed or operand.type != type_):
                return False
        return True

    def _take(self, type_: ValueType) -> Slot:
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


def _work(loop: Loop | None, op: Op, out: Buffer, types: Sequence[ValueType]) -> tuple[int, int]:
    """The FLOPs of an instruction, and the bytes that it moves."""
    if loop is not None:
        moved = sum(step.bytes_moved for step in loop.body.instructions)
        copied = sum(2 * first.type.nbytes for first in loop.firsts.values())
        return len(loop.order) * sum(loop.body.flops().values()), len(loop.order) * moved + copied
    return op.flops(out.type, *types), 0 if out.source else sum([type.nbytes for type in (out.type, *types)])
