"""Sums over all steps of a scan of what one step computes, taken at once outside of the scan.

In every step the adjoint of a weight gets a contribution such as a_t^T b_t. Their sum over t is one matrix product of
all a below each other and all b below each other: a fraction of the cost of many small ones with an addition each.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphengine.ir import dims
from graphengine.ir.node import Node
from graphengine.ops.broadcast import Reshape, Sum, reshape, sum
from graphengine.ops.elementwise import Add
from graphengine.ops.matmul import MatMul
from graphengine.ops.shape import Transpose, transpose


def terms(node: Node) -> list[Node]:
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


def factors(term: Node) -> tuple[Node, ...] | None:
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


def total(term: Node, stacked: Mapping[Node, Node]) -> Node:
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
