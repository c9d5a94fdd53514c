"""Recurrence: a body, itself a graph, run once for every step of a sequence, with what it carries from step to step.

The body is declared once, by a Python function over nodes; what it reads of the graph around it is captured as an
operand. A scan yields a tuple. Its items are, in this order: the carries after the last step; the results of all
steps, stacked; and, stacked likewise, every value inside the body, which is how the backward pass reads its residuals.
Items that nobody reads are neither saved nor computed. `scan_adjoint` says how a scan is differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from graphengine.errors import GraphError, ShapeError
from graphengine.ir import dims
from graphengine.ir.dims import Dim
from graphengine.ir.graph import Graph, content
from graphengine.ir.leaf import Constant, Input, Leaf
from graphengine.ir.node import Node, Phase, apply, context, innermost
from graphengine.ir.op import GetItem, OneDim, Op
from graphengine.ir.spec.attributes import InnerGraph
from graphengine.ir.subgraph import cut, evaluate, needed_nodes
from graphengine.ir.types import TensorType, TupleType, ValueType
from graphengine.ops.elementwise import Copy
from graphengine.ops.matmul import MatMul
from graphengine.ops.shape import Transpose
from graphengine.where import caller

__all__ = ["scan"]

Nodes = Node | Sequence[Node]
Body = Callable[[Any, Any], tuple[Any, Any]]

MAX_NESTING = 16
"""How many scans may be inside each other."""

MAX_ITEMS = 2**16
"""How many values a scan can yield: all nodes of its body, and all that the scans in it can yield."""

_COPIED_ELEMENTS = 2**18
"""The size up to which a transposed matrix that each step multiplies by is copied once.

For rows of 32 by 256 such a product takes two thirds of the time. Copying larger ones takes longer than it saves.
"""


class Scan(Op):
    """c_t+1, y_t = body(c_t, x_t, k) for every step t, first to last, or last to first where `reverse`.

    Operands: the first carries c_0; the sequences x, whose steps lie along their first axis; and k, which all steps
    read. The body's inputs stand in the same order; its outputs are the next carries, then the results of a step.
    """

    kind: Literal["scan"] = "scan"
    body: InnerGraph
    carries: int = Field(ge=0)
    sequences: int = Field(ge=0)
    length: OneDim = 0
    """The number of steps where there are no sequences; where there are, it is theirs."""
    reverse: bool = False

    def infer(self, *types: ValueType) -> TupleType:
        self._check_body()
        self._check_operands(types)
        length = self.steps(types)
        carries = [node.type for node in self.body.inputs[: self.carries]]
        stacked = [TensorType((length, *node.shape), node.dtype) for node in self.items[self.carries :]]
        return TupleType((*carries, *stacked))

    def eval(self, xp: Any, *values: Any) -> Any:
        stepped = self.carries + self.sequences
        carries, sequences, shared = values[: self.carries], values[self.carries : stepped], values[stepped:]
        count = sequences[0].shape[0] if sequences else dims.bind(self.length, {})
        if count == 0:
            return (*carries, *(xp.zeros((0, *x.type.static_shape), x.dtype) for x in self.items[self.carries :]))
        rows: list[Any] = [None] * count
        for t in reversed(range(count)) if self.reverse else range(count):
            inside = evaluate(self.opened, xp, [*carries, *(sequence[t] for sequence in sequences), *shared])
            found = [inside[node] for node in self.items]
            carries, rows[t] = tuple(found[: self.carries]), found[self.carries :]
        return (*carries, *map(xp.stack, zip(*rows, strict=True)))

    def vjp(self, y: Node, y_bar: Any, *parents: Node) -> Sequence[Node | None]:
        return self.contributions(y, y_bar, parents)

    def contributions(self, y: Node, y_bar: Any, wanted: Collection[Node]) -> Sequence[Node | None]:
        from graphengine.ops.support.scan_adjoint import AdjointScan  # which makes a Scan, so it imports this file

        return AdjointScan(self, y, y_bar, wanted).adjoints()

    def bind_dims(self, binding: Mapping[str, Dim]) -> Op:
        return super().bind_dims(binding).model_copy(update={"body": self.body.bind(binding)})

    def dim_names(self) -> frozenset[str]:
        """The names of dims that stand in the attributes, the nodes of the body included."""
        return super().dim_names().union(*(node.dim_names() for node in self.body.nodes))

    def streams(self) -> frozenset[int]:
        return super().streams().union(*(node.op.streams() for node in self.body.nodes))

    def with_streams(self, new: Mapping[int, int]) -> Op:
        if not self.streams():
            return self
        body = self.body.copy()
        for node in body.nodes:
            node.op = node.op.with_streams(new)
        return self.model_copy(update={"body": body})

    @cached_property
    def opened(self) -> Graph:
        """The body, with a `get_item` for every result of each scan in it: all that this scan can yield."""
        return _with_items(self.body)

    @cached_property
    def items(self) -> list[Node]:
        """The node of `opened` behind each item: of a carry the value after a step, of all others what is stacked."""
        carried = self.opened.inputs[: self.carries]
        inside = [node for node in self.opened.nodes if not node.is_leaf or node in carried]
        return [*self.opened.outputs.values(), *(node for node in inside if not isinstance(node.type, TupleType))]

    def __copy__(self) -> Scan:
        """A copy to be changed, so without what is remembered of this body."""
        return Scan(**{name: getattr(self, name) for name in Scan.model_fields})

    def steps(self, types: Sequence[ValueType]) -> Dim:
        """The number of steps, for operands of these types."""
        lengths = {_first_axis(type_): None for type_ in types[self.carries : self.carries + self.sequences]}
        if len(lengths) > 1:
            raise ShapeError(f"the sequences of a scan differ in length: {' and '.join(map(str, lengths))}")
        return next(iter(lengths), self.length)

    @cached_property
    def nesting(self) -> int:
        """How many scans are inside each other, this one included."""
        return 1 + max((node.op.nesting for node in self.body.nodes if isinstance(node.op, Scan)), default=0)

    def _check_body(self) -> None:
        """Raise GraphError unless the body is one: whatever may be in a document is caught here."""
        if self.nesting > MAX_NESTING:
            raise GraphError(f"scans stand inside each other {self.nesting} deep, and may {MAX_NESTING}")
        types = [node.type for node in self.body.nodes]
        count = sum(1 + (len(type_.items) if isinstance(type_, TupleType) else 0) for type_ in types)
        if count > MAX_ITEMS:
            raise GraphError(f"the body of the scan has {count:,} values in it, and may have {MAX_ITEMS:,}")
        for node in self.body.nodes:
            if node.is_leaf and not isinstance(node.op, Input | Constant):
                raise GraphError(f"the body of a scan has no {node.op.kind} of its own, as {node.name} is; capture it")
            if any(parent.phase > node.phase and not parent.is_leaf for parent in node.parents):
                raise GraphError(f"in the body of the scan {node.name} reads what is of a later phase")
            if node.phase is Phase.UPDATE:
                raise GraphError(f"the body of a scan updates nothing, and {node.name} in it is of the phase update")
        for name, node in self.body.outputs.items():
            if isinstance(node.type, TupleType):
                raise GraphError(f"a body yields arrays, and its output {name} is {node.type}")
        outputs, inputs = self.body.outputs.values(), self.body.inputs
        if self.carries > len(outputs) or self.carries + self.sequences > len(inputs):
            given = f"{len(inputs)} inputs and {len(outputs)} outputs"
            wanted = f"{self.carries} carries and {self.sequences} sequences"
            raise GraphError(f"a body of {given} does not do for {wanted}")
        for before, after in zip(inputs[: self.carries], outputs, strict=False):
            if after.type != before.type:
                raise ShapeError(_changes(before, after))

    def _check_operands(self, types: Sequence[ValueType]) -> None:
        inputs, stepped = self.body.inputs, range(self.carries, self.carries + self.sequences)
        if len(types) != len(inputs):
            raise GraphError(f"the body of the scan has {len(inputs)} inputs, and there are {len(types)} operands")
        for place, (type_, node) in enumerate(zip(types, inputs, strict=True)):
            given = step_type(type_) if place in stepped else type_
            if given != node.type:
                raise ShapeError(f"{node.name} of the scan's body is {node.type}, and it is given {given}")

    def __eq__(self, other: object) -> bool:
        """Whether both do the same; the name of a body says nothing about that."""
        return isinstance(other, Scan) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash((len(self.body), *self._content()[1:]))

    def _content(self) -> tuple[object, ...]:
        return content(self.body)[1:], self.carries, self.sequences, self.length, self.reverse


def scan(
    body: Body,
    carry: Nodes,
    xs: Nodes | None = None,
    *,
    length: Dim | None = None,
    reverse: bool = False,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Run `body(carry, x) -> (next carry, y)` for every step of `xs`, and return (the last carry, all y stacked).

    `carry`, `xs` and what the body returns are a node or a sequence of nodes (`xs` and y may be None: then `length`
    says how many steps there are, and nothing is stacked). Steps lie along the first axis of `xs`; `reverse` goes from
    the last to the first, and y is still in the order of `xs`.

    The body may read any node of the graph around it. What it computes from such nodes alone, the same in every step,
    is computed once, outside.

    Returns nodes in the structure of the carry and of y.
    Raises ShapeError if a step changes the type of a carry or sequences differ in length, GraphError for a body that
    declares leaves, outputs or updates of its own.
    """
    carries, sequences = as_tuple(carry), as_tuple(xs)
    if not sequences and length is None:
        raise GraphError("a scan needs sequences, or a length")
    if sequences and length is not None:
        raise GraphError("a scan over sequences takes their length; leave length out")
    if not carries and not sequences:
        raise GraphError("a scan needs a carry or a sequence")
    outer = innermost((*carries, *sequences))
    inner, start = Graph("body", outer.dtype, outer=outer), len(outer)
    types = {f"carry_{i}": node.type for i, node in enumerate(carries)}
    types |= {f"x_{i}": step_type(node.type) for i, node in enumerate(sequences)}
    stepped = [inner.add(Input(shape=t.shape, dtype=t.dtype), name=name_) for name_, t in types.items()]
    try:
        after, results = body(_like(carry, stepped[: len(carries)]), _like(xs, stepped[len(carries) :]))
        nexts, stacked = ([inner.own(node) for node in as_tuple(nodes)] for nodes in (after, results))
        _check(inner, stepped, carries, nexts)
        if inner.outer is not outer and inner.outer is not None:
            outer, start = inner.outer, len(inner.outer)
        outputs = {f"next_{i}": node for i, node in enumerate(nexts)} | {f"y_{i}": y for i, y in enumerate(stacked)}
        if not outputs:
            return _like(carry, ()), _like(results, ())
        captured = {inside: node for node, inside in inner.captures.items()}
        part, shared = cut_body(f"{name or 'scan'}_body", stepped, captured, outer, outputs)
        op = Scan(body=part, carries=len(carries), sequences=len(sequences), length=length or 0, reverse=reverse)
        tuple_ = apply(op, *carries, *sequences, *shared, name=name)
    except GraphError:
        outer.discard(start, keep=list(outer.captures.values()))
        raise
    finally:
        inner.end_declaration()
    items = [apply(GetItem(index=i), tuple_) for i in range(len(outputs))]
    return _like(carry, items[: len(carries)]), _like(results, items[len(carries) :])


def _check(inner: Graph, stepped: Sequence[Node], carries: Sequence[Node], nexts: Sequence[Node]) -> None:
    """Raise GraphError unless a body may have been declared like this."""
    own = {*stepped, *inner.captures.values()}
    for node in inner.nodes:
        if isinstance(node.op, Leaf) and not isinstance(node.op, Constant) and node not in own:
            raise GraphError(f"{node.name} is declared inside a body; declare it outside, and let the body read it")
    if inner.outputs or inner.updates:
        raise GraphError("a body returns its results; outputs and updates are declared outside")
    if len(nexts) != len(carries):
        raise GraphError(f"the body of a scan carries {len(carries)} values, and gives {len(nexts)} back")
    for before, after in zip(carries, nexts, strict=True):
        if after.type != before.type:
            error = ShapeError(_changes(before, after))
            scan_at = f"in the scan declared at {caller()}"
            error.quote(*context(after.name, after.op, after.parents, after.where), scan_at)
            raise error


def cut_body(
    name: str, stepped: Sequence[Node], shared: Mapping[Node, Node], outer: Graph, outputs: Mapping[str, Node]
) -> tuple[Graph, list[Node]]:
    """The body that computes `outputs`, and the operands that all its steps read.

    `stepped` are its inputs that differ from step to step; `shared` gives others, with what they are in `outer`. What
    is the same in every step is left out of it: that is computed once, in `outer`, and read by all steps.
    """
    lifted = _lifted(next(iter(outputs.values())).graph, shared, outer)
    inside = needed_nodes(outputs.values(), [*stepped, *lifted])
    read = {*outputs.values(), *(parent for node in inside for parent in node.parents)}
    multiplied = {parent for node in inside if isinstance(node.op, MatMul) for parent in node.parents}
    given = [node for node in lifted if node in read]
    operands = [_compact(lifted[node]) if node in multiplied else lifted[node] for node in given]
    return cut(name, [*stepped, *given], outputs), operands


def _lifted(inner: Graph, shared: Mapping[Node, Node], outer: Graph) -> dict[Node, Node]:
    """What is the same in every step, in `outer`: what is `shared`, arrays, and what these alone give."""
    lifted = dict(shared)
    for node in inner.nodes:
        of_lifted = any(parent in lifted for parent in node.parents)
        is_array = isinstance(node.op, Constant) and node.ndim > 0
        if is_array or (of_lifted and all(parent in lifted or _is_bare(parent) for parent in node.parents)):
            with outer.declared_at(node.where):
                lifted[node] = outer.add(node.op, [_outside(parent, lifted, outer) for parent in node.parents])
    return lifted


def _is_bare(node: Node) -> bool:
    """Whether it is computed from nothing, as a scalar is, so that it is anywhere at no cost."""
    return not node.parents and not isinstance(node.op, Input)


def _outside(node: Node, lifted: Mapping[Node, Node], outer: Graph) -> Node:
    if node in lifted:
        return lifted[node]
    if isinstance(node.op, Constant):
        return outer.scalar(node.op.value.item(), node.dtype)
    return outer.add(node.op)


def _compact(node: Node) -> Node:
    """`node`, or where it is a small matrix seen transposed, its elements in the order in which they are read."""
    is_small = not node.type.names() and node.type.size <= _COPIED_ELEMENTS
    return apply(Copy(), node) if isinstance(node.op, Transpose) and is_small else node


def _changes(before: Node, after: Node) -> str:
    return f"the carry {before.name} is {before.type}, and after a step it is {after.type} ({after.name})"


def _first_axis(type_: ValueType) -> Dim:
    if not type_.ndim:
        raise ShapeError(f"a sequence has its steps along its first axis, and {type_} has no axis")
    return type_.shape[0]


def step_type(type_: ValueType) -> TensorType:
    """The type of one step of a sequence."""
    _first_axis(type_)
    return TensorType(type_.shape[1:], type_.dtype)


def _with_items(body: Graph) -> Graph:
    """`body` with a `get_item` for every result of each tuple in it."""
    tuples = [node for node in body.nodes if isinstance(node.type, TupleType)]
    if not tuples:
        return body
    graph = body.copy()
    taken = {(node.parents[0].index, node.op.index) for node in graph.nodes if isinstance(node.op, GetItem)}
    for tuple_ in tuples:
        for index in range(len(tuple_.type.items)):  # type: ignore[union-attr]  # it is a TupleType
            if (tuple_.index, index) not in taken:
                with graph.declared_at(tuple_.where):
                    graph.add(GetItem(index=index), [graph.nodes[tuple_.index]])
    return graph


def as_tuple(nodes: Nodes | None) -> tuple[Any, ...]:
    """A node, or several, or None for no node, as a tuple."""
    return () if nodes is None else (nodes,) if isinstance(nodes, Node) else tuple(nodes)


def _like(structure: Nodes | None, nodes: Sequence[Node]) -> Any:
    """`nodes` in the form of `structure`: None, one node, or a tuple."""
    return None if structure is None else nodes[0] if isinstance(structure, Node) else tuple(nodes)
