"""What layers have in common: where their parameters go, and what these start from when nothing is said."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

from graphengine.errors import AttributeValueError
from graphengine.ir.init import GlorotUniform, HeNormal, Initializer
from graphengine.ir.node import Node
from graphengine.ops.activation import elu, gelu, leaky_relu, relu, silu, softplus

Activation = Callable[[Node], Node]

_RECTIFIERS = tuple(inspect.unwrap(function) for function in (relu, leaky_relu, elu, silu, softplus, gelu))


def is_rectifier(activation: Activation | None) -> bool:
    """Whether it passes about half of what it is given, which He's law makes up for."""
    return activation is not None and inspect.unwrap(activation) in _RECTIFIERS


def usual_init(init: Initializer | None, activation: Activation | None) -> Initializer:
    """`init`, or if nothing is said He's normal law where a rectifier follows, Glorot's uniform law elsewhere."""
    if init is not None:
        return init
    return HeNormal() if is_rectifier(activation) else GlorotUniform()


def parameter(x: Node, name: str, shape: Sequence[int], init: Initializer) -> Node:
    """A parameter of a layer on `x`, of its dtype; in the body of a scan it belongs to the graph around that."""
    return x.graph.root.parameter(name, shape, init, x.dtype)


def check_size(what: str, size: object) -> None:
    """Raise AttributeValueError unless `size` is an int of at least 1; `what` begins the message."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise AttributeValueError(f"{what} an int of at least 1, not {size!r}")
