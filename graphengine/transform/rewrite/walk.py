"""One walk over a graph in which rules replace single nodes, parents before children.

A rule looks at one node, whose operands have been rewritten already, and gives what computes the same value, or None.
It emits nothing: what it gives is an expression, a node that is there or ops yet to be applied, which the walk puts in
the place of the node, under its name, in its phase and declared where it was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphengine.errors import GraphError
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.types import DType, TensorType
from graphengine.transform.rewrite.bodies import in_bodies
from graphengine.transform.rewrite.results import take_results

__all__ = ["Apply", "Expression", "Rule", "Rules", "Site", "apply_rules"]

MAX_ROUNDS = 32
"""How often what a rule gives is looked at again. Every rule leaves less to do, so that this is never reached."""


@dataclass(frozen=True, slots=True, eq=False)
class Apply:
    """An op applied to expressions; a number is a constant of the dtype of the node that is replaced."""

    op: Op
    operands: tuple[Expression, ...]

    @staticmethod
    def to(op: Op, *operands: Expression) -> Apply:
        """`op` applied to these."""
        return Apply(op, operands)


Expression = Node | Apply | float | int


class Site:
    """What a rule looks at: an op on operands that are nodes of one graph, and the type of its value."""

    __slots__ = ("_readers", "_uses", "op", "parents", "type")

    def __init__(
        self,
        op: Op,
        parents: tuple[Node, ...],
        type_: TensorType,
        uses: Sequence[int],
        readers: Callable[[], list[Op] | None],
    ) -> None:
        self.op = op
        self.parents = parents
        self.type = type_
        self._uses = uses
        self._readers = readers

    def once(self, node: Node) -> bool:
        """Whether `node`, an operand or something that it is computed from, has one reader, so that it may go."""
        return self._uses[node.index] <= 1  # none yet, if it is itself what a rule has given

    def readers(self) -> list[Op] | None:
        """What reads the value; None if that is not known, of a value on the way to what a rule gives."""
        return self._readers()


Rule = Callable[[Site], Expression | None]


class Rules:
    """Rules by the class of op that they look at. The first that gives something is followed."""

    def __init__(self, *tables: Mapping[type[Op], Sequence[Rule]]) -> None:
        self._tables = tables
        self._of: dict[type[Op], tuple[Rule, ...]] = {}

    def of(self, kind: type[Op]) -> tuple[Rule, ...]:
        """The rules for ops of this class: its own first, then those of the classes that it derives from."""
        found = self._of.get(kind)
        if found is None:
            bases = [base for base in kind.__mro__ if issubclass(base, Op)]
            found = tuple(rule for base in bases for table in self._tables for rule in table.get(base, ()))
            self._of[kind] = found
        return found


def apply_rules(graph: Graph, rules: Rules, keep_names: bool = False) -> Graph:
    """`graph` after `rules`, in the bodies of its scans too; the graph itself where none of them has something to give.

    What nothing needs any more is left out; with `keep_names`, only what is new and not needed.
    """
    graph = in_bodies(graph, lambda body: apply_rules(body, rules))
    looked_at = [node for node in graph.nodes if rules.of(type(node.op))]
    if not looked_at:
        return graph
    uses = _uses(graph)
    walk = _Walk(graph, rules, uses)
    first = next((node for node in looked_at if walk.matches(node)), None)
    if first is None:
        return graph
    walk.run(first.index)
    return walk.finished(keep_names)


class _Walk:
    """The twin of a graph, as it is built."""

    def __init__(self, graph: Graph, rules: Rules, uses: list[int]) -> None:
        self.graph, self.rules = graph, rules
        self.source_uses = uses
        self.twin = Graph(graph.name, graph.dtype)
        self.copies: list[Node] = []
        """What stands for each node of the graph, by its index."""
        self.uses: list[int] = []
        """How many read each node of the twin, those that are yet to be copied included."""
        self._scalars: dict[tuple[str, DType], Node] = {}
        self._numbers: dict[str, int] = defaultdict(int)
        self._readers: dict[int, list[Op]] | None = None

    def matches(self, node: Node) -> bool:
        """Whether a rule has something to give for a node of the graph, with everything before it as it is."""
        site = Site(node.op, node.parents, node.type, self.source_uses, lambda: self._readers_of(node))
        return any(rule(site) is not None for rule in self.rules.of(type(node.op)))

    def run(self, first: int) -> None:
        """Copy the nodes before the one at place `first` as they are, and from there on what rules make of them."""
        copies, copy, rules_of = self.copies, self.twin.append_copy, self.rules.of
        for node in self.graph.nodes[:first]:
            copies.append(copy(node, tuple([copies[parent.index] for parent in node.parents])))
        self.uses = self.source_uses[:first]
        for node in self.graph.nodes[first:]:
            parents = tuple([copies[parent.index] for parent in node.parents])
            found = self._match(node.op, parents, node.type, node) if rules_of(type(node.op)) else None
            if found is None:
                copies.append(copy(node, parents))
                self.uses.append(self.source_uses[node.index])
            else:
                self._replace(node, parents, found)

    def finished(self, keep_names: bool) -> Graph:
        """The twin, with outputs and updates, without what they do not need."""
        named = [node for node in self.twin.nodes if node.name in self.graph] if keep_names else []
        return take_results(self.twin, self.graph, self.copies, keep=named)

    def _replace(self, node: Node, parents: tuple[Node, ...], found: Expression) -> None:
        stand_in = self._built(found, node, node.name, MAX_ROUNDS)
        if stand_in.type != node.type:
            raise GraphError(f"a rule for {node!r} gives {stand_in!r}, which is of another type")
        self.copies.append(stand_in)
        self.uses[stand_in.index] += self.source_uses[node.index]
        self._release(parents)

    def _match(self, op: Op, parents: tuple[Node, ...], type_: TensorType, node: Node | None) -> Expression | None:
        site = Site(op, parents, type_, self.uses, lambda: None if node is None else self._readers_of(node))
        for rule in self.rules.of(type(op)):
            found = rule(site)
            if found is not None:
                return found
        return None

    def _built(self, expression: Expression, like: Node, name: str | None, rounds: int) -> Node:
        """The node of an expression, which is the stand-in for `like` if it has a name, or is on the way to it."""
        if isinstance(expression, Node):
            return expression
        if not isinstance(expression, Apply):
            return self._scalar(expression, like)
        op = expression.op
        parents = tuple([self._built(operand, like, None, rounds) for operand in expression.operands])
        type_ = op.infer(*(parent.type for parent in parents))
        is_on_the_way = name is None and type_.dtype == like.dtype
        found: Expression | None = _number(op, parents) if is_on_the_way else None
        if found is None and rounds:
            found = self._match(op, parents, type_, None)
        if found is not None:
            return self._built(found, like, name, rounds - 1)
        for parent in parents:
            self.uses[parent.index] += 1
        return self._append(op, parents, type_, like, name or self._free_name(op.kind))

    def _scalar(self, value: float, like: Node) -> Node:
        key = (repr(value), like.dtype)
        if key not in self._scalars:
            op = Constant(value=np.asarray(value, like.dtype), dtype=like.dtype)
            self._scalars[key] = self._append(op, (), op.infer(), like, self._free_name(op.kind))
        return self._scalars[key]

    def _append(self, op: Op, parents: tuple[Node, ...], type_: TensorType, like: Node, name: str) -> Node:
        model = Node(self.twin, -1, name, op, parents, type_, like.phase, like.where, like.of)
        self.uses.append(0)
        return self.twin.append_copy(model, parents)

    def _free_name(self, kind: str) -> str:
        while True:
            self._numbers[kind] += 1
            name = f"{kind}_{self._numbers[kind]}"
            if name not in self.graph and name not in self.twin:
                return name

    def _release(self, parents: Sequence[Node]) -> None:
        """Count one reader less of each of `parents`, and where none is left, of theirs."""
        pending = list(parents)
        while pending:
            node = pending.pop()
            self.uses[node.index] -= 1
            if self.uses[node.index] == 0:
                pending.extend(node.parents)

    def _readers_of(self, node: Node) -> list[Op]:
        if self._readers is None:
            self._readers = defaultdict(list)
            for reader in self.graph.nodes:
                for parent in reader.parents:
                    self._readers[parent.index].append(reader.op)
        return self._readers[node.index]


def _number(op: Op, parents: Sequence[Node]) -> float | int | None:
    """The value of `op` where all its operands are numbers, so that it is one itself."""
    numbers = [parent.op.value for parent in parents if isinstance(parent.op, Constant) and parent.ndim == 0]
    if not parents or len(numbers) < len(parents) or op.is_view:
        return None
    with np.errstate(all="ignore"):
        return op.eval(np, *numbers).item()  # type: ignore[no-any-return]  # of an array namespace, whatever it is


def _uses(graph: Graph) -> list[int]:
    """How many operands, outputs and updates each node is."""
    uses = [0] * len(graph)
    for node in graph.nodes:
        for parent in node.parents:
            uses[parent.index] += 1
    for node in (*graph.outputs.values(), *graph.updates.values()):
        uses[node.index] += 1
    return uses
