"""From instructions to calls: every kernel bound to the arrays that its buffers are, a scan's once for every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from graphengine.ir.leaf import Constant
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array
from graphengine.ops.elementwise import Copy
from graphengine.ops.scan import Scan
from graphengine.schedule.program import Buffer, Instruction, Loop

Bound = tuple[Any, Instruction]
"""A call, in the form that the backend runs, and the instruction that it is of."""

Binder = Callable[[Op, Any, Sequence[Array], Sequence[Array]], Iterable[Any]]
"""The calls that compute an op's value: of the op, where it writes, its operands, and its work arrays."""


def numpy_calls(op: Op, out: Any, operands: Sequence[Array], scratch: Sequence[Array]) -> Sequence[Call]:
    """The op's kernel, which NumPy runs."""
    return op.calls(out, *operands, scratch=scratch)


class Frame:
    """The arrays that a program's buffers are: slots of its arena, a block of bytes; its leaves; and views of both."""

    def __init__(self, arena: Array, leaves: Mapping[str, Array], binder: Binder = numpy_calls) -> None:
        self._arena = arena
        self._leaves = leaves
        self._binder = binder
        self._arrays: dict[Buffer, Array] = {}

    def moved(self, leaves: Mapping[str, Array]) -> Frame:
        """This frame, with other leaves besides those that it has."""
        frame = Frame(self._arena, {**self._leaves, **leaves}, self._binder)
        frame._arrays = dict(self._arrays)
        return frame

    def array(self, buffer: Buffer) -> Array:
        """The array that `buffer` is."""
        array = self._arrays.get(buffer)
        if array is None:
            if buffer.slot is None:
                assert buffer.leaf is not None  # a view is bound by the instruction that makes it
                array = self._leaves[buffer.leaf]
            else:
                type_ = buffer.type
                array = np.ndarray(type_.static_shape, type_.dtype, self._arena, buffer.slot.offset)
            self._arrays[buffer] = array
        return array

    def bind(self, step: Instruction) -> list[Bound]:
        """The calls that compute the value of `step`: none for a view, one for a kernel, many for a scan."""
        if step.loop is not None:
            calls = list(self._unroll(step, step.loop))
            self._show_items(step, step.loop)
            return calls
        operands = [self.array(operand) for operand in step.operands]
        if step.is_view:
            self._look(step, operands[0])
            return []
        scratch = [self.array(buffer) for buffer in step.scratch]
        return [(call, step) for call in self._binder(step.op, self._out(step.out), operands, scratch)]

    def _out(self, buffer: Buffer) -> Any:
        """Where a kernel writes: an array, or an array for each item of a tuple."""
        if not buffer.parts:
            return self.array(buffer)
        return tuple([self.array(part) for _, part in sorted(buffer.parts.items())])

    def _look(self, step: Instruction, operand: Array) -> None:
        """Let the value of `step`, or the items of it that are read, be views of the operand."""
        view = step.op.view(operand)
        self._arrays[step.out] = view
        for index, part in step.out.parts.items():
            self._arrays[part] = view[index]

    def _unroll(self, scan: Instruction, loop: Loop) -> Iterator[Bound]:
        """The calls of all steps of a scan, one after the other; what does not move with the steps is bound once.

        To bind a step costs about what it costs to run it once.
        """
        held = {name: self.array(buffer) for name, buffer in loop.held.items()}
        stacks = {name: (self.array(rows.stack), rows.shift) for name, rows in loop.rows.items()}

        def leaves_at(t: int) -> dict[str, Array]:
            return {name: stack[t + shift, ...] for name, (stack, shift) in stacks.items()}

        for name, first in loop.firsts.items():
            stack, shift = stacks.get(name, (None, 0))
            target = held[name] if stack is None else stack[loop.order.start + shift, ...]
            for call in self._binder(Copy(), target, [self.array(first)], ()):
                yield call, scan
        still = Frame(self.array(loop.memory), {**_constants(scan.op), **held}, self._binder)
        moving = _moving(loop)
        bound_once = {step: still.bind(step) for step in loop.body.instructions if step not in moving}
        for t in loop.order:
            frame = still.moved(leaves_at(t))
            for step in loop.body.instructions:
                yield from bound_once[step] if step in bound_once else frame.bind(step)

    def _show_items(self, scan: Instruction, loop: Loop) -> None:
        """Let the items of a scan be what they are of its stacks."""
        for item, part in scan.out.parts.items():
            if item in loop.ends:
                rows = loop.ends[item]
                self._arrays[part] = self.array(rows.stack)[loop.order.stop + rows.shift, ...]
            elif item in loop.stacked:
                rows = loop.stacked[item]
                self._arrays[part] = self.array(rows.stack)[rows.shift : rows.shift + len(loop.order)]


def _moving(loop: Loop) -> set[Instruction]:
    """The instructions of the body that read or write what is elsewhere at each step.

    So do those that read a view which such an instruction makes: it is an array that each step has for itself.
    """
    moving: set[Instruction] = set()
    views: set[Buffer] = set()
    for step in loop.body.instructions:
        buffers = (step.out, *step.out.parts.values(), *step.operands, *step.scratch)
        if any(buffer.root.leaf in loop.rows or buffer in views for buffer in buffers):
            moving.add(step)
            if step.is_view or step.loop is not None:
                views.update((step.out, *step.out.parts.values()))
    return moving


def _constants(scan: object) -> dict[str, Array]:
    assert isinstance(scan, Scan)  # nothing else has a loop
    return {node.name: node.op.value for node in scan.body.nodes if isinstance(node.op, Constant)}
