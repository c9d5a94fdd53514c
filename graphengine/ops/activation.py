"""Activations: what makes a network more than one linear map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from graphengine.errors import DTypeError
from graphengine.ir.node import Node, Operand, apply
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, TensorType, check_axes, check_axis
from graphengine.ops.broadcast import reduced, sum
from graphengine.ops.compare import Bounded, clip, mask, minimum, not_equal, where
from graphengine.ops.elementwise import exp, square
from graphengine.ops.support import form
from graphengine.ops.support.form import Scalar
from graphengine.ops.support.pointwise import UnaryOp, unary
from graphengine.ops.support.run_all import as_one
from graphengine.ops.support.special import FAR
from graphengine.ops.support.sums import parts_of_sum, summed

__all__ = [
    "elu",
    "gelu",
    "hard_tanh",
    "identity",
    "leaky_relu",
    "log_softmax",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]


class Identity(UnaryOp):
    """y = x. A view."""

    is_view: ClassVar[bool] = True
    keeps_layout: ClassVar[bool] = True
    kind: Literal["identity"] = "identity"

    def view(self, x: Array) -> Array:
        return x

    def form(self, x: Scalar) -> Scalar:
        return x

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar,)


class Sigmoid(UnaryOp):
    """y = 1 / (1 + exp(-x)), to full relative accuracy for x < 0 too, down to where exp(-x) overflows and y is 0.

    The derivative is y (1 - y), of the saved y: where y is near 1 its error is that of rounding a 1. From x it would be
    exact there too, but an LSTM's step takes 10% longer on numba then, and 30% on NumPy.
    """

    kind: Literal["sigmoid"] = "sigmoid"

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar * (y * (1.0 - y)),)


class Tanh(UnaryOp):
    """y = tanh x. The derivative is 1 - y^2, made of y: where y is near 1 its error is that of rounding a 1."""

    kind: Literal["tanh"] = "tanh"

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar * (1.0 - square(y)),)


class ReLU(UnaryOp):
    """y = max(x, 0); relu'(0) = 0, and relu'(NaN) = 1, as in PyTorch: a NaN is not hidden behind a gradient of 0."""

    kind: Literal["relu"] = "relu"
    kinks: ClassVar[tuple[float, ...]] = (0.0,)

    def form(self, x: Scalar) -> Scalar:
        return form.at_least(x, 0.0)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (mask(y_bar, not_equal(y, 0.0)),)


class HardTanh(Bounded):
    """y = x, not below -1 and not above 1; hard_tanh' = 0 at +-1 and beyond, 1 at NaN."""

    kind: Literal["hard_tanh"] = "hard_tanh"
    kinks: ClassVar[tuple[float, ...]] = (-1.0, 1.0)

    def bounds(self) -> tuple[float | None, float | None]:
        return -1.0, 1.0


class LeakyReLU(UnaryOp):
    """y = x for x > 0, slope * x elsewhere; leaky_relu'(0) = slope, leaky_relu'(NaN) = 1."""

    kind: Literal["leaky_relu"] = "leaky_relu"
    kinks: ClassVar[tuple[float, ...]] = (0.0,)
    slope: float = Field(default=0.01, ge=0, le=1)

    def form(self, x: Scalar) -> Scalar:
        return form.maximum(x, self.slope * x) if self.slope else form.at_least(x, 0.0)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        if not self.slope:
            return ReLU().vjp(y, y_bar, x)
        return (where(y <= 0.0, y_bar * self.slope, y_bar),)


class ELU(UnaryOp):
    """y = x for x > 0, alpha * (exp(x) - 1) elsewhere; elu'(0) = alpha, elu'(NaN) = 1."""

    kind: Literal["elu"] = "elu"
    kinks: ClassVar[tuple[float, ...]] = (0.0,)
    alpha: float = Field(default=1.0, ge=0)

    def form(self, x: Scalar) -> Scalar:
        return form.at_least(x, 0.0) + self.alpha * form.expm1(form.at_most(x, 0.0))

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        if not self.alpha:
            return ReLU().vjp(y, y_bar, x)
        return (where(x <= 0.0, y_bar * (self.alpha * exp(minimum(x, 0.0))), y_bar),)


class SiLU(UnaryOp):
    """y = x * sigmoid(x) (Elfwing et al. 2018), also known as swish; y(-inf) = 0."""

    kind: Literal["silu"] = "silu"

    def form(self, x: Scalar) -> Scalar:
        return form.sigmoid(x) * form.maximum(x, -FAR)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        x = clip(x, -FAR, FAR)
        return (y_bar * (sigmoid(x) * (1.0 + x * sigmoid(-x))),)


class Softplus(UnaryOp):
    """y = ln(1 + exp(x)) = max(x, 0) + ln(1 + exp(-|x|)), which does not overflow."""

    kind: Literal["softplus"] = "softplus"

    def form(self, x: Scalar) -> Scalar:
        return form.maximum(x, 0.0) + form.log1p(form.exp(-form.absolute(x)))

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar * sigmoid(x),)


_SCALE = math.sqrt(2 / math.pi)
_CUBIC = 0.044715
"""The constants of gelu's approximation: x Phi(x) is about x sigmoid(2 _SCALE (x + _CUBIC x^3))."""

_DENSITY = 1 / math.sqrt(2 * math.pi)
"""The density of the normal law at 0."""

_FLAT = 40.0
"""From here on the tail of the normal law is 0."""


class GELU(UnaryOp):
    """y = x Phi(x), Phi the distribution function of the normal law (Hendrycks and Gimpel 2016).

    It is computed as max(x, 0) - a phi(a) m(a), a = |x|, m the Mills ratio: so no digit of the tail is lost. With
    approximate="tanh", y = x/2 (1 + tanh(u)) = x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3), which differs
    from it by under 5e-4. y(-inf) = 0.
    """

    kind: Literal["gelu"] = "gelu"
    approximate: Literal["none", "tanh"] = "none"

    def form(self, x: Scalar) -> Scalar:
        if self.approximate == "tanh":
            return form.sigmoid((1.0 + _CUBIC * (x * x)) * x * (2 * _SCALE)) * form.maximum(x, -FAR)
        size = form.minimum(form.absolute(x), _FLAT)
        return form.maximum(x, 0.0) - size * form.mills(size) * _density(size)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        if self.approximate == "none":
            return (y_bar * apply(GELUSlope(), x),)
        x = clip(x, -FAR, FAR)
        bent = 2 * _SCALE * x * (1.0 + _CUBIC * square(x))
        slope = 2 * _SCALE * (1.0 + 3 * _CUBIC * square(x))
        return (y_bar * (sigmoid(bent) * (1.0 + x * slope * sigmoid(-bent))),)


class GELUSlope(UnaryOp):
    """The slope of x Phi(x): Phi(x) + x phi(x), phi the density of the normal law.

    It is phi(a) (m(a) - a) at x = -a, m the Mills ratio, and 1 less that at x = a. The tail is computed again: saved by
    the forward pass it would be one more array to hold.
    """

    kind: Literal["gelu_slope"] = "gelu_slope"

    def form(self, x: Scalar) -> Scalar:
        size = form.minimum(form.absolute(x), _FLAT)
        tail = (form.mills(size) - size) * _density(size)
        side = form.copysign(1.0, x)
        signed = side * tail
        return form.maximum(side, 0.0) - signed  # either 1 - tail or 0 + tail: `where` would take longer

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        squared = square(clip(x, -FAR, FAR))
        return (y_bar * ((2.0 - squared) * (exp(-0.5 * squared) * _DENSITY)),)


def _density(x: Scalar) -> Scalar:
    """That of the normal law."""
    return form.exp(-0.5 * (x * x)) * _DENSITY


class _AlongAxis(Op):
    overwrites: ClassVar[tuple[int, ...]] = (0,)
    kind: str
    axis: int = -1

    def infer(self, x: TensorType) -> TensorType:
        check_axis(self.axis, x.ndim)
        if not x.is_float:
            raise DTypeError(f"{self.kind} takes floats, not {x}")
        return x

    def flops(self, y: TensorType, *types: TensorType) -> int:
        return 5 * y.size

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        """An array of size 1 along the axis, and the memory of a sum along it."""
        parts = parts_of_sum(x, check_axes((self.axis,), x.ndim))
        return TensorType(reduced(x.shape, (self.axis,), keepdims=True), x.dtype), *parts

    def _shifted(self, x: Array, out: Array, along: Array) -> list[Call]:
        """The calls that subtract the maximum."""
        maximum = (np.maximum.reduce, (x, self.axis, None, along, True, -np.inf))
        return [maximum, (np.subtract, (x, along, out))]

    def _sum(self, x: Array, along: Array, parts: Sequence[Array]) -> Call:
        return summed(x, check_axes((self.axis,), x.ndim), along, parts)


class Softmax(_AlongAxis):
    """y_i = exp(x_i) / sum_j exp(x_j) along `axis`, the maximum subtracted from all x first: nothing overflows."""

    kind: Literal["softmax"] = "softmax"

    def eval(self, xp: Any, x: Any) -> Any:
        powers = xp.exp(x - xp.max(x, axis=self.axis, keepdims=True, initial=-xp.inf))
        return powers / xp.sum(powers, axis=self.axis, keepdims=True)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        along, *parts = scratch
        powers: list[Call] = [
            *self._shifted(operands[0], out, along),
            (np.exp, (out, out)),
            self._sum(out, along, parts),
        ]
        return as_one([*powers, (np.divide, (out, along, out))])

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        weighted = y_bar * y
        return (weighted - y * sum(weighted, self.axis, keepdims=True),)


class LogSoftmax(_AlongAxis):
    """y_i = x_i - ln sum_j exp(x_j) along `axis`, the maximum subtracted from all x first: nothing overflows."""

    kind: Literal["log_softmax"] = "log_softmax"

    def eval(self, xp: Any, x: Any) -> Any:
        shifted = x - xp.max(x, axis=self.axis, keepdims=True, initial=-xp.inf)
        return shifted - xp.log(xp.sum(xp.exp(shifted), axis=self.axis, keepdims=True))

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        along, *parts = super().scratch(y, x)
        return along, y, *parts

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        along, work, *parts = scratch
        powers: list[Call] = [
            *self._shifted(operands[0], out, along),
            (np.exp, (out, work)),
            self._sum(work, along, parts),
        ]
        return as_one([*powers, (np.log, (along, along)), (np.subtract, (out, along, out))])

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar - exp(y) * sum(y_bar, self.axis, keepdims=True),)


identity = unary(Identity)
sigmoid = unary(Sigmoid)
tanh = unary(Tanh)
relu = unary(ReLU)
hard_tanh = unary(HardTanh)
silu = unary(SiLU)
softplus = unary(Softplus)


def leaky_relu(x: Operand, slope: float = 0.01, *, name: str | None = None) -> Node:
    """x where x > 0, else slope * x; the derivative at 0 is `slope`.

    x: floats; returns the same type. Raises DTypeError for other dtypes, AttributeValueError for a slope outside [0,
    1].
    Source: Maas et al. 2013.
    """
    return apply(LeakyReLU(slope=slope), x, name=name)


def elu(x: Operand, alpha: float = 1.0, *, name: str | None = None) -> Node:
    """x where x > 0, else alpha * (exp(x) - 1); the derivative at 0 is `alpha`.

    x: floats; returns the same type. Raises DTypeError for other dtypes, AttributeValueError for an alpha below 0.
    Source: Clevert et al. 2016.
    """
    return apply(ELU(alpha=alpha), x, name=name)


def gelu(x: Operand, approximate: Literal["none", "tanh"] = "none", *, name: str | None = None) -> Node:
    """x * Phi(x), with Phi the standard normal distribution function, or with "tanh" its approximation by tanh.

    x: floats; returns the same type. Raises DTypeError for other dtypes, AttributeValueError for another approximation.
    Source: Hendrycks and Gimpel 2016.
    """
    return apply(GELU(approximate=approximate), x, name=name)


def softmax(x: Operand, axis: int = -1, *, name: str | None = None) -> Node:
    """y_i = exp(x_i) / sum_j exp(x_j) along `axis`, computed after subtracting the maximum.

    x: floats; returns the same type; each slice along `axis` sums to 1.
    Raises DTypeError for other dtypes, ShapeError for an axis that x does not have, AttributeValueError for none.
    Source: Bridle 1990.
    """
    return apply(Softmax(axis=axis), x, name=name)


def log_softmax(x: Operand, axis: int = -1, *, name: str | None = None) -> Node:
    """y_i = x_i - log sum_j exp(x_j) along `axis`: the logarithm of `softmax`, accurate where that is near 0.

    x: floats; returns the same type.
    Raises DTypeError for other dtypes, ShapeError for an axis that x does not have, AttributeValueError for none.
    """
    return apply(LogSoftmax(axis=axis), x, name=name)
