"""What is computed only to be added, computed in the memory of the sum: products of matrices, and parts of an array."""

from __future__ import annotations

from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Parameter
from graphengine.ir.node import Node
from graphengine.ops.elementwise import Add, Multiply, Subtract
from graphengine.ops.index import AddSlice, SliceAdjoint
from graphengine.ops.matmul import AddProduct, MatMul
from graphengine.transform.rewrite.numbers import both_ways
from graphengine.transform.rewrite.walk import Apply, Expression, Rules, Site, apply_rules


def add_products(graph: Graph) -> bool:
    """Put `add_product` where a product is computed only to be added to a matrix."""
    return apply_rules(graph, _PRODUCTS)


def add_slices(graph: Graph) -> bool:
    """Add a part to an array in place, with no array of zeros around it: n parts cost n parts."""
    return apply_rules(graph, _SLICES)


def descent_by_product(y: Site) -> Expression | None:
    """w - s * (a @ b) = add_product(w, a, b, s), for a parameter w: the gradient has no memory of its own."""
    w, descent = y.parents
    return _added(y, w, descent, -1.0) if isinstance(w.op, Parameter) else None


def sum_of_products(y: Site) -> Expression | None:
    """a @ b + c @ d = add_product(a @ b, c, d), as in a recurrent cell, where nothing else reads either product."""
    for first, second in both_ways(y):
        if isinstance(first.op, MatMul | AddProduct) and y.once(first) and isinstance(second.op, MatMul):
            return _added(y, first, second, 1.0)
    return None


def _added(y: Site, c: Node, term: Node, factor: float) -> Expression | None:
    """c + factor * term, where `term` is a product of matrices, or one times a scalar, that nothing else reads."""
    product, scale = _scaled(term)
    if not isinstance(product.op, MatMul) or not y.once(term) or not y.once(product):
        return None
    a, b = product.parents
    if a.ndim != 2 or b.ndim != 2 or c.type != y.type or product.type != y.type:
        return None
    return Apply(AddProduct(factor=factor), c, a, b, 1.0 if scale is None else scale)


def _scaled(x: Node) -> tuple[Node, Node | None]:
    """x as a node and the scalar that multiplies it."""
    for value, scale in both_ways(x) if isinstance(x.op, Multiply) else ():
        if scale.ndim == 0 and scale.dtype == value.dtype:
            return value, scale
    return x, None


def added_slice(y: Site) -> Expression | None:
    """x + slice_adjoint(part) = add_slice(x, part), where nothing else reads the array of zeros around the part."""
    for x, padded in both_ways(y):
        if isinstance(padded.op, SliceAdjoint) and y.once(padded) and x.type == y.type and y.type.is_float:
            return Apply(AddSlice(key=padded.op.key), x, padded.parents[0])
    return None


_PRODUCTS = Rules({Subtract: (descent_by_product,), Add: (sum_of_products,)})
_SLICES = Rules({Add: (added_slice,)})
