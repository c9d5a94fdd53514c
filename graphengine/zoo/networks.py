"""Networks for real data: classifiers of pictures, an autoencoder of them, and a transformer of text."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from itertools import pairwise
from typing import Any

from graphengine import layers
from graphengine.ir import dims
from graphengine.ir.graph import Graph
from graphengine.ir.init import HeNormal, Normal
from graphengine.ir.node import Node
from graphengine.ir.training import Training
from graphengine.ops.activation import relu, sigmoid
from graphengine.ops.broadcast import reshape
from graphengine.ops.elementwise import add
from graphengine.ops.loss import cross_entropy, squared_error
from graphengine.ops.pool import max_pool2d
from graphengine.ops.reduce import argmax
from graphengine.ops.regularizer import l2
from graphengine.optim.rules import Adam
from graphengine.optim.schedules import CosineDecay

STRETCH = 128
"""Characters that a text is cut into, and that positions are learned for."""

_CLASSES = 10
_DIGITS, _DIGITS_SIDE = 1437, 8
_FASHION, _FASHION_SIDE = 60_000, 28
_STRETCHES = 3269
"""Examples to train on, and sides of pictures; the stretches are those of the topics of Python 3.11."""


def digits_network() -> Graph:
    """Pixels to 128, to 64, to 10 scores; relu between, cross entropy plus 1e-4 times the squared weights as loss.

    Inputs are "pixels", float32[batch, 64] in [0, 1], and "label", int64[batch]; outputs are "logits", "prediction"
    (the digit of the maximum score) and "loss".
    """
    units = (_DIGITS_SIDE**2, 128, 64, _CLASSES)
    graph, h, label = _classifier("digits", units[0])
    weights: list[Node] = []
    for layer, (units_in, units_out) in enumerate(pairwise(units), 1):
        weights.append(graph.parameter(f"layer{layer}.weight", (units_in, units_out), init=HeNormal()))
        bias = graph.parameter(f"layer{layer}.bias", (units_out,))
        z = add(h @ weights[-1], bias, name=f"layer{layer}.z")
        h = relu(z, name=f"layer{layer}.h") if layer < len(units) - 1 else z
    _output_class(h)
    penalty = add(l2(weights[0]) + l2(weights[1]), l2(weights[2]), name="penalty")
    graph.output("loss", add(cross_entropy(h, label, name="error"), 1e-4 * penalty, name="loss"))
    graph.training = Training(loss="loss", optimizer=Adam(learning_rate=0.002), batch_size=32, epochs=30)
    return graph


def digits_spec() -> str:
    """The document of `digits_network`, as it ships with the package."""
    return files(__package__).joinpath("digits.json").read_text(encoding="utf-8")


def digits_lstm() -> Graph:
    """An LSTM of 64 units over the 8 rows of a digit, from the top, and 10 scores from what it holds after the last.

    Inputs are "pixels", float32[batch, 64] in [0, 1], and "label", int64[batch], as `ge.data.digits` gives them;
    outputs are "logits", "prediction" and "loss".
    """
    return _reader("digits_lstm", layers.lstm)


def digits_gru() -> Graph:
    """A GRU of 64 units over the 8 rows of a digit; all else as in `digits_lstm`."""
    return _reader("digits_gru", layers.gru)


def _reader(name: str, layer: Callable[..., Any]) -> Graph:
    _, pixels, label = _classifier(name, _DIGITS_SIDE**2)
    rows = reshape(pixels, ("batch", _DIGITS_SIDE, _DIGITS_SIDE))
    logits = layers.dense(layer(rows, 64, name="reader"), _CLASSES, name="dense")
    return _trained(_output_class(logits, label), rate=0.005, examples=_DIGITS, batch_size=32, epochs=30)


def fashion_mlp() -> Graph:
    """784-256-128-10, with relu between.

    Inputs are "pixels", float32[batch, 784] in [0, 1], and "label", int64[batch]; outputs are "logits", "prediction"
    and "loss". Trained for 8 epochs by Adam, its learning rate falling to 0 along a cosine.
    """
    _, pixels, label = _classifier("fashion_mlp", _FASHION_SIDE**2)
    h = layers.dense(pixels, 256, name="dense1", activation=relu)
    h = layers.dense(h, 128, name="dense2", activation=relu)
    graph = _output_class(layers.dense(h, _CLASSES, name="dense3"), label)
    return _trained(graph, rate=0.001, examples=_FASHION, batch_size=128, epochs=8)


def lenet() -> Graph:
    """LeNet (LeCun et al. 1998) in the sizes that Caffe gave it (Jia et al. 2014), with batch norm and dropout.

    Two 5x5 convolutions, of 20 and 50 channels, each normalized, rectified, and pooled by the maximum of 2x2; then 500
    units, a quarter of them dropped, and 10 scores. Inputs and outputs are those of `fashion_mlp`. Trained for 5 epochs
    by Adam, its learning rate falling to 0 along a cosine.
    """
    _, pixels, label = _classifier("lenet", _FASHION_SIDE**2)
    h = reshape(pixels, ("batch", 1, _FASHION_SIDE, _FASHION_SIDE))
    for number, channels in ((1, 20), (2, 50)):
        # No bias, which the normalization would take away again.
        h = layers.conv2d(h, channels, 5, name=f"conv{number}", bias=False, init=HeNormal())
        h = max_pool2d(relu(layers.batch_norm(h, name=f"norm{number}")), 2)
    h = layers.dense(reshape(h, ("batch", 50 * 4 * 4)), 500, name="dense1", activation=relu)
    graph = _output_class(layers.dense(layers.dropout(h, 0.25, name="dropout"), _CLASSES, name="dense2"), label)
    return _trained(graph, rate=0.002, examples=_FASHION, batch_size=64, epochs=5)


def convolutional_autoencoder(code: int = 8) -> Graph:
    """8x8 pictures to 4x4, to 2x2, to `code` numbers, and by transposed convolutions the same way back.

    The input is "pixels", float32[batch, 64] in [0, 1]; outputs are "code", float32[batch, code], "reconstruction",
    float32[batch, 64] in (0, 1), and "loss", the mean over examples of the squared error of all pixels.

    Returns the graph. Raises AttributeValueError for a code below 1.
    """
    graph = Graph("convolutional_autoencoder")
    pixels = graph.input("pixels", ("batch", 64))
    h = reshape(pixels, ("batch", 1, 8, 8))
    h = layers.conv2d(h, 16, 3, padding=1, name="encoder1", activation=relu)
    h = layers.conv2d(h, 32, 4, stride=2, padding=1, name="encoder2", activation=relu)
    h = layers.conv2d(h, 32, 4, stride=2, padding=1, name="encoder3", activation=relu)
    h = layers.dense(reshape(h, ("batch", 32 * 2 * 2)), code, name="code")
    graph.output("code", h)
    h = reshape(layers.dense(h, 32 * 2 * 2, name="decoder0", activation=relu), ("batch", 32, 2, 2))
    h = layers.conv2d_transpose(h, 32, 4, stride=2, padding=1, name="decoder1", activation=relu)
    h = layers.conv2d_transpose(h, 16, 4, stride=2, padding=1, name="decoder2", activation=relu)
    h = layers.conv2d(h, 1, 3, padding=1, name="decoder3", activation=sigmoid)
    picture = graph.output("reconstruction", reshape(h, ("batch", 64), name="reconstruction"))
    graph.output("loss", squared_error(picture, pixels, name="loss"))
    return _trained(graph, rate=0.002, examples=_DIGITS, batch_size=32, epochs=40)


def character_transformer(symbols: int, units: int = 128, heads: int = 4, blocks: int = 2) -> Graph:
    """A causal transformer that scores, at every character of a text, the one that follows.

    Characters and their positions are embedded in `units` numbers; then come `blocks` of attention and of dense layers
    of 4 * units, and scores of all `symbols`. Inputs are "characters" and "next", int64[batch, time], as
    `ge.data.windows` gives them, for a time of at most 128; outputs are "logits", float32[batch, time, symbols], and
    "loss", the mean over all characters of the cross entropy, in nats.

    Returns the graph. Raises AttributeValueError for sizes below 1 and heads that do not divide the units.
    """
    graph = Graph("character_transformer")
    characters, following = (graph.input(name, ("batch", "time"), dtype="int64") for name in ("characters", "next"))
    small = Normal(std=0.02)
    h = layers.embedding(characters, symbols, units, name="embedding", init=small)
    h = h + layers.learned_positions(h, STRETCH, name="positions", init=small)
    for number in range(1, blocks + 1):
        h = layers.transformer_block(h, heads, 4 * units, name=f"block{number}", causal=True, activation=relu)
    logits = graph.output("logits", layers.dense(layers.layer_norm(h, name="norm"), symbols, name="scores"))
    rows = dims.product(following.shape)
    loss = cross_entropy(reshape(logits, (rows, symbols)), reshape(following, (rows,)), name="loss")
    graph.output("loss", loss)
    return _trained(graph, rate=0.003, examples=_STRETCHES, batch_size=8, epochs=6)


def _classifier(name: str, pixels: int) -> tuple[Graph, Node, Node]:
    """A graph with the inputs "pixels", float32[batch, pixels] in [0, 1], and "label", int64[batch]."""
    graph = Graph(name)
    return graph, graph.input("pixels", ("batch", pixels)), graph.input("label", ("batch",), dtype="int64")


def _output_class(logits: Node, label: Node | None = None) -> Graph:
    """The graph, with the outputs "logits", "prediction" and, for `label`, "loss", the cross entropy."""
    graph = logits.graph
    graph.output("logits", logits)
    graph.output("prediction", argmax(logits, axis=-1, name="prediction"))
    if label is not None:
        graph.output("loss", cross_entropy(logits, label, name="loss"))
    return graph


def _trained(graph: Graph, *, rate: float, examples: int, batch_size: int, epochs: int) -> Graph:
    """The graph, to be trained by Adam with a learning rate that falls along a cosine from `rate` to 0."""
    schedule = CosineDecay(initial=rate, steps=epochs * -(-examples // batch_size))
    optimizer = Adam(learning_rate=schedule)
    graph.training = Training(loss="loss", optimizer=optimizer, batch_size=batch_size, epochs=epochs)
    return graph
