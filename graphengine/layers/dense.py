"""The layer in which every unit sees every feature."""

from __future__ import annotations

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir.composite import declaring, layer_name
from graphengine.ir.init import Initializer, Zeros
from graphengine.ir.node import Node
from graphengine.layers.usual import Activation, check_size, parameter, usual_init
from graphengine.ops.elementwise import add
from graphengine.ops.matmul import matmul


def dense(
    x: Node,
    units: int,
    *,
    name: str | None = None,
    activation: Activation | None = None,
    bias: bool = True,
    init: Initializer | None = None,
) -> Node:
    """Fully connected layer: activation(x @ weight + bias).

    Parameters: `name.weight` [features, units], from He's normal law if `activation` is a rectifier, else from Glorot's
    uniform law, and, with `bias`, `name.bias` [units], zeros. The node before the activation is `name`; without a name
    the layer is dense_1, dense_2, ...

    x: floats [..., features]; returns [..., units] of that dtype.
    Raises DTypeError for other dtypes, ShapeError for a last axis without a known size, AttributeValueError for units
    below 1.

    >>> graph = ge.Graph("example")
    >>> print(ge.layers.dense(graph.input("x", ("batch", 3)), 2, activation=ge.relu).type)
    float32[batch, 2]
    """
    name = name or layer_name(x.graph, "dense")
    with declaring("dense", x, name=name):
        check_size("the units of a dense layer are", units)
        if not x.type.is_float:
            raise DTypeError(f"a dense layer takes floats, not {x.type}; cast it")
        if not x.ndim or not isinstance(x.shape[-1], int):
            raise ShapeError(f"a dense layer of {x.type}: the last axis, of the features, needs a number for its size")
        weight = parameter(x, f"{name}.weight", (x.shape[-1], units), usual_init(init, activation))
        if bias:
            y = add(matmul(x, weight), parameter(x, f"{name}.bias", (units,), Zeros()), name=name)
        else:
            y = matmul(x, weight, name=name)
        return y if activation is None else activation(y)
