"""Whole derivatives: Jacobians and Hessians, row by row or column by column, and their products with vectors.

A Jacobian of m by n numbers takes m steps of reverse mode or n of forward mode; whichever are fewer are made. The step
is emitted once, as the body of a loop over basis vectors, unless the steps are small and few; what it shares with the
others, the values of the forward pass and the slopes there, stands before the loop and is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import numpy as np

from graphengine.errors import AttributeValueError, ShapeError
from graphengine.ir import dims
from graphengine.ir.composite import scaffold
from graphengine.ir.dims import Dim, Shape
from graphengine.ir.node import Node
from graphengine.ops.broadcast import full, reshape
from graphengine.ops.index import one_hot
from graphengine.ops.scan import scan
from graphengine.ops.shape import stack, transpose
from graphengine.transform.adjoint import check_loss, grad
from graphengine.transform.linear import LinearMap, pull, push
from graphengine.transform.tangent import check_directions, check_floats, jvp

__all__ = ["hessian", "hvp", "jacobian"]

Mode = Literal["forward", "reverse"]

UNROLLED = 256
"""Up to how many nodes steps may come to that stand one after another, which takes up to half the time of a loop's.

Each of these nodes takes about 50 us to plan, so that of more of them the first run would be slow.
"""


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
        if _size(node) is None:
            raise ShapeError(f"the size of a Hessian is a number, and that of {node!r} is not; give its dims ints")
    with scaffold(graph) as keep:
        gradients = grad(loss, xs)
        columns = [_columns(gradients, node) for node in xs]
        blocks = [[column[place] for column in columns] for place in range(len(xs))]
        keep.extend(block for row in blocks for block in row)
    return blocks[0][0] if isinstance(wrt, Node) else blocks


def _mode(y: Node, xs: Sequence[Node], mode: Mode | None) -> Mode:
    if mode not in (None, "forward", "reverse"):
        raise AttributeValueError(f"the mode of a Jacobian is 'forward' or 'reverse', not {mode!r}")
    rows, columns = _size(y), [_size(node) for node in xs]
    by_columns = None if None in columns else sum(size for size in columns if size is not None)
    if mode is None:
        mode = "reverse" if by_columns is None or (rows is not None and rows <= by_columns) else "forward"
    if (rows if mode == "reverse" else by_columns) is None:
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
    """dy/dx for each of `ys`, by forward mode."""
    columns = _for_each_basis_vector(push(ys, x), x.shape)
    return [_axis_last(column, y.shape, x.shape) for column, y in zip(columns, ys, strict=True)]


def _axis_last(columns: Node, shape: Shape, axes: Shape) -> Node:
    """`columns`, of shape (steps, *shape), with its steps behind, as the axes that they number."""
    apart = reshape(columns, (*axes, *shape))
    order = range(apart.ndim)
    return transpose(apart, (*order[len(axes) :], *order[: len(axes)])) if shape and axes else apart


def _for_each_basis_vector(linear: LinearMap, shape: Shape) -> list[Node]:
    """The results of a linear map for every basis vector of an argument of `shape`, stacked along a new first axis."""
    graph, dtype = linear.arguments[0].graph, linear.arguments[0].dtype
    steps = _static(dims.product(shape))
    if steps == 0 or all(node is None for node in linear.results):
        return [full(graph, 0.0, (steps, *like.shape), like.dtype) for like in linear.like]
    if steps == 1 or steps * linear.size() <= UNROLLED:
        basis = [graph.constant(None, row, dtype) for row in np.eye(steps).reshape(steps, *map(_static, shape))]
        return [stack(results) for results in zip(*(linear([row]) for row in basis), strict=True)]

    def step(_: object, index: Node) -> tuple[tuple[()], list[Node]]:
        return (), linear([reshape(one_hot(index, steps, dtype), shape)])

    _, results = scan(step, (), graph.constant(None, np.arange(steps)))
    return list(results)


def _size(node: Node) -> int | None:
    """The number of elements; None where that hangs on a named dim."""
    size = dims.product(node.shape)
    return size if isinstance(size, int) else None


def _static(dim: Dim) -> int:
    return dims.bind(dim, {})
