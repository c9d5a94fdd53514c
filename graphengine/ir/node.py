"""The node: one op applied to parents, where it was declared, and the operators that apply ops to nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from graphengine.errors import DTypeError, GraphError, ShapeError
from graphengine.ir.array import as_array, fitted
from graphengine.ir.dims import Shape
from graphengine.ir.leaf import Constant
from graphengine.ir.op import GetItem, Op, plain
from graphengine.ir.types import DType, TupleType, ValueType
from graphengine.where import Where

if TYPE_CHECKING:
    from graphengine.ir.graph import Graph

_WRITTEN_AS = {"b": "b", "i": "biu", "u": "biu", "f": "biuf"}
"""By the kind of a node's dtype the kinds of numbers beside it: integers may be written for floats, not 2.0 for 2."""


class Phase(IntEnum):
    """What a node is for: a value, an adjoint, or the next value of a leaf."""

    FORWARD = 0
    BACKWARD = 1
    UPDATE = 2


_Operator = Callable[["Node", "Operand"], "Node"]


def _operator(kind: str) -> tuple[_Operator, _Operator]:
    """An operator's method, and that for a node on its right."""

    def method(self: Node, other: Operand) -> Node:
        return apply(plain(kind), self, other)

    def reflected(self: Node, other: Operand) -> Node:
        return apply(plain(kind), other, self)

    return method, reflected


@dataclass(slots=True, eq=False, repr=False)
class Node:
    """One op applied to parents. Op functions and `Graph` make nodes, which never change.

    Operators make nodes: + - * / ** @, unary -, < <= > >=, indexing with ints and slices, and `.T`. A Python or NumPy
    number on either side becomes a constant of the node's dtype. `==` is identity; `ge.equal` compares values.
    """

    graph: Graph
    index: int
    name: str
    op: Op
    parents: tuple[Node, ...]
    type: ValueType
    phase: Phase
    where: Where
    of: str | None
    __array_ufunc__ = None  # so that NumPy leaves `array * node` to the node

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
        return apply(plain("transpose"), self)

    def dim_names(self) -> frozenset[str]:
        """The names of dims in its type or in its op's attributes."""
        return self.type.names() | self.op.dim_names()

    def __repr__(self) -> str:
        return f"{signature(self.name, self.op, self.parents)}: {self.type}"

    __add__, __radd__ = _operator("add")
    __sub__, __rsub__ = _operator("subtract")
    __mul__, __rmul__ = _operator("multiply")
    __truediv__, __rtruediv__ = _operator("divide")
    __pow__, __rpow__ = _operator("power")
    __matmul__, __rmatmul__ = _operator("matmul")
    __lt__ = _operator("less")[0]
    __le__ = _operator("less_equal")[0]
    __gt__ = _operator("greater")[0]
    __ge__ = _operator("greater_equal")[0]

    def __neg__(self) -> Node:
        return apply(plain("negative"), self)

    def __getitem__(self, key: Any) -> Node:
        return apply(Op.registry["slice"](key=key), self)

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
    operands = [f"{parent.name} is {parent.type}, declared at {parent.where}" for parent in dict.fromkeys(parents)]
    return [f"node  {signature(name, op, parents)}", f"declared at {where}", *operands]


def check_single(what: str, node: Node) -> None:
    """Raise ShapeError, with the items that might be meant, if `node` is a tuple; `what` is to be one value."""
    if isinstance(node.type, TupleType):
        items = [other.name for other in node.graph.nodes if isinstance(other.op, GetItem) and other.parents[0] is node]
        remedy = f"name one of its items: {', '.join(items)}" if items else 'take one out by a node of the op "item"'
        raise ShapeError(f"{what} is one value, and {node.name!r} is several, {node.type}; {remedy}")


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
        if array.dtype.kind not in _WRITTEN_AS[np.dtype(target).kind]:
            raise ValueError(f"{operand!r} does not fit {target}")
        cast = fitted(array, target)
    except ValueError as error:
        raise DTypeError(f"{op.kind}: {error}; cast the node, or write a {target} number") from None
    return graph.add(Constant(value=cast, dtype=target)) if cast.ndim else graph.scalar(cast.item(), target)
