"""The contract of an op: a frozen rule that says what a node means; and the op that takes one result out of a tuple."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field, WithJsonSchema

from graphengine.errors import GraphError, ShapeError
from graphengine.ir import dims
from graphengine.ir.dims import Dim, Shape
from graphengine.ir.tagged import Tagged
from graphengine.ir.types import MAX_AXES, Array, TensorType, TupleType, ValueType

if TYPE_CHECKING:
    from graphengine.ir.node import Node

Call = tuple[Callable[..., object], tuple[object, ...]]
"""A kernel bound to its arrays: `function(*arguments)` computes the value, wherever `out` is."""


def as_dim(value: object) -> Dim:
    """`value` as a dim, for pydantic: what is wrong with it is a ValueError."""
    try:
        dim = dims.check_dim(value)
    except ShapeError as error:
        raise ValueError(error.message) from None
    if isinstance(value, str) and isinstance(dim, int):
        raise ValueError(f"a size that is known is an int: {dim}, not {value!r}")
    return dim


def _sizes(value: object) -> Shape:
    if not isinstance(value, list | tuple):
        raise ValueError("sizes are a list of ints and names")
    return tuple(as_dim(size) for size in value)


def _shape(value: object) -> Shape:
    if not isinstance(value, list | tuple):
        raise ValueError("a shape is a list of ints and names")
    if len(value) > MAX_AXES:
        raise ValueError(f"a shape has at most {MAX_AXES} axes, not {len(value)}")
    return _sizes(value)


class HoldsDims:
    """The mark, in an annotation, of an attribute that holds dims: `Op.bind_dims` replaces their names by sizes."""


_DIM_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": "^[A-Za-z0-9_ *+-]*[A-Za-z_][A-Za-z0-9_ *+-]*$"},
    ]
}
OneDim = Annotated[Dim, BeforeValidator(as_dim), HoldsDims(), WithJsonSchema(_DIM_SCHEMA)]
_LIST_SCHEMA: dict[str, Any] = {"type": "array", "items": _DIM_SCHEMA}
Dims = Annotated[Shape, BeforeValidator(_shape), HoldsDims(), WithJsonSchema(_LIST_SCHEMA)]
Sizes = Annotated[Shape, BeforeValidator(_sizes), HoldsDims(), WithJsonSchema(_LIST_SCHEMA)]
"""Sizes of parts, of which there may be more than a shape has axes."""


class Op(Tagged):
    """What a node computes: its fields are the attributes, as in JSON; its methods are type rule, value, derivative."""

    overwrites: ClassVar[tuple[int, ...]] = ()
    """Positions of operands whose array may serve as `out`: it has the same type, and is not read once written to."""

    is_view: ClassVar[bool] = False
    """Whether the value is the first operand's own memory, seen through `view`, where the layout admits that."""

    keeps_layout: ClassVar[bool] = False
    """Whether that view of a contiguous array is contiguous, as a reshaped one is."""

    is_leaf: ClassVar[bool] = False
    """Whether the value is given, not computed."""

    is_elementwise: ClassVar[bool] = False
    """Whether each element of the value is computed from those of the operands at its index, and from nothing else,
    where operands of any shapes broadcast as NumPy does. An op along an axis, or one that draws by index, is not."""

    def may_overwrite(self, item: int = 0) -> Collection[int]:
        """Like `overwrites`, of result number `item`, where there are several in a tuple."""
        return self.overwrites

    # The open signatures (*Any, **Any) let an op name its operands, each op its own number of them.
    def infer(self, *types: Any, **_: Any) -> ValueType:
        """The type of the value for operands of these types; raises ShapeError or DTypeError."""
        raise NotImplementedError

    def eval(self, xp: Any, *values: Any, **_: Any) -> Any:
        """The value, by pure functions of the array namespace `xp`: the reference semantics."""
        raise NotImplementedError

    def vjp(self, y: Node, y_bar: Node, *parents: Any, **_: Any) -> Sequence[Node | None]:
        """For every parent the node of its cotangent contribution, of its own type; None where no path leads."""
        return (None,) * len(parents)

    def contributions(self, y: Node, y_bar: Node, wanted: Collection[Node]) -> Sequence[Node | None]:
        """What `vjp` gives; of parents that are not `wanted` nothing is read, and an op may save itself theirs."""
        return self.vjp(y, y_bar, *y.parents)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        """The in-place kernel, bound to its arrays. An op without one of its own copies what `eval` returns."""

        def run() -> None:
            out[...] = self.eval(np, *operands)

        return run, ()

    def calls(self, out: Any, *operands: Array, scratch: Sequence[Array] = ()) -> Sequence[Call]:
        """The same kernel as calls to be made one after the other, where it is several: `bind` would have to loop."""
        return [self.bind(out, *operands, scratch=scratch)]

    def scalar(self, *operands: str) -> str | None:
        """The value at one element, as an expression of the operands' values there; None if there is no such form.

        Only an elementwise op that refuses no element has one: `Pointwise` makes it from the op's form. It uses
        operators, `a if c else b`, and the functions of ops/support/form.py; an operand is a name and may occur twice.
        """
        return None

    def scratch(self, y: Any, *types: Any, **_: Any) -> tuple[TensorType, ...]:
        """Types of the work arrays that the kernel needs while it runs."""
        return ()

    def view(self, operand: Array) -> Array:
        """For `is_view` ops: the value, as a view of the operand."""
        raise NotImplementedError

    def can_view(self, contiguous: bool) -> bool:
        """For `is_view` ops: whether an operand that is contiguous, or is not, can be viewed."""
        return True

    def flops(self, y: Any, *types: Any, **_: Any) -> int:
        """Floating-point operations of one evaluation.

        Each of + - * / max compare exp tanh and the like counts one, a sigmoid four; choices, logic of bools, casts and
        what only moves values count none.
        """
        return 0

    def bind_dims(self, binding: Mapping[str, Dim]) -> Op:
        """This op with names in its attributes replaced by sizes, or by other dims."""
        update: dict[str, Dim | Shape] = {}
        for name in _dim_fields(type(self)):
            value = getattr(self, name)
            if isinstance(value, tuple):
                update[name] = tuple(dims.substitute(dim, binding) for dim in value)
            else:
                update[name] = dims.substitute(value, binding)
        return self.model_copy(update=update) if update else self

    def dim_names(self) -> frozenset[str]:
        """The names of dims in the attributes."""
        values = [getattr(self, name) for name in _dim_fields(type(self))]
        sizes = [dim for value in values for dim in (value if isinstance(value, tuple) else (value,))]
        return frozenset().union(*map(dims.names, sizes))

    def streams(self) -> frozenset[int]:
        """The numbers of the streams from which it draws; what has the same number draws the same."""
        return frozenset()

    def with_streams(self, new: Mapping[int, int]) -> Op:
        """This op, with the streams that `new` names replaced."""
        return self

    @classmethod
    def arity(cls) -> tuple[int, int | None]:
        """The minimum and the maximum number of operands, as `infer` takes them; None for any number."""
        return _arity(cls)

    def exactly(self) -> Hashable:
        """A key for what this op does, bit for bit: attributes that are equal may differ in the sign of a zero."""
        return self if len(type(self).model_fields) == 1 else (self, repr(self))

    def attributes(self) -> dict[str, Any]:
        """The attributes as in JSON, defaults left out."""
        if len(type(self).model_fields) == 1:
            return {}
        attributes = self.model_dump(mode="json", exclude_defaults=True)
        del attributes["kind"]
        return attributes


@cache  # by classes
def _arity(cls: type[Op]) -> tuple[int, int | None]:
    parameters = list(inspect.signature(cls.infer).parameters.values())[1:]
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return len(parameters), None
    return sum(parameter.default is parameter.empty for parameter in parameters), len(parameters)


@cache  # by classes
def _dim_fields(cls: type[Op]) -> tuple[str, ...]:
    return tuple(
        name for name, field in cls.model_fields.items() if any(isinstance(mark, HoldsDims) for mark in field.metadata)
    )


def check_operands(op: Op, types: Sequence[object]) -> None:
    """Raise GraphError unless `op` takes so many operands, ShapeError if it is given a tuple that it does not take."""
    count, (minimum, maximum) = len(types), op.arity()
    if count < minimum or (maximum is not None and count > maximum):
        exact = str(minimum) if minimum == maximum else f"{minimum} to {maximum}"
        wanted = f"at least {minimum}" if maximum is None else exact
        raise GraphError(f"{op.kind} takes {wanted} operands, not {count}")
    for type_ in types:
        if isinstance(type_, TupleType) and not isinstance(op, GetItem):
            raise ShapeError(f"{op.kind} takes values, and {type_} is several; take one out by get_item")


@cache
def plain(kind: str) -> Op:
    """The op of a kind that has no attributes: one for all nodes. Pydantic, which takes 1 ms a class, does nothing."""
    return Op.registry[kind].model_construct()  # type: ignore[no-any-return]  # the registry holds no types


class GetItem(Op):
    """y = result number `index` of a tuple. It takes no memory and no time."""

    is_view: ClassVar[bool] = True
    keeps_layout: ClassVar[bool] = True
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
