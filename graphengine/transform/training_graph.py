"""From a declared graph to the one that is run: with the adjoints of a loss, and the updates of what trains."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from graphengine.errors import CompileError, GraphError, SpecError
from graphengine.ir.copying import drop_unneeded
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Input, Parameter, State
from graphengine.ir.node import Node, Phase
from graphengine.ir.subgraph import needed_nodes
from graphengine.ir.training import Optimizer
from graphengine.ir.types import ValueType
from graphengine.ops.activation import identity
from graphengine.transform.adjoint import Derivative, check_loss, differentiate, unreached
from graphengine.transform.extract import extract, settle_phases, sizing_inputs
from graphengine.transform.halves import Halves, read_gradients, split
from graphengine.transform.rewrite.changes import Change, changes
from graphengine.transform.rewrite.stabilization import stabilize_formulas
from graphengine.where import warn

ProgramName = Literal["forward", "gradient", "step", "gradients", "update"]

HALVES = ("gradients", "update")
"""The programs that do together what "step" does."""


class UnreachedParameterWarning(UserWarning):
    """A graph is compiled for training, and no gradient reaches one of its parameters."""


@dataclass(frozen=True)
class TrainingGraph:
    """A graph that is run, and which of its nodes play which part. It does not change."""

    graph: Graph
    """The declared graph, with its adjoints and updates."""
    loss: Node | None = None
    trains: bool = False
    gradients: Mapping[str, Node] = field(default_factory=dict)
    """The gradients that are asked for, by the name of their leaf."""
    derivative: Derivative | None = None
    unreached: Mapping[str, str] = field(default_factory=dict)
    """The parameters that no gradient reaches, with the reason."""
    stabilized: tuple[Change, ...] = ()
    """What stabilization changed in the declared graph, before it was differentiated."""
    given: Mapping[str, Node] | None = None
    """The gradients that the optimizer was given, each a node of its own; None where updates stood in the graph."""
    optimizer: Optimizer | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "halves"}

    @cached_property
    def halves(self) -> Halves:
        """A step as two graphs; raises ExecutionError if its updates read more than gradients."""
        assert self.loss is not None  # it trains
        given = read_gradients(self.graph, self.gradients) if self.given is None else self.given
        return split(self.graph, self.loss, given)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What tells this training from others: the SHA-256 of the network with its loss, and the optimizer's fields.

        Adjoints and slots are left out, for they follow from these, and another version may emit other ones.
        """
        outputs = self.graph.outputs
        results = [*outputs.values(), *([] if self.loss is None else [self.loss])]
        updates = self.graph.updates
        if self.optimizer is not None:
            own = [leaf for leaf in updates if isinstance(leaf.op, State) and leaf.phase is Phase.FORWARD]
            updates = {leaf: updates[leaf] for leaf in own}
        network = extract(self.graph, dict.fromkeys(results), updates)
        return {
            "graph": _hash(network),
            "wrt": None if self.given is None else list(self.given),
            "loss": next((name for name, node in outputs.items() if node is self.loss), None),
            "optimizer": None if self.optimizer is None else self.optimizer.model_dump(mode="json"),
        }

    @property
    def fullest(self) -> ProgramName:
        """The program that computes most."""
        if self.loss is None:
            return "forward"
        return "step" if self.trains else "gradient"

    def part(self, which: ProgramName, outputs: Sequence[str]) -> Graph:
        """The graph of one program, with its results as outputs under the names of their nodes."""
        if which in HALVES:
            return self.halves.gradients if which == "gradients" else self.halves.update
        return extract(self.graph, self._results(which, outputs), self._updates(which))

    def needs(self, which: ProgramName, outputs: Sequence[str]) -> dict[str, ValueType]:
        """The inputs that a program reads, and those that only tell it the size of a named dim."""
        if which in HALVES:
            nodes = self.part(which, outputs).nodes
        else:
            nodes = needed_nodes([*self._results(which, outputs), *self._updates(which).values()])
        inputs = [node for node in nodes if isinstance(node.op, Input)]
        return {node.name: node.type for node in (*inputs, *sizing_inputs(nodes, self.graph))}

    def _results(self, which: ProgramName, outputs: Sequence[str]) -> list[Node]:
        nodes = [self.graph.outputs[name] for name in outputs]
        if which != "forward" and self.loss is not None:
            nodes.append(self.loss)
        if which == "gradient":
            nodes.extend(self.gradients.values())
        return list(dict.fromkeys(nodes))

    def _updates(self, which: ProgramName) -> Mapping[Node, Node]:
        return self.graph.updates if which == "step" else {}


def training_graph(
    declared: Graph, loss: Node | None, wrt: Iterable[str] | None, optimizer: Optimizer | None, *, stabilize: bool
) -> TrainingGraph:
    """A copy of `declared` with the gradients of its node `loss`, by the leaves named in `wrt`, and the updates.

    Without a loss it is a copy alone. Stabilization comes before differentiating, for an unstable form has an unstable
    adjoint.
    """
    graph = declared.copy()
    if loss is None:
        settle_phases(graph, graph.outputs.values())
        return TrainingGraph(graph)
    loss = graph.nodes[loss.index]
    settle_phases(graph, [*graph.outputs.values(), loss])
    stabilized: tuple[Change, ...] = ()
    follow = [loss]
    if stabilize and stabilize_formulas(graph, follow):
        (loss,) = follow
        needed = graph.copy()
        drop_unneeded(needed, keep=[needed.nodes[loss.index]])
        stabilized = tuple(changes(declared, needed))
    check_loss(loss)
    trainable = _trainable(graph)
    asked = trainable if wrt is None else [graph[name] for name in wrt]
    if not asked:
        raise CompileError(f"graph {graph.name!r} has no trainable parameter, and wrt names nothing else")
    trained = _trained(graph, asked) if optimizer else []
    start = len(graph)
    derivative = differentiate(loss, list(dict.fromkeys([*asked, *trained])), Phase.BACKWARD)
    graph.discard(start, keep=list(derivative.adjoints.values()))  # what was emitted on the way, and none of them needs
    missing = unreached(derivative, [*asked, *trained])
    if missing:
        lines = [f"no gradient reaches {name}: {reason}" for name, reason in missing.items()]
        message = f"graph {graph.name!r}: " + "\n  ".join(lines)
        warn(message, UnreachedParameterWarning)
    with graph.emitting(Phase.BACKWARD, loss):
        gradients = {node.name: derivative.of(node) for node in asked}
    given = _nodes_of_their_own({node: derivative.adjoints[node] for node in trained if node in derivative.adjoints})
    if optimizer:
        optimizer.emit(graph, given)
    return TrainingGraph(
        graph=graph,
        loss=loss,
        trains=optimizer is not None or trains_itself(graph),
        gradients=gradients,
        derivative=derivative,
        unreached=missing,
        stabilized=stabilized,
        given={leaf.name: node for leaf, node in given.items()} if optimizer else None,
        optimizer=optimizer,
    )


def trains_itself(graph: Graph) -> bool:
    """Whether the graph has updates of trainable parameters, so that it needs no optimizer."""
    return any(node in graph.updates for node in _trainable(graph))


def dim_names(graph: Graph) -> set[str]:
    """The names of the dims whose sizes feeds give."""
    return {name for node in graph.inputs for name in node.type.names()}


def _trainable(graph: Graph) -> list[Node]:
    return [node for node in graph.parameters if isinstance(node.op, Parameter) and node.op.trainable]


def _hash(graph: Graph) -> str:
    """The hash of a graph; that of its nodes' kinds, types and operands if it holds code, which no document does."""
    try:
        return graph.hash()
    except SpecError:
        nodes = [
            (node.name, node.op.kind, str(node.type), [each.name for each in node.parents]) for node in graph.nodes
        ]
        return hashlib.sha256(repr(nodes).encode()).hexdigest()


def _nodes_of_their_own(gradients: Mapping[Node, Node]) -> dict[Node, Node]:
    """The gradients, with an identity between where one is a leaf, or is that of another parameter too."""
    found: dict[Node, Node] = {}
    taken: set[Node] = set()
    for leaf, node in gradients.items():
        if node.is_leaf or node in taken:
            with leaf.graph.emitting(Phase.BACKWARD, leaf):
                node = identity(node)
        taken.add(node)
        found[leaf] = node
    return found


def _trained(graph: Graph, asked: Sequence[Node]) -> list[Node]:
    """What an optimizer trains of the leaves that are asked for; raises where there is nothing, or not just that."""
    trainable = dict.fromkeys(_trainable(graph))
    for node in asked:
        if isinstance(node.op, Parameter) and node not in trainable:
            raise CompileError(
                f"wrt names {node.name!r}, which no optimizer trains: it is declared with trainable=False "
                f"at {node.where}; leave it out, or declare it without"
            )
    trained = [node for node in dict.fromkeys(asked) if node in trainable]
    if not trained:
        names = ", ".join(node.name for node in asked)
        raise CompileError(f"an optimizer trains the parameters that wrt names, and there is none among these: {names}")
    for node in trainable:
        if node in graph.updates:
            raise GraphError(
                f"{node.name!r} has an update already, declared at {graph.updates[node].where}; "
                "leave the optimizer out to train by the updates that stand in the graph"
            )
    return trained
