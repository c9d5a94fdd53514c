"""The layer in which every unit sees every feature."""

from __future__ import annotations

from graphengine.errors import AttributeValueError, DTypeError, ShapeError
from graphengine.ir.composite import declaring, free_name
from graphengine.ir.init import Initializer, Zeros
from graphengine.ir.node import Node
from graphengine.layers.usual import Activation, parameter, usual_init
from graphengine.ops.elementwise import add
from graphengine.ops.linalg import matmul

__all__ = ["dense"]


def dense(
    x: Node,
    units: int,
    *,
    name: str | None = None,
    activation: Activation | None = None,
    bias: bool = True,
    init: Initializer | None = None,
) -> Node:
    """`activation(x @ weight + bias)`: every one of so many `units` is a function of all features, x's last axis.

    It declares the parameters `name.weight`, [features, units], and, unless left out, `name.bias`, [units], which
    starts at zeros; the node before the activation is called `name`. Without `init` the weight starts from He's normal
    law where a rectifier follows, else from Glorot's uniform law. Without `name` the layer is dense_1, dense_2, ...
    """
    name = name or free_name(x.graph, "dense")
    with declaring("dense", x, name=name):
        features = _features(x, units)
        weight = parameter(x, f"{name}.weight", (features, units), init or usual_init(activation))
        if bias:
            y = add(matmul(x, weight), parameter(x, f"{name}.bias", (units,), Zeros()), name=name)
        else:
            y = matmul(x, weight, name=name)
        return y if activation is None else activation(y)


def _features(x: Node, units: int) -> int:
    if isinstance(units, bool) or not isinstance(units, int) or units < 1:
        raise AttributeValueError(f"the units of a dense layer are an int of at least 1, not {units!r}")
    if not x.type.is_float:
        raise DTypeError(f"a dense layer takes floats, not {x.type}; cast it")
    if not x.ndim or not isinstance(x.shape[-1], int):
        raise ShapeError(f"a dense layer of {x.type}: the last axis, that of the features, needs a number for its size")
    return x.shape[-1]
