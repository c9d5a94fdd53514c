"""The reference backend: every instruction one NumPy kernel, bound to its arrays before the first run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from graphengine.errors import ExecutionError
from graphengine.ir import dims
from graphengine.ir.leaf import Constant
from graphengine.ir.op import Array, Call
from graphengine.ops.scan import Scan
from graphengine.schedule.memory import CACHE_LINE
from graphengine.schedule.program import Buffer, Instruction, Program

__all__ = ["NumpyBackend"]

BUFFERED_ELEMENTS = 320
"""How much NumPy buffers of an operand that it repeats, a bias say. By itself it is 8192, allocated in every call."""


class NumpyBackend:
    """Runs a program as a loop over bound kernels, on slots of one arena."""

    name = "numpy"

    def load(self, program: Program, leaves: Mapping[str, Array]) -> LoadedProgram:
        """Allocate the arena and bind every instruction to its arrays."""
        return LoadedProgram(program, leaves)


class LoadedProgram:
    """A program bound to arrays. Running it looks nothing up and allocates no array."""

    def __init__(self, program: Program, leaves: Mapping[str, Array]) -> None:
        self._slots = allocate(program.slot_bytes)
        self._leaves = leaves
        self._arrays: dict[Buffer, Array] = {}
        self._calls: list[Call] = []
        self._steps: list[Instruction] = []
        self._first_call = [0]
        for step in program.instructions:
            self._bind(step)
            self._first_call.append(len(self._calls))
        self.results: dict[str, Array] = {name: self._array(buffer) for name, buffer in program.results.items()}

    def run(self, start: int, stop: int) -> None:
        """Run the instructions from `start` up to `stop`; overflow and 0/0 give inf and NaN without a warning."""
        calls = self._calls
        first, last = self._first_call[start], self._first_call[stop]
        if first or last < len(calls):
            calls = calls[first:last]
        with np.errstate(all="ignore"):  # which puts the size of buffers back as well
            np.setbufsize(BUFFERED_ELEMENTS)
            try:
                for function, arguments in calls:
                    function(*arguments)
            except ExecutionError as error:
                self._explain(error, (function, arguments))
                raise

    def _bind(self, step: Instruction) -> None:
        operands = [self._array(operand) for operand in step.operands]
        if step.is_view:
            self._arrays[step.out] = step.op.view(operands[0])
            return
        if isinstance(step.op, Scan):
            self._calls.append((self._loop(step, step.op, operands), ()))
            self._steps.append(step)
            return
        scratch = [self._array(buffer) for buffer in step.scratch]
        self._calls.append(step.op.bind(self._array(step.out), *operands, scratch=scratch))
        self._steps.append(step)

    def _loop(self, step: Instruction, scan: Scan, operands: list[Array]) -> Callable[[], None]:
        """The kernel of a scan: its body's kernels, run once for every step between copies of what a step is given."""
        assert step.body is not None  # the planner gives every scan the program of its body
        inputs = scan.body.inputs
        leaves = {node.name: node.op.value for node in scan.body.nodes if isinstance(node.op, Constant)}
        for place, (node, operand) in enumerate(zip(inputs, operands, strict=True)):
            given = place >= scan.carries + scan.sequences
            leaves[node.name] = operand if given else np.empty(node.type.static_shape, node.type.dtype)
        body = LoadedProgram(step.body, leaves)
        carries = [(leaves[node.name], first) for node, first in zip(inputs[: scan.carries], operands, strict=False)]
        stop = scan.carries + scan.sequences
        read = [
            (leaves[node.name], sequence)
            for node, sequence in zip(inputs[scan.carries : stop], operands[scan.carries : stop], strict=True)
            if node.name in step.body.leaves
        ]
        parts = {index: self._array(part) for index, part in step.out.parts.items()}
        nodes = scan.item_nodes()
        kept = [(parts[i], body.results[nodes[i].name]) for i in parts if i >= scan.carries]
        last = [(parts[i], carries[i][0]) for i in parts if i < scan.carries]
        count = dims.bind(scan.steps([operand.type for operand in step.operands]), {})
        order = range(count)[::-1] if scan.reverse else range(count)
        given_by_step = [[(array, sequence[t, ...]) for array, sequence in read] for t in order]
        kept_by_step = [[(stack[t, ...], result) for stack, result in kept] for t in order]

        def run() -> None:
            for array, first in carries:
                copyto(array, first)
            for given, keeping in zip(given_by_step, kept_by_step, strict=True):
                for array, value in given:
                    copyto(array, value)
                for function, arguments in calls:
                    function(*arguments)
                for stack, value in keeping:
                    copyto(stack, value)
            for array, value in last:
                copyto(array, value)

        copyto, calls = np.copyto, body._calls
        return run

    def _array(self, buffer: Buffer) -> Array:
        if buffer not in self._arrays:
            if buffer.slot is None:
                assert buffer.leaf is not None  # a view is bound by the instruction that makes it
                self._arrays[buffer] = self._leaves[buffer.leaf]
            else:
                memory = self._slots[buffer.slot][: buffer.type.nbytes]
                self._arrays[buffer] = memory.view(buffer.type.dtype).reshape(buffer.type.static_shape)
        return self._arrays[buffer]

    def _explain(self, error: ExecutionError, failed: Call) -> None:
        function, arguments = failed
        calls = zip(self._steps, self._calls, strict=True)
        step = next(step for step, call in calls if call[0] is function and call[1] is arguments)
        error.quote(
            f"node  {step}",
            f"declared at {step.where}",
            *(f"{operand.name} is {operand.type}" for operand in dict.fromkeys(step.operands)),
        )


def allocate(slot_bytes: tuple[int, ...]) -> list[Array]:
    """One block of memory, aligned to a cache line, cut into slots."""
    block = np.empty(sum(slot_bytes) + CACHE_LINE, np.uint8)
    start = -block.ctypes.data % CACHE_LINE
    slots = []
    for size in slot_bytes:
        slots.append(block[start : start + size])
        start += size
    return slots
