"""A program: instructions over slots, everything a backend needs and nothing of the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, takewhile

from graphengine.ir.node import Phase
from graphengine.ir.op import Op
from graphengine.ir.types import TupleType, ValueType
from graphengine.where import Where


@dataclass(slots=True, eq=False)
class Slot:
    """A stretch of the arena, taken from the start of one instruction to the end of another; both by their number."""

    nbytes: int
    first: int
    last: int
    offset: int = 0


@dataclass(slots=True, eq=False)
class Buffer:
    """A logical array: a leaf's held memory, a slot of the arena, or a view of another buffer."""

    name: str
    type: ValueType
    leaf: str | None = None
    slot: Slot | None = None
    source: Buffer | None = None
    contiguous: bool = True
    parts: dict[int, Buffer] = field(default_factory=dict)
    """Of a tuple: the buffers of the items that are read, by index."""
    last_read: int = -1
    """The index of the last instruction that reads the memory, in the plan; -1 if none does."""

    @property
    def components(self) -> dict[int, Buffer]:
        """By index the items of a tuple that are read; of anything else itself, as 0."""
        return self.parts or {0: self}

    @property
    def root(self) -> Buffer:
        """The buffer that owns the memory."""
        if self.source is None:
            return self
        buffer = self.source
        while buffer.source is not None:
            buffer = buffer.source
        return buffer

    @property
    def place(self) -> str:
        """Its memory, for people: a leaf's name, the offset of a slot in the arena, or a view of one of these."""
        if self.source is not None:
            return f"view of {self.root.place}"
        if self.parts:
            return " ".join(dict.fromkeys(part.root.place for part in self.parts.values()))
        return f"@{self.leaf}" if self.slot is None else f"%{self.slot.offset}"


@dataclass(slots=True, eq=False)  # it takes four times as long to make a frozen one
class Instruction:
    """One line of a program: an op run on buffers. Once planned, it does not change."""

    phase: Phase
    name: str
    of: str | None
    op: Op
    out: Buffer
    operands: tuple[Buffer, ...]
    where: Where
    scratch: tuple[Buffer, ...] = ()
    flops: int = 0
    bytes_moved: int = 0
    loop: Loop | None = None
    """Of a scan: how it is run."""

    def __str__(self) -> str:
        return f"{self.name} = {self.op.kind}({', '.join(operand.name for operand in self.operands)})"

    @property
    def results(self) -> list[Buffer]:
        """The buffers that it writes."""
        return list(dict.fromkeys(part.root for part in self.out.components.values()))

    @property
    def is_view(self) -> bool:
        """Whether it computes nothing: its value is memory that another buffer owns."""
        return self.out.source is not None

    @property
    def in_place(self) -> bool:
        """Whether the value is written over an operand."""
        places = {part.root.place for part in self.out.components.values()}
        return not self.is_view and any(operand.root.place in places for operand in self.operands)


@dataclass(frozen=True, slots=True)
class Rows:
    """A leaf of a loop's body that moves on with the steps: at step t it is row t + shift of `stack`."""

    stack: Buffer
    shift: int


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """How a scan is run: the program of one step, and the memory of each leaf of that."""

    body: Program
    order: range
    """The steps, in the order in which they are run."""
    held: dict[str, Buffer]
    """Leaves that stay where they are: what all steps read, and carries of which only the last is wanted."""
    rows: dict[str, Rows]
    """Leaves that move on: steps of sequences, results of steps, and carries that are retained.

    A carry that is retained has one row more than there are steps; a step reads one and writes the next.
    """
    firsts: dict[str, Buffer]
    """The carries' leaves, with what is copied there before the first step."""
    ends: dict[int, Rows]
    """The items that are a row of a stack: the last carries, where the stack is read."""
    stacked: dict[int, Rows]
    """The items that are a stack, or all of it but a row."""
    memory: Buffer
    """The arena of the body."""

    @property
    def steps(self) -> int:
        """How many steps there are, which may be more than `len` can say."""
        return abs(self.order.stop - self.order.start)

    def scratch(self, out: Buffer) -> list[Buffer]:
        """What is needed only while the loop runs: the body's arena, and carries of which no item of `out` is read."""
        carries = [self.held[name] for name in self.firsts if name in self.held]
        return [self.memory, *(carry for carry in carries if carry not in out.parts.values())]

    @property
    def moving(self) -> set[Instruction]:
        """The instructions of the body that read or write what is elsewhere at each step.

        So do those that read a view which such an instruction makes: it is an array that each step has for itself.
        """
        moving: set[Instruction] = set()
        views: set[Buffer] = set()
        for step in self.body.instructions:
            buffers = (step.out, *step.out.parts.values(), *step.operands, *step.scratch)
            if any(buffer.root.leaf in self.rows or buffer in views for buffer in buffers):
                moving.add(step)
                if step.is_view or step.loop is not None:
                    views.update((step.out, *step.out.parts.values()))
        return moving

    @property
    def constants(self) -> list[Buffer]:
        """The leaves of the body that belong to it."""
        return [leaf for name, leaf in self.body.leaves.items() if name not in self.held and name not in self.rows]


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Instructions in order, the slots that they use, and the buffers of results. Sizes are in bytes."""

    name: str
    instructions: tuple[Instruction, ...]
    slots: tuple[Slot, ...]
    peak_bytes: int
    """The size of the arena, in which all slots are."""
    leaves: dict[str, Buffer]
    """The leaves read or written, by name."""
    results: dict[str, Buffer]
    """The buffers of the nodes asked for, by node name; held until the end."""
    inputs: tuple[str, ...]
    binding: dict[str, int] = field(default_factory=dict)
    budget: int | None = None
    """What the arena was allowed to take; None if as much as it needs."""
    recomputed: frozenset[str] = frozenset()
    """The instructions that compute a value again which was dropped to keep to the budget."""

    @property
    def recomputed_flops(self) -> int:
        """Floating-point operations that compute what was computed before."""
        return sum(step.flops for step in self.instructions if step.name in self.recomputed)

    @property
    def retained_bytes(self) -> int:
        """What FORWARD leaves in slots for BACKWARD to read."""
        seam = self.forward_length
        if seam == len(self.instructions):
            return 0
        return sum(slot.nbytes for slot in self.slots if slot.first < seam <= slot.last)

    @property
    def leaf_bytes(self) -> int:
        """The bytes of inputs, parameters, states and constants, those in the bodies of loops included."""
        loops = [step.loop for step in self.instructions if step.loop]
        own = sum(leaf.type.nbytes for leaf in self.leaves.values())
        return own + sum(leaf.type.nbytes for loop in loops for leaf in loop.constants)

    @property
    def forward_length(self) -> int:
        """How many instructions go before the first of BACKWARD."""
        return len(list(takewhile(lambda step: step.phase is Phase.FORWARD, self.instructions)))

    def flops(self) -> Counter[Phase]:
        """Floating-point operations by phase."""
        count: Counter[Phase] = Counter()
        for step in self.instructions:
            count[step.phase] += step.flops
        return count

    def __str__(self) -> str:
        """The listing: phase, instruction, type, slot, bytes; under a scan, indented, the program of one step."""
        head = f"program {headline(self.name, self.binding)}: {len(self.instructions)} instructions, "
        rows = [("phase", "instruction", "type", "slot", "bytes"), *self._rows()]
        return "\n".join([head + f"{self.peak_bytes:,} bytes", *columns(rows, right_from=5)])

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for step in self.instructions:
            place = step.out.place + (" in place" if step.in_place else "")
            parts = tuple(part.type for _, part in sorted(step.out.parts.items()))
            type_ = TupleType(parts) if parts else step.out.type
            yield step.phase.name, str(step), str(type_), place, "0" if step.is_view else f"{type_.nbytes:,}"
            if step.loop:
                yield "", f"  {step.loop.steps} times:", "", f"in {step.loop.memory.place}", ""
                yield from (("", f"    {text}", *others) for _, text, *others in step.loop.body._rows())


def headline(name: str, sizes: Mapping[str, int]) -> str:
    """The name of what is listed, with the sizes of named dims for which it is."""
    return f"{name} ({', '.join(f'{dim}={size}' for dim, size in sizes.items())})" if sizes else name


def columns(rows: Sequence[Sequence[str]], right_from: int) -> Iterator[str]:
    """The lines of a table, whose columns are aligned to the right from one of them on."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = map(str.ljust, row[:right_from], widths), map(str.rjust, row[right_from:], widths[right_from:])
        yield "  ".join(chain(*cells)).rstrip()
