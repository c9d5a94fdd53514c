"""Convolutions with parameters of their own: a kernel `name.weight` and, unless left out, `name.bias`.

Without `init`, kernels start from He's normal law where a rectifier follows, and from Glorot's uniform law elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphengine.errors import AttributeValueError, ShapeError
from graphengine.ir.composite import layer_name
from graphengine.ir.dims import Dim
from graphengine.ir.init import Initializer, Normal, Zeros
from graphengine.ir.node import Node
from graphengine.layers.usual import Activation, is_rectifier, parameter, usual_init
from graphengine.ops import convolution as conv
from graphengine.ops.broadcast import reshape
from graphengine.ops.elementwise import add
from graphengine.ops.support.window import Padding, as_pair

Ints = int | Sequence[int]


def conv2d(
    x: Node,
    channels: int,
    window: Ints,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    name: str | None = None,
    activation: Activation | None = None,
    bias: bool = True,
    init: Initializer | None = None,
) -> Node:
    """`activation(conv2d(x, weight) + bias)`: images [batch, channels, height, width], of so many `channels` out.

    `window` is the kernel's size, an int or a pair (height, width); the other arguments are those of `ge.conv2d`.

    x: floats; returns floats of that dtype.
    Raises DTypeError, ShapeError or AttributeValueError where `ge.conv2d` does, and for sizes below 1.
    """
    name = name or layer_name(x.graph, "conv2d")
    static = _static_channels("layers.conv2d", x, 4, channels, groups)
    kernel = (channels, static // groups, *_pair(window, "window"))
    weight = parameter(x, f"{name}.weight", kernel, usual_init(init, activation))
    return _finish(conv.conv2d(x, weight, stride, padding, dilation, groups), name, activation, bias)


def conv1d(
    x: Node,
    channels: int,
    window: int,
    stride: int = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int = 1,
    groups: int = 1,
    *,
    name: str | None = None,
    activation: Activation | None = None,
    bias: bool = True,
    init: Initializer | None = None,
) -> Node:
    """`activation(conv1d(x, weight) + bias)`: sequences [batch, channels, length], of so many `channels` out.

    x: floats; returns floats of that dtype.
    Raises DTypeError, ShapeError or AttributeValueError where `ge.conv1d` does, and for sizes below 1.
    """
    name = name or layer_name(x.graph, "conv1d")
    static = _static_channels("layers.conv1d", x, 3, channels, groups)
    weight = parameter(x, f"{name}.weight", (channels, static // groups, window), usual_init(init, activation))
    return _finish(conv.conv1d(x, weight, stride, padding, dilation, groups), name, activation, bias)


def conv2d_transpose(
    x: Node,
    channels: int,
    window: Ints,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    name: str | None = None,
    activation: Activation | None = None,
    bias: bool = True,
    init: Initializer | None = None,
) -> Node:
    """`activation(conv2d_transpose(x, weight) + bias)`: images enlarged `stride` times, of so many `channels` out.

    An element of the result is a sum of channels / groups * window / stride products: that is the fan-in of which He's
    law makes the kernel's first values, or the law of half that variance where no rectifier follows.

    x: floats; returns floats of that dtype.
    Raises DTypeError, ShapeError or AttributeValueError where `ge.conv2d_transpose` does, and for sizes below 1.
    """
    name = name or layer_name(x.graph, "conv2d_transpose")
    static = _static_channels("layers.conv2d_transpose", x, 4, channels, groups)
    kernel = (static, channels // groups, *_pair(window, "window"))
    steps = _pair(stride, "stride")
    terms = static // groups * math.prod(kernel[2:]) / max(1, math.prod(steps))
    variance = (2 if is_rectifier(activation) else 1) / max(1.0, terms)
    weight = parameter(x, f"{name}.weight", kernel, Normal(std=math.sqrt(variance)) if init is None else init)
    y = conv.conv2d_transpose(x, weight, stride, padding, output_padding, dilation, groups)
    return _finish(y, name, activation, bias)


def _pair(value: Ints, what: str) -> tuple[int, int]:
    try:
        return as_pair(value)
    except ValueError as error:
        raise AttributeValueError(f"{what}: {error} (was {value!r})") from None


def _static_channels(what: str, x: Node, ndim: int, channels: int, groups: int) -> int:
    """The channels of x; raises unless the groups divide them and those that come out."""
    if x.ndim != ndim:
        raise ShapeError(f"{what} of {x.type}: {ndim} axes are needed, [batch, channels, ...]")
    given: Dim = x.shape[1]
    if isinstance(given, str):
        raise ShapeError(f"{what} of {x.type}: a kernel needs a number of channels, not {given}")
    if groups < 1 or channels < 1 or given % groups or channels % groups:
        raise AttributeValueError(
            f"{what} of {x.type}: groups, at least 1, divide the {given} channels in and the {channels} channels out, "
            f"and {groups} does not"
        )
    return given


def _finish(y: Node, name: str, activation: Activation | None, bias: bool) -> Node:
    """`y` with a bias for every channel, activated."""
    if bias:
        channels = y.shape[1]
        shift = parameter(y, f"{name}.bias", (int(channels),), Zeros())
        y = add(y, reshape(shift, (channels, *[1] * (y.ndim - 2))))
    return y if activation is None else activation(y)
