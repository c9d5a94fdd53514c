"""Normalizations with parameters of their own: a scale `name.weight`, ones at first, and a shift `name.bias`, zeros."""

from __future__ import annotations

from collections.abc import Sequence

from graphengine.errors import GraphError, ShapeError
from graphengine.ir.composite import declaring, layer_name
from graphengine.ir.dims import Dim
from graphengine.ir.init import Ones, Zeros
from graphengine.ir.node import Node
from graphengine.ir.types import check_axis
from graphengine.layers.usual import parameter
from graphengine.ops import norm


def batch_norm(
    x: Node, *, name: str | None = None, axis: int = 1, epsilon: float = 1e-5, momentum: float = 0.1
) -> Node:
    """`ge.batch_norm` of `x`, whose channels lie along `axis`, with states for the running statistics.

    The states are `name.running_mean`, zeros at first, and `name.running_variance`, ones at first.

    x: floats; returns the type of x. Raises DTypeError, ShapeError, AttributeValueError or GraphError where
    `ge.batch_norm` does.
    """
    name = name or layer_name(x.graph, "batch_norm")
    with declaring("batch_norm", x, name=name):
        if x.graph.outer is not None:
            raise GraphError("batch_norm needs the statistics of a whole batch and cannot be in the body of a scan")
        channels = _sizes(x, [x.shape[check_axis(axis, x.ndim)]])
        scale, shift = _affine(x, name, channels)
        mean = x.graph.state(f"{name}.running_mean", channels, Zeros(), x.dtype)
        variance = x.graph.state(f"{name}.running_variance", channels, Ones(), x.dtype)
        return norm.batch_norm(x, scale, shift, mean, variance, axis, epsilon, momentum, name=name)


def layer_norm(x: Node, *, name: str | None = None, axes: int = 1, epsilon: float = 1e-5) -> Node:
    """`ge.layer_norm` of `x` over its last `axes` axes.

    Parameters: `name.weight` (ones) and `name.bias` (zeros). x: floats; returns the type of x.
    Raises DTypeError for other dtypes, ShapeError for axes that x does not have or that are named, AttributeValueError
    for an epsilon below 0.
    """
    name = name or layer_name(x.graph, "layer_norm")
    with declaring("layer_norm", x, name=name):
        scale, shift = _affine(x, name, _last(x, axes))
        return norm.layer_norm(x, scale, shift, epsilon, name=name)


def rms_norm(x: Node, *, name: str | None = None, axes: int = 1, epsilon: float = 1e-5) -> Node:
    """`ge.rms_norm` of `x` over its last `axes` axes; it has no shift.

    Parameter: `name.weight` (ones). x: floats; returns the type of x. Raises DTypeError, ShapeError or
    AttributeValueError where `layer_norm` does.
    """
    name = name or layer_name(x.graph, "rms_norm")
    with declaring("rms_norm", x, name=name):
        scale = parameter(x, f"{name}.weight", _last(x, axes), Ones())
        return norm.rms_norm(x, scale, epsilon, name=name)


def group_norm(x: Node, groups: int, *, name: str | None = None, epsilon: float = 1e-5) -> Node:
    """`ge.group_norm` of `x`, [examples, channels, ...], in so many groups of channels.

    Parameters: `name.weight` (ones) and `name.bias` (zeros). x: floats; returns the type of x.
    Raises DTypeError, ShapeError or AttributeValueError where `ge.group_norm` does.
    """
    name = name or layer_name(x.graph, "group_norm")
    with declaring("group_norm", x, name=name):
        scale, shift = _affine(x, name, _sizes(x, x.shape[1:2]))
        return norm.group_norm(x, scale, shift, groups, epsilon, name=name)


def _affine(x: Node, name: str, shape: Sequence[int]) -> tuple[Node, Node]:
    return parameter(x, f"{name}.weight", shape, Ones()), parameter(x, f"{name}.bias", shape, Zeros())


def _last(x: Node, axes: int) -> list[int]:
    if not 1 <= axes <= x.ndim:
        raise ShapeError(f"a normalization over the last {axes} axes of {x.type}: axes is between 1 and {x.ndim}")
    return _sizes(x, x.shape[-axes:])


def _sizes(x: Node, shape: Sequence[Dim]) -> list[int]:
    """The sizes of axes along which there are parameters, which need numbers for them."""
    for dim in shape:
        if isinstance(dim, str):
            raise ShapeError(f"{x.type} has no number of elements along {dim}, and parameters need one")
    return [dim for dim in shape if isinstance(dim, int)]
