"""The op that takes one result out of a tuple, and the checks that no other op is given a tuple."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from graphengine.errors import ShapeError
from graphengine.ir.op import Op
from graphengine.ir.types import Array, TupleType, ValueType

if TYPE_CHECKING:
    from graphengine.ir.node import Node


class GetItem(Op):
    """y = result number `index` of a tuple. It takes no memory and no time."""

    is_view: ClassVar[bool] = True
    kind: Literal["item"] = "item"
    index: int = Field(ge=0)

    def infer(self, results: ValueType) -> ValueType:
        if not isinstance(results, TupleType):
            raise ShapeError(f"get_item takes a tuple apart, and {results} is one value")
        if self.index >= len(results.items):
            raise ShapeError(f"there is no item {self.index} in {results}")
        return results.items[self.index]

    def eval(self, xp: Any, results: Any) -> Any:
        return results[self.index]

    def view(self, operand: Array) -> Array:
        return operand

    def keeps_layout(self) -> bool:
        return True


def check_operands(op: Op, types: Iterable[ValueType]) -> None:
    """Raise ShapeError if one of the operands is a tuple, unless `op` takes it apart."""
    for type_ in types:
        if isinstance(type_, TupleType) and not isinstance(op, GetItem):
            raise ShapeError(f"{op.kind} takes values, and {type_} is several; take one out by get_item")


def check_single(what: str, node: Node) -> None:
    """Raise ShapeError, with the items that might be meant, if `node` is a tuple; `what` is to be one value."""
    if isinstance(node.type, TupleType):
        items = [other.name for other in node.graph.nodes if isinstance(other.op, GetItem) and other.parents[0] is node]
        remedy = f"name one of its items: {', '.join(items)}" if items else 'take one out by a node of the op "item"'
        raise ShapeError(f"{what} is one value, and {node.name!r} is several, {node.type}; {remedy}")
