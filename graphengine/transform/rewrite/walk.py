"""One walk over a graph in which rules replace single nodes, parents before children.

A rule looks at one node, whose operands have been rewritten already, and gives what computes the same value, or None.
It emits nothing: what it gives is an expression, a node that is there or ops yet to be applied, which the walk
puts in for the node, under its name, in its phase and declared where it was. All other nodes stay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from graphengine.errors import GraphError
from graphengine.ir.copying import Rebuild
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.types import DType, ValueType
from graphengine.transform.rewrite.bodies import in_bodies

MAX_ROUNDS = 32
"""How often what a rule gives is looked at again. Every rule leaves less to do, so that this is never reached."""


class Apply:
    """An op applied to expressions; a number is a constant of the dtype of the node that is replaced."""

    __slots__ = ("op", "operands")

    def __init__(self, op: Op, *operands: Expression) -> None:
        self.op, self.operands = op, operands


Expression = Node | Apply | float | int


class Site:
    """What a rule looks at: an op on operands that are nodes of one graph, and the type of its value."""

    __slots__ = ("_node", "_walk", "op", "parents", "type")

    def __init__(self, op: Op, parents: tuple[Node, ...], type_: ValueType, walk: _RuleWalk, node: Node | None) -> None:
        """`node` is that of the op; None if there is none yet, of a value on the way to what a rule gives."""
        self.op, self.parents, self.type = op, parents, type_
        self._walk, self._node = walk, node

    def once(self, node: Node) -> bool:
        """Whether `node`, an operand or something that it is computed from, has one reader, so that it may go."""
        return self._walk.uses[node.index] <= 1  # none yet, if it is itself what a rule has given

    def readers(self) -> list[Op] | None:
        """What reads the value; None if that is not known, of a value on the way to what a rule gives."""
        return None if self._node is None else self._walk.readers_of(self._node)


def first(found: Iterable[Expression | None]) -> Expression | None:
    """The first that is not None."""
    return next((expression for expression in found if expression is not None), None)


Rule = Callable[[Site], Expression | None]
Table = Mapping[type[Op], Sequence[Rule]]
"""Rules by the class of op that they look at."""


class Rules(dict[type[Op], tuple[Rule, ...]]):
    """The rules of some tables. The first that gives something is followed."""

    def __init__(self, *tables: Table) -> None:
        super().__init__()
        self._tables = tables

    def __missing__(self, kind: type[Op]) -> tuple[Rule, ...]:
        """The rules for ops of this class: its own first, then those of the classes that it derives from."""
        bases = [base for base in kind.__mro__ if issubclass(base, Op)]
        found = self[kind] = tuple(rule for base in bases for table in self._tables for rule in table.get(base, ()))
        return found


def apply_rules(graph: Graph, rules: Rules, follow: list[Node] | None = None) -> bool:
    """Change `graph` by `rules`, in the bodies of its scans too; whether one of them had something to give.

    What nothing needs any more is left out; with `follow`, only what is new and not needed, and each node of `follow`
    is replaced there by the one that computes its value.
    """
    has_changed = in_bodies(graph, lambda body: apply_rules(body, rules))
    walk = _RuleWalk(graph, rules, follow or ())
    first = next((node for node in graph.nodes if rules[type(node.op)] and walk.match(node) is not None), None)
    if first is None:
        return has_changed
    walk.run(first.index, keep_names=follow is not None)
    if follow is not None:
        follow[:] = walk.followed
    return True


class _RuleWalk:
    """The walk over a graph, which changes behind it."""

    def __init__(self, graph: Graph, rules: Rules, followed: Sequence[Node]) -> None:
        self.graph, self.rules, self.followed = graph, rules, followed
        self.ahead: Sequence[Node] = graph.nodes
        """The nodes that the walk has yet to pass, and maybe some that it has passed."""
        self.uses = [0] * len(graph)
        """How many read each node that the walk has passed, those that are yet to come included."""
        read = (parent for node in graph.nodes for parent in node.parents)
        for node in (*read, *graph.outputs.values(), *graph.updates.values(), *followed):
            self.uses[node.index] += 1
        self._scalars: dict[tuple[str, DType], Node] = {}
        self._readers: dict[Node, list[Op]] | None = None
        self.rebuild: Rebuild

    def match(self, node: Node) -> Expression | None:
        """What rules give for a node of the graph."""
        return self._match(Site(node.op, node.parents, node.type, self, node))

    def run(self, first: int, keep_names: bool) -> None:
        """Pass the nodes from the one at index `first` on, which is the first that a rule gives something for."""
        names = {node.name for node in self.graph.nodes} if keep_names else set()
        self.rebuild = rebuild = Rebuild(self.graph, first)
        self.ahead = rebuild.old
        uses = self.uses[first:]
        del self.uses[first:]
        relink, keep, count, match, rules = rebuild.relink, rebuild.keep, self.uses.append, self.match, self.rules
        for node, readers in zip(rebuild.old, uses, strict=True):
            relink(node)
            found = match(node) if rules[type(node.op)] else None
            if found is None:
                keep(node)
                count(readers)
            else:
                self._replace(node, found, readers)
        self.followed = [rebuild.replacements.get(node, node) for node in self.followed]
        named = [node for node in self.graph.nodes if node.name in names] if names else ()
        rebuild.finish(keep=(*named, *self.followed))

    def readers_of(self, node: Node) -> list[Op]:
        """The ops that read `node`, which the walk has not passed."""
        if self._readers is None:
            self._readers = defaultdict(list)
            for reader in self.ahead:
                for parent in reader.parents:
                    self._readers[parent].append(reader.op)
        return self._readers[node]

    def _replace(self, node: Node, found: Expression, readers: int) -> None:
        replacement = self._built(found, node, node.name, MAX_ROUNDS)
        if replacement.type != node.type:
            raise GraphError(f"a rule for {node!r} gives {replacement!r}, which is of another type")
        self.rebuild.replacements[node] = replacement
        self.uses[replacement.index] += readers
        self._release(node.parents)

    def _match(self, site: Site) -> Expression | None:
        for rule in self.rules[type(site.op)]:
            found = rule(site)
            if found is not None:
                return found
        return None

    def _built(self, expression: Expression, like: Node, name: str | None, rounds: int) -> Node:
        """The node of an expression, which is the replacement for `like` if it has a name, or is on the way to it."""
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
            found = self._match(Site(op, parents, type_, self, None))
        if found is not None:
            return self._built(found, like, name, rounds - 1)
        for parent in parents:
            self.uses[parent.index] += 1
        return self._append(op, parents, type_, like, name or self.graph.new_name(op.kind))

    def _scalar(self, value: float, like: Node) -> Node:
        key = (repr(value), like.dtype)
        if key not in self._scalars:
            op = Constant(value=np.asarray(value, like.dtype), dtype=like.dtype)
            self._scalars[key] = self._append(op, (), op.infer(), like, self.graph.new_name(op.kind))
        return self._scalars[key]

    def _append(self, op: Op, parents: tuple[Node, ...], type_: ValueType, like: Node, name: str) -> Node:
        self.uses.append(0)
        return self.graph.append(op, parents, type_, name, like.phase, like.where, like.of)

    def _release(self, parents: Sequence[Node]) -> None:
        """Count one reader less of each of `parents`, and where none is left, of theirs."""
        pending = list(parents)
        while pending:
            node = pending.pop()
            self.uses[node.index] -= 1
            if self.uses[node.index] == 0:
                pending.extend(node.parents)


def _number(op: Op, parents: Sequence[Node]) -> float | int | None:
    """The value of `op` where all its operands are numbers, so that it is one itself."""
    numbers = [parent.op.value for parent in parents if isinstance(parent.op, Constant) and parent.ndim == 0]
    if not parents or len(numbers) < len(parents) or op.is_view:
        return None
    with np.errstate(all="ignore"):
        return op.eval(np, *numbers).item()  # type: ignore[no-any-return]  # of an array namespace, whatever it is
