"""The lecture's systems: each a declared graph, ready to be compiled and trained.

Inputs are "x" and "y", of any batch size; outputs are at least "prediction" and "loss", a mean over the batch. Examples
are rows, so that a layer is x @ weight + bias with a weight of (units in, units out).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

from graphengine.errors import AttributeValueError
from graphengine.ir.graph import Graph
from graphengine.ir.init import HeNormal, Initializer, Normal
from graphengine.ir.node import Node
from graphengine.ops.activation import relu, sigmoid, softmax, tanh
from graphengine.ops.elementwise import add, sign
from graphengine.ops.loss import binary_cross_entropy, cross_entropy, half_squared_error, perceptron_loss
from graphengine.ops.reduce import argmax
from graphengine.ops.regularizer import l2

Activation = Literal["relu", "sigmoid", "tanh"]
Objective = Literal["cross_entropy", "half_squared_error"]

_ACTIVATIONS: Mapping[str, tuple[Callable[[Node], Node], Initializer | None]] = {
    "relu": (relu, HeNormal()),
    "sigmoid": (sigmoid, None),
    "tanh": (tanh, None),
}


def linear_regression(features: int, targets: int = 1, *, dtype: str = "float32") -> Graph:
    """u = x W + b with the loss 1/2 (u - y)^2, whose minimum is the least-squares solution.

    x is [batch, features], y is [batch, targets]; the parameters are linear.weight and linear.bias.
    Returns the graph. Raises AttributeValueError for sizes below 0, DTypeError for a dtype that there is not.
    """
    graph, x, y = _begin("linear_regression", features, targets, dtype)
    prediction = _layer(x, targets, "linear")
    return _end(graph, prediction, half_squared_error(prediction, y))


def logistic_regression(features: int, *, dtype: str = "float32") -> Graph:
    """u = sigmoid(z), the probability of class 1, for z = x w + b, with the binary cross entropy as loss.

    x is [batch, features], y is [batch, 1] and holds 0 and 1; "logits" is z; the parameters are linear.weight and
    linear.bias.
    Returns the graph. Raises AttributeValueError for sizes below 0, DTypeError for a dtype that there is not.
    """
    graph, x, y = _begin("logistic_regression", features, 1, dtype)
    z = graph.output("logits", _layer(x, 1, "linear"))
    return _end(graph, sigmoid(z), binary_cross_entropy(z, y))


def perceptron(features: int, *, dtype: str = "float32") -> Graph:
    """u = sign(z) for z = x w + b, trained by max(0, -y z), as sign itself passes no gradient (Rosenblatt 1958).

    x is [batch, features], y is [batch, 1] and holds -1 and +1; "logits" is z; the parameters are linear.weight and
    linear.bias. The weights do not start at 0, where the gradient is 0.
    Returns the graph. Raises AttributeValueError for sizes below 0, DTypeError for a dtype that there is not.
    """
    graph, x, y = _begin("perceptron", features, 1, dtype)
    z = graph.output("logits", _layer(x, 1, "linear", Normal(std=0.01)))
    return _end(graph, sign(z), perceptron_loss(z, y))


def neuron(penalty: float = 0.01, *, dtype: str = "float32") -> Graph:
    """The single neuron: z = w x + b, u = sigmoid(z), l = 1/2 (u - y)^2, r = w^2, L = l + penalty * r.

    x and y are [batch]; "prediction" is u, "loss" is L, and z, l and r are outputs too. The parameters, neuron.weight
    and neuron.bias, are scalars. For one example dL/dw = (u - y) u (1 - u) x + 2 penalty w, and dL/db is the same
    without x and the second term.

    Returns the graph. Raises DTypeError for a dtype that there is not.
    """
    graph = Graph("neuron", dtype)
    x, y = graph.input("x", ("batch",)), graph.input("y", ("batch",))
    w = graph.parameter("neuron.weight", (), init=Normal())
    b = graph.parameter("neuron.bias", ())
    z = graph.output("z", add(w * x, b, name="z"))
    u = sigmoid(z, name="u")
    l = graph.output("l", half_squared_error(u, y, name="l"))  # noqa: E741  # the lecture's name for it
    r = graph.output("r", l2(w, name="r"))
    return _end(graph, u, add(l, penalty * r, name="L"))


def mlp(
    sizes: Sequence[int],
    activation: Activation = "tanh",
    loss: Objective = "cross_entropy",
    *,
    name: str = "mlp",
    dtype: str = "float32",
) -> Graph:
    """A network of layers h <- activation(h W + b), the last one without activation.

    `sizes` are those of x, of every hidden layer and of the last: [64, 32, 16, 10] has three layers. x is [batch,
    sizes[0]]; the parameters are layer1.weight, layer1.bias, layer2.weight, ... With "cross_entropy" y is [batch],
    class numbers; the outputs are "logits", the last layer, "probabilities", their softmax, and "prediction", the class
    of the maximum. With "half_squared_error" y is [batch, sizes[-1]] and "prediction" is the last layer.

    Returns the graph. Raises AttributeValueError for fewer than two sizes, an activation or a loss that there is not.
    """
    _check_sizes(sizes)
    if activation not in _ACTIVATIONS:
        raise AttributeValueError(f"no activation {activation!r} here; there are {', '.join(_ACTIVATIONS)}")
    function, init = _ACTIVATIONS[activation]
    graph = Graph(name, dtype)
    h = graph.input("x", ("batch", sizes[0]))
    for layer, units in enumerate(sizes[1:-1], 1):
        h = function(_layer(h, units, f"layer{layer}", init))
    last = _layer(h, sizes[-1], f"layer{len(sizes) - 1}")
    if loss == "cross_entropy":
        y = graph.input("y", ("batch",), dtype="int64")
        graph.output("logits", last)
        graph.output("probabilities", softmax(last))
        return _end(graph, argmax(last, axis=-1), cross_entropy(last, y))
    if loss == "half_squared_error":
        y = graph.input("y", ("batch", sizes[-1]))
        return _end(graph, last, half_squared_error(last, y))
    raise AttributeValueError(f"no loss {loss!r} here; there are cross_entropy and half_squared_error")


def three_layer(
    features: int,
    hidden: tuple[int, int],
    outputs: int,
    activation: Activation = "tanh",
    loss: Objective = "cross_entropy",
    *,
    dtype: str = "float32",
) -> Graph:
    """The 3-layer network, W3 a(W2 a(W1 x + b1) + b2) + b3; inputs, outputs and parameters are those of `mlp`.

    Returns the graph. Raises AttributeValueError where `mlp` does.
    """
    return mlp([features, *hidden, outputs], activation, loss, name="three_layer", dtype=dtype)


def linear_network(sizes: Sequence[int], *, dtype: str = "float32") -> Graph:
    """W3 W2 W1 x, or as many matrices as `sizes` ask for: a linear map whose loss is no longer convex in its factors.

    `sizes` are those of x, of what is between, and of the prediction. x is [batch, sizes[0]], y is [batch, sizes[-1]],
    the loss is 1/2 (u - y)^2; the parameters are layer1.weight, layer2.weight, ..., and there are no biases.

    Returns the graph. Raises AttributeValueError for fewer than two sizes.
    """
    _check_sizes(sizes)
    graph, h, y = _begin("linear_network", sizes[0], sizes[-1], dtype)
    for layer, shape in enumerate(pairwise(sizes), 1):
        h = h @ graph.parameter(f"layer{layer}.weight", shape)
    return _end(graph, h, half_squared_error(h, y))


def _begin(name: str, features: int, targets: int, dtype: str) -> tuple[Graph, Node, Node]:
    graph = Graph(name, dtype)
    return graph, graph.input("x", ("batch", features)), graph.input("y", ("batch", targets))


def _layer(x: Node, units: int, name: str, init: Initializer | None = None) -> Node:
    features = x.shape[-1]
    assert isinstance(features, int)  # every x here is [batch, an int]
    weight = x.graph.parameter(f"{name}.weight", (features, units), init=init)
    return x @ weight + x.graph.parameter(f"{name}.bias", (units,))


def _end(graph: Graph, prediction: Node, loss: Node) -> Graph:
    graph.output("prediction", prediction)
    graph.output("loss", loss)
    return graph


def _check_sizes(sizes: Sequence[int]) -> None:
    if len(sizes) < 2:
        raise AttributeValueError(
            f"sizes begin with that of x and end with that of the prediction; {list(sizes)} does not"
        )
