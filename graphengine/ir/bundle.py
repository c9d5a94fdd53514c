"""Several results of one node: the type of a bundle, and the op that takes one result out of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from graphengine.errors import ShapeError
from graphengine.ir.op import Array, Op
from graphengine.ir.types import TensorType

if TYPE_CHECKING:
    from graphengine.ir.node import Node

__all__ = ["BundleType", "Item", "check_operands", "check_single"]

_SHOWN = 3


class BundleType(TensorType):
    """The types of several results. A bundle is taken apart by `item` nodes; no other op has a use for it."""

    __slots__ = ("items",)
    items: tuple[TensorType, ...]

    def __new__(cls, items: tuple[TensorType, ...]) -> BundleType:
        """The bundle of results of these types."""
        made = object.__new__(cls)
        for slot, value in (("shape", ()), ("dtype", "uint8"), ("items", items)):
            object.__setattr__(made, slot, value)
        return made

    def __reduce__(self) -> tuple[object, ...]:
        return BundleType, (self.items,)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, BundleType) and self.items == other.items)

    def __hash__(self) -> int:
        return hash(self.items)

    def __str__(self) -> str:
        more = len(self.items) - _SHOWN
        texts = [*map(str, self.items[:_SHOWN]), *([f"{more} more"] if more > 0 else ())]
        return f"bundle({', '.join(texts)})"

    @property
    def is_float(self) -> bool:
        """Whether any of the results holds floats."""
        return any(item.is_float for item in self.items)

    @property
    def size(self) -> int:
        """The number of elements of all results together; for a type whose dims are bound."""
        return sum(item.size for item in self.items)

    @property
    def nbytes(self) -> int:
        """The bytes of all results together; for a type whose dims are bound."""
        return sum(item.nbytes for item in self.items)

    def names(self) -> frozenset[str]:
        """The names that stand in the shapes."""
        return frozenset(name for item in self.items for name in item.names())

    def bind(self, binding: Mapping[str, int]) -> BundleType:
        """The type with its names given sizes."""
        return BundleType(tuple(item.bind(binding) for item in self.items))


class Item(Op):
    """y = result number `index` of a bundle. It takes no memory and no time."""

    is_view: ClassVar[bool] = True
    kind: Literal["item"] = "item"
    index: int = Field(ge=0)

    def infer(self, bundle: TensorType) -> TensorType:
        if not isinstance(bundle, BundleType):
            raise ShapeError(f"item takes a bundle apart, and {bundle} is one value")
        if self.index >= len(bundle.items):
            raise ShapeError(f"there is no item {self.index} in {bundle}")
        return bundle.items[self.index]

    def eval(self, xp: Any, bundle: Any) -> Any:
        return bundle[self.index]

    def view(self, operand: Array) -> Array:
        return operand

    def keeps_layout(self) -> bool:
        return True


def check_operands(op: Op, types: Iterable[TensorType]) -> None:
    """Raise ShapeError if one of the operands is a bundle, unless `op` takes it apart."""
    for type_ in types:
        if isinstance(type_, BundleType) and not isinstance(op, Item):
            raise ShapeError(f"{op.kind} takes values, and {type_} is several; take it apart by its items")


def check_single(what: str, node: Node) -> None:
    """Raise ShapeError, with the items that might be meant, if `node` is a bundle; `what` is to be one value."""
    if isinstance(node.type, BundleType):
        items = [other.name for other in node.graph.nodes if isinstance(other.op, Item) and other.parents[0] is node]
        remedy = f"name one of its items: {', '.join(items)}" if items else 'take one out by a node of the op "item"'
        raise ShapeError(f"{what} is one value, and {node.name!r} is several, {node.type}; {remedy}")
