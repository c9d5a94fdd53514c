"""What a program costs, known before it runs."""

from __future__ import annotations

from dataclasses import dataclass

from graphengine.ir.node import Phase
from graphengine.schedule.program import Program


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one run of a program, exactly. Memory is in bytes."""

    flops: dict[str, int]
    """Floating-point operations by phase: each of + - * / max compare exp tanh and the like counts one."""
    bytes_moved: dict[str, int]
    """Bytes of operands read and of values written, by phase."""
    retained_bytes: int
    """What FORWARD leaves for BACKWARD to read."""
    peak_bytes: int
    """The arena: all that is allocated for values and adjoints."""
    leaf_bytes: int
    """Inputs, parameters, states and constants."""
    instructions: int
    recomputed_flops: int = 0
    """Of all FLOPs those that compute again what was dropped to keep to the memory budget."""
    memory_budget: int | None = None
    """What the arena was allowed to take; None if as much as it needs."""

    @property
    def total_flops(self) -> int:
        """Floating-point operations of all phases."""
        return sum(self.flops.values())

    def __str__(self) -> str:
        lines = [f"{'phase':<10}{'FLOPs':>18}{'bytes moved':>18}"]
        lines += [f"{phase:<10}{self.flops[phase]:>18,}{self.bytes_moved[phase]:>18,}" for phase in self.flops]
        lines.append(f"{'total':<10}{self.total_flops:>18,}{sum(self.bytes_moved.values()):>18,}")
        lines.append(
            f"retained {self.retained_bytes:,} B, peak {self.peak_bytes:,} B, leaves {self.leaf_bytes:,} B, "
            f"{self.instructions} instructions"
        )
        if self.memory_budget is not None:
            more = 100 * self.recomputed_flops / max(self.total_flops - self.recomputed_flops, 1)
            lines.append(f"fits in {self.peak_bytes:,} of {self.memory_budget:,} B for {more:.1f} % more FLOPs")
        return "\n".join(lines)


def cost_of(program: Program) -> Cost:
    """The cost of one run of `program`."""
    flops, steps = program.flops(), program.instructions
    return Cost(
        flops={phase.name: flops[phase] for phase in Phase},
        bytes_moved={phase.name: sum(step.bytes_moved for step in steps if step.phase is phase) for phase in Phase},
        retained_bytes=program.retained_bytes,
        peak_bytes=program.peak_bytes,
        leaf_bytes=program.leaf_bytes,
        instructions=len(steps),
        recomputed_flops=program.recomputed_flops,
        memory_budget=program.budget,
    )
