"""Which buffer lives when: lifetimes to slots, views to no memory at all, results over operands where ops allow it.

The order is walked once. A buffer lives from the instruction that writes it to the last that reads it or a view of
it, and has a slot for that time. The offsets of the slots in the arena are found once all of them are known.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from graphengine.ir.node import Node, Phase
from graphengine.ir.op import GetItem, Op
from graphengine.ir.subgraph import needed_nodes
from graphengine.ir.types import TupleType, ValueType
from graphengine.ops.elementwise import Copy
from graphengine.ops.scan import Scan
from graphengine.schedule.arena import pack, rounded
from graphengine.schedule.binding import Binding
from graphengine.schedule.branches import by_branch
from graphengine.schedule.loop import Layout
from graphengine.schedule.order import schedule
from graphengine.schedule.program import Buffer, Instruction, Program, Slot

_ALWAYS = sys.maxsize

Scratch = Callable[..., Sequence[ValueType]]


def numpy_scratch(op: Op, y: ValueType, *types: ValueType) -> Sequence[ValueType]:
    """The work memory of an op's NumPy kernel."""
    return op.scratch(y, *types)


def plan(
    name: str,
    results: Mapping[str, Node],
    updates: Mapping[Node, Node],
    binding: Mapping[str, int],
    strided: Collection[str] = (),
    scratch: Scratch = numpy_scratch,
) -> Program:
    """The program that computes `results`, which are held to its end, and gives leaves their next values.

    A result has its key as its name.

    `binding` gives every name of a dim its size; `strided` names the leaves whose arrays are not contiguous.
    `scratch(op, y, *types)` gives the work memory of an op, for results and operands of these types.
    """
    nodes = needed_nodes([*results.values(), *updates.values()])

    def planner(nodes: Sequence[Node]) -> _Planner:
        return _Planner(schedule(nodes, updates), results, updates, binding, strided, scratch)

    as_declared = planner(nodes)
    program = as_declared.program(name)
    order = by_branch(nodes, as_declared.nbytes(), results.values())
    if order is None:
        return program
    return min((program, planner(order).program(name)), key=lambda found: found.peak_bytes)


@dataclass(slots=True, eq=False)
class _Planner:
    """The walk over one order: what is known at each instruction of it."""

    order: Sequence[Node]
    results: Mapping[str, Node]
    updates: Mapping[Node, Node]
    binding: Mapping[str, int]
    strided: Collection[str] = ()
    scratch: Scratch = numpy_scratch
    slots: list[Slot] = field(default_factory=list)
    buffers: dict[Node, Buffer] = field(default_factory=dict)
    steps: list[Instruction] = field(default_factory=list)
    """What is computed; a `get_item` reads the one item that it is."""
    instructions: list[Instruction] = field(default_factory=list)
    """The steps that have been gone through, and then the copies."""
    makers: dict[Buffer, tuple[int, int]] = field(default_factory=dict)
    """The values that a kernel writes: the index of its step, and which result of it. Not leaves, views or scans."""
    parts: dict[Buffer, Buffer] = field(default_factory=dict)
    """Of what shows all of an item that a kernel writes: that item."""
    written_over: dict[Buffer, Node] = field(default_factory=dict)
    """The leaf over which a value is written: its next value, when nothing is left to read the present one."""

    def program(self, name: str) -> Program:
        """Walk the order, then write what could not be written over a leaf in passing."""
        self._declare()
        self._plan_loops()
        self._find_last_reads()
        self._find_overwritten_leaves()
        for number in range(len(self.steps)):
            self._instruct(number)
        targets = {leaf.name for leaf in self.updates}
        results = {name: self._result(name, node, targets) for name, node in self.results.items()}
        self._assign_rest(targets)
        return Program(
            name=name,
            instructions=tuple(self.instructions),
            slots=tuple(self.slots),
            peak_bytes=pack(self.slots),
            leaves={node.name: buffer for node, buffer in self.buffers.items() if node.op.is_leaf},
            results=results,
            inputs=tuple([node.name for node in self.order if node.op.kind == "input"]),
            binding=dict(self.binding),
        )

    def nbytes(self) -> dict[Node, int]:
        """The bytes of all values but views; of a tuple, those of the items that are read."""
        return {
            node: sum(part.type.nbytes for part in buffer.components.values())
            for node, buffer in self.buffers.items()
            if buffer.source is None
        }

    def _declare(self) -> None:
        """Make every buffer and instruction, without memory yet; a view knows what it is a view of."""
        binding, buffers, makers = Binding(self.binding), self.buffers, self.makers
        for node in dict.fromkeys((*self.updates, *self.order)):
            op, type_ = binding.of(node) if self.binding else (node.op, node.type)
            if op.is_leaf:
                buffers[node] = Buffer(node.name, type_, leaf=node.name, contiguous=node.name not in self.strided)
                continue
            out = buffers[node] = Buffer(node.name, type_)
            if isinstance(type_, TupleType) and not isinstance(op, Scan) and not op.is_view:
                for index in range(len(type_.items)):  # a scan spares itself the items that nothing reads
                    _part(out, index)
            operands = tuple([buffers[parent] for parent in node.parents])
            if isinstance(op, GetItem):
                whole, operands = operands[0], (_part(operands[0], op.index),)
                if whole in makers:
                    makers[out], self.parts[out] = (makers[whole][0], op.index), operands[0]
            if op.is_view and op.can_view((source := operands[0]).contiguous):
                out.source = source.root  # so that a chain of views is walked once, not once for each
                out.contiguous = source.contiguous and op.keeps_layout
            elif not isinstance(op, Scan):
                makers[out] = len(self.steps), 0
            self.steps.append(Instruction(node.phase, node.name, node.of, op, out, operands, node.where))

    def _plan_loops(self) -> None:
        for step in self.steps:
            if isinstance(step.op, Scan):
                layout = Layout(step.op, step.out, step.operands)
                body = plan(step.op.body.name, {}, layout.updates, {}, layout.strided, self.scratch)
                step.loop = layout.loop(body)

    def _find_last_reads(self) -> None:
        for number, step in enumerate(self.steps):
            for operand in step.operands:
                operand.root.last_read = number
        for node in self.results.values():
            self.buffers[node].root.last_read = len(self.steps)

    def _find_overwritten_leaves(self) -> None:
        """Choose the next values that are written over the present ones; the others wait for the end.

        None is written before the values of the results are there: a kernel may refuse what it meets, as a label out of
        range is refused, and then the step leaves everything as it was.
        """
        end = len(self.steps)
        results = {self.buffers[node] for node in needed_nodes(self.results.values())}
        last_value = max((number for number, step in enumerate(self.steps) if step.out in results), default=-1)
        waiting: dict[Buffer, tuple[Node, int, int]] = {}
        for leaf, node in self.updates.items():
            buffer = self.buffers[node]
            if buffer not in self.makers or buffer.root in waiting:
                buffer.root.last_read = end
            else:
                waiting[buffer.root] = leaf, *self.makers[buffer]
        for value, (leaf, number, item) in waiting.items():
            in_time = last_value <= number and value.last_read < end
            if in_time and self._may_write(self.buffers[leaf], number, item):
                self.written_over[value] = leaf
            else:
                value.last_read = end

    def _instruct(self, number: int) -> None:
        """Give an instruction its memory, and release what it is the last to need."""
        step, overwritten = self.steps[number], set[Buffer]()
        if not step.is_view:
            overwritten = self._place(number)
            step.scratch = self._scratch(step)
        for operand in step.operands:
            root = operand.root
            if root.last_read == number and root not in overwritten:
                self._release(root)
        for part in step.out.parts.values():  # results that nothing reads
            if part.root.last_read < 0:
                self._release(part.root)
        step.flops, step.bytes_moved = _work(step)
        self.instructions.append(step)

    def _scratch(self, step: Instruction) -> tuple[Buffer, ...]:
        """The work memory of an instruction, which is needed while it runs."""
        if step.loop is not None:
            buffers = step.loop.scratch(step.out)
        else:
            types = self.scratch(step.op, step.out.type, *[operand.type for operand in step.operands])
            buffers = [Buffer(f"{step.name}.scratch", type_) for type_ in types]
        for buffer in buffers:
            buffer.slot = self._take(buffer.type)
            self._release(buffer)
        return tuple(buffers)

    def _place(self, number: int) -> set[Buffer]:
        """Give each result of an instruction its memory: the leaf that it updates, a dying operand's, or a slot.

        Returns the operands that are overwritten.
        """
        overwritten = set[Buffer]()
        out = self.steps[number].out
        results = {part.root: item for item, part in sorted(out.parts.items())} if out.parts else {out: 0}
        for result, item in results.items():
            if result in self.written_over:
                result.leaf = self.written_over[result].name
            elif operand := self._dying(number, item, overwritten):
                result.slot = operand.slot
                overwritten.add(operand)
            else:
                result.slot = self._take(result.type)
        return overwritten

    def _dying(self, number: int, item: int, taken: Collection[Buffer]) -> Buffer | None:
        """The operand over which a result is written, if there is one that nothing needs afterwards."""
        step = self.steps[number]
        allowed = step.op.may_overwrite(item)
        operands = self._memories(step) if allowed else ()
        for operand in [operands[position] for position in allowed if position < len(operands)]:
            if operand.slot and operand not in taken and self._may_write(operand, number, item):
                return operand
        return None

    def _memories(self, step: Instruction) -> Sequence[Buffer]:
        """What an instruction reads; the item itself, instead of what shows all of it."""
        return [self.parts.get(operand, operand) for operand in step.operands] if self.parts else step.operands

    def _may_write(self, target: Buffer, number: int, item: int) -> bool:
        """Whether nothing reads `target` after this instruction, and this one's result may be written over it."""
        if target.last_read != number:
            return target.last_read < number
        step = self.steps[number]
        allowed, type_ = step.op.may_overwrite(item), step.out.components[item].type
        for position, operand in enumerate(self._memories(step)):
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

    def _result(self, name: str, node: Node, targets: Collection[str]) -> Buffer:
        """Where a result is at the end: in a copy, if its memory is a leaf that is yet to get its next value."""
        value = self.buffers[node]
        return self._aside(f"{name}.kept", node, value) if value.root.leaf in targets else value

    def _assign_rest(self, targets: Collection[str]) -> None:
        """Copy into their leaves the next values that are elsewhere, all read before any is written."""
        moves = []
        for leaf, node in self.updates.items():
            value = self.buffers[node]
            if self.written_over.get(value.root) is leaf or node is leaf:
                continue
            if value.root.leaf in targets:
                value = self._aside(f"{leaf.name}.next", leaf, value)
            moves.append((leaf, value))
        for leaf, value in moves:
            self._copy(leaf, value, self.buffers[leaf])

    def _aside(self, name: str, node: Node, value: Buffer) -> Buffer:
        """A copy of a value in a slot of its own."""
        copied = Buffer(name, value.type, slot=self._take(value.type))
        self._copy(node, value, copied)
        return copied

    def _copy(self, node: Node, value: Buffer, target: Buffer) -> None:
        moved = 2 * value.type.nbytes
        self.instructions.append(
            Instruction(Phase.UPDATE, target.name, node.name, Copy(), target, (value,), node.where, bytes_moved=moved)
        )


def _part(whole: Buffer, index: int) -> Buffer:
    """The buffer of one item of a tuple; where the tuple is a view, so are its items."""
    if index not in whole.parts:
        assert isinstance(whole.type, TupleType)  # only tuples have items
        part = whole.parts[index] = Buffer(f"{whole.name}[{index}]", whole.type.items[index])
        part.source, part.contiguous = whole.source, whole.source is None
    return whole.parts[index]


def _work(step: Instruction) -> tuple[int, int]:
    """The FLOPs of an instruction, and the bytes that it moves."""
    if step.loop is not None:
        steps, body = step.loop.steps, step.loop.body
        moved = sum(step.bytes_moved for step in body.instructions)
        copied = sum(2 * first.type.nbytes for first in step.loop.firsts.values())
        return steps * sum(body.flops().values()), steps * moved + copied
    types = [step.out.type, *[operand.type for operand in step.operands]]
    return step.op.flops(*types), 0 if step.is_view else sum([type.nbytes for type in types])
