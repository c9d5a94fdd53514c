"""The proof that backpropagation does no work twice, read off a program and the graph it came from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from graphengine.ir.graph import Graph, Node, Phase
from graphengine.schedule.program import Program
from graphengine.transform.adjoint import Derivative

__all__ = ["Audit", "audit"]


@dataclass(frozen=True, slots=True)
class Audit:
    """What was counted, and what was found wrong: `ok` says that nothing was."""

    values: int
    """FORWARD instructions; each computes a value of its own."""
    adjoints: int
    """Active nodes; each has one adjoint."""
    paths: int
    """Paths from the differentiated leaves to the loss: what the chain rule sums over, and sharing does not walk."""
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.faults

    def __str__(self) -> str:
        verdict = "each exactly once" if self.ok else "NOT each exactly once:\n  " + "\n  ".join(self.faults)
        return f"{self.values} values, {self.adjoints} adjoints over {self.paths} paths to the loss: {verdict}"


def audit(program: Program, graph: Graph, derivative: Derivative | None) -> Audit:
    """Count in `program` how often every node is computed, and check that operands precede their readers."""
    faults = []
    computed: Counter[str] = Counter()
    for step in program.instructions:
        for operand in step.operands:
            if not computed[operand.name] and operand.name not in program.leaves:
                faults.append(f"{step.name} reads {operand.name} before it is computed")
        if step.out.name in program.leaves:
            continue  # a leaf is given its next value
        computed[step.name] += 1
    faults += [f"{name} is computed {count} times" for name, count in computed.items() if count > 1]
    adjoints = derivative.adjoints if derivative else {}
    shared = Counter(adjoint.name for adjoint in adjoints.values())
    values = sum(1 for step in program.instructions if step.phase is Phase.FORWARD)
    return Audit(values, len(adjoints), _paths(derivative), tuple(faults))


def _paths(derivative: Derivative | None) -> int:
    """How many paths lead from leaves to the loss along which an adjoint flows; exact, however many."""
    if derivative is None:
        return 0
    below: dict[Node, int] = {derivative.loss: 1}
    total = 0
    for node in derivative.adjoints:  # children first
        paths = below.get(node, 0)
        if node.is_leaf:
            total += paths
        for parent in node.parents:
            if parent in derivative.adjoints:
                below[parent] = below.get(parent, 0) + paths
    return total
