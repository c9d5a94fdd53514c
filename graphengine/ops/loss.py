"""Losses: how far predictions are from targets, L(w) = 1/n sum_i l(y_i, f_w(x_i)).

The first axis counts examples; an example's own terms are summed. `reduction` says what becomes of the losses of the
examples: "mean" divides their sum by n, "sum" does not, "none" gives the vector of them. A scalar is one example.
Prediction and target have equal shapes: (n,) against (n, 1) is an error, where broadcasting would make n * n terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import Field

from graphengine.errors import DTypeError, ShapeError, ValueRangeError
from graphengine.ir.node import Node, Operand, apply
from graphengine.ir.op import Call, Op
from graphengine.ir.types import INTEGERS, Array, TensorType, common_dtype
from graphengine.ops.activation import sigmoid, softmax
from graphengine.ops.broadcast import dim_size, reshape, sum
from graphengine.ops.compare import clip, logical_not, mask, not_equal
from graphengine.ops.elementwise import sign
from graphengine.ops.index import check_range
from graphengine.ops.support import form
from graphengine.ops.support.form import Scalar
from graphengine.ops.support.pointwise import SumOfTerms, as_public, kind_of
from graphengine.ops.support.run_all import as_one

__all__ = [
    "absolute_error",
    "binary_cross_entropy",
    "cross_entropy",
    "half_squared_error",
    "hinge",
    "huber",
    "perceptron_loss",
    "squared_error",
]

Reduction = Literal["mean", "sum", "none"]


class Loss(SumOfTerms):
    """A loss of a prediction, the first operand, against a target, the second, whose first axis counts the examples."""

    reduction: Reduction = "mean"

    factor: ClassVar[float] = 1.0
    """What the sum of an example's terms is multiplied by."""

    def eval(self, xp: Any, *values: Any) -> Any:
        terms = self.terms(xp, *values)
        examples = 1 if self.reduction == "none" else 0
        total = xp.sum(terms, axis=tuple(range(examples, terms.ndim)), dtype=terms.dtype)
        return total / self.divisor(terms.shape)

    def calls(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> list[Call]:
        terms, *work = scratch
        examples, divisor = out.reshape(-1), self.divisor(terms.shape)
        rows = terms.reshape(out.size, terms.size // max(1, out.size))
        mean = [(np.divide, (examples, np.array(divisor, out.dtype), examples))] if divisor != 1 else []
        return [*self.term_calls(terms, operands, work), (np.add.reduce, (rows, 1, None, examples)), *mean]

    def divisor(self, shape: tuple[int, ...]) -> float:
        """What the sum of terms is divided by, when `shape` is the target's."""
        examples = shape[0] if shape and self.reduction == "mean" else 1
        return examples / self.factor

    def reduced(self, target: TensorType, prediction: TensorType) -> TensorType:
        """The type of the value."""
        return TensorType(target.shape[:1] if self.reduction == "none" else (), prediction.dtype)

    def weight(self, y_bar: Node, target: Node, ndim: int) -> Node:
        """What the slope of every term is multiplied by in an adjoint with `ndim` axes, to which it broadcasts."""
        if self.reduction == "mean" and target.ndim:
            return y_bar / dim_size(y_bar.graph, target.shape[0], y_bar.dtype)
        return reshape(y_bar, (*y_bar.shape, *[1] * (ndim - 1))) if y_bar.ndim else y_bar


class TermwiseLoss(Loss):
    """A loss with one term for each pair of elements of prediction and target, which are of one type."""

    names: ClassVar[str] = "prediction, target"

    @classmethod
    def takes(cls) -> str:
        """The lines of a docstring on operands, result and errors."""
        return (
            '    The terms of an example are summed; `reduction` over examples is "mean", "sum" or "none".\n\n'
            f'    {cls.names}: floats of one type, [n, ...]; returns a scalar, or [n] for reduction="none".\n'
            "    Raises DTypeError or ShapeError for types that differ, AttributeValueError for another reduction."
        )

    def infer(self, prediction: TensorType, target: TensorType) -> TensorType:
        dtype = common_dtype((prediction, target))
        if not prediction.is_float:
            raise DTypeError(f"{self.kind} takes floats, not {prediction} and {target}")
        if prediction.shape != target.shape:
            raise ShapeError(
                f"{self.kind}: the prediction is {prediction} and the target {target}; "
                f"a loss takes equal shapes and does not broadcast, so reshape one of them"
            )
        return self.reduced(target, TensorType(prediction.shape, dtype))

    def flops(self, y: TensorType, *types: TensorType) -> int:
        return super().flops(y, *types) + (y.size if self.divisor(types[1].static_shape) != 1 else 0)


class ErrorLoss(TermwiseLoss):
    """A loss l(u - y) of the error alone."""

    def slope(self, error: Node, weight: Node) -> Node:
        """weight * l'(error)."""
        raise NotImplementedError

    def vjp(self, y: Node, y_bar: Node, prediction: Node, target: Node) -> tuple[Node | None, ...]:
        contribution = self.slope(prediction - target, self.weight(y_bar, target, target.ndim))
        return contribution, -contribution


class _Squares(ErrorLoss):
    """(u - y)^2, but for a factor."""

    def form(self, u: Scalar, t: Scalar) -> Scalar:
        return (u - t) * (u - t)


class HalfSquaredError(_Squares):
    """l(u, y) = 1/2 (u - y)^2, whose slope is the error itself."""

    kind: Literal["half_squared_error"] = "half_squared_error"
    factor: ClassVar[float] = 0.5

    def slope(self, error: Node, weight: Node) -> Node:
        return error * weight


class SquaredError(_Squares):
    """l(u, y) = (u - y)^2."""

    kind: Literal["squared_error"] = "squared_error"

    def slope(self, error: Node, weight: Node) -> Node:
        return error * (2.0 * weight)


class AbsoluteError(ErrorLoss):
    """l(u, y) = |u - y|; the derivative at u = y is 0."""

    kind: Literal["absolute_error"] = "absolute_error"

    def form(self, u: Scalar, t: Scalar) -> Scalar:
        return form.absolute(u - t)

    def slope(self, error: Node, weight: Node) -> Node:
        return mask(sign(error) * weight, not_equal(error, 0.0))


class Huber(ErrorLoss):
    """l(u, y) = e^2 / 2 where |e| <= delta, delta (|e| - delta / 2) beyond, for e = u - y; l'' = 0 at +-delta."""

    kind: Literal["huber"] = "huber"
    delta: float = Field(default=1.0, gt=0)

    def form(self, u: Scalar, t: Scalar) -> Scalar:
        distance = form.absolute(u - t)
        near = form.minimum(distance, self.delta)
        return near * (distance - 0.5 * near)

    def slope(self, error: Node, weight: Node) -> Node:
        return clip(error, -self.delta, self.delta) * weight


class BinaryCrossEntropy(TermwiseLoss):
    """l(z, t) = -t log sigmoid(z) - (1 - t) log(1 - sigmoid(z)) = d |z| + log(1 + exp(-|z|)).

    d is 1 - t where z > 0, else t; d |z| is 0 where d is, even for infinite z. Neither this form nor its derivative, (1
    - t) sigmoid(z) - t sigmoid(-z), overflows or cancels.
    """

    kind: Literal["binary_cross_entropy"] = "binary_cross_entropy"

    def terms(self, xp: Any, *operands: Any) -> Any:
        _check_probabilities(operands[1])
        return super().terms(xp, *operands)

    def term_calls(self, terms: Array, operands: Sequence[Array], work: Sequence[Array]) -> Sequence[Call]:
        return [(_check_probabilities, (operands[1],)), *super().term_calls(terms, operands, work)]

    def form(self, u: Scalar, t: Scalar) -> Scalar:
        size = form.absolute(u)
        apart = form.absolute(form.where(u > 0.0, 1.0, 0.0) - t)
        return form.where(apart != 0.0, size, 0.0) * apart + form.log1p(form.exp(-size))

    def vjp(self, y: Node, y_bar: Node, prediction: Node, target: Node) -> tuple[Node | None, ...]:
        weight = self.weight(y_bar, target, target.ndim)
        by_prediction = (1.0 - target) * sigmoid(prediction) - target * sigmoid(-prediction)
        return by_prediction * weight, prediction * -weight


class _MarginLoss(TermwiseLoss):
    """A loss of the margin y z, for labels y of -1 and +1, that is 0 where it is `enough` or more."""

    names: ClassVar[str] = "logits, labels"
    enough: ClassVar[float]

    def vjp(self, y: Node, y_bar: Node, prediction: Node, target: Node) -> tuple[Node | None, ...]:
        weight = self.weight(y_bar, target, target.ndim)
        active = mask(-weight, logical_not(prediction * target >= self.enough))
        return active * target, active * prediction


class Hinge(_MarginLoss):
    """l(z, y) = max(0, 1 - y z), for labels y of -1 and +1; the derivative is 0 at y z = 1, and -y where y z is NaN.

    Source: Cortes and Vapnik 1995.
    """

    kind: Literal["hinge"] = "hinge"
    enough: ClassVar[float] = 1.0

    def form(self, u: Scalar, t: Scalar) -> Scalar:
        return form.maximum(1.0 - u * t, 0.0)


class PerceptronLoss(_MarginLoss):
    """l(z, y) = max(0, -y z), for labels y of -1 and +1; the derivative is 0 at y z = 0, -y where y z is NaN.

    Start from weights other than 0, where no gradient passes. Source: Rosenblatt 1958.
    """

    kind: Literal["perceptron_loss"] = "perceptron_loss"
    enough: ClassVar[float] = 0.0

    def form(self, u: Scalar, t: Scalar) -> Scalar:
        return form.maximum(-(u * t), 0.0)


class CrossEntropy(Loss):
    """l(z, c) = -log softmax(z)[c] = log sum_k exp(z_k) - z_c: logits z along the last axis, integer labels c; in nats.

    The maximum is subtracted first. The losses of an example are summed; `reduction` over examples is "mean", "sum" or
    "none".

    logits: floats [n, ..., classes]; labels: integers [n, ...]; returns a scalar, or [n] for reduction="none".
    Raises DTypeError or ShapeError for operands that do not fit, AttributeValueError for another reduction; when it
    runs, ValueRangeError for a label that is negative or not below the number of classes.
    """

    kind: Literal["cross_entropy"] = "cross_entropy"

    def infer(self, logits: TensorType, labels: TensorType) -> TensorType:
        _check_classification(self.kind, logits, labels)
        return self.reduced(labels, logits)

    def terms(self, xp: Any, *operands: Any) -> Any:
        prediction, target = operands
        check_range(target, prediction.shape[-1], "label")
        shifted = prediction - xp.max(prediction, axis=-1, keepdims=True)
        chosen = xp.take_along_axis(shifted, xp.asarray(target)[..., None], axis=-1)[..., 0]
        return xp.log(xp.sum(xp.exp(shifted), axis=-1)) - chosen

    def term_calls(self, terms: Array, operands: Sequence[Array], work: Sequence[Array]) -> Sequence[Call]:
        (logits, labels), (shifted, maxima, chosen, indices) = operands, work
        return [
            *_shift(logits, labels, maxima, shifted, shifted, indices),
            (shifted.take, (indices, None, chosen, "clip")),  # checked; "raise" would go through a copy of `chosen`
            (np.exp, (shifted, shifted)),
            (np.add.reduce, (shifted, -1, None, terms)),
            (np.log, (terms, terms)),
            (np.subtract, (terms, chosen, terms)),
        ]

    def scratch(self, y: TensorType, *types: TensorType) -> tuple[TensorType, ...]:
        logits, labels = types
        row = TensorType(labels.shape, logits.dtype)
        maxima = TensorType((*labels.shape, 1), logits.dtype)
        return row, logits, maxima, row, TensorType(labels.shape, "int64")

    def vjp(self, y: Node, y_bar: Node, logits: Node, labels: Node) -> tuple[Node | None, ...]:
        return apply(SoftmaxError(), logits, labels) * self.weight(y_bar, labels, logits.ndim), None

    def flops(self, y: TensorType, *types: TensorType) -> int:
        logits, labels = types
        return 4 * logits.size + 3 * labels.size + (y.size if self.divisor(labels.static_shape) != 1 else 0)


class SoftmaxError(Op):
    """e = softmax(z) - one_hot(c), along the last axis: the slope of the cross entropy of logits z and labels c."""

    overwrites: ClassVar[tuple[int, ...]] = (0,)
    kind: Literal["softmax_error"] = "softmax_error"

    def infer(self, logits: TensorType, labels: TensorType) -> TensorType:
        _check_classification(self.kind, logits, labels)
        return logits

    def eval(self, xp: Any, logits: Any, labels: Any) -> Any:
        check_range(labels, logits.shape[-1], "label")
        exps = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
        hit = xp.asarray(labels)[..., None] == xp.arange(logits.shape[-1])
        return exps / xp.sum(exps, axis=-1, keepdims=True) - hit.astype(logits.dtype)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (logits, labels), (row, repeated, chosen, indices) = operands, scratch
        return as_one(
            [
                *_shift(logits, labels, row, repeated, out, indices),
                (np.exp, (out, out)),
                (np.add.reduce, (out, -1, None, row, True)),
                (np.copyto, (repeated, row)),
                (np.divide, (out, repeated, out)),
                (out.take, (indices, None, chosen, "clip")),  # checked; "raise" would go through a copy of `chosen`
                (np.subtract, (chosen, np.array(1, out.dtype), chosen)),
                (out.put, (indices, chosen, "clip")),
            ]
        )

    def scratch(self, y: TensorType, *types: TensorType) -> tuple[TensorType, ...]:
        logits, labels = types
        row = TensorType((*labels.shape, 1), logits.dtype)
        return row, logits, TensorType(labels.shape, logits.dtype), TensorType(labels.shape, "int64")

    def vjp(self, y: Node, y_bar: Node, logits: Node, labels: Node) -> tuple[Node | None, ...]:
        p = softmax(logits)
        return p * (y_bar - sum(p * y_bar, -1, keepdims=True)), None

    def flops(self, y: TensorType, logits: TensorType, labels: TensorType) -> int:
        return 5 * logits.size + labels.size


def _check_classification(kind: str, logits: TensorType, labels: TensorType) -> None:
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


def _row_starts(logits: Array) -> Array:
    """Where the row of each label begins, counted in elements; fixed with the shape, so made once."""
    rows = np.arange(0, logits.size, logits.shape[-1], dtype=np.int64)
    return rows.reshape(logits.shape[:-1])


def _shift(logits: Array, labels: Array, maxima: Array, repeated: Array, shifted: Array, indices: Array) -> list[Call]:
    """Calls that check labels, subtract the maximum of every row from it, and write where labels' elements are."""
    return [
        (check_range, (labels, logits.shape[-1], "label")),
        (np.maximum.reduce, (logits, -1, None, maxima, True)),
        (np.copyto, (repeated, maxima)),  # subtracting `maxima` itself, NumPy would allocate buffers to repeat it in
        (np.subtract, (logits, repeated, shifted)),
        (np.copyto, (indices, labels)),
        (np.add, (indices, _row_starts(logits), indices)),
    ]


def _check_probabilities(targets: Any) -> None:
    """Raise ValueRangeError unless all `targets`, of an array of floats, lie in [0, 1]."""
    if not isinstance(targets, np.ndarray):  # values of other namespaces are not known as they pass
        return
    if np.minimum.reduce(targets, None, initial=0) >= 0 and np.maximum.reduce(targets, None, initial=1) <= 1:
        return
    index = tuple(int(i) for i in np.argwhere(~((targets >= 0) & (targets <= 1)))[0])
    value, message = targets[index], f"at {list(index)} is out of range: it must lie in [0, 1]"
    raise ValueRangeError(f"target {value} {message}", value, index)


class _OfTarget(Protocol):
    def __call__(
        self, prediction: Operand, target: Operand, reduction: Reduction = "mean", *, name: str | None = None
    ) -> Node: ...


class _OfLabels(Protocol):
    def __call__(
        self, logits: Operand, labels: Operand, reduction: Reduction = "mean", *, name: str | None = None
    ) -> Node: ...


def _of_target(op: type[Loss]) -> _OfTarget:
    def function(
        prediction: Operand, target: Operand, reduction: Reduction = "mean", *, name: str | None = None
    ) -> Node:
        return apply(op(kind=kind_of(op), reduction=reduction), prediction, target, name=name)

    return as_public(function, op)


def _of_labels(op: type[Loss]) -> _OfLabels:
    def function(logits: Operand, labels: Operand, reduction: Reduction = "mean", *, name: str | None = None) -> Node:
        return apply(op(kind=kind_of(op), reduction=reduction), logits, labels, name=name)

    return as_public(function, op)


half_squared_error = _of_target(HalfSquaredError)
squared_error = _of_target(SquaredError)
absolute_error = _of_target(AbsoluteError)
hinge = _of_labels(Hinge)
perceptron_loss = _of_labels(PerceptronLoss)
cross_entropy = _of_labels(CrossEntropy)


def huber(
    prediction: Operand,
    target: Operand,
    delta: float = 1.0,
    reduction: Reduction = "mean",
    *,
    name: str | None = None,
) -> Node:
    """e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), for e = u - y, summed over the terms of an example.

    prediction, target: floats of one type, [n, ...]; returns a scalar, or [n] for reduction="none".
    Raises DTypeError or ShapeError for types that differ, AttributeValueError for another reduction or a `delta` that
    is not positive.
    Source: Huber 1964.
    """
    return apply(Huber(delta=delta, reduction=reduction), prediction, target, name=name)


def binary_cross_entropy(
    logits: Operand, targets: Operand, reduction: Reduction = "mean", *, name: str | None = None
) -> Node:
    """-t log u - (1 - t) log(1 - u) for u = sigmoid(z), in nats, from the logits z; it does not overflow.

    logits, targets: floats of one type, [n, ...]; returns a scalar, or [n] for reduction="none".
    Raises DTypeError or ShapeError for types that differ, AttributeValueError for another reduction; when it runs,
    ValueRangeError for a target outside [0, 1].
    """
    return apply(BinaryCrossEntropy(reduction=reduction), logits, targets, name=name)
