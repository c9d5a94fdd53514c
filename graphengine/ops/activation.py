"""Activations: what makes a network more than one linear map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from graphengine.errors import DTypeError
from graphengine.ir.kernel import LoopCall
from graphengine.ir.node import Node, Operand, apply
from graphengine.ir.op import Array, Call, Op
from graphengine.ir.types import TensorType, check_axes, check_axis
from graphengine.ops.broadcast import reduced, sum
from graphengine.ops.compare import (
    Bounded,
    at_least,
    at_most,
    clip,
    mask,
    maximum_into,
    minimum,
    not_equal,
    where,
)
from graphengine.ops.elementwise import UnaryOp, exp, square, unary
from graphengine.ops.erf import FAR
from graphengine.ops.kernels.softmax import log_softmaxes, softmaxes
from graphengine.ops.mills import mills, mills_into
from graphengine.ops.run_all import run_all
from graphengine.ops.sums import parts_of_sum, summed

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


class Activation(UnaryOp):
    """An op of floats that is no single ufunc; `cost` counts its operations on an element."""

    floats_only: ClassVar[bool] = True
    cost: ClassVar[int]

    def flops(self, y: TensorType, *types: TensorType) -> int:
        return self.cost * y.size


class Identity(Activation):
    """y = x. A view."""

    is_view: ClassVar[bool] = True
    kind: Literal["identity"] = "identity"
    cost: ClassVar[int] = 0

    def eval(self, xp: Any, x: Any) -> Any:
        return x

    def view(self, x: Array) -> Array:
        return x

    def keeps_layout(self) -> bool:
        return True

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar,)


class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)), to full relative accuracy for x < 0 too, down to where exp(-x) overflows and y is 0.

    The derivative is y (1 - y), made of y, which is kept: where y is near 1 its error is that of rounding a 1. From x
    it would be exact there too, but an LSTM's step takes 10% longer on numba then, and 30% on NumPy.
    """

    kind: Literal["sigmoid"] = "sigmoid"
    form: ClassVar[str | None] = "sigmoid({0})"
    cost: ClassVar[int] = 4

    def eval(self, xp: Any, x: Any) -> Any:
        small = xp.exp(-xp.abs(x))
        return xp.where(x < 0, small, xp.ones((), x.dtype)) / (1 + small)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return run_all, (self.calls(out, *operands),)

    def calls(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> list[Call]:
        (x,) = operands
        return _sigmoid(x, out)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar * (y * (1.0 - y)),)


class Tanh(UnaryOp):
    """y = tanh x. The derivative is 1 - y^2, made of y: where y is near 1 its error is that of rounding a 1."""

    kind: Literal["tanh"] = "tanh"
    ufunc: ClassVar[str] = "tanh"
    form: ClassVar[str | None] = "tanh({0})"
    floats_only: ClassVar[bool] = True

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar * (1.0 - square(y)),)


class ReLU(Activation):
    """y = max(x, 0); relu'(0) = 0, and relu'(NaN) = 1, as in PyTorch: a NaN is not hidden behind a gradient of 0."""

    kind: Literal["relu"] = "relu"
    form: ClassVar[str | None] = at_least("{0}", 0.0)
    cost: ClassVar[int] = 1

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.maximum(x, 0)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return maximum_into, (*operands, np.zeros((), out.dtype), out)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (mask(y_bar, not_equal(y, 0.0)),)


class HardTanh(Bounded):
    """y = x, not below -1 and not above 1; hard_tanh' = 0 at +-1 and beyond, 1 at NaN."""

    kind: Literal["hard_tanh"] = "hard_tanh"

    def bounds(self) -> tuple[float | None, float | None]:
        return -1.0, 1.0


class LeakyReLU(Activation):
    """y = x for x > 0, slope * x elsewhere; leaky_relu'(0) = slope, leaky_relu'(NaN) = 1."""

    kind: Literal["leaky_relu"] = "leaky_relu"
    cost: ClassVar[int] = 2
    slope: float = Field(default=0.01, ge=0, le=1)

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.maximum(x, self.slope * x if self.slope else 0)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return (y,)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        if not self.slope:
            return ReLU().bind(out, *operands)
        return _leaky_relu, (*operands, np.array(self.slope, out.dtype), out, *scratch)

    def scalar(self, *operands: str) -> str:
        (x,) = operands
        return f"maximum({x}, {self.slope!r} * {x})" if self.slope else at_least(x, 0.0)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        if not self.slope:
            return ReLU().vjp(y, y_bar, x)
        return (where(y <= 0.0, y_bar * self.slope, y_bar),)


class ELU(Activation):
    """y = x for x > 0, alpha * (exp(x) - 1) elsewhere; elu'(0) = alpha, elu'(NaN) = 1."""

    kind: Literal["elu"] = "elu"
    cost: ClassVar[int] = 5
    alpha: float = Field(default=1.0, ge=0)

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.maximum(x, 0) + self.alpha * xp.expm1(xp.minimum(x, 0))

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return (y,)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return _elu, (*operands, np.array(self.alpha, out.dtype), out, *scratch)

    def scalar(self, *operands: str) -> str:
        (x,) = operands
        return f"{at_least(x, 0.0)} + {self.alpha!r} * expm1({at_most(x, 0.0)})"

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        if not self.alpha:
            return ReLU().vjp(y, y_bar, x)
        return (where(x <= 0.0, y_bar * (self.alpha * exp(minimum(x, 0.0))), y_bar),)


class SiLU(Activation):
    """y = x * sigmoid(x) (Elfwing et al. 2018), also known as swish; y(-inf) = 0."""

    kind: Literal["silu"] = "silu"
    form: ClassVar[str | None] = f"maximum({{0}}, {-FAR!r}) * sigmoid({{0}})"
    cost: ClassVar[int] = 5

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.maximum(x, -FAR) * Sigmoid().eval(xp, x)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return (y,)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return run_all, (self.calls(out, *operands, scratch=scratch),)

    def calls(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> list[Call]:
        (x,), (work,) = operands, scratch
        return [*_sigmoid(x, work), (x.clip, (-FAR, np.inf, out)), (np.multiply, (out, work, out))]

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        x = clip(x, -FAR, FAR)
        return (y_bar * (sigmoid(x) * (1.0 + x * sigmoid(-x))),)


class Softplus(Activation):
    """y = ln(1 + exp(x)) = max(x, 0) + ln(1 + exp(-|x|)), which does not overflow."""

    kind: Literal["softplus"] = "softplus"
    form: ClassVar[str | None] = "maximum({0}, 0.0) + log1p(exp(-absolute({0})))"
    cost: ClassVar[int] = 6

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return (y,)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return _softplus, (*operands, out, *scratch)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar * sigmoid(x),)


_SCALE = math.sqrt(2 / math.pi)
_CUBIC = 0.044715
"""The constants of gelu's approximation: x Phi(x) is about x sigmoid(2 _SCALE (x + _CUBIC x^3))."""

_DENSITY = 1 / math.sqrt(2 * math.pi)
"""The density of the normal law at 0."""

_FLAT = 40.0
"""From here on the tail of the normal law is 0."""


class GELU(Activation):
    """y = x Phi(x), Phi the distribution function of the normal law (Hendrycks and Gimpel 2016).

    It is computed as max(x, 0) - a phi(a) m(a), a = |x|, m the Mills ratio: so no digit of the tail is lost. With
    approximate="tanh", y = x/2 (1 + tanh(u)) = x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3), which differs
    from it by under 5e-4. y(-inf) = 0.
    """

    kind: Literal["gelu"] = "gelu"
    cost: ClassVar[int] = 5
    approximate: Literal["none", "tanh"] = "none"

    def eval(self, xp: Any, x: Any) -> Any:
        if self.approximate == "tanh":
            return xp.maximum(x, -FAR) * Sigmoid().eval(xp, 2 * _SCALE * x * (1 + _CUBIC * x * x))
        size = xp.minimum(xp.abs(x), _FLAT)
        return xp.maximum(x, 0) - size * mills(size) * _density(xp, size)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return (y,) if self.approximate == "tanh" else (y, y, y)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return _gelu_by_tanh if self.approximate == "tanh" else _gelu, (*operands, out, *scratch)

    def scalar(self, *operands: str) -> str:
        (x,) = operands
        if self.approximate == "tanh":
            return f"maximum({x}, {-FAR!r}) * sigmoid({2 * _SCALE!r} * {x} * (1.0 + {_CUBIC!r} * {x} * {x}))"
        size = f"minimum(absolute({x}), {_FLAT!r})"
        return f"maximum({x}, 0.0) - {size} * mills({size}) * {_density_of(size)}"

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        if self.approximate == "none":
            return (y_bar * apply(GELUSlope(), x),)
        x = clip(x, -FAR, FAR)
        bent = 2 * _SCALE * x * (1.0 + _CUBIC * square(x))
        slope = 2 * _SCALE * (1.0 + 3 * _CUBIC * square(x))
        return (y_bar * (sigmoid(bent) * (1.0 + x * slope * sigmoid(-bent))),)

    def flops(self, y: TensorType, *types: TensorType) -> int:
        return (9 if self.approximate == "tanh" else self.cost) * y.size


class GELUSlope(Activation):
    """The slope of x Phi(x): Phi(x) + x phi(x), phi the density of the normal law.

    It is phi(a) (m(a) - a) at x = -a, m the Mills ratio, and 1 less that at x = a. The tail is computed again: kept
    from the forward pass it would be one more array to hold.
    """

    kind: Literal["gelu_slope"] = "gelu_slope"
    cost: ClassVar[int] = 6

    def eval(self, xp: Any, x: Any) -> Any:
        size = xp.minimum(xp.abs(x), _FLAT)
        tail = (mills(size) - size) * _density(xp, size)
        return xp.where(x > 0, 1 - tail, tail)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return (y, y, y)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return _gelu_slope, (*operands, out, *scratch)

    def scalar(self, *operands: str) -> str:
        (x,) = operands
        size = f"minimum(absolute({x}), {_FLAT!r})"
        tail = f"(mills({size}) - {size}) * {_density_of(size)}"
        return f"(1.0 if {x} > 0.0 else 0.0) - (1.0 if {x} > 0.0 else -1.0) * {tail}"  # the tail once

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        squared = square(clip(x, -FAR, FAR))
        return (y_bar * ((2.0 - squared) * (exp(-0.5 * squared) * _DENSITY)),)


def _density(xp: Any, x: Any) -> Any:
    """That of the normal law."""
    return xp.exp(-0.5 * x * x) * _DENSITY


def _density_of(x: str) -> str:
    return f"(exp(-0.5 * {x} * {x}) * {_DENSITY!r})"


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

    def _reduced(self, x: TensorType) -> TensorType:
        return TensorType(reduced(x.shape, (self.axis,), keepdims=True), x.dtype)

    def _parts(self, x: TensorType) -> tuple[TensorType, ...]:
        return parts_of_sum(x, check_axes((self.axis,), x.ndim))

    def _sum(self, x: Array, along: Array, parts: Sequence[Array]) -> Call:
        return summed(x, check_axes((self.axis,), x.ndim), along, parts)


class Softmax(_AlongAxis):
    """y_i = exp(x_i) / sum_j exp(x_j) along `axis`, the greatest taken from all x first, so that nothing overflows."""

    kind: Literal["softmax"] = "softmax"

    def eval(self, xp: Any, x: Any) -> Any:
        powers = xp.exp(x - xp.max(x, axis=self.axis, keepdims=True, initial=-xp.inf))
        return powers / xp.sum(powers, axis=self.axis, keepdims=True)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return self._reduced(x), *self._parts(x)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        along, *parts = scratch
        return _softmax, (*operands, self.axis, out, along, self._sum(out, along, parts))

    def loops(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> list[LoopCall] | None:
        return softmaxes(out, operands[0], self.axis, scratch[0])

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        weighted = y_bar * y
        return (weighted - y * sum(weighted, self.axis, keepdims=True),)


class LogSoftmax(_AlongAxis):
    """y_i = x_i - ln sum_j exp(x_j) along `axis`, the greatest taken from all x first, so that nothing overflows."""

    kind: Literal["log_softmax"] = "log_softmax"

    def eval(self, xp: Any, x: Any) -> Any:
        shifted = x - xp.max(x, axis=self.axis, keepdims=True, initial=-xp.inf)
        return shifted - xp.log(xp.sum(xp.exp(shifted), axis=self.axis, keepdims=True))

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return self._reduced(x), y, *self._parts(x)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        along, work, *parts = scratch
        return _log_softmax, (*operands, self.axis, out, along, work, self._sum(work, along, parts))

    def loops(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> list[LoopCall] | None:
        return log_softmaxes(out, operands[0], self.axis, *scratch[:2])

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None, ...]:
        return (y_bar - exp(y) * sum(y_bar, self.axis, keepdims=True),)


# The kernels. Each may write over its operand: `x` is not read after `out` is first written.


def _sigmoid(x: Array, out: Array) -> list[Call]:
    one = np.ones((), out.dtype)
    return [
        (np.negative, (x, out)),
        (np.exp, (out, out)),
        (np.add, (out, one, out)),
        (np.divide, (one, out, out)),  # it takes less time than np.reciprocal
    ]


def _leaky_relu(x: Array, slope: Array, out: Array, work: Array) -> None:
    np.multiply(x, slope, work)
    np.maximum(x, work, out=out)


def _elu(x: Array, alpha: Array, out: Array, work: Array) -> None:
    np.minimum(x, 0, out=work)
    np.expm1(work, work)
    np.multiply(work, alpha, work)
    np.maximum(x, 0, out=out)
    np.add(out, work, out)


def _softplus(x: Array, out: Array, work: Array) -> None:
    # Not np.logaddexp, which takes seven times as long.
    np.abs(x, work)
    np.negative(work, work)
    np.exp(work, work)
    np.log1p(work, work)
    np.maximum(x, 0, out=out)
    np.add(out, work, out)


def _gelu(x: Array, out: Array, size: Array, tail: Array, work: Array) -> None:
    np.abs(x, size)
    np.minimum(size, _FLAT, out=size)
    mills_into(tail, size, work)
    np.multiply(tail, size, tail)
    _times_density(tail, size)
    np.maximum(x, 0, out=out)
    np.subtract(out, tail, out)


def _gelu_slope(x: Array, out: Array, size: Array, tail: Array, work: Array) -> None:
    np.abs(x, size)
    np.minimum(size, _FLAT, out=size)
    mills_into(tail, size, work)
    np.subtract(tail, size, tail)
    _times_density(tail, size)
    np.copysign(1, x, out)  # either 1 - tail or 0 + tail: a mask would take longer
    np.multiply(tail, out, tail)
    np.maximum(out, 0, out=out)
    np.subtract(out, tail, out)


def _times_density(tail: Array, x: Array) -> None:
    """Multiply by the normal law's density at x, and lose x."""
    np.multiply(x, x, x)
    np.multiply(x, -0.5, x)
    np.exp(x, x)
    np.multiply(x, _DENSITY, x)
    np.multiply(tail, x, tail)


def _gelu_by_tanh(x: Array, out: Array, work: Array) -> None:
    np.multiply(x, x, work)
    np.multiply(work, _CUBIC, work)
    np.add(work, 1, work)
    np.multiply(work, x, work)
    np.multiply(work, 2 * _SCALE, work)
    for function, arguments in _sigmoid(work, work):
        function(*arguments)
    x.clip(-FAR, np.inf, out)
    np.multiply(out, work, out)


def _softmax(x: Array, axis: int, out: Array, along: Array, total: Call) -> None:
    np.maximum.reduce(x, axis, None, along, keepdims=True, initial=-np.inf)
    np.subtract(x, along, out)
    np.exp(out, out)
    run_all([total])
    np.divide(out, along, out)


def _log_softmax(x: Array, axis: int, out: Array, along: Array, work: Array, total: Call) -> None:
    np.maximum.reduce(x, axis, None, along, keepdims=True, initial=-np.inf)
    np.subtract(x, along, out)
    np.exp(out, work)
    run_all([total])
    np.log(along, along)
    np.subtract(out, along, out)


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
