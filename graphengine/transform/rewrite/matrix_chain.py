"""The order in which a chain of matrices is multiplied: (A B) C or A (B C), whichever takes fewer operations.

Found by dynamic programming over where the last product is (Godbole 1973). Where dims are names, an order is taken
only if it is the better one for every size. Factors that are constants are multiplied now, where what they give is
small: so a chain of linear maps whose weights are final, as `ge.collapse` makes them, is one map. Where weights are
parameters, they change between runs, and their product is a part of the run like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from graphengine.errors import ShapeError
from graphengine.ir import dims
from graphengine.ir.dims import Dim
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node
from graphengine.ops.matmul import MatMul
from graphengine.transform.rewrite.constant_folding import FOLDED_ELEMENTS
from graphengine.transform.rewrite.walk import Apply, Expression, Rules, Site, apply_rules

MOST_FACTORS = 24
"""How many factors of one chain are looked at together; the time to order them grows with the cube of this."""

TRIED_SIZES = (1, 32, 4096)
"""The sizes of named dims for which the best order is sought, before it is held against all sizes."""


def reorder_matrix_chains(graph: Graph) -> bool:
    """Matrix-chain order: multiply chains of matrices in the order of fewest FLOPs, in the bodies of scans too."""
    return apply_rules(graph, _RULES)


@dataclass(frozen=True, slots=True)
class _MatrixProduct:
    """A product of matrices: one of them, or a product of two such products."""

    rows: Dim
    columns: Dim
    flops: Dim
    """Of a run, as a polynomial in the names of dims."""
    matrix: Node | None = None
    left: _MatrixProduct | None = None
    right: _MatrixProduct | None = None
    is_constant: bool = False

    def expression(self) -> Node | Apply | None:
        """What computes it; None if a product of constants overflows, as one of theirs with x may not."""
        if self.left is None or self.right is None:
            return self.matrix
        left, right = self.left.expression(), self.right.expression()
        if left is None or right is None:
            return None
        if not (self.is_constant and isinstance(left.op, Constant) and isinstance(right.op, Constant)):
            return Apply(MatMul(), left, right)
        with np.errstate(all="ignore"):
            value = np.matmul(left.op.value, right.op.value)
        return Apply(Constant(value=value, dtype=value.dtype.name)) if np.isfinite(value).all() else None


def cheaper_order(y: Site) -> Expression | None:
    """The chain that ends in y in its cheapest order; None if that is its own, or cannot be written down."""
    try:
        return _cheaper_order(y)
    except ShapeError:  # the number of operations, in named sizes, is too long to be written
        return None


def _cheaper_order(y: Site) -> Expression | None:
    if not any(isinstance(node.op, MatMul) for node in y.parents):
        return None  # a chain has three factors or more
    readers = y.readers()
    if readers is None or (len(readers) == 1 and isinstance(readers[0], MatMul)):
        return None  # in the last case the chain goes on, and is looked at from its end
    factors: list[_MatrixProduct] = []
    present = _flattened(y.parents, (True, True), y.once, factors)
    if present is None or len(factors) < 3:
        return None
    has_names = any(isinstance(dim, str) for factor in factors for dim in (factor.rows, factor.columns))
    found = [_cheapest(factors, size) for size in (TRIED_SIZES if has_names else TRIED_SIZES[:1])]
    better = [product for product in found if _is_cheaper(product.flops, present.flops)]
    best = min(better, key=lambda product: _bound(product.flops, TRIED_SIZES[1]), default=None)
    return None if best is None else best.expression()


def _flattened(
    operands: Sequence[Node], ends: tuple[bool, bool], once: Callable[[Node], bool], factors: list[_MatrixProduct]
) -> _MatrixProduct | None:
    """The product of `operands` as it is, with its factors added to `factors`; None if one is no matrix.

    `ends` says whether the operands are at the left and at the right end of the chain, where one may be a vector.
    """
    sides = []
    for node, own_ends in zip(operands, ((ends[0], False), (False, ends[1])), strict=True):
        start, side = len(factors), None
        if isinstance(node.op, MatMul) and once(node) and start < MOST_FACTORS - 2:
            side = _flattened(node.parents, own_ends, once, factors)
        if side is None:
            side = _factor(node, *own_ends)
            factors[start:] = [] if side is None else [side]
        if side is None:
            return None
        sides.append(side)
    return _times(*sides)


def _factor(node: Node, is_first: bool, is_last: bool) -> _MatrixProduct | None:
    """A matrix of the chain, or a vector at an end of it: a row if it is the first, a column if it is the last."""
    shape = {2: node.shape, 1: (1, *node.shape) if is_first else (*node.shape, 1)}.get(node.ndim)
    if shape is None or (node.ndim == 1 and not is_first and not is_last):
        return None
    return _MatrixProduct(shape[0], shape[1], 0, matrix=node, is_constant=isinstance(node.op, Constant))


def _times(left: _MatrixProduct, right: _MatrixProduct) -> _MatrixProduct:
    rows, inner, columns = left.rows, left.columns, right.columns
    size = dims.multiply(rows, columns)
    if left.is_constant and right.is_constant and isinstance(size, int) and size <= FOLDED_ELEMENTS:
        return _MatrixProduct(rows, columns, 0, left=left, right=right, is_constant=True)
    own = dims.multiply(size, dims.subtract(dims.multiply(2, inner), 1))
    flops = dims.add(own, dims.add(left.flops, right.flops))
    return _MatrixProduct(rows, columns, flops, left=left, right=right)


def _cheapest(factors: Sequence[_MatrixProduct], size: int) -> _MatrixProduct:
    """The product of `factors` that takes the fewest operations where every name of a dim has this size."""
    best = {(index, index + 1): (0, factor) for index, factor in enumerate(factors)}
    for length in range(2, len(factors) + 1):
        for start in range(len(factors) - length + 1):
            stop = start + length
            ways = (_times(best[start, middle][1], best[middle, stop][1]) for middle in range(start + 1, stop))
            best[start, stop] = min(((_bound(way.flops, size), way) for way in ways), key=lambda way: way[0])
    return best[0, len(factors)][1]


def _bound(flops: Dim, size: int) -> int:
    return dims.bind(flops, dict.fromkeys(dims.names(flops), size))


def _is_cheaper(flops: Dim, present: Dim) -> bool:
    """Whether `flops` are never more than at present, whatever the sizes of names, which are at least 1, and at some
    sizes fewer: as a polynomial in how much each size is above 1, the difference has no negative coefficient.
    """
    spared = dims.subtract(present, flops)
    return dims.is_positive(dims.substitute(spared, {name: f"{name}+1" for name in dims.names(spared)}))


_RULES = Rules({MatMul: (cheaper_order,)})
