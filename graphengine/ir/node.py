"""The node: one op applied to parents, and the operators that apply ops to nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from graphengine.errors import DTypeError, GraphError
from graphengine.ir.array import as_array, fitted
from graphengine.ir.dims import Shape
from graphengine.ir.leaf import Constant
from graphengine.ir.op import Op
from graphengine.ir.types import Array, DType, ValueType
from graphengine.ir.where import Where

if TYPE_CHECKING:
    from graphengine.ir.graph import Graph


class Phase(IntEnum):
    """What a node is for: a value, an adjoint, or the next value of a leaf."""

    FORWARD = 0
    BACKWARD = 1
    UPDATE = 2


class Node:
    """One op applied to parents. Op functions and `Graph` make nodes.

    They never change.

    Operators make nodes: + - * / ** @, unary -, < <= > >=, indexing with ints and slices, and `.T`. A Python or NumPy
    number on either side becomes a constant of the node's dtype. `==` is identity; `ge.equal` compares values.
    """

    __slots__ = ("graph", "index", "name", "of", "op", "parents", "phase", "type", "where")
    __array_ufunc__ = None  # so that NumPy leaves `array * node` to the node

    def __init__(
        self,
        graph: Graph,
        index: int,
        name: str,
        op: Op,
        parents: tuple[Node, ...],
        type_: ValueType,
        phase: Phase,
        where: Where,
        of: str | None,
    ) -> None:
        self.graph = graph
        self.index = index
        self.name = name
        self.op = op
        self.parents = parents
        self.type = type_
        self.phase = phase
        self.where = where
        self.of = of

    @property
    def shape(self) -> Shape:
        """The sizes of the axes: ints and expressions in names."""
        return self.type.shape

    @property
    def dtype(self) -> DType:
        """The dtype's name, as NumPy has it."""
        return self.type.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.type.shape)

    @property
    def is_leaf(self) -> bool:
        """Whether the value is given, not computed."""
        return self.op.is_leaf

    @property
    def T(self) -> Node:
        """The value with its axes in reverse order."""
        return _emit("transpose", self)

    def dim_names(self) -> frozenset[str]:
        """The names of dims that stand in its type or in its op's attributes."""
        return self.type.names() | self.op.dim_names()

    def __repr__(self) -> str:
        return f"{signature(self.name, self.op, self.parents)}: {self.type}"

    def __add__(self, other: Operand) -> Node:
        return _emit("add", self, other)

    def __radd__(self, other: Operand) -> Node:
        return _emit("add", other, self)

    def __sub__(self, other: Operand) -> Node:
        return _emit("subtract", self, other)

    def __rsub__(self, other: Operand) -> Node:
        return _emit("subtract", other, self)

    def __mul__(self, other: Operand) -> Node:
        return _emit("multiply", self, other)

    def __rmul__(self, other: Operand) -> Node:
        return _emit("multiply", other, self)

    def __truediv__(self, other: Operand) -> Node:
        return _emit("divide", self, other)

    def __rtruediv__(self, other: Operand) -> Node:
        return _emit("divide", other, self)

    def __pow__(self, other: Operand) -> Node:
        return _emit("power", self, other)

    def __rpow__(self, other: Operand) -> Node:
        return _emit("power", other, self)

    def __matmul__(self, other: Operand) -> Node:
        return _emit("matmul", self, other)

    def __rmatmul__(self, other: Operand) -> Node:
        return _emit("matmul", other, self)

    def __neg__(self) -> Node:
        return _emit("negative", self)

    def __lt__(self, other: Operand) -> Node:  # type: ignore[misc]  # a float on the left comes here too, mirrored
        return _emit("less", self, other)

    def __le__(self, other: Operand) -> Node:  # type: ignore[misc]  # a float on the left comes here too, mirrored
        return _emit("less_equal", self, other)

    def __gt__(self, other: Operand) -> Node:  # type: ignore[misc]  # a float on the left comes here too, mirrored
        return _emit("greater", self, other)

    def __ge__(self, other: Operand) -> Node:  # type: ignore[misc]  # a float on the left comes here too, mirrored
        return _emit("greater_equal", self, other)

    def __getitem__(self, key: Any) -> Node:
        return _emit("slice", self, key=key)

    def __iter__(self) -> Iterator[Node]:
        raise TypeError(f"{self!r} is a node, not a sequence; index it")

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no value before the graph runs; use ge.where instead of `if`")


Operand = Node | float | int | bool | np.number[Any] | np.bool_ | np.ndarray[Any, np.dtype[Any]]


def apply(op: Op, *operands: Operand, name: str | None = None) -> Node:
    """The node of `op` applied to `operands`, in the graph that they belong to; numbers become constants."""
    nodes = [operand for operand in operands if isinstance(operand, Node)]
    if not nodes:
        raise GraphError(f"{op.kind} needs at least one node among its operands, not {', '.join(map(repr, operands))}")
    graph = nodes[0].graph
    if len(nodes) == len(operands) and not [node for node in nodes if node.graph is not graph]:
        return graph.add(op, nodes, name)
    graph = innermost(nodes)
    dtype = next((node.type.dtype for node in nodes if node.type.dtype != "bool"), None)
    start = len(graph)
    try:
        return graph.add(op, [_as_node(graph, operand, dtype, op) for operand in operands], name)
    except GraphError:
        graph.discard(start, keep=list(graph.captures.values()))  # the constants that numbers had become
        raise


def innermost(nodes: Sequence[Node]) -> Graph:
    """The graph of `nodes`; if they are of several, bodies in each other, the innermost, which captures the others."""
    return max((node.graph for node in nodes), key=lambda graph: graph.level)


def signature(name: str, op: Op, parents: Sequence[Node]) -> str:
    """A node as a line of code: `h = matmul(x, w)`."""
    attributes = [f"{key}={value!r}" for key, value in ({} if op.is_leaf else op.attributes()).items()]
    return f"{name} = {op.kind}({', '.join([*(parent.name for parent in parents), *attributes])})"


def context(name: str, op: Op, parents: Sequence[Node], where: Where) -> list[str]:
    """The lines under an error: the node, where it was declared, and the same of each operand."""
    operands = dict.fromkeys(parents)
    return [
        f"node  {signature(name, op, parents)}",
        f"declared at {where}",
        *(f"{parent.name} is {parent.type}, declared at {parent.where}" for parent in operands),
    ]


def check_arity(op: Op, count: int) -> None:
    """Raise GraphError unless `op` takes `count` operands."""
    least, most = op.arity()
    if count < least or (most is not None and count > most):
        wanted = f"at least {least}" if most is None else str(least) if least == most else f"{least} to {most}"
        raise GraphError(f"{op.kind} takes {wanted} operands, not {count}")


def _emit(kind: str, *operands: Operand, **attributes: Any) -> Node:
    return apply(Op.registry[kind](**attributes) if attributes else _plain(kind), *operands)


@cache  # by kinds of ops
def _plain(kind: str) -> Op:
    """The op of a kind that has no attributes: one for all nodes."""
    return Op.registry[kind]()  # type: ignore[no-any-return]  # the registry holds no types


def _as_node(graph: Graph, operand: Operand, dtype: DType | None, op: Op) -> Node:
    if isinstance(operand, Node):
        return graph.own(operand)
    try:
        array = as_array(operand)
    except ValueError as error:
        raise DTypeError(f"{op.kind} is given {error}") from None
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{op.kind} takes nodes and numbers, not {operand!r}")
    target = dtype or ("bool" if array.dtype.kind == "b" else graph.dtype)
    try:
        if not _is_of_kind(array, target):
            raise ValueError(f"{operand!r} does not fit {target}")
        cast = fitted(array, target)
    except ValueError as error:
        raise DTypeError(f"{op.kind}: {error}; cast the node, or write a {target} number") from None
    return graph.add(Constant(value=cast, dtype=target)) if cast.ndim else graph.scalar(cast.item(), target)


def _is_of_kind(array: Array, target: DType) -> bool:
    """Whether `target` is for numbers such as these: integers may be written where floats are meant, not 2.0 for 2."""
    kinds = {"b": "b", "i": "biu", "u": "biu", "f": "biuf"}
    return array.dtype.kind in kinds[np.dtype(target).kind]
