"""Recurrence: a body, itself a graph, run once for every step of a sequence, with what it carries from step to step.

The body is declared once, by a Python function over nodes; what it reads of the graph around it is captured as an
operand. A scan yields a bundle. Its items are, in this order: the carries after the last step; the results of all steps,
stacked; and, stacked likewise, every value inside the body, which is how the backward pass reads its residuals. Items
that nobody reads are neither kept nor computed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from pydantic import Field

from graphengine.errors import GraphError, ShapeError
from graphengine.ir.attributes import InnerGraph
from graphengine.ir.bundle import BundleType, Item
from graphengine.ir.dims import Dim
from graphengine.ir.graph import Graph, Node, Phase, apply
from graphengine.ir.leaf import Input
from graphengine.ir.op import OneDim, Op
from graphengine.ir.pullback import active_nodes, pullback
from graphengine.ir.types import TensorType
from graphengine.ops.broadcast import full

__all__ = ["scan"]

Nodes = Node | Sequence[Node]
Body = Callable[[Any, Any], tuple[Any, Any]]


class Scan(Op):
    """c_t+1, y_t = body(c_t, x_t, k) for every step t, first to last, or last to first where `reverse`.

    Operands: the first carries, the sequences x (steps along their first axis), and k, which all steps read. The body's
    inputs stand in the same order; its outputs are the next carries, then the results of a step.
    """

    kind: Literal["scan"] = "scan"
    body: InnerGraph
    carries: int = Field(ge=0)
    sequences: int = Field(ge=0)
    length: OneDim = 0
    """The number of steps where there are no sequences; where there are, it is theirs."""
    reverse: bool = False

    def infer(self, *types: TensorType) -> BundleType:
        inputs = self.body.inputs
        if len(types) != len(inputs):
            raise GraphError(f"the body of the scan has {len(inputs)} inputs, and there are {len(types)} operands")
        length = self.steps(types)
        stepped = self.carries + self.sequences
        for place, (type_, node) in enumerate(zip(types, inputs, strict=True)):
            given = step_type(type_) if self.carries <= place < stepped else type_
            if given != node.type:
                raise ShapeError(f"{node.name} of the scan's body is {node.type}, and it is given {given}")
        for node, after in zip(inputs, self._outputs()[: self.carries], strict=False):
            if after.type != node.type:
                raise ShapeError(f"the carry {node.name} is {node.type}, and after a step it is {after.type}")
        kept = [*self._outputs()[self.carries :], *self.history()]
        carries = [node.type for node in inputs[: self.carries]]
        return BundleType.of((*carries, *(TensorType((length, *node.shape), node.dtype) for node in kept)))

    def eval(self, xp: Any, *values: Any) -> Any:
        carries, kept = list(values[: self.carries]), [*self._outputs()[self.carries :], *self.history()]
        steps = range(values[self.carries].shape[0] if self.sequences else int(self.length))
        stacks: list[list[Any]] = [[] for _ in kept]
        for t in reversed(steps) if self.reverse else steps:
            xs = [sequence[t] for sequence in values[self.carries : self.carries + self.sequences]]
            inside = evaluate(self.body, xp, [*carries, *xs, *values[self.carries + self.sequences :]])
            carries = [inside[node] for node in self._outputs()[: self.carries]]
            for stack, node in zip(stacks, kept, strict=True):
                stack.append(inside[node])
        ordered = [stack[::-1] if self.reverse else stack for stack in stacks]
        return (*carries, *(xp.stack(stack) for stack in ordered))

    def bind_dims(self, binding: Mapping[str, int]) -> Op:
        bound = super().bind_dims(binding)
        return bound.model_copy(update={"body": self.body.bind(binding)})

    def item_nodes(self) -> list[Node]:
        """The body's node behind each item: of a carry the next value, of all others the value of a step."""
        return [*self._outputs(), *self.history()]

    def history(self) -> list[Node]:
        """The nodes of the body whose values a scan can yield besides its results: all but what is given to every step."""
        carried = self.body.inputs[: self.carries]
        return [node for node in self.body.nodes if not node.is_leaf or node in carried]

    def vjp(self, y: Node, y_bar: Any, *parents: Node) -> Sequence[Node | None]:
        return self.shares(y, y_bar, parents)

    def shares(self, y: Node, y_bar: Any, wanted: Collection[Node]) -> Sequence[Node | None]:
        return _AdjointScan(self, y, y_bar, wanted).shares()

    def _outputs(self) -> list[Node]:
        return list(self.body.outputs.values())

    def steps(self, types: Sequence[TensorType]) -> Dim:
        """The number of steps, for operands of these types."""
        lengths = {type_.shape[0] if type_.ndim else 0 for type_ in types[self.carries : self.carries + self.sequences]}
        if len(lengths) > 1:
            raise ShapeError(f"the sequences of a scan differ in length: {' and '.join(sorted(map(str, lengths)))}")
        return lengths.pop() if lengths else self.length


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
    the last to the first, and y still stands in the order of `xs`. The body may read any node of the graph around it.
    """
    carries, sequences = _as_tuple(carry), _as_tuple(xs)
    outer = carries[0].graph if carries else sequences[0].graph
    inner = Graph(f"{name or 'scan'}_body", outer.dtype, outer=outer)
    insides = [_input(inner, f"carry_{i}", node.type) for i, node in enumerate(carries)]
    slices = [_input(inner, f"x_{i}", step_type(node.type)) for i, node in enumerate(sequences)]
    after, results = body(_like(carry, insides), _like(xs, slices))
    if len(_as_tuple(after)) != len(carries):
        raise GraphError(f"the body of a scan carries {len(carries)} values, and gives {len(_as_tuple(after))} back")
    for i, node in enumerate(_as_tuple(after)):
        inner.output(f"next_{i}", inner.own(node))
    for i, node in enumerate(_as_tuple(results)):
        inner.output(f"y_{i}", inner.own(node))
    inner.outer = None
    if not sequences and length is None:
        raise GraphError("a scan needs sequences, or a length")
    if sequences and length is not None:
        raise GraphError("a scan over sequences takes their length; leave length out")
    op = Scan(body=inner, carries=len(carries), sequences=len(sequences), length=length or 0, reverse=reverse)
    bundle = apply(op, *carries, *sequences, *inner.captures, name=name)
    items = [apply(Item(index=i), bundle) for i in range(len(carries) + len(_as_tuple(results)))]
    return _like(carry, items[: len(carries)]), _like(results, items[len(carries) :])


def _input(graph: Graph, name: str, type_: TensorType) -> Node:
    return graph.add(Input(shape=type_.shape, dtype=type_.dtype), name=name)


def step_type(type_: TensorType) -> TensorType:
    """The type of one step of a sequence."""
    if not type_.ndim:
        raise ShapeError(f"a sequence has its steps along its first axis, and {type_} has no axis")
    return TensorType(type_.shape[1:], type_.dtype)


def evaluate(graph: Graph, xp: Any, inputs: Sequence[Any]) -> dict[Node, Any]:
    """The value of every node of `graph`, by the reference semantics."""
    values = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        if node not in values:
            values[node] = node.op.eval(xp, *(values[parent] for parent in node.parents))
    return values


class _AdjointScan:
    """The scan that runs a scan's adjoints, against its direction.

    Its carries are the adjoints of the carries, and the sums so far of those of what all steps read. Its sequences are
    the adjoints of what was stacked, and the residuals, which it reads as items of the scan itself. Its body is cut out
    of `inside`, a copy of the body in which the body is differentiated.
    """

    def __init__(self, op: Scan, y: Node, y_bars: Sequence[Node | None], wanted: Collection[Node]) -> None:
        self.op, self.y, self.y_bars, self.parents = op, y, y_bars, y.parents
        self.inside = op.body.copy()
        self.originals = len(self.inside)
        self.inputs = self.inside.inputs
        self.items = [self.inside.nodes[node.index] for node in op.item_nodes()]
        self.bars: dict[Node, int] = {}
        """The inputs of `inside` that give a step the adjoint of an item, with the item's place."""
        self.active = self._active(wanted)
        self.adjoints = self._differentiate()
        self.body = Graph(f"{op.body.name}_bar", op.body.dtype)
        self.copies: dict[Node, Node] = {}

    def shares(self) -> list[Node | None]:
        """The adjoint of every operand of the scan; None where no path leads."""
        steps = range(self.op.carries, self.op.carries + self.op.sequences)
        carried = [place for place in self.bars.values() if place < self.op.carries]
        summed = [place for place in self.adjoints if place >= steps.stop]
        stacked = [place for place in self.adjoints if place in steps]
        if not self.adjoints:
            return [None] * len(self.parents)
        bundle = self._scan(carried, summed, stacked)
        place_of = {place: index for index, place in enumerate((*carried, *summed, *stacked))}
        return [
            apply(Item(index=place_of[place]), bundle) if place in self.adjoints else None
            for place in range(len(self.parents))
        ]

    def _active(self, wanted: Collection[Node]) -> set[int]:
        """The places of inputs with an adjoint: of what is wanted, and of carries that come to depend on it."""
        floats = [place for place, node in enumerate(self.inputs) if node.type.is_float]
        active = {place for place in floats if self.parents[place] in wanted}
        for _ in range(self.op.carries):  # each time one carry more is reached, or none ever will be
            reached = active_nodes(self.items[: self.op.carries], [self.inputs[place] for place in active])
            active |= {place for place in floats if place < self.op.carries and self.items[place] in reached}
        return active

    def _differentiate(self) -> dict[int, Node]:
        """Differentiate one step, and give the adjoints of the body's active inputs by their place."""
        seeds: dict[Node, Node] = {}
        for place, node in enumerate(self.items):
            given = place < len(self.y_bars) and self.y_bars[place] is not None
            if place in self.active if place < self.op.carries else given:
                bar = self.inside.add(Input(shape=node.shape, dtype=node.dtype))
                self.bars[bar] = place
                seeds[node] = seeds[node] + bar if node in seeds else bar
        adjoints = pullback(seeds, [self.inputs[place] for place in self.active], Phase.BACKWARD).adjoints
        return {place: adjoints[self.inputs[place]] for place in sorted(self.active) if self.inputs[place] in adjoints}

    def _scan(self, carried: Sequence[int], summed: Sequence[int], stacked: Sequence[int]) -> Node:
        outer = self.y.graph
        sources = self._sources()
        needed = self._needed(sources)
        bars = {place: bar for bar, place in self.bars.items()}
        for place in carried:
            self._give(bars[place])
        sums = [self.body.add(Input(shape=self.inputs[p].shape, dtype=self.inputs[p].dtype)) for p in summed]
        by_step = [node for node in needed if node in sources and sources[node][0]]
        by_all = [node for node in needed if node in sources and not sources[node][0]]
        for node in (*by_step, *by_all):
            self._give(node)
        for node in needed:
            if node not in self.copies:
                with self.body.declared_at(node.where):
                    self.copies[node] = self.body.add(node.op, [self.copies[parent] for parent in node.parents])
        nexts = [self._next(place) for place in carried]
        nexts += [sum_ + self.copies[self.adjoints[place]] for sum_, place in zip(sums, summed, strict=True)]
        for node in (*nexts, *(self.copies[self.adjoints[place]] for place in stacked)):
            self.body.output(f"output_{len(self.body.outputs)}", node)
        adjoint = Scan(
            body=self.body,
            carries=len(nexts),
            sequences=len(by_step),
            length=0 if by_step else self.op.steps([parent.type for parent in self.parents]),
            reverse=not self.op.reverse,
        )
        firsts = [self._zeros_unless_given(outer, place) for place in carried]
        firsts += [full(outer, 0.0, self.parents[place].shape, self.parents[place].dtype) for place in summed]
        return apply(adjoint, *firsts, *(sources[node][1]() for node in (*by_step, *by_all)))

    def _give(self, node: Node) -> None:
        """Make `node` an input of the body."""
        self.copies[node] = self.body.add(Input(shape=node.shape, dtype=node.dtype))

    def _next(self, place: int) -> Node:
        node = self.inputs[place]
        if place in self.adjoints:
            return self.copies[self.adjoints[place]]
        return full(self.body, 0.0, node.shape, node.dtype)

    def _zeros_unless_given(self, outer: Graph, place: int) -> Node:
        given = self.y_bars[place] if place < len(self.y_bars) else None
        return given if given is not None else full(outer, 0.0, self.inputs[place].shape, self.inputs[place].dtype)

    def _sources(self) -> dict[Node, tuple[bool, Callable[[], Node]]]:
        """What gives the adjoints' body each node that it does not compute: whether step by step, and the operand."""
        op, sources = self.op, {}
        for bar, place in self.bars.items():
            if place >= op.carries:
                sources[bar] = (True, partial(_required, self.y_bars[place]))
        for place, node in enumerate(self.inputs):
            if place >= op.carries:
                sources[node] = (place < op.carries + op.sequences, partial(_required, self.parents[place]))
        same = {node for node in self.inside.nodes[: self.originals] if node.is_leaf} - set(self.inputs)
        same |= set(self.inputs[op.carries + op.sequences :])
        first = len(op.body.outputs)
        for index, original in enumerate(op.history(), first):
            node = self.inside.nodes[original.index]
            if not node.is_leaf and same.issuperset(node.parents):
                same.add(node)  # the same in every step: cheaper made again than kept for each
            else:
                sources[node] = (True, partial(apply, Item(index=index), self.y))
        return sources

    def _needed(self, sources: Mapping[Node, object]) -> list[Node]:
        """The nodes of `inside` that the adjoints' body is made of, parents first."""
        needed: set[Node] = set()
        pending = list(self.adjoints.values())
        while pending:
            node = pending.pop()
            if node not in needed:
                needed.add(node)
                pending.extend(() if node in sources else node.parents)
        carried = {bar for bar, place in self.bars.items() if place < self.op.carries}
        return [node for node in self.inside.nodes if node in needed and node not in carried]


def _required(node: Node | None) -> Node:
    assert node is not None  # a bar is declared for adjoints that are there
    return node


def _as_tuple(nodes: Nodes | None) -> tuple[Node, ...]:
    return () if nodes is None else (nodes,) if isinstance(nodes, Node) else tuple(nodes)


def _like(structure: Nodes | None, nodes: Sequence[Node]) -> Any:
    """`nodes` in the form of `structure`: None, one node, or a tuple."""
    return None if structure is None else nodes[0] if isinstance(structure, Node) else tuple(nodes)
