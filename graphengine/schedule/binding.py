"""Ops and types for the sizes that named dims have in one program."""

from __future__ import annotations

from collections.abc import Mapping

from graphengine.errors import FeedError, GraphError, ShapeError
from graphengine.ir.node import Node, context
from graphengine.ir.op import Op
from graphengine.ir.types import ValueType


class Binding:
    """What nodes are for some sizes of named dims. They are asked for one by one, parents first."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._sized: dict[Node, ValueType] = {}
        """The types that have names, by node, with sizes in their place."""
        self._types: dict[ValueType, ValueType] = {}
        self._checked: set[tuple[int, ...]] = set()
        """The ops and types of nodes, by identity, that fit each other: many nodes have the same."""

    def of(self, node: Node) -> tuple[Op, ValueType]:
        """The op and the type of `node`; raises FeedError where the sizes contradict what was declared.

        A slice [:, 2:4] of a named axis, say, was declared on the word that the axis has 4 elements.
        """
        op = node.op.bind_dims(self._sizes)
        try:
            type_ = node.type.bind(self._sizes)
        except ShapeError as error:
            raise self._fault(node, error.message) from None
        if type_ is not node.type:
            type_ = self._sized[node] = self._types.setdefault(type_, type_)
        stays = op is node.op and type_ is node.type and self._sized.keys().isdisjoint(node.parents)
        if stays or op.is_leaf:
            return op, type_
        types = [self._sized.get(parent, parent.type) for parent in node.parents]
        key = (id(op), id(type_), *map(id, types))
        if op is not node.op or key not in self._checked:
            self._check(node, op, type_, types)
            self._checked.add(key)
        return op, type_

    def _check(self, node: Node, op: Op, type_: ValueType, types: list[ValueType]) -> None:
        try:
            actual = op.infer(*types)
        except GraphError as error:
            raise self._fault(node, error.message) from None
        if actual != type_:
            raise self._fault(node, f"{node.name} would be {actual}, and it was declared to be {node.type}")

    def _fault(self, node: Node, what: str) -> FeedError:
        sizes = ", ".join(f"{name} = {size}" for name, size in self._sizes.items())
        fault = FeedError(f"with {sizes}: {what}")
        fault.quote(*context(node.name, node.op, node.parents, node.where))
        return fault
