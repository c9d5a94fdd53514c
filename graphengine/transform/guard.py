"""What a step checks before it updates anything: the loss, and on request the gradients."""

from __future__ import annotations

from collections.abc import Iterator

from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Parameter
from graphengine.ir.node import Node, Phase
from graphengine.ops.finite import CheckFinite


def add_checks(part: Graph, *, gradients: bool) -> None:
    """Let the graph of a step check its outputs, of which the loss is the only one, and with `gradients` these, too.

    The checks are outputs themselves. Every update waits for them, as `schedule` has it.
    """
    values = dict.fromkeys(part.outputs.values(), "the loss")
    for node, what in _gradients(part) if gradients else ():
        values.setdefault(node, what)
    for node, what in values.items():
        with part.emitting(Phase.UPDATE, node):
            check = part.add(CheckFinite(kind="check_finite", what=what), [node])
        part.outputs[check.name] = check


def _gradients(part: Graph) -> Iterator[tuple[Node, str]]:
    """What the optimizer reads of the backward pass; of a parameter that has another update, its next value."""
    for node in part.nodes:
        if node.phase is Phase.UPDATE:
            for parent in node.parents:
                if parent.phase is Phase.BACKWARD and parent.type.is_float and not isinstance(parent.op, Constant):
                    yield parent, f"the gradient of {node.of or parent.name}"
    for leaf, node in part.updates.items():
        if leaf.phase is Phase.BACKWARD:  # where the first half of a step leaves a gradient
            yield node, f"the gradient of {leaf.name.removesuffix('.gradient')}"
        elif isinstance(leaf.op, Parameter) and node.phase is not Phase.UPDATE:
            yield node, f"the next value of {leaf.name}"
