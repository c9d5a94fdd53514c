"""Normalization of each example by itself: layer, group and RMS normalization, each one op with one adjoint op.

A row is what is normalized together: elements that stand together in memory. With m the mean of a row, v its variance,
the mean of (x - m)^2, and 1/r = sqrt(v + epsilon), a normalized row is n = (x - m) r. The variance is taken of the
differences, in a second pass, so that a large mean takes no digits of it. Nothing but x is kept for the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir import dims
from graphengine.ir.dims import Shape
from graphengine.ir.node import Node, apply
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, TensorType, common_dtype
from graphengine.ops.broadcast import reshape, sum_to
from graphengine.ops.elementwise import reciprocal, sqrt, square
from graphengine.ops.reduce import mean, variance
from graphengine.ops.support.sums import dots, parts_of_dots

__all__ = ["group_norm", "layer_norm", "rms_norm"]


class RowNorm(Op):
    """y = n * scale + shift, n being the normalized rows; without `shift`, or both, y lacks that part."""

    overwrites: ClassVar[tuple[int, ...]] = (0,)
    centered: ClassVar[bool] = True
    kind: str
    epsilon: float = Field(default=1e-5, ge=0)

    def rows(self, shape: Shape) -> Shape:
        """The shape of x, of this shape, when each row is its last axis."""
        raise NotImplementedError

    def along(self, shape: Shape) -> Shape:
        """The shape of `scale` and `shift` for an x of this shape."""
        raise NotImplementedError

    def wide(self, shape: Shape) -> Shape:
        """The same shape with axes of size 1 behind, as it broadcasts to x."""
        return self.along(shape)

    def infer(self, x: TensorType, scale: TensorType | None = None, shift: TensorType | None = None) -> TensorType:
        return self.check(x, *(type_ for type_ in (scale, shift) if type_ is not None))

    def check(self, x: TensorType, *affine: TensorType) -> TensorType:
        """The type of y; raises ShapeError or DTypeError."""
        if not x.is_float:
            raise DTypeError(f"{self.kind} takes floats, not {x}")
        if self.rows(x.shape)[-1] == 0:
            raise ShapeError(f"{self.kind} of no elements: an axis of {x} that it is over has size 0")
        common_dtype((x, *affine))
        wanted = TensorType(self.along(x.shape), x.dtype)
        for what, type_ in zip(("scale", "shift"), affine, strict=False):
            if type_ != wanted:
                raise ShapeError(f"{self.kind} of {x} takes a {what} of type {wanted}, not {type_}")
        return x

    def eval(self, xp: Any, x: Any, *affine: Any) -> Any:
        rows = xp.reshape(x, self.rows(x.shape))
        y = xp.reshape(_standardized(xp, rows, self.centered, self.epsilon)[0], x.shape)
        for operation, operand in zip((xp.multiply, xp.add), affine, strict=False):
            y = operation(y, xp.reshape(operand, self.wide(x.shape)))
        return y

    def scratch(self, y: TensorType, x: TensorType, *affine: TensorType) -> tuple[TensorType, ...]:
        rows = TensorType(self.rows(x.shape), x.dtype)
        row = TensorType(rows.shape[:-1], x.dtype)
        return row, row, *parts_of_dots(rows)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x, *affine), (means, r, *parts) = operands, scratch
        sizes = _sizes(self.rows(x.shape))
        is_view = x.flags.c_contiguous or x.shape == sizes
        calls: list[Call] = [] if is_view else [(np.copyto, (out, x))]
        rows = (x if is_view else out).reshape(sizes)
        calls += _standardize(rows, out.reshape(sizes), means, r, self.centered, self.epsilon, parts)
        for function, operand in zip((np.multiply, np.add), affine, strict=False):
            calls.append((function, (out, operand.reshape(_sizes(self.wide(x.shape))), out)))
        return _run, (calls,)

    def vjp(self, y: Node, y_bar: Node, x: Node, *affine: Node) -> tuple[Node | None, ...]:
        scale = affine[0] if affine else None
        n_bar = y_bar if scale is None else y_bar * reshape(scale, self.wide(x.shape))
        op = RowNormAdjoint(epsilon=self.epsilon, centered=self.centered)
        rows = self.rows(x.shape)
        x_bar = reshape(apply(op, reshape(n_bar, rows), reshape(x, rows)), x.shape)
        shares: list[Node | None] = [x_bar]
        if scale is not None:
            shares.append(self._sum(y_bar * apply(self, x), scale))
        return (*shares, *(self._sum(y_bar, shift) for shift in affine[1:]))

    def _sum(self, y_bar: Node, operand: Node) -> Node:
        return reshape(sum_to(y_bar, self.wide(y_bar.shape)), operand.shape)

    def flops(self, y: TensorType, x: TensorType, *affine: TensorType) -> int:
        return _flops(x.size, self.rows(x.shape), self.centered) + len(affine) * x.size


class _LastAxes(RowNorm):
    """A normalization over the last `axes` axes."""

    axes: int = Field(default=1, ge=1)

    def rows(self, shape: Shape) -> Shape:
        if len(shape) < self.axes:
            raise ShapeError(f"{self.kind} over the last {self.axes} axes of a value with {len(shape)}")
        return (*shape[: -self.axes], dims.product(shape[-self.axes :]))

    def along(self, shape: Shape) -> Shape:
        return shape[-self.axes :]


class LayerNorm(_LastAxes):
    """y = (x - m) / sqrt(v + epsilon) * scale + shift, m and v over the last `axes` axes; `shift`, or both, may be left
    out.
    """

    kind: Literal["layer_norm"] = "layer_norm"


class RMSNorm(_LastAxes):
    """y = x / sqrt(mean(x^2) + epsilon) * scale, the mean over the last `axes` axes; `scale` may be left out."""

    centered: ClassVar[bool] = False
    kind: Literal["rms_norm"] = "rms_norm"

    def infer(self, x: TensorType, scale: TensorType | None = None) -> TensorType:  # type: ignore[override]  # no shift
        return super().infer(x, scale)


class GroupNorm(RowNorm):
    """y = (x - m) / sqrt(v + epsilon) * scale + shift, m and v of groups of channels; `shift` or both may be absent."""

    kind: Literal["group_norm"] = "group_norm"
    groups: int = Field(ge=1)

    def rows(self, shape: Shape) -> Shape:
        if len(shape) < 2:
            raise ShapeError(f"group_norm takes [examples, channels, ...], not a value with {len(shape)} axes")
        size = dims.divide(shape[1], self.groups)
        if size is None:
            raise ShapeError(f"group_norm: {self.groups} groups do not divide {shape[1]} channels")
        return (shape[0], self.groups, dims.product((size, *shape[2:])))

    def along(self, shape: Shape) -> Shape:
        return shape[1:2]

    def wide(self, shape: Shape) -> Shape:
        return (shape[1], *(1 for _ in shape[2:]))


class RowNormAdjoint(Op):
    """The adjoint of normalizing x along its last axis: y = r (g - mean(g) - n mean(g n)), g being the adjoint of n.

    Where not `centered`, n = x r with 1/r = sqrt(mean(x^2) + epsilon), and the term mean(g) is absent.
    """

    overwrites: ClassVar[tuple[int, ...]] = (0, 1)
    kind: Literal["row_norm_adjoint"] = "row_norm_adjoint"
    epsilon: float = Field(default=1e-5, ge=0)
    centered: bool = True

    def infer(self, g: TensorType, x: TensorType) -> TensorType:
        if not x.is_float or not x.ndim:
            raise DTypeError(f"row_norm_adjoint takes rows of floats, not {x}")
        if g != x:
            raise ShapeError(f"the adjoint is {g}, of a value that is {x}")
        if x.shape[-1] == 0:
            raise ShapeError(f"row_norm_adjoint of no elements: the last axis of {x} has size 0")
        return x

    def eval(self, xp: Any, g: Any, x: Any) -> Any:
        n, r = _standardized(xp, x, self.centered, self.epsilon)
        across = xp.mean(g * n, axis=-1, keepdims=True)
        centered = g - xp.mean(g, axis=-1, keepdims=True) if self.centered else g
        return (centered - n * across) * r

    def scratch(self, y: TensorType, g: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        row = TensorType(x.shape[:-1], x.dtype)
        return row, row, row, x, *parts_of_dots(x)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (g, x), (means, r, across, n, *parts) = operands, scratch
        count = np.array(x.shape[-1], x.dtype)
        calls = _standardize(x, n, means, r, self.centered, self.epsilon, parts)
        calls += [
            *dots(g, n, across, parts),
            (np.divide, (across, count, across)),
            (np.multiply, (n, across[..., None], n)),
        ]
        if self.centered:
            calls += [*_means(g, count, means), (np.add, (n, means[..., None], n))]
        calls += [(np.subtract, (g, n, out)), (np.multiply, (out, r[..., None], out))]
        return _run, (calls,)

    def vjp(self, y: Node, y_bar: Node, g: Node, x: Node) -> tuple[Node | None, ...]:
        n = apply((LayerNorm if self.centered else RMSNorm)(epsilon=self.epsilon), x)
        squares = variance(x, -1, keepdims=True) if self.centered else _row_mean(square(x))
        r = reciprocal(sqrt(squares + self.epsilon))
        n_bar = y_bar * _row_mean(g * n) + g * _row_mean(y_bar * n)
        through_n = apply(self, n_bar, x)
        through_r = n * _row_mean(y_bar * y)
        return apply(self, y_bar, x), -(r * (through_n + through_r))

    def flops(self, y: TensorType, g: TensorType, x: TensorType) -> int:
        return _flops(x.size, x.shape, self.centered) + (7 if self.centered else 5) * x.size


def layer_norm(x: Node, scale: Node, shift: Node, epsilon: float = 1e-5, *, name: str | None = None) -> Node:
    """Layer normalization: y = (x - mean) / sqrt(variance + epsilon) * scale + shift.

    Mean and variance are those of the last axes of x, as many as `scale` has. x: floats; scale, shift: the shape of
    these axes; returns the type of x.
    Raises DTypeError or ShapeError for operands that do not fit, AttributeValueError for an epsilon below 0.
    Source: Ba, Kiros and Hinton 2016.
    """
    return apply(LayerNorm(axes=max(1, scale.ndim), epsilon=epsilon), x, scale, shift, name=name)


def rms_norm(x: Node, scale: Node, epsilon: float = 1e-5, *, name: str | None = None) -> Node:
    """Root-mean-square normalization: y = x / sqrt(mean(x^2) + epsilon) * scale.

    The mean is that of the last axes of x, as many as `scale` has. x: floats; scale: the shape of these axes; returns
    the type of x.
    Raises DTypeError or ShapeError for operands that do not fit, AttributeValueError for an epsilon below 0.
    Source: Zhang and Sennrich 2019.
    """
    return apply(RMSNorm(axes=max(1, scale.ndim), epsilon=epsilon), x, scale, name=name)


def group_norm(
    x: Node, scale: Node, shift: Node, groups: int, epsilon: float = 1e-5, *, name: str | None = None
) -> Node:
    """Group normalization: `layer_norm` over each of `groups` groups of channels, and their elements, of each example.

    x: floats [examples, channels, ...]; scale, shift: [channels]; returns the type of x. With one group it normalizes
    each example, with as many groups as channels each channel of an example (instance normalization).
    Raises DTypeError or ShapeError for operands that do not fit, AttributeValueError for groups below 1 or epsilon
    below 0.
    Source: Wu and He 2018.
    """
    return apply(GroupNorm(groups=groups, epsilon=epsilon), x, scale, shift, name=name)


def _standardized(xp: Any, rows: Any, centered: bool, epsilon: float) -> tuple[Any, Any]:
    """n and r of rows."""
    difference = rows - xp.mean(rows, axis=-1, keepdims=True) if centered else rows
    r = 1 / xp.sqrt(xp.mean(xp.square(difference), axis=-1, keepdims=True) + epsilon)
    return difference * r, r


def _standardize(
    x: Array, n: Array, means: Array, r: Array, centered: bool, epsilon: float, parts: Sequence[Array]
) -> list[Call]:
    """The calls that write n and r of rows x; n may be x; `parts` is for `dots`."""
    count = np.array(x.shape[-1], x.dtype)
    center: list[Call] = [*_means(x, count, means), (np.subtract, (x, means[..., None], n))] if centered else []
    difference = n if centered else x
    return [
        *center,
        *dots(difference, difference, r, parts),
        (np.divide, (r, count, r)),
        (np.add, (r, np.array(epsilon, x.dtype), r)),
        (np.sqrt, (r, r)),
        (np.reciprocal, (r, r)),
        (_scale, (difference, r, r[..., None], epsilon, *_bounds(r), n)),
    ]


def _bounds(r: Array) -> tuple[float, float]:
    """Between which r is taken for right: outside, squares were too large or too small for the dtype."""
    limits = np.finfo(r.dtype)
    return float(limits.max) ** -0.5, float(limits.tiny / limits.eps) ** -0.5


def _scale(difference: Array, flat: Array, r: Array, epsilon: float, low: float, high: float, n: Array) -> None:
    """Write n; where squares were too large or too small for the dtype, also r, by those of k times the difference."""
    if np.minimum.reduce(flat, None, initial=high) > low and np.maximum.reduce(flat, None, initial=low) < high:
        np.multiply(difference, r, n)
        return
    power = r.dtype.type(2.0 ** (100 if r.itemsize == 4 else 600))
    k = np.where(r >= high, power, np.where(r > low, 1, 1 / power)).astype(r.dtype)
    np.multiply(difference, k, n)
    factor = 1 / np.sqrt(np.mean(np.square(n), -1, keepdims=True) + r.dtype.type(epsilon) * k * k)
    np.multiply(factor, k, r)
    np.multiply(n, factor, n)


def _means(x: Array, count: Array, out: Array) -> list[Call]:
    return [(np.add.reduce, (x, -1, None, out)), (np.divide, (out, count, out))]


def _flops(size: int, rows: Shape, centered: bool) -> int:
    """Of the calls of `_standardize`."""
    return (5 if centered else 3) * size + 3 * (size // _sizes(rows)[-1])


def _sizes(shape: Shape) -> tuple[int, ...]:
    return tuple(dims.bind(dim, {}) for dim in shape)


def _row_mean(x: Node) -> Node:
    return mean(x, -1, keepdims=True)


def _run(calls: Sequence[Call]) -> None:
    for function, arguments in calls:
        function(*arguments)
