"""A value split along an axis: what `concat` joins, and each is the other's adjoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from graphengine.errors import AttributeValueError, ShapeError
from graphengine.ir import dims
from graphengine.ir.dims import Dim
from graphengine.ir.node import Node, apply
from graphengine.ir.op import GetItem, Op, Sizes
from graphengine.ir.types import Array, TensorType, TupleType, check_axis
from graphengine.ops.broadcast import full
from graphengine.ops.shape import concat

__all__ = ["split"]


class Split(Op):
    """Parts of x that lie one behind the other along `axis`, of these `sizes`: a tuple of views."""

    is_view: ClassVar[bool] = True
    kind: Literal["split"] = "split"
    sizes: Sizes
    axis: int = 0

    def infer(self, x: TensorType) -> TupleType:
        axis = check_axis(self.axis, x.ndim)
        total: Dim = 0
        for size in self.sizes:
            total = dims.add(total, size)
        if total != x.shape[axis]:
            raise ShapeError(f"axis {axis} of {x} is not split into {' + '.join(map(str, self.sizes))} = {total}")
        parts = (TensorType((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype) for size in self.sizes)
        return TupleType(tuple(parts))

    def eval(self, xp: Any, x: Any) -> Any:
        ends = np.cumsum([dims.bind(size, {}) for size in self.sizes])
        return tuple(xp.split(x, ends[:-1], axis=self.axis))

    def view(self, operand: Array) -> Any:
        return self.eval(np, operand)

    def vjp(self, y: Node, y_bar: Any, x: Node) -> tuple[Node | None]:
        types = y.type.items if isinstance(y.type, TupleType) else ()
        bars = [*y_bar, *[None] * (len(types) - len(y_bar))]
        parts = [
            full(x.graph, 0.0, type_.shape, type_.dtype) if bar is None else bar
            for bar, type_ in zip(bars, types, strict=True)
        ]
        return (concat(parts, axis=self.axis),)


def split(x: Node, parts: int | Sequence[Dim], axis: int = 0, *, name: str | None = None) -> tuple[Node, ...]:
    """`x` cut along `axis` into `parts`: a number of equal parts, or a list of their sizes.

    x: any dtype; returns a tuple of nodes of that dtype. They are views.
    Raises ShapeError for an axis that x does not have and sizes that do not add up, AttributeValueError for parts that
    are not positive.
    """
    if isinstance(parts, int):
        if parts < 1:
            raise AttributeValueError(f"split: at least one part is needed, not {parts}")
        size = dims.divide(x.shape[check_axis(axis, x.ndim)], parts)
        if size is None:
            raise ShapeError(f"{x.type} is not split into {parts} equal parts along axis {axis}")
        parts = [size] * parts
    tuple_ = apply(Split(sizes=tuple(parts), axis=axis), x, name=name)
    return tuple(apply(GetItem(index=index), tuple_) for index in range(len(parts)))
