"""Normalization of each example by itself (layer, group and RMS normalization), and of each channel over a batch.

Each of the former is one op, with one adjoint op. A row is what is normalized together: elements that are neighbours in
memory. With m the mean of a row, v its variance, the mean of (x - m)^2, and 1/r = sqrt(v + epsilon), a normalized row
is n = (x - m) r. The variance is taken of the differences, in a second pass, so that a large mean takes no digits of
it. Nothing but x is saved for the backward pass.

Batch normalization has statistics that are carried for inference. Nothing here knows whether it trains: where the
batch's own mean or variance is used, `batch_statistic` has the running one beside it, which `for_inference` puts in its
place.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from graphengine.errors import AttributeValueError, DTypeError, GraphError, ShapeError
from graphengine.ir import dims
from graphengine.ir.composite import declaring
from graphengine.ir.dims import Dim, Shape
from graphengine.ir.leaf import State
from graphengine.ir.node import Node, Phase, apply
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, TensorType, broadcast_shapes, check_axis, common_dtype
from graphengine.ops.broadcast import dim_size, full, reshape, sum_to
from graphengine.ops.compare import maximum
from graphengine.ops.elementwise import moved, reciprocal, sqrt, square
from graphengine.ops.reduce import mean, variance
from graphengine.ops.support import form
from graphengine.ops.support.form import Scalar
from graphengine.ops.support.pointwise import Pointwise
from graphengine.ops.support.run_all import as_one, repeatable
from graphengine.ops.support.sums import dots, parts_of_dots

__all__ = ["batch_norm", "group_norm", "layer_norm", "rms_norm"]


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
        affine = {what: given for what, given in (("scale", scale), ("shift", shift)) if given is not None}
        if not x.is_float:
            raise DTypeError(f"{self.kind} takes floats, not {x}")
        if self.rows(x.shape)[-1] == 0:
            raise ShapeError(f"{self.kind} of no elements: an axis of {x} that it is over has size 0")
        common_dtype((x, *affine.values()))
        wanted = TensorType(self.along(x.shape), x.dtype)
        for what, given in affine.items():
            if given != wanted:
                raise ShapeError(f"{self.kind} of {x} takes a {what} of type {wanted}, not {given}")
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
        sizes = tuple(map(int, self.rows(x.shape)))
        is_view = x.flags.c_contiguous or x.shape == sizes
        calls: list[Call] = [] if is_view else [(np.copyto, (out, x))]
        rows = (x if is_view else out).reshape(sizes)
        calls += _standardize(rows, out.reshape(sizes), means, r, self.centered, self.epsilon, parts)
        for function, operand in zip((np.multiply, np.add), affine, strict=False):
            calls.append((function, (out, operand.reshape([*map(int, self.wide(x.shape))]), out)))
        return as_one(calls)

    def vjp(self, y: Node, y_bar: Node, x: Node, *affine: Node) -> tuple[Node | None, ...]:
        n_bar = y_bar * reshape(affine[0], self.wide(x.shape)) if affine else y_bar
        op = RowNormAdjoint(epsilon=self.epsilon, centered=self.centered)
        rows = self.rows(x.shape)
        x_bar = reshape(apply(op, reshape(n_bar, rows), reshape(x, rows)), x.shape)
        scale_bar = [self._sum(y_bar * apply(self, x), scale) for scale in affine[:1]]
        return (x_bar, *scale_bar, *(self._sum(y_bar, shift) for shift in affine[1:]))

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
        return as_one(calls)

    def vjp(self, y: Node, y_bar: Node, g: Node, x: Node) -> tuple[Node | None, ...]:
        n = apply((LayerNorm if self.centered else RMSNorm)(epsilon=self.epsilon), x)
        squares = variance(x, -1, keepdims=True) if self.centered else mean(square(x), -1, keepdims=True)
        r = reciprocal(sqrt(squares + self.epsilon))
        n_bar = y_bar * mean(g * n, -1, keepdims=True) + g * mean(y_bar * n, -1, keepdims=True)
        through_n = apply(self, n_bar, x)
        through_r = n * mean(y_bar * y, -1, keepdims=True)
        return apply(self, y_bar, x), -(r * (through_n + through_r))

    def flops(self, y: TensorType, g: TensorType, x: TensorType) -> int:
        return _flops(x.size, x.shape, self.centered) + (7 if self.centered else 5) * x.size


class BatchStatistic(Op):
    """y = the batch's own statistic, the first operand, seen as it is; `for_inference` puts the second in its place.

    Adjoints choose likewise: in training y_bar goes to the first operand, in inference to the second. So derivatives
    in a graph are those of what it computes, before and after.
    """

    is_view: ClassVar[bool] = True
    keeps_layout: ClassVar[bool] = True
    kind: Literal["batch_statistic"] = "batch_statistic"

    def infer(self, value: TensorType, running: TensorType) -> TensorType:
        if value != running:
            raise ShapeError(f"the statistic of a batch is {value}, and the running one {running}")
        return value

    def eval(self, xp: Any, value: Any, running: Any) -> Any:
        return value

    def view(self, operand: Array) -> Array:
        return operand

    def vjp(self, y: Node, y_bar: Node, value: Node, running: Node) -> tuple[Node | None, ...]:
        nothing = full(y.graph, 0.0, y.shape, y.dtype)
        return apply(self, y_bar, nothing), apply(self, nothing, y_bar)


class Normalize(Pointwise):
    """y = (x - mean) / sqrt(variance + epsilon) * scale + shift; the last four are of one type and broadcast to x."""

    overwrites: ClassVar[tuple[int, ...]] = (0,)
    alike: ClassVar[tuple[int, ...]] = (-1, 1, 1, 1, 1)
    kind: Literal["normalize"] = "normalize"
    epsilon: float = Field(default=1e-5, ge=0)

    def infer(
        self, x: TensorType, mean: TensorType, variance: TensorType, scale: TensorType, shift: TensorType
    ) -> TensorType:
        dtype = common_dtype((x, mean, variance, scale, shift))
        if not x.is_float:
            raise DTypeError(f"normalize takes floats, not {dtype}")
        if not mean == variance == scale == shift:
            raise ShapeError(f"mean, variance, scale and shift differ: {mean}, {variance}, {scale} and {shift}")
        if broadcast_shapes(x.shape, mean.shape) != x.shape:
            raise ShapeError(f"a mean and a variance of type {mean} do not broadcast to {x}")
        return x

    def form(self, x: Scalar, mean: Scalar, variance: Scalar, scale: Scalar, shift: Scalar) -> Scalar:
        return (x - mean) * (scale / form.sqrt(variance + self.epsilon)) + shift

    def vjp(
        self, y: Node, y_bar: Node, x: Node, mean: Node, variance: Node, scale: Node, shift: Node
    ) -> tuple[Node | None, ...]:
        r = reciprocal(sqrt(variance + self.epsilon))
        factor = scale * r
        shift_bar = sum_to(y_bar, shift.shape)
        scale_bar = sum_to(y_bar * (x - mean), scale.shape) * r
        return y_bar * factor, -(shift_bar * factor), scale_bar * factor * (-0.5 * r), scale_bar, shift_bar


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


def batch_norm(
    x: Node,
    scale: Node,
    shift: Node,
    running_mean: Node,
    running_variance: Node,
    axis: int = 1,
    epsilon: float = 1e-5,
    momentum: float = 0.1,
    *,
    name: str | None = None,
) -> Node:
    """Batch normalization of every channel: y = (x - m) / sqrt(v + epsilon) * scale + shift.

    m and v are the mean and the biased variance of a channel, an index along `axis`, over all other axes. In a `step`

        running <- (1 - momentum) * running + momentum * statistic of the batch

    where the variance's statistic is the unbiased n / (n - 1) v of n elements a channel (0 for one). `ge.for_inference`
    replaces m and v by the running statistics.

    x: floats; the other operands: [channels], the two running ones states; returns the type of x.
    Raises DTypeError or ShapeError for operands that do not fit, AttributeValueError for a momentum outside [0, 1] or
    an epsilon that is not positive, GraphError in the body of a scan.
    Source: Ioffe and Szegedy 2015, with the running variance of PyTorch.
    """
    with declaring("batch_norm", x, scale, shift, running_mean, running_variance, name=name):
        channel = _check(x, (scale, shift, running_mean, running_variance), axis, momentum)
        axes = [other for other in range(x.ndim) if other != channel]
        statistics = mean(x, axes), variance(x, axes)
        _carry(running_mean, statistics[0], momentum, None)
        _carry(running_variance, statistics[1], momentum, dims.product(x.shape[other] for other in axes))
        used = map(partial(apply, BatchStatistic()), statistics, (running_mean, running_variance))
        wide = (x.shape[channel], *(1 for _ in x.shape[channel + 1 :]))
        return apply(Normalize(epsilon=epsilon), x, *(reshape(node, wide) for node in (*used, scale, shift)), name=name)


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
    difference = n if centered or np.may_share_memory(n, x) else x
    limits = np.finfo(x.dtype)
    bounds = float(limits.max) ** -0.5, float(limits.tiny / limits.eps) ** -0.5
    return [
        *center,
        *dots(difference, difference, r, parts),
        (np.divide, (r, count, r)),
        (np.add, (r, np.array(epsilon, x.dtype), r)),
        (np.sqrt, (r, r)),
        (np.reciprocal, (r, r)),
        (_scale, (difference, r, r[..., None], epsilon, *bounds, n)),
    ]


@repeatable
def _scale(difference: Array, flat: Array, r: Array, epsilon: float, low: float, high: float, n: Array) -> None:
    """Write n; where squares were too large or too small for the dtype, also r, by those of k times the difference.

    They were if r is not between `low` and `high`.
    """
    if np.minimum.reduce(flat, None, initial=high) > low and np.maximum.reduce(flat, None, initial=low) < high:
        if difference is n:
            n *= r
        else:
            np.multiply(difference, r, n)
        return
    power = r.dtype.type(2.0 ** (100 if r.itemsize == 4 else 600))
    k = np.where(r >= high, power, np.where(r > low, 1, 1 / power)).astype(r.dtype)
    scaled = difference * k
    factor = 1 / np.sqrt(np.mean(np.square(scaled), -1, keepdims=True) + r.dtype.type(epsilon) * k * k)
    result, rate = scaled * factor, factor * k
    n[...] = result
    r[...] = rate  # no call is between these two, so no handler


def _means(x: Array, count: Array, out: Array) -> list[Call]:
    return [(np.add.reduce, (x, -1, None, out)), (np.divide, (out, count, out))]


def _flops(size: int, rows: Shape, centered: bool) -> int:
    """Of the calls of `_standardize`."""
    return (5 if centered else 3) * size + 3 * (size // int(rows[-1]))


def _check(x: Node, operands: Sequence[Node], axis: int, momentum: float) -> int:
    """The axis of the channels; raises GraphError for what does not fit."""
    channel = check_axis(axis, x.ndim)
    if not 0 <= momentum <= 1:
        raise AttributeValueError(f"the momentum of batch_norm lies in [0, 1], not {momentum!r}")
    if x.graph.outer is not None:
        raise GraphError("batch_norm needs the statistics of a whole batch and cannot be in the body of a scan")
    for node in operands[2:]:
        if not isinstance(node.op, State):
            raise GraphError(f"the running statistics of batch_norm are states, and {node.name!r} is a {node.op.kind}")
        if node in x.graph.updates:
            raise GraphError(f"{node.name!r} is the running statistic of another batch_norm: it has an update already")
    wanted = TensorType((x.shape[channel],), x.dtype)
    for node in operands:
        if node.type != wanted:
            raise ShapeError(f"batch_norm of {x.type} over all axes but {channel} takes {wanted}, not {node.type}")
    return channel


def _carry(running: Node, value: Node, momentum: float, count: Dim | None) -> None:
    """Have every step move `running` towards `value`, a variance of `count` elements or a mean."""
    graph = running.graph
    with graph.emitting(Phase.UPDATE, value):
        if count is not None:
            n = dim_size(graph, count, value.dtype)
            value = value * (n / maximum(n - 1.0, 1.0))
        graph.update(running, moved(running, value, 1.0 - momentum))
