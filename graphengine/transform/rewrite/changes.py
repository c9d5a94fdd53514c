"""What a rewrite has changed: two graphs, node by node, known by their names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node
from graphengine.ops.scan import Scan
from graphengine.where import Where


@dataclass(frozen=True, slots=True)
class Change:
    """One node that is gone, new, or another than before; `inside` are the scans in whose body it is."""

    what: Literal["gone", "new", "changed"]
    node: str
    """As it was; of a new one, as it is."""
    becomes: str
    """As it is; empty if it is gone, or new."""
    where: Where
    inside: tuple[str, ...] = ()

    def __str__(self) -> str:
        body = f", in the body of {' in '.join(reversed(self.inside))}" if self.inside else ""
        becomes = f" -> {self.becomes}" if self.becomes else ""
        return f"{self.what:<8}{self.node}{becomes}{body}, declared at {self.where}"


def changes(before: Graph, after: Graph) -> list[Change]:
    """The nodes that are others than before, then those that are new, then those that are gone, but for constants.

    A node that reads the replacement of one that is gone, and does what it did, is not another for that.
    """
    return sorted(_changes(before, after, ()), key=lambda change: ("changed", "new", "gone").index(change.what))


def _changes(before: Graph, after: Graph, inside: tuple[str, ...]) -> Iterator[Change]:
    for node in before.nodes:
        if node.name not in after and not isinstance(node.op, Constant):
            yield Change("gone", f"{node.name} = {_call(node)}", "", node.where, inside)
    for node in after.nodes:
        if isinstance(node.op, Constant):
            continue
        if node.name not in before:
            yield Change("new", f"{node.name} = {_call(node)}", "", node.where, inside)
            continue
        old = before[node.name]
        if isinstance(old.op, Scan) and isinstance(node.op, Scan):
            yield from _changes(old.op.body, node.op.body, (*inside, node.name))
        elif _is_another(old, node, after):
            yield Change("changed", f"{node.name} = {_call(old)}", _call(node), node.where, inside)


def _is_another(old: Node, new: Node, after: Graph) -> bool:
    if len(old.parents) != len(new.parents) or (old.op is not new.op and old.op != new.op):
        return True
    return any(a.name != b.name and a.name in after for a, b in zip(old.parents, new.parents, strict=True))


def _call(node: Node) -> str:
    return f"{node.op.kind}({', '.join(parent.name for parent in node.parents)})"
