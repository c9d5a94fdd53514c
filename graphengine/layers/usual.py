"""What layers have in common: where their parameters go, and what these start from when nothing is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphengine.errors import AttributeValueError
from graphengine.ir.init import GlorotUniform, HeNormal, Initializer
from graphengine.ir.node import Node
from graphengine.ops.activation import elu, gelu, leaky_relu, relu, silu, softplus

Activation = Callable[[Node], Node]

RECTIFIERS: tuple[object, ...] = (relu, leaky_relu, elu, silu, softplus, gelu)
"""The activations that pass about half of what they are given, which He's law makes up for."""


def usual_init(activation: Activation | None) -> Initializer:
    """He's normal law where a rectifier follows, Glorot's uniform law elsewhere."""
    return HeNormal() if activation in RECTIFIERS else GlorotUniform()


def parameter(x: Node, name: str, shape: Sequence[int], init: Initializer) -> Node:
    """A parameter of a layer on `x`, of its dtype; in the body of a scan it belongs to the graph around that."""
    return x.graph.root.parameter(name, shape, init, x.dtype)


def check_size(what: str, size: object) -> None:
    """Raise AttributeValueError unless `size` is an int of at least 1; `what` begins the message."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise AttributeValueError(f"{what} an int of at least 1, not {size!r}")
