"""Normalization of each channel over the examples of a batch, with statistics that are carried for inference.

Nothing here knows whether it trains. `batch_statistic` stands where the batch's own mean or variance is used, with the
running one beside it, which `for_inference` puts in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from graphengine.errors import AttributeValueError, DTypeError, GraphError, ShapeError
from graphengine.ir import dims
from graphengine.ir.composite import declaring
from graphengine.ir.dims import Dim
from graphengine.ir.leaf import State
from graphengine.ir.node import Node, Phase, apply
from graphengine.ir.op import Op
from graphengine.ir.types import Array, TensorType, broadcast_shapes, check_axis, common_dtype
from graphengine.ops.broadcast import dim_size, full, reshape, sum_to
from graphengine.ops.compare import maximum
from graphengine.ops.elementwise import moved, reciprocal, sqrt
from graphengine.ops.reduce import mean, variance
from graphengine.ops.support import form
from graphengine.ops.support.form import Scalar
from graphengine.ops.support.pointwise import Pointwise

__all__ = [
    "batch_norm",
]


class BatchStatistic(Op):
    """y = the batch's own statistic, the first operand, seen as it is; `for_inference` puts the second in its place.

    Adjoints choose likewise: in training y_bar goes to the first operand, in inference to the second. So derivatives
    that stand in a graph are those of what it computes, before and after.
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
        axes = [place for place in range(x.ndim) if place != channel]
        statistics = mean(x, axes), variance(x, axes)
        count = dims.product(x.shape[place] for place in axes)
        _carry(running_mean, statistics[0], momentum, None)
        _carry(running_variance, statistics[1], momentum, count)
        used = [
            apply(BatchStatistic(), value, running)
            for value, running in zip(statistics, (running_mean, running_variance), strict=True)
        ]
        wide = (x.shape[channel], *(1 for _ in x.shape[channel + 1 :]))
        return apply(Normalize(epsilon=epsilon), x, *(reshape(node, wide) for node in (*used, scale, shift)), name=name)


def _check(x: Node, operands: Sequence[Node], axis: int, momentum: float) -> int:
    """The place of the channels; raises GraphError for what does not fit."""
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
