"""A program: instructions over slots, everything a backend needs and nothing of the graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from graphengine.ir.graph import Phase
from graphengine.ir.op import Op
from graphengine.ir.types import TensorType
from graphengine.ir.where import Where

__all__ = ["Buffer", "Instruction", "Program"]


@dataclass(slots=True, eq=False)
class Buffer:
    """A logical array: a leaf's held memory, a slot of the arena, or a view of another buffer."""

    name: str
    type: TensorType
    leaf: str | None = None
    slot: int | None = None
    source: Buffer | None = None
    contiguous: bool = True
    parts: dict[int, Buffer] = field(default_factory=dict)
    """Of a bundle: the buffers of the items that are read, by number."""

    @property
    def root(self) -> Buffer:
        """The buffer that owns the memory."""
        buffer = self
        while buffer.source is not None:
            buffer = buffer.source
        return buffer

    @property
    def place(self) -> str:
        """Where it stands, for people: a leaf's name, a slot's number, or a view of one of these."""
        if self.parts:
            return " ".join(part.place for part in self.parts.values())
        if self.source is not None:
            return f"view of {self.root.place}"
        return f"%{self.slot}" if self.leaf is None else f"@{self.leaf}"


@dataclass(frozen=True, slots=True, eq=False)
class Instruction:
    """One line of a program: an op run on buffers."""

    phase: Phase
    name: str
    of: str | None
    op: Op
    out: Buffer
    operands: tuple[Buffer, ...]
    scratch: tuple[Buffer, ...]
    where: Where
    flops: int
    bytes_moved: int
    body: Program | None = None
    """Of a scan: the program of one step."""

    def __str__(self) -> str:
        return f"{self.name} = {self.op.kind}({', '.join(operand.name for operand in self.operands)})"

    @property
    def is_view(self) -> bool:
        """Whether it computes nothing: its value is memory that another buffer owns."""
        return self.out.source is not None

    @property
    def in_place(self) -> bool:
        """Whether the value is written over an operand."""
        return not self.is_view and any(operand.root.place == self.out.place for operand in self.operands)


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Instructions in order, the slots that they use, and where results stand. Sizes are in bytes."""

    name: str
    instructions: tuple[Instruction, ...]
    slot_bytes: tuple[int, ...]
    leaves: dict[str, Buffer]
    """The leaves read or written, by name."""
    results: dict[str, Buffer]
    """The buffers of the nodes asked for, by node name; held until the end."""
    inputs: tuple[str, ...]
    retained_bytes: int
    """What FORWARD leaves in slots for BACKWARD to read."""
    binding: dict[str, int] = field(default_factory=dict)

    @property
    def peak_bytes(self) -> int:
        """The size of the arena: all slots, each rounded up to a cache line."""
        bodies = (step.body.peak_bytes for step in self.instructions if step.body)
        return sum(self.slot_bytes) + sum(bodies)

    @property
    def forward_length(self) -> int:
        """How many instructions go before the first of BACKWARD."""
        return next(
            (place for place, step in enumerate(self.instructions) if step.phase is not Phase.FORWARD),
            len(self.instructions),
        )

    def flops(self) -> Counter[Phase]:
        """Floating-point operations by phase."""
        count: Counter[Phase] = Counter()
        for step in self.instructions:
            count[step.phase] += step.flops
        return count

    def __str__(self) -> str:
        """The listing: phase, instruction, type, slot, bytes."""
        rows = [("phase", "instruction", "type", "slot", "bytes")]
        for step in self.instructions:
            place = step.out.place + (" in place" if step.in_place else "")
            size = "0" if step.is_view else f"{step.out.type.nbytes:,}"
            rows.append((step.phase.name, str(step), str(step.out.type), place, size))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows]
        sizes = ", ".join(f"{name}={size}" for name, size in self.binding.items())
        head = f"program {self.name}{f' ({sizes})' if sizes else ''}: {len(self.instructions)} instructions, "
        return "\n".join([head + f"{len(self.slot_bytes)} slots, {self.peak_bytes:,} bytes", *lines])
