"""The node: one op applied to parents, where it was declared, and the operators that apply ops to nodes."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from graphengine.errors import DTypeError, GraphError, PickleError, ShapeError, UsageError
from graphengine.ir.array import as_array, fitted
from graphengine.ir.dims import Shape
from graphengine.ir.leaf import Constant
from graphengine.ir.names import Suggesting
from graphengine.ir.op import GetItem, Op, plain
from graphengine.ir.types import DType, TupleType, ValueType
from graphengine.where import Where
from graphengine.wording import shown

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


_OPERATORS = frozenset(
    ["add", "subtract", "multiply", "divide", "power", "matmul", "less", "less_equal", "greater", "greater_equal"],
)
"""The operators of nodes, by the names of their ops, which are those of NumPy's functions too."""

_COMPUTES = "exe.forward(feeds), for exe = ge.compile(graph), computes values"


def _refused(what: str, remedy: str) -> Callable[..., Any]:
    """The method of an operation that needs a value."""

    def method(self: Node, *_: Any, **__: Any) -> NoReturn:
        raise self._no_value(what, remedy)

    return method


def _instead_of(function: str) -> str:
    """The remedy for a function of NumPy."""
    from graphengine.words import for_public  # tables that nothing else needs

    path = for_public(function, near=False) or ""
    return f"write {path}" if path.startswith("ge.") and path.count(".") == 1 else _COMPUTES


@dataclass(slots=True, eq=False, repr=False)
class Node(Suggesting):
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
    __setattr__ = object.__setattr__  # type: ignore[assignment]  # quick: each new node has nine attributes

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

    def __copy__(self) -> Node:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Node:
        return copy.deepcopy(self.graph, memo)[self.name]

    def __reduce__(self) -> tuple[object, ...]:
        if self.name not in self.graph or self.graph[self.name] is not self:
            raise PickleError(f"{self.name!r} is no longer a node of graph {self.graph.name!r}")
        return operator.getitem, (self.graph, self.name)

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

    def __array_ufunc__(self, function: np.ufunc, method: str, *operands: Any, **options: Any) -> Node:
        """What NumPy makes of `array * node`; other functions of NumPy compute values, and a node has none yet."""
        name, out = function.__name__, options.get("out", operands)  # `array += node` has the array for `out`
        if name in _OPERATORS and method == "__call__" and out[0] is operands[0]:
            return apply(plain(name), *operands)
        raise self._no_value(f"np.{name}", _instead_of(name))

    def __array_function__(self, function: Callable[..., Any], *_: Any) -> NoReturn:
        raise self._no_value(f"np.{function.__name__}", _instead_of(function.__name__))

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise self._no_value("an array", f"{_COMPUTES}, and ge.stack joins nodes")

    def _no_value(self, what: str, remedy: str) -> UsageError:
        error = UsageError(f"{what}: a node has no value before the graph runs; {remedy}")
        error.quote(f"at {error.where}", f"node  {self!r}", f"declared at {self.where}")
        return error

    __len__ = _refused("len(x)", "x.shape[0] is the size of its first axis")
    __bool__ = _refused("a condition", "use ge.where instead of `if`, and ge.logical_and instead of `and`")
    __float__ = __complex__ = _refused("float(x)", f"{_COMPUTES}, and functions such as ge.exp take nodes")
    __int__ = _refused("int(x)", f"{_COMPUTES}, and ge.cast(x, 'int64') makes a node of ints")
    __index__ = _refused("an index or a size", f"{_COMPUTES}, and ge.gather(x, indices) indexes by a node")
    __round__ = _refused("round(x)", "write ge.floor(x + 0.5)")
    __iter__ = _refused("iteration", "index it, as x[0]; ge.sum, ge.max and ge.split take it as a whole")
    __contains__ = _refused("`in`", "ge.equal(x, y) compares its elements")
    __setitem__ = _refused("x[...] = y", "a node never changes, and ge.where or ge.concat makes another")
    __call__ = _refused("x(...)", "ge.layers.dense(x, units) makes a layer on x")
    __invert__ = _refused("~x", "write ge.logical_not(x)")
    __and__ = __rand__ = _refused("x & y", "write ge.logical_and(x, y)")
    __or__ = __ror__ = _refused("x | y", "write ge.logical_or(x, y)")
    __xor__ = __rxor__ = _refused("x ^ y", "write x**y for a power, ge.not_equal(x, y) for bools")
    __floordiv__ = __rfloordiv__ = _refused("x // y", "write ge.floor(x / y)")
    __mod__ = __rmod__ = _refused("x % y", "write x - y * ge.floor(x / y)")

    def __abs__(self) -> Node:
        return apply(plain("abs"), self)


Operand = Node | float | int | bool | np.number[Any] | np.bool_ | np.ndarray[Any, np.dtype[Any]]


def apply(op: Op, *operands: Operand, name: str | None = None) -> Node:
    """The node of `op` applied to `operands`, in the graph that they belong to; numbers become constants."""
    nodes = [operand for operand in operands if isinstance(operand, Node)]
    if not nodes:
        given = ", ".join(map(shown, operands)) or "none"
        remedy = "graph.input, graph.parameter and graph.constant make nodes, and NumPy computes with arrays"
        raise GraphError(f"{op.kind} needs at least one node among its operands, not {given}; {remedy}")
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
        remedy = "; ge.mean divides by a size, and a named one has no value here" if isinstance(operand, str) else ""
        raise DTypeError(f"{op.kind} takes nodes and numbers, not {shown(operand)}{remedy}")
    target = dtype or ("bool" if array.dtype.kind == "b" else graph.dtype)
    try:
        if array.dtype.kind not in _WRITTEN_AS[np.dtype(target).kind]:
            raise ValueError(f"{shown(operand)} does not fit {target}")
        cast = fitted(array, target)
    except ValueError as error:
        raise DTypeError(f"{op.kind}: {error}; cast the node, or write a {target} number") from None
    return graph.add(Constant(value=cast, dtype=target)) if cast.ndim else graph.scalar(cast.item(), target)
