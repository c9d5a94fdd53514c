"""The derivative of a scan: a scan of adjoints, which runs against the first one's direction.

One step, c_t+1, y_t = body(c_t, x_t, k), is differentiated as any graph is, given the adjoints of what it yields. That
of c_t+1 is carried here from step to step; those of y_t, and of residuals that somebody else has read, are sequences.
The step gives the adjoint of c_t, which is carried on; that of x_t, which is stacked; and a contribution to that of k,
which is summed over all steps: inside, as one more carry, or, where the contribution is itself a sum, as that of a
weight in a matrix product is, after the scan, over all steps at once. The sum over t of products a_t^T b_t is one
product, of all a below each other and all b below each other: a fraction of the cost of many small ones with an
addition each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from graphengine.ir import dims
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Input
from graphengine.ir.names import NAME_LENGTH
from graphengine.ir.node import Node, Phase, apply
from graphengine.ir.op import GetItem
from graphengine.ir.pullback import accumulate, active_nodes, pullback
from graphengine.ir.subgraph import needed_nodes
from graphengine.ops.broadcast import BroadcastTo, Reshape, Sum, full, reshape, sum
from graphengine.ops.elementwise import Add
from graphengine.ops.matmul import MatMul
from graphengine.ops.scan import Scan, cut_body
from graphengine.ops.shape import Transpose, transpose


class Step:
    """One step of a scan, differentiated: a copy of its body with the adjoints of its inputs in it.

    An input is known by its index among the scan's operands, a value by the number of the item that it is.
    """

    def __init__(self, op: Scan, given: Collection[int], wanted: Collection[int]) -> None:
        self.graph = op.opened.copy()
        self.originals = len(self.graph)
        self.inputs = self.graph.inputs
        self.items = [self.graph.nodes[node.index] for node in op.items]
        active = self._active(op.carries, given, wanted)
        carried = [index for index in active if index < op.carries]
        stacked = [index for index in given if index >= op.carries]
        self.bars = {index: self.new_input(self.items[index]) for index in (*carried, *stacked)}
        """The inputs that give the step the adjoints of its items."""
        seeds: dict[Node, Node] = {}
        for index, bar in self.bars.items():
            accumulate(seeds, self.items[index], bar)
        found = pullback(seeds, [self.inputs[index] for index in active], Phase.BACKWARD).adjoints
        self.adjoints = {index: found[self.inputs[index]] for index in active if self.inputs[index] in found}
        """The adjoints of the active inputs; one that no path leads to has none."""

    def _active(self, carries: int, given: Collection[int], wanted: Collection[int]) -> list[int]:
        """The indices of inputs with an adjoint: on a path, over any number of steps, from `wanted` to `given`."""
        before, after = self.inputs[:carries], self.items[:carries]

        def carried_on(indices: set[int]) -> Iterable[int]:
            reached = active_nodes(after, [self.inputs[index] for index in indices]) if after else {}
            return (index for index in range(carries) if after[index] in reached)

        def needed_before(indices: set[int]) -> Iterable[int]:
            reached = active_nodes([self.items[index] for index in indices], before) if indices else {}
            return (index for index in range(carries) if before[index] in reached)

        depending, needed = _closed(wanted, carried_on), _closed(given, needed_before)
        return sorted(index for index in depending if index >= carries or index in needed)

    def new_input(self, like: Node) -> Node:
        """An input for the adjoint of `like`."""
        name = f"{like.name}_bar"
        is_free = len(name) <= NAME_LENGTH and name not in self.graph
        with self.graph.declared_at(like.where):
            return self.graph.add(Input(shape=like.shape, dtype=like.dtype), name=name if is_free else None)


@dataclass(frozen=True, slots=True)
class _Carry:
    """What the adjoint scan carries: in the step the value before and after it, outside the first value."""

    before: Node
    after: Node
    first: Node


class AdjointScan:
    """The scan of the adjoints of a scan's operands; `y_bars` are those of its items, None for what has none."""

    def __init__(self, op: Scan, y: Node, y_bars: Sequence[Node | None], wanted: Collection[Node]) -> None:
        self.op, self.y, self.parents = op, y, y.parents
        self.y_bars = {index: bar for index, bar in enumerate(y_bars) if bar is not None}
        floats = [index for index, parent in enumerate(self.parents) if parent in wanted and parent.type.is_float]
        step = self.step = Step(op, self.y_bars, floats)
        stepped = op.carries + op.sequences
        self.sequences = range(op.carries, stepped)
        self.shared = dict(zip(step.inputs[stepped:], self.parents[stepped:], strict=True))
        """The inputs of the step that are the same for all steps, with the operands that they are."""
        self.per_step: dict[Node, Node | int] = {
            bar: self.y_bars[index] for index, bar in step.bars.items() if index >= op.carries
        }
        """The values of a step that are there to be read, with the node that has them stacked, or the item's number."""
        self.per_step |= {step.inputs[index]: self.parents[index] for index in self.sequences}
        self._find_residuals()

    def adjoints(self) -> list[Node | None]:
        """The adjoint of every operand; None for what is not wanted, or no path leads to."""
        adjoints = self.step.adjoints
        if not dims.is_positive(self.op.steps([parent.type for parent in self.parents])):
            for index in self.step.bars:  # without any step the last carries are the first ones
                if index < self.op.carries and index not in adjoints:
                    adjoints[index] = _zeros(self.step.graph, self.step.inputs[index])
        if not adjoints:
            return [None] * len(self.parents)
        carries = {index: self._carried(index) for index in self.step.bars if index < self.op.carries}
        results = [adjoints[index] for index in self.sequences if index in adjoints]
        later: dict[int, list[Node]] = {}
        for index in (index for index in adjoints if index >= self.sequences.stop):
            now, later[index] = self._divided(adjoints[index])
            results.extend(factor for term in later[index] for factor in _factors(term) or ())
            if now:  # summed over the steps so far, in the adjoint of what all steps read
                before = self.step.new_input(self.step.inputs[index])
                first = _zeros(self.y.graph, self.parents[index])
                carries[index] = _Carry(before, reduce(add, now, before), first)
        ends, stacks = self._scan(carries, dict.fromkeys(results))
        return [self._contribution(index, ends, stacks, later.get(index, ())) for index in range(len(self.parents))]

    def _contribution(
        self, index: int, ends: Mapping[int, Node], stacks: Mapping[Node, Node], later: Sequence[Node]
    ) -> Node | None:
        """The adjoint of one operand, from what the adjoint scan gives."""
        if index not in self.step.adjoints:
            return None
        if index in self.sequences:
            return stacks[self.step.adjoints[index]]
        parts = [ends[index]] if index in ends else []
        return reduce(add, [*parts, *(_total(term, stacks) for term in later)])

    def _find_residuals(self) -> None:
        """Let the values of the body be items of the scan, except for those that are cheaper made again."""
        same = {node for node in self.step.graph.nodes if not node.parents and not isinstance(node.op, Input)}
        same |= set(self.shared)
        for index in range(len(self.op.body.outputs), len(self.step.items)):
            node = self.step.items[index]
            if node.parents and same.issuperset(node.parents):
                same.add(node)
            elif not _is_arrangement(node):
                self.per_step[node] = index
        known = {(node.parents[0], node.op.index): node for node in self.per_step if isinstance(node.op, GetItem)}
        for node in self.step.graph.nodes[self.step.originals :]:
            if isinstance(node.op, GetItem) and (node.parents[0], node.op.index) in known:
                self.per_step[node] = self.per_step[known[node.parents[0], node.op.index]]

    def _carried(self, index: int) -> _Carry:
        """The adjoint of a carry."""
        after, first = self.step.adjoints.get(index), self.y_bars.get(index)
        return _Carry(
            self.step.bars[index],
            _zeros(self.step.graph, self.step.inputs[index]) if after is None else after,
            _zeros(self.y.graph, self.parents[index]) if first is None else first,
        )

    def _divided(self, adjoint: Node) -> tuple[list[Node], list[Node]]:
        """The terms of an adjoint that are summed step by step, and those summed after the scan, over all steps."""
        varying = {*self.per_step, *self.step.bars.values()}
        now: list[Node] = []
        later: list[Node] = []
        for term in _terms(adjoint):
            found = _factors(term)
            is_later = found is not None and all(node in varying or node.parents for node in found)
            (later if is_later else now).append(term)
        return (now if later else [adjoint]), later

    def _scan(self, carries: Mapping[int, _Carry], results: Iterable[Node]) -> tuple[dict[int, Node], dict[Node, Node]]:
        """Emit the adjoint scan: the ends of `carries`, and each of `results` stacked, where it is not so already."""
        before, after = [carry.before for carry in carries.values()], [carry.after for carry in carries.values()]
        new = [node for node in results if node not in self.per_step]
        read = needed_nodes([*after, *new], [*self.per_step, *self.shared, *before])
        reached = {*after, *new, *(parent for node in read for parent in node.parents)}
        sequences = [node for node in self.per_step if node in reached]
        outputs = {f"next_{i}": node for i, node in enumerate(after)} | {f"y_{i}": node for i, node in enumerate(new)}
        if not outputs:  # every adjoint is there already, as that of a sequence which the scan yields unchanged
            return {}, {node: self._operand(node) for node in results}
        name = f"{self.op.body.name}_bar"
        body, shared = cut_body(name, [*before, *sequences], self.shared, self.y.graph, outputs)
        adjoint = Scan(
            body=body,
            carries=len(before),
            sequences=len(sequences),
            length=0 if sequences else self.op.steps([parent.type for parent in self.parents]),
            reverse=not self.op.reverse,
        )
        firsts = [carry.first for carry in carries.values()]
        tuple_ = apply(adjoint, *firsts, *map(self._operand, sequences), *shared)
        items = [apply(GetItem(index=index), tuple_) for index in range(len(outputs))]
        stacks = dict(zip(new, items[len(before) :], strict=True))
        stacks |= {node: self._operand(node) for node in results if node in self.per_step}
        return dict(zip(carries, items, strict=False)), stacks

    def _operand(self, node: Node) -> Node:
        """The node that has the values of `node` in all steps."""
        value = self.per_step[node]
        return value if isinstance(value, Node) else apply(GetItem(index=value), self.y)


def _closed(indices: Collection[int], more: Callable[[set[int]], Iterable[int]]) -> set[int]:
    """`indices` with all that `more` adds to them, and to what it has added."""
    found = set(indices)
    while not found.issuperset(added := set(more(found))):
        found |= added
    return found


def _zeros(graph: Graph, like: Node) -> Node:
    return full(graph, 0.0, like.shape, like.dtype)


def _is_arrangement(node: Node) -> bool:
    """Whether it shows all elements of its parent in another arrangement, at no cost, or is one of parts that do."""
    (parent,) = node.parents[:1] or (node,)
    if isinstance(node.op, GetItem):
        return parent.op.is_view
    whole = isinstance(node.op, BroadcastTo) or dims.product(node.shape) == dims.product(parent.shape)
    return node.op.is_view and whole


def _terms(node: Node) -> list[Node]:
    """What adds up to `node`, as far as it is a plain sum."""
    found = []
    pending = [node]
    while pending:
        node = pending.pop()
        if isinstance(node.op, Add) and all(parent.type == node.type for parent in node.parents):
            pending.extend(reversed(node.parents))
        else:
            found.append(node)
    return found


def _factors(term: Node) -> tuple[Node, ...] | None:
    """The values of a step that, stacked, give the sum of `term` over all steps at once; None if there is no such way.

    There is one for a sum over axes, and for a matrix product, whose inner axis is summed over.
    """
    core = _without_reshapes(term)
    product = _product(core)
    if product is not None:
        return tuple(_source(parent) for parent in product.parents)
    if isinstance(core.op, Sum) and not isinstance(core.parents[0].op, MatMul):
        return (_source(core.parents[0]),)
    return None


def _total(term: Node, stacked: Mapping[Node, Node]) -> Node:
    """The sum of `term` over all steps; `stacked` gives its factors, with the steps along the first axis."""
    core = _without_reshapes(term)
    product = _product(core)
    if product is not None:
        left, right = product.parents
        rows, columns = _as_rows(_swapped(left, stacked)), _as_rows(_restacked(right, stacked))
        return reshape(rows.T @ columns, term.shape)
    assert isinstance(core.op, Sum)  # or it has no factors
    values = _restacked(core.parents[0], stacked)
    axes = range(core.parents[0].ndim) if core.op.axis is None else core.op.axis
    return reshape(sum(values, (0, *(axis + 1 if axis >= 0 else axis for axis in axes))), term.shape)


def _product(core: Node) -> Node | None:
    """The matrix product that `core` is, or that it sums over all axes ahead of the matrices'."""
    node, summed = (core.parents[0], core.op.axis) if isinstance(core.op, Sum) else (core, ())
    if not isinstance(node.op, MatMul):
        return None
    left, right = node.parents
    is_plain = left.ndim == right.ndim >= 2 and left.shape[:-2] == right.shape[:-2]
    return node if is_plain and summed == tuple(range(left.ndim - 2)) else None


def _as_rows(x: Node) -> Node:
    """The matrices of `x` below each other, as one matrix."""
    return reshape(x, (dims.product(x.shape[:-1]), x.shape[-1]))


def _swapped(node: Node, stacked: Mapping[Node, Node]) -> Node:
    """The stack of `node` with the last two axes swapped, which takes back the transposition that it may well be."""
    order = (*range(node.ndim - 2), node.ndim - 1, node.ndim - 2)
    if isinstance(node.op, Transpose) and _order(node) == order:
        return _restacked(node.parents[0], stacked)
    return transpose(_restacked(node, stacked), (0, *(axis + 1 for axis in order)))


def _order(node: Node) -> tuple[int, ...]:
    assert isinstance(node.op, Transpose)
    return tuple(range(node.ndim))[::-1] if node.op.axes is None else tuple(axis % node.ndim for axis in node.op.axes)


def _without_reshapes(node: Node) -> Node:
    while isinstance(node.op, Reshape):
        (node,) = node.parents
    return node


def _source(node: Node) -> Node:
    """What `node` is another arrangement of."""
    while isinstance(node.op, Reshape | Transpose):
        (node,) = node.parents
    return node


def _restacked(node: Node, stacked: Mapping[Node, Node]) -> Node:
    """The stack of `node`, from that of its source."""
    if not isinstance(node.op, Reshape | Transpose):
        return stacked[node]
    stack = _restacked(node.parents[0], stacked)
    if isinstance(node.op, Transpose):
        return transpose(stack, (0, *(axis + 1 for axis in _order(node))))
    return reshape(stack, (stack.shape[0], *node.shape))
