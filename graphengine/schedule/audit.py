"""The proof that backpropagation does no work twice, read off a program and the adjoints it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from graphengine.ir.node import Node, Phase
from graphengine.ops.fusion.fused import Fused
from graphengine.schedule.program import Buffer, Instruction, Program
from graphengine.transform.adjoint import Derivative


@dataclass(frozen=True, slots=True)
class Audit:
    """What was counted, and what was found wrong: `ok` says that nothing was."""

    values: int
    """FORWARD nodes; an instruction computes the value of one, or of all that are fused in it."""
    adjoints: int
    """Active nodes that a gradient reaches; each has one adjoint, however many children it has."""
    contributions: int
    """How many contributions of VJP rules the adjoints are the sums of. The work grows with these; a scan is one node.
    """
    paths: int
    """Paths from the leaves to the loss, from node to child: what the chain rule written out sums over.

    The work does not grow with these. x * x is one child of x, which it reads twice; a scan is one child, too.
    """
    faults: tuple[str, ...]
    recomputed: int = 0
    """Instructions that compute a value again which was dropped to keep to a memory budget."""

    @property
    def ok(self) -> bool:
        """Whether each value and each adjoint is computed exactly once, after all that it is computed from.

        What a memory budget makes the program drop and compute again is counted apart.
        """
        return not self.faults

    def __str__(self) -> str:
        again = f", and {self.recomputed:,} again to keep to the memory budget" if self.recomputed else ""
        verdict = f"each computed exactly once{again}" if self.ok else "faults:\n  " + "\n  ".join(self.faults)
        return (
            f"{self.values:,} values and {self.adjoints:,} adjoints (of {self.contributions:,} contributions, "
            f"for {self.paths:,} paths to the loss): {verdict}"
        )


def audit(program: Program, derivative: Derivative | None) -> Audit:
    """Count how often `program` computes every node, and check that operands precede their readers."""
    adjoints = derivative.adjoints if derivative else {}
    visited = derivative.flow.visited if derivative else {}
    return Audit(
        values=sum(
            list(values.values()).count(Phase.FORWARD)
            for step, values in _computed(program)
            if step.name not in program.recomputed
        ),
        adjoints=len(adjoints),
        contributions=sum(parent in visited for node in visited for parent in node.parents),
        paths=_paths(derivative) if derivative else 0,
        faults=tuple(_faults(program)),
        recomputed=sum(not step.is_view for step in program.instructions if step.name in program.recomputed),
    )


def _faults(program: Program) -> Iterator[str]:
    computed: Counter[str] = Counter()
    for step, values in _computed(program):
        for operand in step.operands:
            if not computed[operand.name] and operand.name not in program.leaves:
                yield f"{step.name} reads {operand.name} before it is computed"
        computed.update({*values, *(part.name for part in step.out.parts.values())})
        if step.loop:
            yield from (f"at a step of {step.name}, {fault}" for fault in _faults(step.loop.body))
    for name, count in computed.items():
        if count > 1:
            yield f"{name} is computed {count} times"
    for name, buffer in program.results.items():
        if not computed[buffer.name] and buffer.name not in program.leaves:
            yield f"{name} is asked for and never computed"


def _computed(program: Program) -> Iterator[tuple[Instruction, dict[str, Phase]]]:
    """The instructions, each with the nodes whose values it computes, and their phases.

    A fused region computes those of all its members, so what takes its results apart computes none.
    """
    items: set[Buffer] = set()
    for step in program.instructions:
        if step.name in program.recomputed:
            yield step, {step.name: step.phase}
        elif isinstance(step.op, Fused):
            items.update(step.out.parts.values())
            yield step, dict(step.op.computes)
        else:
            is_part = step.is_view and items.issuperset(step.operands)
            yield step, {} if is_part else {step.name: step.phase}


def _paths(derivative: Derivative) -> int:
    """How many paths lead from the differentiated leaves to the loss; exact, however many."""
    paths: Counter[Node] = Counter({derivative.loss: 1})
    for node in derivative.flow.visited:  # children first
        for parent in dict.fromkeys(node.parents):
            if parent in derivative.flow.visited:
                paths[parent] += paths[node]
    return sum(paths[node] for node in derivative.adjoints if node.is_leaf)
