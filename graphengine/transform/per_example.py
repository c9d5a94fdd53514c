"""Gradients of each example's own loss: one for every example of a batch, where `ge.grad` gives their sum or mean.

A weight that all examples read is read by few ops. Up to these, and back from the losses to them, examples pass side by
side, as in any gradient; only there, where the sum over examples would be taken, is it left out. For a dense layer what
is left is the outer product of its input and its adjoint (Goodfellow 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphengine.errors import GraphError, ShapeError
from graphengine.ir import dims
from graphengine.ir.composite import scaffold
from graphengine.ir.dims import Shape
from graphengine.ir.node import Node, Phase, apply, innermost
from graphengine.ir.pullback import accumulate, active_nodes, origins
from graphengine.ops.broadcast import Sum, broadcast_to, full, reshape
from graphengine.ops.compare import equal
from graphengine.ops.elementwise import cast
from graphengine.ops.loss import Loss
from graphengine.ops.reduce import Mean
from graphengine.ops.scan import scan
from graphengine.ops.shape import transpose
from graphengine.transform.adjoint import grad
from graphengine.transform.derivatives import check_floats
from graphengine.transform.example_axes import Axes, example_axes, is_aligned, rule_of
from graphengine.transform.linear import map_rows, pull
from graphengine.where import warn

__all__ = ["OneByOneWarning", "per_example_grad"]


class OneByOneWarning(UserWarning):
    """Gradients of examples are computed one by one, as an op is not known to keep examples apart."""


def per_example_grad(
    loss: Node | Callable[..., Node], wrt: Sequence[Node], inputs: Sequence[Node] | None = None
) -> list[Node]:
    """The gradient of each example's own loss by each of `wrt`: nodes of shape (examples, *w.shape).

    `loss` is one of
    - a node of one loss for each example, as losses with reduction="none" give it;
    - the scalar that ge.mean, ge.sum or a loss function makes of these, which are then taken;
    - a function of one example that returns the scalar of its loss. It is called once, with a row of each of `inputs`,
      whose first axes count the examples; weights it reads from around it, and what is computed from them there.

    Row i is exactly d loss_i / d w. From a node, examples pass in one batch; the gradients of all weights of dense
    layers, biases and scales take a batched product each, and those of other layers (a convolution's, an embedding's) a
    loop over the examples for that layer alone. Where an op on the way mixes examples, or is not known not to (a scan
    is such), all rows are computed one by one, each from the whole batch, which is right, but takes n gradients of n
    examples. From a function, the gradient of one example is emitted once, as the body of a loop over the batch: n
    gradients of one example, whatever the ops.

    Returns one node for each w. Raises ShapeError for what is no loss for each example, GraphError for a w that itself
    holds a row for each, or that one of `inputs` is computed from.
    """
    if isinstance(loss, Node):
        if inputs is not None:
            raise GraphError("inputs are for a function of one example; a node has read its own already")
        return _of_node(loss, wrt)
    if not inputs:
        raise GraphError("a function of one example needs inputs, whose rows are the examples")
    return _of_function(loss, wrt, inputs)


def _of_function(loss: Callable[..., Node], wrt: Sequence[Node], inputs: Sequence[Node]) -> list[Node]:
    """The one-example program, mapped over the batch by a scan."""
    _check_inputs(inputs, wrt)
    return map_rows(lambda example: grad(loss(*example), wrt), list(inputs))


def _check_inputs(inputs: Sequence[Node], wrt: Sequence[Node]) -> None:
    """Raise GraphError if a gradient by one of `wrt` would have to pass the rows that the function is given."""
    graph = innermost([*inputs, *wrt])
    xs = [graph.own(node) for node in wrt]
    check_floats(xs)
    with scaffold(graph):
        for node in inputs:
            if node.type.is_float and pull([graph.own(node)], xs).reached().results:
                raise GraphError(
                    f"the rows of {node!r} are given to the function of one example, so no gradient passes them, and "
                    "they depend on one of wrt; compute them in the function, from rows of what does not"
                )


def _of_node(loss: Node, wrt: Sequence[Node]) -> list[Node]:
    graph = loss.graph
    xs = [graph.own(node) for node in wrt]
    check_floats([loss, *xs])
    with scaffold(graph) as keep:
        losses = _losses(loss)
        batch = _Batch(losses, xs)
        rows = batch.rows() if batch.apart else _row_by_row(losses, xs)
        keep.extend(rows)
    return rows


def _losses(loss: Node) -> Node:
    """The losses of the examples, from themselves or from what was made of them."""
    op = loss.op
    if loss.ndim == 1:
        return loss
    if loss.ndim == 0 and isinstance(op, Loss) and loss.parents[1].ndim:
        return apply(op.model_copy(update={"reduction": "none"}), *loss.parents)
    if loss.ndim == 0 and isinstance(op, Mean | Sum) and loss.parents[0].ndim == 1:
        return loss.parents[0]
    raise ShapeError(
        f"one loss for each example is needed, in a node of one axis, and this is {loss!r}; "
        'give a loss with reduction="none", or a mean or sum of such'
    )


def _row_by_row(losses: Node, xs: Sequence[Node]) -> list[Node]:
    """The Jacobian of the losses, by reverse mode from each in turn; their number may be a named dim."""
    graph = losses.graph
    linear = pull([losses], xs)
    zero = graph.constant(None, 0)
    _, indices = scan(lambda count, _: (count + 1, count), zero, length=losses.shape[0])
    return map_rows(lambda index: linear([cast(equal(indices, index[0]), losses.dtype)]), [indices])


class _Batch:
    """A batch that passes from weights to losses, example beside example."""

    def __init__(self, losses: Node, xs: Sequence[Node]) -> None:
        self.losses, self.xs = losses, xs
        self.active = active_nodes([losses], xs)
        captured = origins(losses.graph)
        self.leaves = {node for node in self.active if captured.get(node, node).is_leaf}
        self.axes: dict[Node, int] = {losses: 0}
        """Along which axis a node between the weights and the losses holds the examples."""
        self.shared: set[Node] = set()
        """What all examples read whole: weights, and what is computed from them before any example comes in."""
        self.reads: dict[Node, Axes] = {}
        """For each node of `axes` along which axis each operand holds the examples."""
        self.apart = self._find_axes()
        """Whether all ops between keep examples apart, as far as is known."""

    def rows(self) -> list[Node]:
        """The gradients of the examples."""
        bars = self._pass_back()
        rows = {node: bars.pop(node) for node in list(bars) if node in self.leaves}
        through = pull(list(bars), self.xs).reached()  # to what shared nodes are computed from
        if through.results:
            for x, row in zip(through.like, map_rows(through, list(bars.values())), strict=True):
                accumulate(rows, x, row)
        graph, count = self.losses.graph, self.losses.shape[0]
        return [rows[x] if x in rows else full(graph, 0.0, (count, *x.shape), x.dtype) for x in self.xs]

    def _find_axes(self) -> bool:
        """Follow the examples from the losses back; whether that leads to an answer everywhere."""
        for node in reversed(self.active):
            if node not in self.axes or node in self.leaves:
                continue
            axes = example_axes(node, self.axes[node])
            if rule_of(type(node.op)) is None and not node.op.is_leaf:
                warn(
                    f"gradients of examples are computed one by one, each from the whole batch, as {node.op.kind} "
                    "has no rule that says along which axis it holds the examples",
                    OneByOneWarning,
                )
            if axes is None or node in self.shared:
                return False
            self.reads[node] = axes
            for parent, axis in zip(node.parents, axes, strict=True):
                if parent not in self.active:
                    continue
                if axis is None:
                    self.shared.add(parent)
                elif self.axes.setdefault(parent, axis) != axis:
                    return False
        rows = [x for x in self.xs if x in self.axes]
        if rows and isinstance(self.losses.shape[0], str):
            raise GraphError(
                f"{rows[0]!r} holds a row for each example, which only that example reads; "
                "the gradients of these rows are ge.grad of the sum of the losses"
            )
        return not rows  # an axis whose size is a number may be another than that of the examples

    def _pass_back(self) -> dict[Node, Node]:
        """The adjoints of what is shared, one for each example."""
        graph = self.losses.graph
        bars: dict[Node, Node] = {self.losses: full(graph, 1.0, self.losses.shape, self.losses.dtype)}
        of_shared: dict[Node, Node] = {}
        for node in reversed(self.active):
            if node not in self.axes or node not in bars:
                continue
            with graph.emitting(Phase.FORWARD, node):
                wanted = {parent for parent in node.parents if parent in self.axes}
                contributions = node.op.contributions(node, bars[node], wanted) if wanted else ()
                for parent, contribution in zip(node.parents, contributions, strict=bool(wanted)):
                    if parent in wanted and contribution is not None:
                        accumulate(bars, parent, contribution)
                for index, rows in self._of_shared(node, bars[node]).items():
                    accumulate(of_shared, node.parents[index], rows)
        return of_shared

    def _of_shared(self, y: Node, y_bar: Node) -> dict[int, Node]:
        """By their index, what `y` gives those of its parents that all examples read, for each example."""
        axes, axis = self.reads[y], self.axes[y]
        indices = [index for index, parent in enumerate(y.parents) if axes[index] is None and parent in self.active]
        if not indices:
            return {}
        if is_aligned(y.op):
            return _of_aligned(y, y_bar, axis, axes, indices)
        if y.op.kind == "matmul" and indices == [1] and y.parents[1].ndim <= 2:
            return {1: _of_dense(y_bar, axis, axes[0] or 0, *y.parents)}
        return _one_by_one(y, y_bar, axis, axes, indices)


def _of_aligned(y: Node, y_bar: Node, axis: int, axes: Axes, indices: Sequence[int]) -> dict[int, Node]:
    """The rule of `y` itself, on operands that are repeated for each example: their adjoints are then not summed."""
    repeated = [node if axes[k] is not None else _repeated(node, y.shape, axis) for k, node in enumerate(y.parents)]
    contributions = y.op.vjp(y, y_bar, *repeated)
    return {
        index: reshape(_to_front(contribution, axis), (y.shape[axis], *y.parents[index].shape))
        for index in indices
        if (contribution := contributions[index]) is not None
    }


def _of_dense(y_bar: Node, axis: int, x_axis: int, x: Node, w: Node) -> Node:
    """Of y = x @ w: the outer product of each example's x and y_bar, summed over its other axes."""
    count, inner = y_bar.shape[axis], x.shape[-1]
    outer = w.shape[1] if w.ndim == 2 else 1
    elements = dims.product(size for k, size in enumerate(x.shape[:-1]) if k != x_axis)
    left = transpose(reshape(_to_front(x, x_axis), (count, elements, inner)), (0, 2, 1))
    right = reshape(_to_front(y_bar, axis), (count, elements, outer))
    return reshape(left * right if elements == 1 else left @ right, (count, *w.shape))


def _one_by_one(y: Node, y_bar: Node, axis: int, axes: Axes, indices: Sequence[int]) -> dict[int, Node]:
    """The rule of the op for one example, mapped over the batch by a scan."""
    split = [index for index, its_axis in enumerate(axes) if its_axis is not None]
    sequences = [_to_front(y_bar, axis), *(_to_front(y.parents[index], axes[index] or 0) for index in split)]

    def one(rows: Sequence[Node]) -> list[Node]:
        bar = _with_axis(rows[0], axis)
        parents = list(y.parents)
        for index, row in zip(split, rows[1:], strict=True):
            parents[index] = _with_axis(row, axes[index] or 0)
        again = apply(y.op, *parents)
        wanted = {again.parents[index] for index in indices}
        contributions = again.op.contributions(again, bar, wanted)
        return [contribution for index in indices if (contribution := contributions[index]) is not None]

    return dict(zip(indices, map_rows(one, sequences), strict=True))


def _repeated(node: Node, shape: Shape, axis: int) -> Node:
    """`node`, that broadcasts to `shape`, repeated along `axis` alone."""
    ones = (1,) * (len(shape) - node.ndim) + node.shape
    return broadcast_to(reshape(node, ones), (*ones[:axis], shape[axis], *ones[axis + 1 :]))


def _to_front(node: Node, axis: int) -> Node:
    return node if axis == 0 else transpose(node, (axis, *(index for index in range(node.ndim) if index != axis)))


def _with_axis(node: Node, axis: int) -> Node:
    return reshape(node, (*node.shape[:axis], 1, *node.shape[axis:]))
