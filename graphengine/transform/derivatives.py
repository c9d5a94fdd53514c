"""Forward mode and whole derivatives: Jacobians and Hessians, by rows or by columns, and their products with vectors.

A Jacobian of m by n numbers takes m steps of reverse mode or n of forward mode; whichever are fewer are made. The step
is emitted once, as the body of a loop over basis vectors, unless the steps are small and few; what it shares with the
others, the values of the forward pass and the slopes there, is computed once, before the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Literal, overload

import numpy as np

from graphengine.errors import AttributeValueError, DTypeError, GraphError, ShapeError
from graphengine.ir import dims
from graphengine.ir.composite import scaffold
from graphengine.ir.dims import Dim, Shape
from graphengine.ir.node import Node, check_single
from graphengine.ir.pullback import accumulate
from graphengine.ops.broadcast import full, reshape
from graphengine.ops.index import one_hot
from graphengine.ops.shape import stack, transpose
from graphengine.transform.adjoint import check_loss, grad
from graphengine.transform.linear import LinearMap, map_rows, pull, push, tangents_of

__all__ = ["hessian", "hvp", "jacobian", "jvp"]

Mode = Literal["forward", "reverse"]

UNROLLED = 256
"""Up to how many nodes steps are unrolled to, which takes up to half the time of a loop's.

Each of these nodes takes about 50 us to plan, so that of more of them the first run would be slow.
"""


def jvp(outputs: Sequence[Node], wrt: Sequence[Node], tangents: Sequence[Node]) -> list[Node]:
    """Forward mode: y_dot = sum over x of `wrt` of dy/dx x_dot, for each y of `outputs`.

    tangents: one x_dot for each x, of its type; returns nodes of the types of `outputs`, zeros where no x influences y.
    They cost about one more forward pass. No op has a rule for this: reverse mode is applied twice.
    Raises ShapeError, DTypeError or GraphError for tangents that do not fit, DTypeError for nodes that hold no floats.
    Source: Townsend 2017.
    """
    if not outputs:
        return []
    graph = outputs[0].graph
    ys, xs, dots = ([graph.own(node) for node in nodes] for nodes in (outputs, wrt, tangents))
    check_floats([*ys, *xs])
    check_directions(xs, dots)
    given: dict[Node, Node] = {}
    with scaffold(graph) as keep:
        for x, x_dot in zip(xs, dots, strict=True):
            accumulate(given, x, x_dot)
        found = tangents_of(list(dict.fromkeys(ys)), given)
        keep.extend(found.values())
    return [found[y] if y in found else full(graph, 0.0, y.shape, y.dtype) for y in ys]


@overload
def jacobian(y: Node, x: Node, *, mode: Mode | None = None) -> Node: ...
@overload
def jacobian(y: Node, x: Sequence[Node], *, mode: Mode | None = None) -> list[Node]: ...
def jacobian(y: Node, x: Node | Sequence[Node], *, mode: Mode | None = None) -> Node | list[Node]:
    """Jacobian: returns the node J[i, j] = d y[i] / d x[j], of shape (*y.shape, *x.shape); a list for several `x`.

    `mode` is "reverse", one step for every element of y, or "forward", one for every element of x. Left out, it is the
    one of fewer steps, or whose number is known. For one row of each example see `ge.per_example_grad`.
    Raises ShapeError if neither number of steps is known, AttributeValueError for another mode, DTypeError for nodes
    that hold no floats.
    """
    graph = y.graph
    xs = [graph.own(node) for node in ([x] if isinstance(x, Node) else x)]
    check_floats([y, *xs])
    with scaffold(graph) as keep:
        blocks = _rows(y, xs) if _mode(y, xs, mode) == "reverse" else [_columns([y], node)[0] for node in xs]
        keep.extend(blocks)
    return blocks[0] if isinstance(x, Node) else blocks


def hvp(loss: Node, wrt: Sequence[Node], vectors: Sequence[Node]) -> list[Node]:
    """Hessian-vector product: H v, with H the second derivatives of the scalar `loss` with respect to all of `wrt`.

    vectors: one v for each w, of its type; returns nodes of these types. H is never formed: the derivative of the
    gradient along v costs a few gradients.
    Raises ShapeError, DTypeError or GraphError for a loss, nodes or vectors that do not fit.
    Source: Pearlmutter 1994.
    """
    graph = loss.graph
    xs, directions = ([graph.own(node) for node in nodes] for nodes in (wrt, vectors))
    check_loss(loss)
    check_floats(xs)
    check_directions(xs, directions)
    with scaffold(graph) as keep:
        products = jvp(grad(loss, xs), xs, directions)
        keep.extend(products)
    return products


@overload
def hessian(loss: Node, wrt: Node) -> Node: ...
@overload
def hessian(loss: Node, wrt: Sequence[Node]) -> list[list[Node]]: ...
def hessian(loss: Node, wrt: Node | Sequence[Node]) -> Node | list[list[Node]]:
    """Hessian of the scalar `loss`: returns the node H[i, j] = d^2 L / d w[i] d w[j], of shape (*w.shape, *w.shape).

    For several `wrt` it returns the blocks: `blocks[i][j]` has the shape (*w_i.shape, *w_j.shape). A column is a
    product as by `ge.hvp`. The dims of `wrt` must be ints; others may be names.
    Raises ShapeError for a named dim of `wrt` or a loss that is no scalar, DTypeError for nodes that hold no floats.
    """
    graph = loss.graph
    xs = [graph.own(node) for node in ([wrt] if isinstance(wrt, Node) else wrt)]
    check_loss(loss)
    check_floats(xs)
    for node in xs:
        if isinstance(dims.product(node.shape), str):
            raise ShapeError(f"the size of a Hessian is a number, and that of {node!r} is not; give its dims ints")
    with scaffold(graph) as keep:
        gradients = grad(loss, xs)
        columns = [_columns(gradients, node) for node in xs]
        blocks = [list(row) for row in zip(*columns, strict=True)]
        keep.extend(block for row in blocks for block in row)
    return blocks[0][0] if isinstance(wrt, Node) else blocks


def check_floats(nodes: Sequence[Node]) -> None:
    """Raise DTypeError for a node that there is no derivative of or by."""
    for node in nodes:
        check_single("what a derivative is of or by", node)
        if not node.type.is_float:
            raise DTypeError(f"no derivative of or by {node!r}: it does not hold floats")


def check_directions(wrt: Sequence[Node], directions: Sequence[Node]) -> None:
    """Raise unless there is one direction for each of `wrt`, of its type."""
    if len(wrt) != len(directions):
        raise GraphError(f"{len(directions)} directions for the {len(wrt)} nodes of wrt; one is needed for each")
    for node, direction in zip(wrt, directions, strict=True):
        if node.type != direction.type:
            raise ShapeError(f"the direction for {node!r} is of another type: {direction!r}")


def _mode(y: Node, xs: Sequence[Node], mode: Mode | None) -> Mode:
    if mode not in (None, "forward", "reverse"):
        raise AttributeValueError(f"the mode of a Jacobian is 'forward' or 'reverse', not {mode!r}")
    rows, columns = dims.product(y.shape), reduce(dims.add, [0, *(dims.product(x.shape) for x in xs)])
    if mode is None:
        is_reverse = isinstance(columns, str) or (isinstance(rows, int) and rows <= columns)
        mode = "reverse" if is_reverse else "forward"
    if isinstance(rows if mode == "reverse" else columns, str):
        sources = ", ".join(map(repr, xs))
        raise ShapeError(
            f"the Jacobian of {y!r} by {sources} takes a number of {mode} steps that named dims leave open; "
            "give them ints, or see ge.per_example_grad if there is one row for each example"
        )
    return mode


def _rows(y: Node, xs: Sequence[Node]) -> list[Node]:
    """dy/dx for each of `xs`, by reverse mode."""
    rows = _for_each_basis_vector(pull([y], xs), y.shape)
    return [reshape(row, (*y.shape, *x.shape)) for row, x in zip(rows, xs, strict=True)]


def _columns(ys: Sequence[Node], x: Node) -> list[Node]:
    """dy/dx for each of `ys`, by forward mode: the axes of x are the first ones of the columns, and then the last."""
    blocks = []
    for column, y in zip(_for_each_basis_vector(push(ys, x), x.shape), ys, strict=True):
        block = reshape(column, (*x.shape, *y.shape))
        order = range(block.ndim)
        is_in_order = not y.ndim or not x.ndim
        blocks.append(block if is_in_order else transpose(block, (*order[x.ndim :], *order[: x.ndim])))
    return blocks


def _for_each_basis_vector(linear: LinearMap, shape: Shape) -> list[Node]:
    """The results of a linear map for every basis vector of an argument of `shape`, stacked along a new first axis."""
    graph, dtype = linear.arguments[0].graph, linear.arguments[0].dtype
    steps = _static(dims.product(shape))
    if steps == 0 or all(node is None for node in linear.results):
        return [full(graph, 0.0, (steps, *like.shape), like.dtype) for like in linear.like]
    if steps == 1 or steps * linear.size() <= UNROLLED:
        basis = [graph.constant(None, row, dtype) for row in np.eye(steps).reshape(steps, *map(_static, shape))]
        return [stack(results) for results in zip(*(linear([row]) for row in basis), strict=True)]

    indices = graph.constant(None, np.arange(steps))
    return map_rows(lambda index: linear([reshape(one_hot(index[0], steps, dtype), shape)]), [indices])


def _static(dim: Dim) -> int:
    return dims.bind(dim, {})
