"""A program as calls on arrays: every kernel bound to the arrays that its buffers are, a scan's once for every step."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from itertools import pairwise, starmap
from operator import call, length_hint
from types import BuiltinFunctionType
from typing import Any

import numpy as np

from graphengine.backends.backend import KernelUse
from graphengine.backends.blas import ONE_THREAD_DOES
from graphengine.backends.threads import ONE_BLAS_THREAD
from graphengine.backends.undisturbed import undisturbed
from graphengine.errors import ExecutionError
from graphengine.ir.leaf import Constant
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array
from graphengine.ops.elementwise import Copy
from graphengine.ops.scan import Scan
from graphengine.ops.support.run_all import REPEATABLE, run_all
from graphengine.schedule.arena import CACHE_LINE
from graphengine.schedule.program import Buffer, Instruction, Loop, Program

Binder = Callable[[Op, Any, Sequence[Array], Sequence[Array]], Iterable[Any]]
"""The calls that compute an op's value: of the op, where it writes, its operands, and its work arrays."""

BUFFERED_ELEMENTS = 288
"""How much NumPy buffers of an operand that it repeats, a bias say. By itself it is 8192, allocated in every call."""


def numpy_calls(op: Op, out: Any, operands: Sequence[Array], scratch: Sequence[Array]) -> Sequence[Call]:
    """The op's kernel, which NumPy runs."""
    return op.calls(out, *operands, scratch=scratch)


class BoundProgram:
    """The calls of a program, in the form that `binder` gives them, on an arena of their own: by default of NumPy.

    Running it looks nothing up and allocates no array.
    """

    def __init__(
        self,
        program: Program,
        leaves: Mapping[str, Array],
        binder: Binder = numpy_calls,
        most_steps: int | None = None,
    ) -> None:
        self.arena = allocate(program.peak_bytes)
        self.calls: list[Any] = []
        self.owners: list[Instruction] = []
        self._begins: list[int] = []  # by call, the first one of its instruction
        self._program = program
        self._first_call = [0]
        frame = _Frame(self.arena, leaves, binder, most_steps)
        for step in program.instructions:
            for calls, owner in frame.bind(step):
                self._begins.extend([len(self.calls)] * len(calls))
                self.calls.extend(calls)
                self.owners.extend([owner] * len(calls))
            self._first_call.append(len(self.calls))
        self._one_thread = _go_alone(self.calls)
        self._listings: dict[tuple[int, int], Listing] = {}
        self._settings = _settings()
        self.results: dict[str, Array] = {name: frame.array(buffer) for name, buffer in program.results.items()}

    def run(self, start: int, stop: int) -> None:
        """Run the instructions from `start` up to `stop`; overflow and 0/0 give inf and NaN without a warning.

        All of them, or none: an exception of a signal handler is raised behind the last.
        """
        self.run_calls(self._first_call[start], self._first_call[stop])

    def run_calls(self, first: int, last: int) -> None:
        """Run the calls from `first` up to `last` likewise."""
        listing = self._listings.get((first, last))
        if listing is None:
            listing = self._listings[first, last] = self._list(first, last)
        rows = iter(listing.rows)
        try:
            self._make(rows)
        except BaseException as error:
            self._complete(listing, rows, error)
            raise

    def _make(self, rows: Iterator[Row]) -> None:
        """Make calls, by C code: Python runs a signal handler before the first, behind the last, or in a kernel."""
        if self._one_thread:
            ONE_BLAS_THREAD.during(self._settings.run, _exhaust, starmap(call, rows))
        else:
            self._settings.run(_exhaust, starmap(call, rows))

    def _complete(self, listing: Listing, rows: Iterator[Row], error: BaseException) -> None:
        """Make the calls that are left after an exception: a handler's, or a kernel's, which raises it once again."""
        at = len(listing.rows) - length_hint(rows) - 1
        if at < 0 or listing.rows[at] is _END:
            return
        rest = iter(listing.rows[listing.resumptions[at] :])
        failure = undisturbed(self._make, rest)
        index = listing.indices[at]
        if failure is None or type(failure) is not type(error) or index is None:
            return
        if isinstance(error, MemoryError):
            error = ExecutionError("a kernel needs memory while it runs, and the system has no more to give")
            self.quote(error, index)
            raise error from None
        if isinstance(error, ExecutionError):
            self.quote(error, index)

    def _list(self, first: int, last: int) -> Listing:
        """The calls from `first` up to `last`, as they are made."""
        listing = Listing()
        for index in range(first, last):
            self._append(listing, index)
        return listing.ended()

    def _append(self, listing: Listing, index: int) -> None:
        """Add a call of a NumPy kernel: one of Python is made again with all of its instruction if it is cut off."""
        function, arguments = self.calls[index]
        at = len(listing.rows)
        again = at if is_whole(function) else at - (index - self._begins[index])
        listing.append((function, *arguments), again, index)

    @property
    def kernels(self) -> tuple[KernelUse, ...]:
        """What runs each instruction, and each of the body of a scan."""
        uses: dict[KernelUse, None] = {}
        for step, (first, last) in zip(self._program.instructions, pairwise(self._first_call), strict=True):
            if first == last or step.loop is not None:
                uses[KernelUse(str(step), "", "")] = None
            for bound, owner in zip(self.calls[first:last], self.owners[first:last], strict=True):
                uses[self.use(bound, str(step) if owner is step else f"  {owner}")] = None
        return tuple(uses)

    def use(self, call: Any, instruction: str) -> KernelUse:
        """The use of a kernel of NumPy, or of one that is Python around such kernels."""
        return KernelUse(instruction, "numpy", _kernel_name(call[0]))

    def quote(self, error: ExecutionError, index: int) -> None:
        """Quote the instruction of the call at `index`; one of a scan's body with the scan around it."""
        owner, outer = self.owners[index], self._program.instructions[bisect_right(self._first_call, index) - 1]
        error.quote(
            f"node  {owner}",
            f"declared at {owner.where}",
            *(f"{operand.name} is {operand.type}" for operand in dict.fromkeys(owner.operands)),
            *([f"in the body of {outer}, declared at {outer.where}"] if owner is not outer else ()),
        )


Row = tuple[Callable[..., object], *tuple[object, ...]]
"""A kernel with its arguments, as `operator.call` takes them."""

_END: Row = (bool,)
"""What is made last, so that an exception behind the last kernel is told from one in it."""


_exhaust = deque[Any](maxlen=0).extend
"""Takes all of an iterator, and keeps nothing."""


@dataclass(slots=True, eq=False)
class Listing:
    """Calls in their order."""

    rows: list[Row] = field(default_factory=list)
    resumptions: list[int] = field(default_factory=list)
    """By row, the one to go on with where it was cut off."""
    indices: list[int | None] = field(default_factory=list)
    """By row, the number of the call; None for one that quotes its errors itself."""

    def append(self, row: Row, resumption: int, index: int | None) -> None:
        """Add a row."""
        self.rows.append(row)
        self.resumptions.append(resumption)
        self.indices.append(index)

    def ended(self) -> Listing:
        """With the end."""
        self.append(_END, len(self.rows), None)
        return self


_IN_C = (BuiltinFunctionType, np.ufunc, type(np.dot))


def is_whole(function: Any) -> bool:
    """Whether an exception of a signal handler comes before a kernel, or leaves what can be computed again in place.

    In C code Python runs no handler.
    """
    return isinstance(getattr(function, "func", function), _IN_C) or function in REPEATABLE


def _settings() -> Context:
    """Settings of NumPy for runs: warnings are off, and what it buffers is small."""
    settings = Context()
    settings.run(np.seterr, all="ignore")
    settings.run(np.setbufsize, BUFFERED_ELEMENTS)
    return settings


def _kernel_name(function: Any) -> str:
    """What a kernel is called: `numpy.add`, `numpy.add.reduce`, `ndarray.fill`, or a function of this package."""
    function = getattr(function, "func", function)  # of what has arguments already
    owner = getattr(function, "__self__", None)
    if isinstance(function, np.ufunc):
        return f"numpy.{function.__name__}"
    if isinstance(owner, np.ufunc):
        return f"numpy.{owner.__name__}.{function.__name__}"
    if isinstance(owner, np.ndarray):
        return f"ndarray.{function.__name__}"
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{function.__module__}.{name.replace('.<locals>', '')}".removeprefix("graphengine.")


def _go_alone(calls: Sequence[Any]) -> bool:
    """Whether BLAS computes the products of these calls as fast by one thread, so that it should wait for no other.

    It decides by sizes alone, which fix the bits of a program's results.
    """
    sizes = [size for call in calls if isinstance(call, tuple) and (size := _product(call))]
    return bool(sizes) and not any(min(m, n, k) >= _BROAD and m * n * k >= _LARGE for m, n, k in sizes)


_LARGE, _BROAD = 2**22, 32
"""From how many multiplications and which least size on that pays, where each thread waits for the others.

With two threads instead of one the step of an LSTM (products [32, 96] @ [96, 256]) takes 1.19 times as long, that of
LeNet (8 and 16 filters) 1.23, that of a transformer block ([512, 64] @ [64, 192]) 0.92, that of an MLP ([128, 784] @
[784, 256]) 0.66: medians on two cores of an AMD EPYC (Zen 3), by `ge.set_threads` before this rule was made.
"""


def _product(call: Any) -> tuple[int, int, int] | None:
    """The sizes m, n, k of a product that BLAS may compute by several threads."""
    function, arguments = call
    if function is not np.dot and function is not np.matmul:
        return None
    a, b = arguments[:2]
    if a.ndim < 2 or b.ndim < 2 or a.dtype.kind != "f":
        return None
    (m, k), n = a.shape[-2:], b.shape[-1]
    return (m, n, k) if m * n * k > ONE_THREAD_DOES else None


def allocate(nbytes: int) -> Array:
    """A block of so many bytes, aligned to a cache line."""
    block = np.empty(nbytes + CACHE_LINE, np.uint8)
    start = -block.ctypes.data % CACHE_LINE
    return block[start : start + nbytes]


class _Frame:
    """The arrays that a program's buffers are: slots of its arena, a block of bytes; its leaves; and views of both."""

    def __init__(self, arena: Array, leaves: Mapping[str, Array], binder: Binder, most_steps: int | None) -> None:
        self._arena = arena
        self._leaves = leaves
        self._binder = binder
        self._most_steps = most_steps
        self._arrays: dict[Buffer, Array] = {}

    def moved(self, leaves: Mapping[str, Array]) -> _Frame:
        """This frame, with other leaves besides those that it has."""
        frame = _Frame(self._arena, {**self._leaves, **leaves}, self._binder, self._most_steps)
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

    def bind(self, step: Instruction) -> list[tuple[list[Any], Instruction]]:
        """The calls that compute the value of `step`: none for a view, for a scan those of each step of its body."""
        if step.loop is not None:
            unrolled = list(self._unroll(step, step.loop))
            self._show_items(step, step.loop)
            return unrolled
        operands = [self.array(operand) for operand in step.operands]
        if step.is_view:
            view = self._arrays[step.out] = step.op.view(operands[0])
            self._arrays.update((part, view[index]) for index, part in step.out.parts.items())
            return []
        scratch = [self.array(buffer) for buffer in step.scratch]
        out = self._out(step.out)
        calls = list(_flat(self._binder(step.op, out, operands, scratch)))
        if step.in_place and not _begins_again(calls, out):
            spare = tuple(map(np.empty_like, out)) if isinstance(out, tuple) else np.empty_like(out)
            pairs = list(zip(out, spare, strict=True)) if isinstance(out, tuple) else [(out, spare)]
            calls = list(_flat(self._binder(step.op, spare, operands, scratch)))
            calls += [(np.copyto, pair) for pair in pairs]
        return [(calls, step)]

    def _out(self, buffer: Buffer) -> Any:
        """Where a kernel writes: an array, or an array for each item of a tuple."""
        if not buffer.parts:
            return self.array(buffer)
        return tuple([self.array(part) for _, part in sorted(buffer.parts.items())])

    def _unroll(self, scan: Instruction, loop: Loop) -> Iterator[tuple[list[Any], Instruction]]:
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
            yield list(self._binder(Copy(), target, [self.array(first)], ())), scan
        assert isinstance(scan.op, Scan)  # nothing else has a loop
        constants = {node.name: node.op.value for node in scan.op.body.nodes if isinstance(node.op, Constant)}
        still = _Frame(self.array(loop.memory), {**constants, **held}, self._binder, self._most_steps)
        moving = loop.moving
        bound_once = {step: still.bind(step) for step in loop.body.instructions if step not in moving}
        for t in loop.order[: self._most_steps]:
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


def _flat(calls: Iterable[Any]) -> Iterator[Any]:
    """The calls, those of several in their place."""
    for each in calls:
        if isinstance(each, tuple) and each[0] is run_all:
            yield from _flat(each[1][0])
        else:
            yield each


def _begins_again(calls: Sequence[Any], out: Any) -> bool:
    """Whether calls that write over an operand can be made from the first again, if a kernel of Python is cut off.

    They can if all of Python come before the first that may touch `out`; one without arguments may touch anything.
    """
    outs = out if isinstance(out, tuple) else (out,)
    touched = False
    for function, arguments in (each for each in calls if isinstance(each, tuple)):
        arrays = [argument for argument in arguments if isinstance(argument, np.ndarray)]
        opaque = len(arrays) < len(arguments) or not arguments
        touched = touched or any(np.may_share_memory(array, mine) for array in arrays for mine in outs)
        if not is_whole(function) and (touched or (opaque and not arrays)):
            return False
    return True
