"""The contract of an op: a frozen rule that says what a node means, in every respect."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, WithJsonSchema

from graphengine.errors import ShapeError
from graphengine.ir import dims
from graphengine.ir.dims import Dim, Shape
from graphengine.ir.tagged import Tagged
from graphengine.ir.types import Array, TensorType, ValueType

if TYPE_CHECKING:
    from graphengine.ir.node import Node

Call = tuple[Callable[..., object], tuple[object, ...]]
"""A kernel bound to its arrays: `function(*arguments)` computes the value, wherever `out` is."""


MAX_AXES = 64
"""The most axes that a NumPy array can have."""


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
    """The mark, in an annotation, of an attribute that holds dims: `Op.bind_dims` puts sizes in the place of names."""


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
    """What a node computes: its fields are the attributes, as in JSON; its methods are its type rule, value and
    derivative.
    """

    overwrites: ClassVar[tuple[int, ...]] = ()
    """Positions of operands whose array may serve as `out`: it has the same type, and is not read once written to."""

    is_view: ClassVar[bool] = False
    """Whether the value is the first operand's own memory, seen through `view`, where the layout admits that."""

    is_leaf: ClassVar[bool] = False
    """Whether the value is given, not computed."""

    is_elementwise: ClassVar[bool] = False
    """Whether each element of the value is computed from those of the operands at its place, and from nothing else,
    where operands of any shapes broadcast as NumPy does. An op along an axis, or one that draws by place, is not."""

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

        Only an op that computes each element of its value from the elements of its operands at the same place,
        broadcast as NumPy does, and refuses none, has one: `Pointwise` makes it of the op's form. It uses operators,
        `a if c else b`, and the functions of ops/form.py; each operand is a name, so that it may stand there twice.
        """
        return None

    def scratch(self, y: Any, *types: Any, **_: Any) -> tuple[TensorType, ...]:
        """Types of the work arrays that the kernel needs while it runs."""
        return ()

    def view(self, operand: Array) -> Array:
        """For `is_view` ops: the value, as a view of the operand."""
        raise NotImplementedError

    def keeps_layout(self) -> bool:
        """For `is_view` ops: whether the view of a contiguous array is contiguous (as a reshaped one is)."""
        return False

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
        """This op with sizes, or other dims, in the place of names in its attributes."""
        fields = _dim_fields(type(self))
        if not fields:
            return self
        return self.model_copy(update={name: _bound(getattr(self, name), binding) for name in fields})

    def dim_names(self) -> frozenset[str]:
        """The names of dims that stand in the attributes."""
        found: set[str] = set()
        for name in _dim_fields(type(self)):
            value = getattr(self, name)
            for dim in value if isinstance(value, tuple) else (value,):
                found |= dims.names(dim)
        return frozenset(found)

    def streams(self) -> frozenset[int]:
        """The numbers of the streams from which it draws; what has the same number draws the same."""
        return frozenset()

    def with_streams(self, new: Mapping[int, int]) -> Op:
        """This op, with other streams in the place of those that `new` names."""
        return self

    @classmethod
    def arity(cls) -> tuple[int, int | None]:
        """The minimum and the maximum number of operands, as `infer` takes them; None for any number."""
        return _arity(cls)

    def exactly(self) -> Hashable:
        """A key for what this op does, bit for bit: attributes that are equal may differ in the sign of a zero."""
        return self if len(type(self).model_fields) == 1 else (self, repr(self))

    def attributes(self) -> dict[str, Any]:
        """The attributes as they stand in JSON, defaults left out."""
        if len(type(self).model_fields) == 1:
            return {}
        attributes = self.model_dump(mode="json", exclude_defaults=True)
        del attributes["kind"]
        return attributes


def _bound(value: Dim | Shape, binding: Mapping[str, Dim]) -> Dim | Shape:
    if isinstance(value, tuple):
        return tuple(dims.substitute(dim, binding) for dim in value)
    return dims.substitute(value, binding)


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
