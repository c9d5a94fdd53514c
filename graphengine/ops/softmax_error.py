"""The slope of the cross entropy, and what it shares with it: classes along the last axis, labels that number them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir.node import Node
from graphengine.ir.op import Call, Op
from graphengine.ir.types import INTEGERS, Array, TensorType
from graphengine.ops.activation import softmax
from graphengine.ops.broadcast import sum
from graphengine.ops.index import check_range


class SoftmaxError(Op):
    """e = softmax(z) - one_hot(c), along the last axis: the slope of the cross entropy of logits z and labels c."""

    overwrites: ClassVar[tuple[int, ...]] = (0,)
    kind: Literal["softmax_error"] = "softmax_error"

    def infer(self, logits: TensorType, labels: TensorType) -> TensorType:
        check_classification(self.kind, logits, labels)
        return logits

    def eval(self, xp: Any, logits: Any, labels: Any) -> Any:
        check_range(labels, logits.shape[-1], "label")
        exps = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
        hit = xp.asarray(labels)[..., None] == xp.arange(logits.shape[-1])
        return exps / xp.sum(exps, axis=-1, keepdims=True) - hit.astype(logits.dtype)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return self._run, (out, *operands, *scratch, row_starts(operands[0]))

    def _run(self, out: Array, logits: Array, labels: Array, *work: Array) -> None:
        row, repeated, chosen, places, starts = work
        check_range(labels, logits.shape[-1], "label")
        np.maximum.reduce(logits, -1, out=row, keepdims=True)
        np.copyto(repeated, row)  # subtracting `row` itself, NumPy would allocate buffers to repeat it in
        np.subtract(logits, repeated, out)
        np.exp(out, out)
        np.add.reduce(out, -1, out=row, keepdims=True)
        np.copyto(repeated, row)
        np.divide(out, repeated, out)
        np.copyto(places, labels)
        np.add(places, starts, places)
        out.take(places, None, chosen, "clip")  # checked above; "raise" would go through a copy of `chosen`
        np.subtract(chosen, 1, chosen)
        out.put(places, chosen, "clip")

    def scratch(self, y: TensorType, *types: TensorType) -> tuple[TensorType, ...]:
        logits, labels = types
        row = TensorType((*labels.shape, 1), logits.dtype)
        return row, logits, TensorType(labels.shape, logits.dtype), TensorType(labels.shape, "int64")

    def vjp(self, y: Node, y_bar: Node, logits: Node, labels: Node) -> tuple[Node | None, ...]:
        p = softmax(logits)
        return p * (y_bar - sum(p * y_bar, -1, keepdims=True)), None

    def flops(self, y: TensorType, logits: TensorType, labels: TensorType) -> int:
        return 5 * logits.size + labels.size


def check_classification(kind: str, logits: TensorType, labels: TensorType) -> None:
    """Raise DTypeError or ShapeError unless labels [n, ...] number classes along the last axis of logits."""
    if not logits.is_float or labels.dtype not in INTEGERS:
        raise DTypeError(f"{kind} takes float logits and integer labels, not {logits} and {labels}")
    if not logits.ndim or logits.shape[-1] == 0:
        raise ShapeError(f"{kind}: the last axis of the logits counts the classes, and {logits} has none")
    if logits.shape[:-1] != labels.shape:
        raise ShapeError(
            f"{kind}: logits [n, ..., classes] take labels [n, ...], class numbers and not rows of 0 and 1: "
            f"these are {logits} and {labels}"
        )


def row_starts(logits: Array) -> Array:
    """Where the row of each label begins, counted in elements; fixed with the shape, so made once."""
    rows = np.arange(0, logits.size, logits.shape[-1], dtype=np.int64)
    return rows.reshape(logits.shape[:-1])
